package rewrite

import (
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// standIn is a transparent picture of one pixel that stands in the mail itself. It takes the place
// of a pixel that may hold the layout open: a line one pixel high, the spacer of an empty cell.
const standIn = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

var standInValue = literal(standIn)

// takesSpace reports whether the tag is a picture whose own size is said. Its box stays, whatever
// becomes of its address; of a known tracker that says nothing the whole goes, for a reader that shows
// no data: addresses would put the sign of a broken picture there.
func (f *htmlFinder) takesSpace(tok *htmltoken.Token, name string) bool {
	if name != "img" {
		return false
	}
	l := f.looks(tok, picture)
	return l.width >= 0 || l.height >= 0
}

// emptied is the edit that leaves a picture's box and takes the attribute's address: src gets the
// stand-in, all others go.
func (f *htmlFinder) emptied(a *htmltoken.Attr, attr string) edit {
	e := f.cutAttr(a, withoutOpen)
	if attr != "src" {
		return e
	}
	value := `"` + standIn + `"`
	if f.t.enc == identity && f.inLongLine(a.NameStart) {
		e.pieces = literal("\r\nsrc=" + value + "\r\n")
		return e
	}
	e.start, e.end, e.pieces = a.ValueStart, a.ValueEnd, standInValue
	if a.Quote == 0 {
		e.pieces = literal(value)
	}
	return e
}

// spacer is emptied for a picture that says nothing of its size, and is known to be one pixel.
func (f *htmlFinder) spacer(a *htmltoken.Attr, attr string) edit {
	e := f.cutAttr(a, withoutOpen)
	if attr == "src" {
		e.pieces = literal("\r\nsrc=\"" + standIn + "\" width=\"1\" height=\"1\"\r\n")
	}
	return e
}

// longLine is from what length on, in bytes, a line is broken around a stand-in, which may be longer
// than the address was: with a stand-in for each 40 bytes a shorter one still stays under the 998 of
// RFC 5322 §2.1.1.
const longLine = 300

// inLongLine reports whether the line around at is a long one. It looks no further than that.
func (f *htmlFinder) inLongLine(at int) bool {
	before := f.src[max(0, at-longLine):at]
	before = before[strings.LastIndexByte(before, '\n')+1:]
	after := f.src[at:min(len(f.src), at+longLine)]
	if n := strings.IndexByte(after, '\n'); n >= 0 {
		after = after[:n]
	}
	return len(before)+len(after) >= longLine
}
