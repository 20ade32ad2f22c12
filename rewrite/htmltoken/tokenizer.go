package htmltoken

import "bytes"

// Tokenizer reads the tokens of one input. It is not safe for use by several goroutines at once.
type Tokenizer struct {
	src   []byte
	pos   int    // where the next token starts
	raw   string // not "": the next token is the raw text of this element
	attrs []Attr // behind Token.Attrs
	open  openElements
}

// New returns a Tokenizer for src, which must not change while it is in use.
func New(src []byte) *Tokenizer {
	z := new(Tokenizer)
	z.Reset(src)
	return z
}

// Reset begins anew with src, and keeps the memory of the Tokenizer, unless it has become large.
func (z *Tokenizer) Reset(src []byte) {
	z.src, z.pos, z.raw = src, 0, ""
	if cap(z.attrs) > 4096 {
		z.attrs = nil
	}
	z.open.reset()
}

// RawText makes what follows the raw text of the element name (in lower case), until its end tag, or
// with "" makes it markup. Next does this by itself behind the start tags that call for it, so this is for
// an input that begins inside of an element, and for overruling Next directly after a start tag. The rules
// for script hold for "script", and "plaintext" has no end.
func (z *Tokenizer) RawText(name string) { z.raw = name }

// Next puts the next token into t and reports whether there was one.
func (z *Tokenizer) Next(t *Token) bool {
	src, start := z.src, z.pos
	if start >= len(src) {
		return false
	}
	if z.raw != "" {
		end := rawTextEnd(src, start, z.raw)
		z.raw = ""
		if end > start {
			*t = Token{Kind: Text, Start: start, End: end, DataStart: start, DataEnd: end, Raw: true}
			z.pos = end
			return true
		}
	}
	switch markup := nextMarkup(src, start); {
	case markup > start:
		*t = Token{Kind: Text, Start: start, End: markup, DataStart: start, DataEnd: markup}
		z.pos = markup
		return true
	case src[start+1] == '!':
		declaration(t, src, start, z.open.foreign())
	case src[start+1] == '?':
		bogus(t, src, start, start+1) // §13.2.5.6: the ? belongs to the comment
	case src[start+1] != '/':
		z.tag(t, StartTag, start, start+1)
	case isLetter(src[start+2]):
		z.tag(t, EndTag, start, start+2)
	default:
		bogus(t, src, start, start+2) // §13.2.5.7: </> and </ followed by no letter
	}
	z.pos = t.End
	return true
}

// nextMarkup returns where the text that begins at i ends: at a < that opens something (§13.2.5.6,
// §13.2.5.7), or at the end of src. Behind a returned </ there is at least one byte more.
func nextMarkup(src []byte, i int) int {
	for {
		j := bytes.IndexByte(src[i:], '<')
		if j < 0 || i+j+1 >= len(src) {
			return len(src)
		}
		i += j
		switch c := src[i+1]; {
		case isLetter(c), c == '!', c == '?':
			return i
		case c == '/':
			if i+2 < len(src) {
				return i
			}
			return len(src) // §13.2.5.7: the end of the input makes </ text
		}
		i++
	}
}

// tag reads a start or end tag whose name begins at i.
func (z *Tokenizer) tag(t *Token, kind Kind, start, i int) {
	src := z.src
	name := i
	for i < len(src) && class[src[i]]&endsTagName == 0 { // §13.2.5.8
		i++
	}
	*t = Token{Kind: kind, Start: start, NameStart: name, NameEnd: i}
	z.attributes(t, i)
	if t.Unterminated {
		return
	}
	if kind == EndTag {
		z.open.end(src[name:t.NameEnd])
		return
	}
	z.raw = z.open.start(src, t)
}

// MaxAttrs is how many attributes of a tag are told of. No mail has as many, and each takes memory.
const MaxAttrs = 10_000

// attributes reads what stands between the name of a tag and its end (§13.2.5.32 to §13.2.5.40), and sets
// End, Attrs, SelfClosing and Unterminated. An end tag has no attributes, though they may be written.
func (z *Tokenizer) attributes(t *Token, i int) {
	src := z.src
	attrs := z.attrs[:0]
	var seen uint8 // classes of the bytes in names and in values without quotes
	for {
		for i < len(src) && class[src[i]]&space != 0 {
			i++
		}
		if i >= len(src) {
			t.End, t.Unterminated = len(src), true
			break
		}
		if src[i] == '>' {
			t.End = i + 1
			break
		}
		if src[i] == '/' { // §13.2.5.40
			i++
			if i < len(src) && src[i] == '>' {
				t.End, t.SelfClosing = i+1, t.Kind == StartTag
				break
			}
			continue
		}
		a := Attr{NameStart: i}
		i++ // a = as the first byte belongs to the name (§13.2.5.32)
		seen |= class[src[i-1]]
		for i < len(src) && class[src[i]]&endsAttrName == 0 {
			seen |= class[src[i]]
			i++
		}
		a.NameEnd, a.ValueStart, a.ValueEnd, a.End = i, i, i, i
		for i < len(src) && class[src[i]]&space != 0 {
			i++
		}
		if i < len(src) && src[i] == '=' {
			i = value(src, i+1, &a, &seen)
		}
		switch {
		case t.Kind != StartTag:
		case len(attrs) < MaxAttrs:
			attrs = append(attrs, a)
		default:
			t.Crowded = true
		}
	}
	t.Astray = seen&astray != 0 && t.Kind == StartTag
	z.attrs = attrs
	t.Attrs = attrs
}

// value reads the value of an attribute behind its = at i, and returns where it ends (§13.2.5.35). The classes
// of the bytes of one without quotes are added to seen.
func value(src []byte, i int, a *Attr, seen *uint8) int {
	a.HasValue = true
	a.ValueStart, a.ValueEnd, a.End = i, i, i
	for i < len(src) && class[src[i]]&space != 0 {
		i++
	}
	if i >= len(src) || src[i] == '>' {
		return i // the value is missing
	}
	if q := src[i]; q == '"' || q == '\'' {
		i++
		a.Quote, a.ValueStart = q, i
		j := bytes.IndexByte(src[i:], q)
		if j < 0 {
			a.ValueEnd, a.End = len(src), len(src)
			return len(src)
		}
		a.ValueEnd, a.End = i+j, i+j+1
		return i + j + 1
	}
	a.ValueStart = i
	for i < len(src) && class[src[i]]&endsUnquoted == 0 { // a / belongs to the value (§13.2.5.38)
		*seen |= class[src[i]]
		i++
	}
	a.ValueEnd, a.End = i, i
	return i
}

const (
	space        = 1 << iota // CR too: the standard turns it into LF before (§13.2.3.5)
	endsTagName              // space / >
	endsAttrName             // space / > =
	endsUnquoted             // space >
	letter
	astray // quotes and <: errors in these places (§13.2.5.33, §13.2.5.38)
)

var class = func() (c [256]uint8) {
	for _, b := range "\t\n\f\r " {
		c[b] = space | endsTagName | endsAttrName | endsUnquoted
	}
	c['/'] = endsTagName | endsAttrName
	c['>'] = endsTagName | endsAttrName | endsUnquoted
	c['='] = endsAttrName
	c['"'], c['\''], c['<'] = astray, astray, astray
	for b := 'a'; b <= 'z'; b++ {
		c[b] = letter
		c[b-'a'+'A'] = letter
	}
	return c
}()

func isLetter(c byte) bool { return class[c]&letter != 0 }
