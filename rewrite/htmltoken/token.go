// Package htmltoken cuts the HTML of a mail into tokens that are byte ranges of the input, so that a
// caller can find places in it and splice bytes there. It follows the tokenization of the WHATWG HTML
// standard (https://html.spec.whatwg.org/multipage/parsing.html#tokenization, "§13.2.5" in the comments).
//
// What it promises:
//   - The tokens of an input, put one behind the other, are the input. No byte is changed, no character
//     reference is decoded, no letter case or line end is made uniform.
//   - Every input has tokens; there is no error. What the input ended inside of is marked Unterminated. A
//     browser throws such a tag away (§13.2.5.1, eof-in-tag); what to do with it is up to the caller.
//   - The time is linear in the input, whatever stands in it, and a token costs no allocation.
//
// The input must be in an encoding in which the bytes below 128 mean ASCII wherever they stand: UTF-8, the
// windows and ISO-8859 sets. Convert UTF-16, UTF-7 and ISO-2022 before.
//
// Two things of the standard are decided by the tree that a browser builds and not by the tokens: where the
// content of an element is raw text, and where <![CDATA[ is a CDATA section. Both need to know whether the
// place is HTML or foreign content (svg, math). This package keeps a list of the open elements, as a tree
// builder would, and follows the rules for foreign content (§13.2.6.5) with it. Where the tags around and
// inside of svg and math match, it knows. Where they do not, it follows the commonest repairs and can be
// wrong in these cases:
//   - End tags that are left out are filled in only where the element stands directly below (a <p> before
//     another block, a <td> before the next). Formatting elements are not opened again behind a block.
//     So inside of foreignObject, desc, title or annotation-xml, an element that is left open can hide the
//     end of the svg, or be thought to.
//   - A table directly inside a table, a second body or form, and what else a browser ignores or moves
//     where it stands, count like others; only rows and cells outside of a table are ignored.
//   - More than 256 open elements: the outermost are forgotten, and their end tags ignored.
//   - The encoding attribute of annotation-xml is compared as it stands, without decoding references.
//   - An input that is a piece of a page, such as the inside of a conditional comment, is taken for a
//     whole one: what is open around it is not known.
//
// The content of noscript is markup, since mail readers run no scripts. The name image is not turned into
// img, as a tree builder does: ask for both.
//
// It is not a parser: it builds no tree, and does not check that start and end tags match.
package htmltoken

// Kind says what a Token is.
type Kind uint8

const (
	Text     Kind = iota // character data, or the content of a raw text element (Token.Raw)
	StartTag             // <name …> and <name …/>
	EndTag               // </name …>
	Comment              // <!--…-->
	Doctype              // <!doctype …>
	Bogus                // what a browser turns into a comment or drops: <!…> of no other kind, <?…>, </ …>, </>
	CDATA                // <![CDATA[…]]>, in svg and math only
)

// String returns the name of the constant.
func (k Kind) String() string {
	switch k {
	case Text:
		return "Text"
	case StartTag:
		return "StartTag"
	case EndTag:
		return "EndTag"
	case Comment:
		return "Comment"
	case Doctype:
		return "Doctype"
	case Bogus:
		return "Bogus"
	case CDATA:
		return "CDATA"
	}
	return "Kind(?)"
}

// Attr is an attribute of a start tag. All numbers are offsets in the input.
//
//	href = "x"   NameStart before h, NameEnd behind f, ValueStart and ValueEnd around x, End behind the quote
//	href=x       the same; Quote is 0 and End is ValueEnd
//	href=        (before > or the end of the input) HasValue, and ValueStart, ValueEnd, End all behind the =
//	href         not HasValue, and ValueStart, ValueEnd, End all at NameEnd
//
// The bytes [NameStart, End) are the whole attribute. Where the input ended inside a quoted value, End and
// ValueEnd are the end of the input.
type Attr struct {
	NameStart, NameEnd   int
	ValueStart, ValueEnd int  // without the quotes
	Quote                byte // '"' or '\'', or 0 for an unquoted value or none
	HasValue             bool // there is a =, though the value may be empty
	End                  int  // behind the closing quote
}

// Token is a piece of the input. All numbers are offsets in the input.
type Token struct {
	Kind               Kind
	Start, End         int    // the whole token is [Start, End)
	NameStart, NameEnd int    // the name of a StartTag or EndTag as it is written
	DataStart, DataEnd int    // Text, Comment, Bogus, CDATA, Doctype: the inside, without what opens and closes it
	Attrs              []Attr // of a StartTag, in order, with duplicates; overwritten by the next call of Next
	Astray             bool   // of a StartTag: the name of an attribute, or a value without quotes, holds a quote or <
	Crowded            bool   // of a StartTag: it has more than MaxAttrs attributes, of which those are in Attrs
	SelfClosing        bool   // a StartTag ends with />
	Unterminated       bool   // the input ended inside the token: a tag or Bogus without >, a Comment without -->
	Raw                bool   // a Text that is the content of a raw text element such as style or title
}

// Is reports whether the token is a start tag or end tag of that name. lower must be in lower case.
func (t *Token) Is(src []byte, lower string) bool {
	return (t.Kind == StartTag || t.Kind == EndTag) && EqualFold(src[t.NameStart:t.NameEnd], lower)
}

// Attr returns the attribute of that name, and false where the tag has none. lower must be in lower case.
// Of several with one name the first counts (§13.2.5.33).
func (t *Token) Attr(src []byte, lower string) (Attr, bool) {
	for i := range t.Attrs {
		a := &t.Attrs[i]
		if a.NameEnd-a.NameStart == len(lower) && src[a.NameStart]|0x20 == lower[0]|0x20 && EqualFold(src[a.NameStart:a.NameEnd], lower) {
			return *a, true
		}
	}
	return Attr{}, false
}

// EqualFold reports whether name is lower, where the ASCII letters of name may be in either case. lower must
// be in lower case. Other than bytes.EqualFold it takes no letter outside of ASCII for an ASCII one.
func EqualFold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if lowerCase(c) != lower[i] {
			return false
		}
	}
	return true
}

func lowerCase(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
