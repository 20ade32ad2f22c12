package rewrite

import (
	"bytes"
	"sort"
	"strings"
)

// findText notes the counted links of a text/plain part.
func (m *Message) findText(t *text) {
	joined, at := t.joined()
	eachAddress(joined, func(from, to int) {
		addr := string(joined[from:to])
		from, to = at(from), at(to-1)+1
		if m.isOwn(addr) {
			return
		}
		finding := Finding{Kind: ClickTracker, Vector: "text link", Part: t.part.number, URL: addr}
		dest, action, ok := m.follow(addr, &finding)
		if !ok {
			m.ordinary(ClickTracker, finding.Vector, t.part, addr)
			return
		}
		place := edit{start: from, end: to}
		gone := edit{start: from, end: to, pieces: literal(removedLink(&finding))}
		e := edit{start: from, end: to, when: withoutClick, action: action, pieces: literal(dest)}
		switch action {
		case Kept:
			e.when = 0
		case Unlinked:
			e.pieces = gone.pieces
		}
		m.addLink(t, finding, e, place, gone)
	})
}

// joined returns the text as a reader joins its lines: format=flowed with DelSp=yes (RFC 3676
// §4.1) lets an address go on behind a space at the end of a line. at gives the place in plain.
func (t *text) joined() (joined []byte, at func(int) int) {
	params := t.part.typ.params
	if !strings.EqualFold(params["format"], "flowed") || !strings.EqualFold(params["delsp"], "yes") {
		return t.plain, func(i int) int { return i }
	}
	var gaps []jump // raw is the place in plain here
	rest := t.plain
	for len(rest) > 0 {
		n := lineLen(rest)
		line := rest[:n]
		if soft := trimEOL(line); bytes.HasSuffix(soft, []byte(" ")) && string(soft) != "-- " {
			line = soft[:len(soft)-1]
		}
		gaps = append(gaps, jump{int32(len(joined)), int32(len(t.plain) - len(rest))})
		joined = append(joined, line...)
		rest = rest[n:]
	}
	return joined, func(i int) int {
		g := gaps[sort.Search(len(gaps), func(k int) bool { return int(gaps[k].text) > i })-1]
		return int(g.raw) + i - int(g.text)
	}
}

// eachAddress calls f with the range of every http and https address in running text, as
// readers find them: up to white space, quotes or angle brackets, without the punctuation that
// ends a sentence.
func eachAddress(b []byte, f func(from, to int)) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("://"))
		if i < 0 {
			return
		}
		from, to := at+i, at+i+3
		at = to
		switch {
		case from >= 5 && bytes.EqualFold(b[from-5:from], []byte("https")):
			from -= 5
		case from >= 4 && bytes.EqualFold(b[from-4:from], []byte("http")):
			from -= 4
		default:
			continue
		}
		for to < len(b) && b[to] > ' ' && b[to] < 0x7f && b[to] != '<' && b[to] != '>' && b[to] != '"' {
			if b[to] == '&' && endsAddress(b[to:]) {
				break
			}
			to++
		}
		for n := 0; n < 100 && to > at && trailing(b[from:to]); n++ {
			to--
		}
		if to > at {
			f(from, to)
			at = to
		}
	}
}

// endsAddress reports whether a character reference of HTML stands for what ends an address.
func endsAddress(b []byte) bool {
	for _, ref := range []string{"&lt;", "&gt;", "&quot;", "&nbsp;", "&#34;", "&#60;", "&#62;", "&#160;"} {
		if len(b) >= len(ref) && string(b[:len(ref)]) == ref {
			return true
		}
	}
	return false
}

// trailing reports whether the last byte is punctuation behind an address rather than part of
// it.
func trailing(b []byte) bool {
	switch b[len(b)-1] {
	case '.', ',', ';', ':', '!', '?', '\'', '*', '|', '`':
		return true
	case ')':
		return bytes.Count(b, []byte("(")) < bytes.Count(b, []byte(")"))
	case ']':
		return bytes.Count(b, []byte("[")) < bytes.Count(b, []byte("]"))
	case '}':
		return bytes.Count(b, []byte("{")) < bytes.Count(b, []byte("}"))
	}
	return false
}

// removedLink is what stands in running text for a link that was taken out.
func removedLink(f *Finding) string { return "[" + f.Provider + " link removed]" }
