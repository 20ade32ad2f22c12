// Package canonical is the form of a message that DKIM hashes, RFC 6376 §3.4, made of a message that
// comes in pieces and is never in memory as a whole.
//
// It knows no keys and no signatures: package relay/sign makes those, and package rewrite asks whether
// one that came in can still hold.
package canonical

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// Body is the SHA-256 of a body in canonical form. What is written may be cut anywhere. A bare LF counts
// as CRLF, which it is on the wire; a bare CR is text.
type Body struct {
	hash    hash.Hash
	relaxed bool
	left    int64  // canonical bytes that are still to be hashed; < 0: all
	buf     []byte // canonical, not hashed yet
	lines   int    // line ends that are hashed once text follows
	space   bool   // white space that is hashed once text follows on its line
	cr      bool   // the last byte was a CR
	text    bool   // there was text
}

// bufSize makes few, long writes to the hash of many short lines.
const bufSize = 2 << 10

// NewBody returns the hash of an empty body: relaxed as in §3.4.4, else simple as in §3.4.3. Only the
// first limit bytes count (l=, §3.5), all where it is negative.
func NewBody(relaxed bool, limit int64) *Body {
	return &Body{hash: sha256.New(), relaxed: relaxed, left: limit, buf: make([]byte, 0, bufSize)}
}

// Write implements io.Writer. It never fails.
func (b *Body) Write(p []byte) (int, error) {
	n := len(p)
	if b.cr && n > 0 {
		b.cr = false
		if p[0] != '\n' {
			b.add(cr)
		}
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if b.cr = p[len(p)-1] == '\r'; b.cr {
				p = p[:len(p)-1]
			}
			b.add(p)
			break
		}
		line := p[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		b.add(line)
		b.lines++
		b.space = false
		p = p[i+1:]
	}
	return n, nil
}

var (
	cr   = []byte("\r")
	crlf = []byte("\r\n")
)

// add takes text without a line end.
func (b *Body) add(text []byte) {
	if !b.relaxed {
		if len(text) > 0 {
			b.begin()
			b.put(text)
		}
		return
	}
	if len(text) > 0 && !isSpace(text[0]) && isRelaxed(text) {
		b.begin()
		b.put(text)
		return
	}
	for len(text) > 0 {
		i := 0
		for i < len(text) && isSpace(text[i]) {
			i++
		}
		b.space = b.space || i > 0
		if text = text[i:]; len(text) == 0 {
			return
		}
		for i = 1; i < len(text) && !isSpace(text[i]); i++ {
		}
		b.begin()
		b.put(text[:i])
		text = text[i:]
	}
}

// isRelaxed reports whether a stretch of text that begins with no white space is hashed as it is.
func isRelaxed(text []byte) bool {
	return text[len(text)-1] != ' ' && bytes.IndexByte(text, '\t') < 0 && !bytes.Contains(text, twoSpaces)
}

var twoSpaces = []byte("  ")

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// begin hashes what was held back, since text follows.
func (b *Body) begin() {
	for ; b.lines > 0; b.lines-- {
		b.put(crlf)
	}
	if b.space {
		b.space = false
		b.put(twoSpaces[:1])
	}
	b.text = true
}

func (b *Body) put(p []byte) {
	if b.left >= 0 {
		p = p[:min(int64(len(p)), b.left)]
		b.left -= int64(len(p))
	}
	if len(b.buf)+len(p) > cap(b.buf) {
		b.hash.Write(b.buf)
		b.buf = b.buf[:0]
	}
	if len(p) > cap(b.buf) {
		b.hash.Write(p)
		return
	}
	b.buf = append(b.buf, p...)
}

// Sum ends the body and returns its hash. With a limit, whole says whether the body had as many bytes.
func (b *Body) Sum() (sum []byte, whole bool) {
	if b.cr {
		b.cr = false
		b.add(cr)
	}
	if b.text || !b.relaxed { // empty lines at the end go; an empty body is one line end in the simple form
		b.put(crlf)
	}
	b.hash.Write(b.buf)
	return b.hash.Sum(nil), b.left <= 0
}
