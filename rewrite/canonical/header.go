package canonical

import (
	"bytes"
	"io"
)

// AppendField appends a header field in canonical form, with its line end: relaxed as in RFC 6376 §3.4.2,
// else simple as in §3.4.1. field is as it stands in the message, with or without its last line end.
func AppendField(dst, field []byte, relaxed bool) []byte {
	field = bytes.TrimRight(field, "\r\n")
	if !relaxed {
		return append(append(dst, field...), crlf...)
	}
	colon := bytes.IndexByte(field, ':')
	if colon < 0 {
		colon = len(field)
	}
	for _, c := range bytes.TrimSpace(field[:colon]) {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	begun, space := false, false
	for _, c := range field[min(colon+1, len(field)):] {
		if isSpace(c) || c == '\r' || c == '\n' {
			space = begun
			continue
		}
		if space {
			dst = append(dst, ' ')
		}
		dst, begun, space = append(dst, c), true, false
	}
	return append(dst, crlf...)
}

// Splitter takes a message in pieces, keeps its header and hands its body on.
type Splitter struct {
	Header []byte // without the empty line behind it
	Body   io.Writer
	done   bool
}

// Write implements io.Writer. The error is Body's.
func (s *Splitter) Write(p []byte) (int, error) {
	all := len(p)
	for !s.done && len(p) > 0 {
		n := min(len(p), headerStep) // so that a body behind a short header is not copied
		from := max(0, len(s.Header)-2)
		s.Header = append(s.Header, p[:n]...)
		if end, body := headerEnd(s.Header, from); end >= 0 {
			s.done = true
			n -= len(s.Header) - body
			s.Header = s.Header[:end]
		}
		p = p[n:]
	}
	if len(p) > 0 {
		if _, err := s.Body.Write(p); err != nil {
			return 0, err
		}
	}
	return all, nil
}

// headerStep is how much of what is written is looked at for the end of the header at a time.
const headerStep = 2 << 10

// InBody reports whether the header has ended.
func (s *Splitter) InBody() bool { return s.done }

// headerEnd returns where the empty line begins and where it ends. What is before from was looked at.
func headerEnd(b []byte, from int) (end, body int) {
	if from == 0 {
		if n := emptyLine(b); n > 0 {
			return 0, n
		}
	}
	for i := from; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			break
		}
		i += n
		if n := emptyLine(b[i+1:]); n > 0 {
			return i + 1, i + 1 + n
		}
	}
	return -1, -1
}

func emptyLine(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}
