package rewrite

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// What follows is for markup that readers read in different ways. What one of them would find
// must go, whoever is right.

// hasTag reports whether something in b may be a tag.
func hasTag(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '<')
		if i < 0 || i+1 >= len(b) {
			return false
		}
		if b = b[i+1:]; b[0]|0x20 >= 'a' && b[0]|0x20 <= 'z' {
			return true
		}
	}
}

// doubtfulComment reports whether readers may differ on where a comment ends.
func doubtfulComment(data []byte) bool {
	return bytes.Contains(data, []byte("--")) || bytes.Contains(data, []byte("<!")) || bytes.IndexByte(data, 0) >= 0
}

// doubtfulTag looks into a tag with quotes astray: into values that hold markup, and for addresses
// that stand in no value.
func (f *htmlFinder) doubtfulTag(tok *htmltoken.Token) {
	if tok.Astray {
		as := unseen
		if name := lower(f.src[tok.NameStart:tok.NameEnd]); isPicture(name) {
			as = picture
		}
		k := 0 // the attribute at hand
		eachAddress(f.t.plain[tok.Start:tok.End], func(from, to int) {
			from, to = from+tok.Start, to+tok.Start
			for k < len(tok.Attrs) && tok.Attrs[k].End <= from {
				k++
			}
			if k < len(tok.Attrs) && tok.Attrs[k].Quote != 0 && tok.Attrs[k].ValueStart <= from && to <= tok.Attrs[k].ValueEnd {
				return
			}
			if finding, ok := f.judge(tok, f.attrAddress(f.src[from:to]), as); ok {
				finding.Vector = "quotes astray"
				f.m.add(f.t, finding, edit{start: from, end: to, when: withoutOpen, action: Removed})
			}
		})
	}
	if strings.IndexByte(f.src[tok.NameEnd:tok.End], '<') < 0 {
		return
	}
	for i := range tok.Attrs {
		a := &tok.Attrs[i]
		if hasTag(f.t.plain[a.ValueStart:a.ValueEnd]) {
			f.inside(a.ValueStart, a.ValueEnd)
		}
	}
}

// readOtherwise reports whether some reader finds more in a text than what was found: one that
// drops control characters, one that takes them for white space, one that passes over padding
// amid base64, one that knows the entities that XML declares.
func (f *htmlFinder) readOtherwise() bool {
	src := f.t.plain
	var others []string
	if hasControl(src) {
		others = append(others,
			string(bytes.Map(func(r rune) rune {
				if isControl(r) {
					return -1
				}
				return r
			}, src)),
			string(bytes.Map(func(r rune) rune {
				if isControl(r) {
					return ' '
				}
				return r
			}, src)))
	}
	if f.t.enc == base64Transfer && !f.t.charset.wide {
		if i := bytes.IndexByte(f.t.raw, '='); i >= 0 && len(bytes.Trim(f.t.raw[i:], "=\r\n\t ")) > 0 { // padding, and more behind it
			others = append(others, string(decodeBase64(bytes.ReplaceAll(f.t.raw, []byte("="), nil))))
		}
	}
	if f.xml {
		if all := entityDeclaration.FindAllSubmatch(src, 1000); all != nil {
			var pairs []string
			for _, m := range all {
				pairs = append(pairs, "&"+string(m[1])+";", string(m[2][1:len(m[2])-1]))
			}
			expand := strings.NewReplacer(pairs...)
			text := string(src)
			for range 3 {
				if next := expand.Replace(text); len(next) < 4*len(src)+1<<16 {
					text = next
				}
			}
			others = append(others, text)
		}
	}
	if others == nil {
		return false
	}
	found, _ := f.trackersIn(string(src))
	for _, text := range others {
		if more, all := f.trackersIn(text); len(more) > len(found) || !all {
			return true
		}
	}
	return false
}

// opensIn reports whether a text, were it HTML, would hold an open tracker.
func (f *htmlFinder) opensIn(html string) bool {
	all, readable := f.trackersIn(html)
	for _, found := range all {
		if found.Kind == OpenTracker {
			return true
		}
	}
	return !readable
}

var entityDeclaration = regexp.MustCompile(`<!ENTITY\s+([^\s%"']+)\s+("[^"]*"|'[^']*')`)

// isControl reports whether a character is one that HTML has no use for. Escape is left to those
// who look for character sets.
func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' && r != 0x1b
}

// hasControl is bytes.ContainsFunc(b, isControl), and faster.
func hasControl(b []byte) bool {
	const spaces = 0x2020202020202020
	for ; len(b) >= 32; b = b[32:] {
		le := binary.LittleEndian
		v, w, x, y := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
		// Only where a byte is under 32 does any highest bit come out of this: of a byte over 127 it is cleared.
		if ((v-spaces)&^v|(w-spaces)&^w|(x-spaces)&^x|(y-spaces)&^y)&highs != 0 && hasControlByte(b[:32]) {
			return true
		}
	}
	return hasControlByte(b)
}

const highs = 0x8080808080808080

// notUnder sets the highest bit of each byte of w that is least or over; least is at most 128.
func notUnder(w uint64, least byte) uint64 {
	return w | (w&^highs + uint64(0x80-least)*0x0101010101010101)
}

func hasControlByte(b []byte) bool {
	for _, c := range b {
		if c < ' ' && isControl(rune(c)) {
			return true
		}
	}
	return false
}

// trackersIn lists what would have to go from HTML without any consent, and reports whether all of it could be read.
func (f *htmlFinder) trackersIn(html string) (found []Finding, readable bool) {
	opts := f.m.opts
	opts.Everything = false
	g := newHTMLFinder(&Message{rules: f.m.rules, opts: opts}, &text{part: f.t.part, plain: []byte(html)})
	g.begin()
	g.scan(0, len(html))
	return g.m.findings, g.m.unreadable == ""
}
