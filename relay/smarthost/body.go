package smarthost

import (
	"bytes"
	"errors"
)

// body sends a message behind DATA: a dot at the beginning of a line is doubled (RFC 5321 §4.5.2), and
// what is no CR LF is refused, since a next hop that took it for the end of a line could be made to see
// another message behind it.
type body struct {
	w    *wire
	last byte  // of what was written; LF before all
	err  error // of the connection
}

func newBody(w *wire) *body { return &body{w: w, last: '\n'} }

var errLineEnds = errors.New("it holds a CR or an LF alone")

// Write takes the next bytes of the message.
func (b *body) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	written := len(p)
	if len(p) == 0 {
		return 0, nil
	}
	if b.last == '\r' && p[0] != '\n' {
		return 0, errLineEnds
	}
	if b.last == '\n' && p[0] == '.' {
		b.w.out = append(b.w.out, '.')
	}
	ends := 0
	rest := p
	for from := 0; ; {
		i := bytes.IndexByte(rest[from:], '\n')
		if i < 0 {
			break
		}
		i += from
		if i > 0 && rest[i-1] != '\r' || i == 0 && b.before(p, rest) != '\r' {
			return 0, errLineEnds
		}
		ends++
		from = i + 1
		if from < len(rest) && rest[from] == '.' {
			b.put(rest[:from])
			b.w.out = append(b.w.out, '.')
			rest, from = rest[from:], 0
		}
	}
	b.put(rest)
	// Each LF has its CR; so that each CR has its LF they must be as many, but for one at either edge.
	returns := bytes.Count(p, []byte{'\r'})
	if b.last == '\r' {
		returns++
	}
	b.last = p[len(p)-1]
	if b.last == '\r' {
		returns--
	}
	if returns != ends {
		return 0, errLineEnds
	}
	return written, b.err
}

// before is the byte in front of rest, which is the end of p.
func (b *body) before(p, rest []byte) byte {
	if at := len(p) - len(rest); at > 0 {
		return p[at-1]
	}
	return b.last
}

// put adds bytes to what is to be sent, and sends it where it is a block.
func (b *body) put(p []byte) {
	for len(p) > 0 && b.err == nil {
		n := min(len(p), max(0, blockSize-len(b.w.out)))
		b.w.out = append(b.w.out, p[:n]...)
		p = p[n:]
		if len(b.w.out) >= blockSize {
			_, b.err = b.w.flush()
		}
	}
}

// end sends the final dot and what is still to be sent before it. sent says that the next hop may have
// all of it, whatever err is.
func (b *body) end() (sent bool, err error) {
	switch b.last {
	case '\r':
		return false, errLineEnds
	case '\n':
	default:
		b.w.out = append(b.w.out, "\r\n"...)
	}
	const dot = ".\r\n"
	b.w.out = append(b.w.out, dot...)
	left, err := b.w.flush()
	return left < len(dot), err
}
