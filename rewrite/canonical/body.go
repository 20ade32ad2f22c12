// Package canonical is the form of a message that DKIM hashes, RFC 6376 §3.4, made of a message that
// comes in pieces and is never in memory as a whole.
//
// It knows no keys and no signatures: package relay/sign makes those, and package rewrite asks whether
// one that came in can still hold.
package canonical

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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
	within  bool   // what was written last is no end of a line
}

// bufSize makes few, long writes to the hash of many short lines.
const bufSize = 2 << 10

// NewBody returns the hash of an empty body: relaxed as in §3.4.4, else simple as in §3.4.3. Only the
// first limit bytes count (l=, §3.5), all where it is negative.
func NewBody(relaxed bool, limit int64) *Body {
	b := &Body{hash: sha256.New(), buf: make([]byte, 0, bufSize)}
	b.Reset(relaxed, limit)
	return b
}

// Reset makes b what NewBody returns.
func (b *Body) Reset(relaxed bool, limit int64) {
	b.hash.Reset()
	*b = Body{hash: b.hash, buf: b.buf[:0], relaxed: relaxed, left: limit}
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
		if part := b.lineStart(p); len(part) > 0 {
			if !b.addPlain(part) {
				b.addLines(part)
			}
			p = p[len(part):]
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if b.cr = p[len(p)-1] == '\r'; b.cr {
				p = p[:len(p)-1]
			}
			b.add(p)
			b.within = b.within || len(p) > 0 || b.cr
			break
		}
		b.addLines(p[:i+1])
		p = p[i+1:]
	}
	return n, nil
}

// lineStart returns the lines at the beginning of p, none where p begins within a line. They are not more
// than partSize bytes, unless there is but one.
func (b *Body) lineStart(p []byte) []byte {
	if b.within {
		return nil
	}
	return p[:bytes.LastIndexByte(p[:min(len(p), partSize)], '\n')+1]
}

// partSize is how many bytes are looked at at a time for whether they can be hashed as they are.
const partSize = 4 << 10

// addLines takes whole lines, of which the first one may have begun before.
func (b *Body) addLines(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line := p[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		b.add(line)
		b.lines++
		b.space, b.within = false, false
		p = p[i+1:]
	}
}

// addPlain takes whole lines that are canonical as they stand, and reports whether they are.
func (b *Body) addPlain(p []byte) bool {
	ends := 0
	for from := 0; from < len(p); ends++ {
		from += bytes.IndexByte(p[from:], '\n') + 1
		if from < 2 || p[from-2] != '\r' || b.relaxed && from > 2 && p[from-3] == ' ' {
			return false
		}
	}
	// Each LF has its CR, so where they are as many there is no other.
	if bytes.Count(p, cr) != ends || b.relaxed && (bytes.IndexByte(p, '\t') >= 0 || hasTwoSpaces(p)) {
		return false
	}
	text := bytes.TrimRight(p, "\r\n")
	if len(text) > 0 {
		b.begin()
		b.put(text)
	}
	b.lines += (len(p) - len(text)) / len(crlf)
	return true
}

// hasTwoSpaces reports whether a space stands behind another one. bytes.Contains would stop at each space.
func hasTwoSpaces(p []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(p) > 32 {
		// A byte of each is 0 where there is a space and another one behind it.
		a, b, c, d := twice(p[0:9]), twice(p[8:17]), twice(p[16:25]), twice(p[24:33])
		if ((a-ones)&^a|(b-ones)&^b|(c-ones)&^c|(d-ones)&^d)&tops != 0 {
			return true
		}
		p = p[32:]
	}
	return bytes.Contains(p, twoSpaces)
}

// twice has a byte 0 for each of the first eight of p that is a space and has another one behind it.
func twice(p []byte) uint64 {
	const spaces = 0x2020202020202020
	return (binary.LittleEndian.Uint64(p) ^ spaces) | (binary.LittleEndian.Uint64(p[1:]) ^ spaces)
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
