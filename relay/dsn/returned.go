package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"github.com/emersion/go-smtp"
)

const (
	maxHeader = 64 << 10 // of the message's header that comes back
	maxFull   = 1 << 20  // of a message that comes back whole
	maxLine   = 998      // RFC 5322 §2.1.1
)

// returned is what comes back of the message, and what else a report wants to know of it.
type returned struct {
	part      part   // without content where there is no message
	messageID string // "" = none, or an odd one
	subject   string // decoded
}

func (r *Report) giveBack(original io.ReaderAt, size int64) (returned, error) {
	if original == nil || size <= 0 {
		return returned{}, nil
	}
	full := r.Kind == Failed && r.Return == smtp.DSNReturnFull && size <= maxFull
	want := min(size, maxHeader)
	if full {
		want = size
	}
	text := make([]byte, want)
	if n, err := original.ReadAt(text, 0); n < len(text) {
		return returned{}, err
	}
	header, body := split(text)
	header = withoutBcc(header)
	back := returned{messageID: messageID(header), subject: subject(header)}

	if whole := append(header[:len(header):len(header)], body...); full {
		switch {
		case !hasLines(whole): // nothing that SMTP could carry
		case isSevenBit(whole):
			back.part = part{"message/rfc822", "Undelivered message", "7bit", whole}
			return back, nil
		case r.UTF8:
			back.part = part{"message/global", "Undelivered message", "quoted-printable", quote(whole)}
			return back, nil
		}
	}
	if header = bounded(header); len(header) == 0 {
		return back, nil
	}
	back.part = part{"text/rfc822-headers", "Header of the message", "7bit", header}
	if r.UTF8 && !isASCII(string(header)) {
		back.part.contentType = "message/global-headers" // RFC 6533 §6.3
	}
	// RFC 6522 §4 has quoted-printable for a broken header.
	if !hasLines(header) || !isSevenBit(header) {
		back.part.encoding, back.part.content = "quoted-printable", quote(header)
	}
	return back, nil
}

// split parts header and body; the body begins with the blank line. Without one, all is header.
func split(text []byte) (header, body []byte) {
	for at := 0; ; {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			return text, nil
		}
		if len(bytes.TrimRight(text[at:at+n], "\r")) == 0 {
			return text[:at], text[at:]
		}
		at += n + 1
	}
}

// bounded is header up to the last whole line within maxHeader.
func bounded(header []byte) []byte {
	if len(header) < maxHeader {
		return header
	}
	header = header[:maxHeader]
	if n := bytes.LastIndexByte(header, '\n'); n >= 0 {
		header = header[:n+1]
	}
	return header
}

// fields calls f with each field's name, in small letters, and its lines.
func fields(header []byte, f func(name string, lines []byte)) {
	for len(header) > 0 {
		end := 0
		for {
			n := bytes.IndexByte(header[end:], '\n')
			if n < 0 {
				end = len(header)
				break
			}
			end += n + 1
			if end == len(header) || (header[end] != ' ' && header[end] != '\t') {
				break
			}
		}
		name, _, _ := bytes.Cut(header[:end], []byte(":"))
		f(strings.ToLower(string(bytes.TrimSpace(name))), header[:end])
		header = header[end:]
	}
}

// withoutBcc is header without what the sender hid from everybody (RFC 5322 §3.6.3).
func withoutBcc(header []byte) []byte {
	var b []byte
	fields(header, func(name string, lines []byte) {
		if name != "bcc" && name != "resent-bcc" {
			b = append(b, lines...)
		}
	})
	return b
}

// value is that of the first field of that name, unfolded; "" = none.
func value(header []byte, want string) (value string) {
	found := false
	fields(header, func(name string, lines []byte) {
		if name == want && !found {
			found = true
			_, v, _ := bytes.Cut(lines, []byte(":"))
			value = strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(v)))
		}
	})
	return value
}

// messageID is the header's if it can be referred to; else "".
func messageID(header []byte) string {
	id := value(header, "message-id")
	if len(id) > 250 || !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, ">") {
		return ""
	}
	inner := id[1 : len(id)-1]
	if at := strings.IndexByte(inner, '@'); at <= 0 || at == len(inner)-1 {
		return ""
	}
	if strings.ContainsFunc(inner, func(c rune) bool { return c <= ' ' || c > '~' || c == '<' || c == '>' }) {
		return ""
	}
	return id
}

// subject is the header's for a person to read; "" where it is not there or in a rare charset.
func subject(header []byte) string {
	s, err := new(mime.WordDecoder).DecodeHeader(value(header, "subject"))
	if err != nil {
		return ""
	}
	return printable(s, 200)
}

// hasLines reports whether text is made of lines that end with CRLF, without NUL.
func hasLines(text []byte) bool {
	for i, c := range text {
		switch {
		case c == 0,
			c == '\n' && (i == 0 || text[i-1] != '\r'),
			c == '\r' && (i+1 == len(text) || text[i+1] != '\n'):
			return false
		}
	}
	return true
}

// isSevenBit reports whether text may be 7bit, RFC 2045 §2.7.
func isSevenBit(text []byte) bool {
	length := 0
	for _, c := range text {
		if c >= 0x80 {
			return false
		}
		if length++; c == '\n' {
			length = 0
		}
		if length > maxLine+1 { // with its CR
			return false
		}
	}
	return true
}

func quote(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Write(text) // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}
