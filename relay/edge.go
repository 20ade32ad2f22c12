package relay

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/consentgate/consentgate/consent"
)

// All that crosses the edge from a stranger and is put to use is checked in this file: the
// addresses of the envelope, the line ends of the data, and the name in EHLO. Header fields that
// steer us are in control.go. The attacks that they must stand are in testdata.

var (
	errMailbox = errors.New("not a mailbox of RFC 5321 §4.1.2")
	errUTF8    = errors.New("address is not ASCII and SMTPUTF8 was not asked for")
)

// mailbox takes an address as go-smtp parsed it, which is without the quotes of its local part,
// and returns it as it may stand between angle brackets: checked, and quoted where it needs to
// be (RFC 5321 §4.1.2). Without utf8 only ASCII passes (RFC 6531 §3.3).
//
// go-smtp takes everything up to a space or ">" for the domain, so it is there that the attacks
// stand; the local part may hold anything since go-smtp undid its quotes.
func mailbox(raw string, utf8OK bool) (string, error) {
	if !utf8.ValidString(raw) || len(raw) > 320 { // 64 + 1 + 255, RFC 5321 §4.5.3.1
		return "", errMailbox
	}
	for _, r := range raw {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return "", errMailbox
		}
		if r >= 0x80 && !utf8OK {
			return "", errUTF8
		}
	}
	at := strings.LastIndexByte(raw, '@')
	if at <= 0 {
		return "", errMailbox
	}
	local, domain := raw[:at], raw[at+1:]
	if !isDomain(domain) {
		return "", errMailbox
	}
	if strings.ContainsAny(local, ` ()<>[]:;@\,"`) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return local + "@" + domain, nil
}

// isDomain reports whether s looks like a host name, with underscores since they are met, or
// like an address literal (RFC 5321 §4.1.3). Whether it exists is the smarthost's to find out.
func isDomain(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		for i := 0; i < len(inner); i++ {
			if c := inner[i]; !isAlnum(c) && c != '.' && c != ':' && c != '-' {
				return false
			}
		}
		return ok && inner != ""
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlnum(c) && c != '.' && c != '-' && c != '_' && c < 0x80 {
			return false
		}
	}
	return s != "" && s[0] != '.' && !strings.Contains(s, "..")
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// recipient is mailbox together with the normalised address under which consent is kept.
func recipient(raw string, utf8OK bool) (string, consent.Address, error) {
	to, err := mailbox(raw, utf8OK)
	if err != nil {
		return "", consent.Address{}, err
	}
	who, err := consent.ParseAddress(to)
	return to, who, err
}

// cleanHelo returns the name of an EHLO as it may stand in a Received field: what is not a
// domain or an address literal becomes "unknown".
func cleanHelo(s string) string {
	if len(s) > 255 || !isDomain(s) || !isASCII(s) {
		return "unknown"
	}
	return s
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// errLineEnds is returned for data with a CR, LF or NUL that has no business there.
var errLineEnds = errors.New("bare CR, bare LF or NUL in the message")

// strictLines looks at the data of one message as it comes in: each CR must stand before an LF,
// each LF behind a CR, and there is no NUL (RFC 5321 §2.3.8, §4.1.1.4). A server that lets others
// pass can be made to see an end of data where the next one sees none, so that what stands behind
// becomes a message that nobody checked.
//
// It notes on the way whether the header holds bytes over 127, and how the message ends.
type strictLines struct {
	last       byte // the byte before; 0 = there was none
	body       bool // the header is over
	width      int  // until then: bytes of the line that has not ended
	header8Bit bool
}

// check takes the next bytes.
func (s *strictLines) check(p []byte) error {
	if err := s.ends(p); err != nil {
		return err
	}
	if !s.body {
		s.header(p)
	}
	return nil
}

// header takes bytes of the header, and what is behind it, whose lines end as they should.
func (s *strictLines) header(p []byte) {
	for rest := p; !s.body; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			s.width += len(rest)
			break
		}
		rest = rest[i+1:]
		if s.body = s.width+i == len("\r"); s.body {
			p = p[:len(p)-len(rest)]
		}
		s.width = 0
	}
	s.header8Bit = s.header8Bit || slices.ContainsFunc(p, func(c byte) bool { return c >= 0x80 })
}

// ends looks at the line ends. Each LF stands behind a CR, and there are as many CRs as LFs, but for
// one at either edge: so each CR stands before an LF.
func (s *strictLines) ends(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	returns := bytes.Count(p, []byte{'\r'})
	if s.last == '\r' {
		returns++
	}
	if p[len(p)-1] == '\r' {
		returns--
	}
	for before, rest := s.last, p; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if i > 0 {
			before = rest[i-1]
		}
		if before != '\r' {
			return errLineEnds
		}
		returns--
		before, rest = '\n', rest[i+1:]
	}
	if returns != 0 || bytes.IndexByte(p, 0) >= 0 {
		return errLineEnds
	}
	s.last = p[len(p)-1]
	return nil
}

// end is called behind the last byte. It reports whether a CRLF has to be added: DATA always
// ends with one, BDAT need not (RFC 3030 §3), and further on only DATA is spoken.
func (s *strictLines) end() (needsCRLF bool, err error) {
	if s.last == '\r' {
		return false, errLineEnds
	}
	return s.last != 0 && s.last != '\n', nil
}

// lostCR looks at the stream below go-smtp, for the bare CRs after which go-smtp and the peer may
// not agree where the message ends. A connection on which one was seen is cut. (Under TLS this
// has to stand above the decryption.)
//
//   - CR LF dot CR, and no LF: go-smtp swallows the CR.
//   - CR CR LF dot CR LF: go-smtp takes the second CR for content, so it sees no line end before
//     the dot and would wait for an end that the peer has sent. Others see no line end there
//     either and pass the dot as text, so what follows cannot be trusted to be commands.
type lostCR struct {
	state   int     // 0 within a line, 1 behind LF, 2 behind LF dot, 3 behind LF dot CR
	doubled bool    // that LF stood behind CR CR
	tail    [2]byte // the two bytes before
}

// find takes the next bytes and returns the index of the byte that shows one, or -1.
func (l *lostCR) find(p []byte) int {
	defer l.remember(p)
	for i := 0; i < len(p); i++ {
		if l.state == 0 {
			n := bytes.IndexByte(p[i:], '\n')
			if n < 0 {
				return -1
			}
			i += n
			l.newline(p, i)
			continue
		}
		switch c := p[i]; {
		case l.state == 3 && (c != '\n' || l.doubled):
			return i
		case c == '\n':
			l.newline(p, i)
		case l.state == 1 && c == '.':
			l.state = 2
		case l.state == 2 && c == '\r':
			l.state = 3
		default:
			l.state = 0
		}
	}
	return -1
}

// newline notes the LF at p[i].
func (l *lostCR) newline(p []byte, i int) {
	before := func(n int) byte {
		if i >= n {
			return p[i-n]
		}
		return l.tail[len(l.tail)+i-n]
	}
	l.state, l.doubled = 1, before(1) == '\r' && before(2) == '\r'
}

// remember keeps the end of p for the next call.
func (l *lostCR) remember(p []byte) {
	for _, c := range p[max(len(p)-len(l.tail), 0):] {
		l.tail[0], l.tail[1] = l.tail[1], c
	}
}
