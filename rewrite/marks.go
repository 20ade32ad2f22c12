package rewrite

import (
	"bytes"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// mark is a place in a text that has to do with our unsubscribe link: a placeholder of the
// sender's, or a link of ours that the message brought along.
type mark struct {
	start, end int
	own        int  // index into Message.own, -1 for a placeholder
	seen       bool // a reader sees it
}

var placeholders = [][3][]byte{
	{[]byte("{{"), []byte("unsubscribe_url"), []byte("}}")},
	{[]byte("%7B%7B"), []byte("unsubscribe_url"), []byte("%7D%7D")},
	{[]byte("%7b%7b"), []byte("unsubscribe_url"), []byte("%7d%7d")},
}

// namesLink reports whether an address holds the word of a placeholder.
func namesLink(addr string) bool {
	const before, after = "unsubscribe", "url"
	for {
		i := strings.IndexByte(addr, '_') // rarer than the letters
		if i < 0 {
			return false
		}
		if strings.HasSuffix(addr[:i], before) && strings.HasPrefix(addr[i+1:], after) {
			return true
		}
		addr = addr[i+1:]
	}
}

// findMarks lists the placeholders and our own links in a text, in order.
func (m *Message) findMarks(plain []byte) []mark {
	var out []mark
	word := placeholders[0][1]
	underscore := bytes.IndexByte(word, '_')
	for at := 0; ; {
		i := bytes.IndexByte(plain[at:], '_') // rare, other than the letters of the word
		if i < 0 {
			break
		}
		from := at + i - underscore
		to := from + len(word)
		at += i + 1
		if from < 0 || to > len(plain) || !bytes.Equal(plain[from:to], word) {
			continue
		}
		left := bytes.TrimRight(plain[:from], " ")
		right := bytes.TrimLeft(plain[to:], " ")
		for _, p := range placeholders {
			if bytes.HasSuffix(left, p[0]) && bytes.HasPrefix(right, p[2]) {
				out = append(out, mark{len(left) - len(p[0]), len(plain) - len(right) + len(p[2]), -1, false})
				break
			}
		}
	}
	if prefix := []byte(m.opts.LinkPrefix); len(prefix) > 0 {
		front := max(bytes.Index(prefix, []byte("//")), 0) // slashes are rarer than letters
		for at := 0; len(m.own) < 64 && at+front < len(plain); {
			i := bytes.Index(plain[at+front:], prefix[front:])
			if i < 0 {
				break
			}
			from := at + i
			to := from + len(prefix)
			if !bytes.Equal(plain[from:from+front], prefix[:front]) {
				at = from + 1
				continue
			}
			for to < len(plain) && (isAlnum(plain[to]) || plain[to] == '-' || plain[to] == '_') {
				to++
			}
			at = to
			if to-from == len(prefix) {
				continue
			}
			mk := mark{from, to, len(m.own), false}
			m.own = append(m.own, OwnLink{Token: string(plain[from+len(prefix) : to])})
			k := len(out)
			for k > 0 && out[k-1].start > from {
				k--
			}
			out = append(out[:k], append([]mark{mk}, out[k:]...)...)
		}
	}
	return out
}

// noteMarks turns the marks of a text into edits, and returns which own links and whether a
// placeholder are seen there.
func (m *Message) noteMarks(t *text, marks []mark) {
	for _, k := range marks {
		switch {
		case k.own >= 0 && k.seen:
			t.own |= 1 << k.own
		case k.own < 0:
			e := edit{start: k.start, end: k.end, when: always, pieces: []piece{{hole: holeLink}}, linked: true, action: Inserted}
			t.placed = t.placed || k.seen
			m.add(t, Finding{Kind: Unsubscribe, Vector: "placeholder", Part: t.part.number, Why: "where the sender put {{unsubscribe_url}}"}, e)
		}
	}
}

// passMarks notes which marks in the token a reader sees: those in text and in the address of a
// link, outside of what is hidden.
func (f *htmlFinder) passMarks(tok *htmltoken.Token) {
	for ; f.passed < len(f.marks) && f.marks[f.passed].start < tok.End; f.passed++ {
		k := &f.marks[f.passed]
		if f.hidden() {
			continue
		}
		switch tok.Kind {
		case htmltoken.Text:
			k.seen = !tok.Raw
		case htmltoken.StartTag:
			if a, ok := tok.Attr(f.t.plain, "href"); ok && a.ValueStart <= k.start && k.end <= a.ValueEnd {
				k.seen = strings.EqualFold(f.src[tok.NameStart:tok.NameEnd], "a")
			}
		}
	}
}
