package rewrite

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// maxHeader bounds the header of a message or of one part, in bytes.
const maxHeader = 256 << 10

// field is one header field, with its place in the source.
type field struct {
	span
	name string // as it stands there
	body string // unfolded and trimmed
}

// header is the header of a message or of a part.
type header struct {
	fields []field
	// end is where a further field is to be put: behind the last one. body begins behind the
	// blank line; where body == end the blank line is missing.
	end, body int64
	tooLong   bool
}

// Header is the header of a message (RFC 5322 §2.2), for who has no use for the rest yet.
type Header struct{ header }

// ParseHeader reads the header of the message of size bytes as Parse does. The error is one of reading src, or wraps
// ErrHeader.
func ParseHeader(src io.ReaderAt, size int64) (*Header, error) {
	w := newWindow(src, size)
	p := &parser{w: w}
	h := p.readHeader(0, true)
	if h.tooLong {
		return nil, errHeader()
	}
	p.fill(&h)
	if w.err != nil {
		return nil, fmt.Errorf("reading the message: %w", w.err)
	}
	return &Header{h}, nil
}

func errHeader() error { return fmt.Errorf("%w: over %d bytes", ErrHeader, maxHeader) }

// Fields returns the bodies (unfolded, trimmed) of all fields of that name, in order; names are compared without case.
func (h *Header) Fields(name string) []string { return h.all(name) }

func (h *header) all(name string) []string {
	var out []string
	for i := range h.fields {
		if f := &h.fields[i]; strings.EqualFold(f.name, name) {
			out = append(out, f.body)
		}
	}
	return out
}

// get returns the body of the first field of that name, "" if there is none.
func (h *header) get(name string) string {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].name, name) {
			return h.fields[i].body
		}
	}
	return ""
}

// readHeader reads the fields that begin at pos. As mail servers and readers do, it takes the
// first line that cannot be a field (RFC 5322 §2.2) as the begin of the body, with or without
// a blank line before it. At the very top an mbox "From " line is passed over.
func (p *parser) readHeader(pos int64, top bool) header {
	buf := p.w.at(pos, 8<<10)
	if !headerEnds(buf) && int64(len(buf)) < p.w.size-pos {
		buf = p.w.at(pos, maxHeader+1)
	}
	var h header
	i := 0
	for i < len(buf) {
		n := lineLen(buf[i:])
		if i+n == len(buf) && pos+int64(i+n) < p.w.size {
			h.tooLong = true // what the line is stands further on than is read
			break
		}
		line := trimEOL(buf[i : i+n])
		if len(line) == 0 {
			h.end, h.body = pos+int64(i), pos+int64(i+n)
			return h
		}
		if p.isDelimiter(line) {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(h.fields) == 0 {
				break
			}
			f := &h.fields[len(h.fields)-1]
			f.end = pos + int64(i+n)
			i += n
			continue
		}
		colon := fieldName(line)
		if colon < 0 {
			if !(top && i == 0 && bytes.HasPrefix(line, []byte("From "))) {
				break
			}
			colon = 0
		}
		h.fields = append(h.fields, field{
			span: span{pos + int64(i), pos + int64(i+n)},
			name: fieldNameString(bytes.TrimRight(line[:colon], " \t")),
		})
		i += n
	}
	h.end = pos + int64(i)
	h.body = h.end
	return h
}

// commonNames are field names that need no memory of their own.
var commonNames = func() map[string]string {
	m := map[string]string{}
	for _, name := range strings.Fields(`Received From To Cc Sender Reply-To Subject Date Message-ID In-Reply-To References Return-Path
		MIME-Version Content-Type Content-Transfer-Encoding Content-Disposition Content-ID Content-Description Content-Language
		List-ID List-Id List-Unsubscribe List-Unsubscribe-Post List-Help List-Archive List-Post Precedence Auto-Submitted
		Feedback-ID DKIM-Signature Authentication-Results Received-SPF X-Mailer X-Consent-Scope X-Consent-Class X-Consent-Language`) {
		m[name] = name
	}
	return m
}()

func fieldNameString(name []byte) string {
	if s, ok := commonNames[string(name)]; ok {
		return s
	}
	return string(name)
}

// fill sets the bodies of h's fields; apart from readHeader, which would else keep growing
// strings for folded fields.
func (p *parser) fill(h *header) {
	for i := range h.fields {
		f := &h.fields[i]
		raw := p.w.at(f.start, int(f.len()))
		if colon := bytes.IndexByte(raw, ':'); colon >= 0 && f.name != "" {
			f.body = unfold(raw[colon+1:])
		}
	}
}

// headerEnds reports whether a blank line is in b, so that no more has to be read.
func headerEnds(b []byte) bool {
	return bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n")) ||
		bytes.HasPrefix(b, []byte("\r\n")) || bytes.HasPrefix(b, []byte("\n"))
}

// fieldName returns the place of the colon behind a field name (RFC 5322 §3.6.8; white space
// before the colon is the obsolete syntax of §4.5.8), or -1.
func fieldName(line []byte) int {
	for i, c := range line {
		switch {
		case c == ':':
			if i == 0 {
				return -1
			}
			return i
		case c == ' ' || c == '\t':
			rest := bytes.TrimLeft(line[i:], " \t")
			if i > 0 && len(rest) > 0 && rest[0] == ':' {
				return len(line) - len(rest)
			}
			return -1
		case c <= ' ' || c >= 0x7f:
			return -1
		}
	}
	return -1
}

// unfold returns a field's body without line ends, trimmed (RFC 5322 §2.2.3).
func unfold(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if bytes.IndexByte(raw, '\n') < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for _, c := range raw {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return string(out)
}

// lineLen returns the length of the first line with its end.
func lineLen(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

func trimEOL(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// mediaType is a Content-Type or Content-Disposition field taken apart, leniently.
type mediaType struct {
	value  string // lower-cased, without parameters: "text/html"
	params map[string]string
	twice  bool // it names two boundaries or character sets that differ
}

// parseMediaType reads RFC 2045 §5.1 and RFC 2231 §3 as mail readers do: never an error, the
// first of two parameters of one name wins, quotes may be missing.
func parseMediaType(s string) mediaType {
	semi := strings.IndexByte(s, ';')
	first := s
	if semi >= 0 {
		first = s[:semi]
	}
	first = strings.TrimSpace(first)
	if sp := strings.IndexAny(first, " \t("); sp >= 0 {
		if slash := strings.IndexByte(first, '/'); slash < 0 || slash >= sp-1 { // "text / html"
			first = withoutSpace(first)
		} else {
			first = first[:sp]
		}
	}
	mt := mediaType{value: strings.ToLower(strings.Trim(first, `"'`))}
	if semi < 0 {
		if semi = strings.IndexAny(s, " \t"); semi < 0 { // "text/html charset=utf-8" is seen
			return mt
		}
	}
	mt.params = map[string]string{}
	type segment struct {
		n       int
		value   string
		percent bool
	}
	var continued map[string][]segment
	for rest := s[semi+1:]; rest != ""; {
		var name, value string
		name, value, rest = nextParam(rest)
		if name == "" {
			continue
		}
		base, star, split := strings.Cut(name, "*")
		if !split {
			if before, dup := mt.params[name]; !dup {
				mt.params[name] = value
			} else if name == "boundary" && before != value || name == "charset" && findCharset(before).wide != findCharset(value).wide {
				mt.twice = true
			}
			continue
		}
		percent := strings.HasSuffix(star, "*") || star == ""
		n := 0
		for _, c := range strings.TrimSuffix(star, "*") {
			if c < '0' || c > '9' || n > 999 {
				n = -1
				break
			}
			n = n*10 + int(c-'0')
		}
		if n >= 0 && len(continued[base]) < 100 {
			if continued == nil {
				continued = map[string][]segment{}
			}
			continued[base] = append(continued[base], segment{n, value, percent})
		}
	}
	for base, segs := range continued {
		before, plain := mt.params[base]
		var b strings.Builder
		for n := 0; n < len(segs); n++ {
			for _, sg := range segs {
				if sg.n != n {
					continue
				}
				v := sg.value
				if sg.percent {
					if n == 0 { // charset'language'text
						if parts := strings.SplitN(v, "'", 3); len(parts) == 3 {
							v = parts[2]
						}
					}
					v = percentDecode(v)
				}
				b.WriteString(v)
				break
			}
		}
		if !plain {
			mt.params[base] = b.String()
		} else if before != b.String() && base == "boundary" || base == "charset" && findCharset(before).wide != findCharset(b.String()).wide {
			mt.twice = true
		}
	}
	return mt
}

// withoutSpace takes white space and comments (RFC 5322 §3.2.2) out.
func withoutSpace(s string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
			return -1
		case r == ')' && depth > 0:
			depth--
			return -1
		case depth > 0 || r == ' ' || r == '\t':
			return -1
		}
		return r
	}, s)
}

// nextParam takes one name=value off a parameter list.
func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, "; \t\r\n")
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		return "", "", ""
	}
	if s[i] == ';' {
		return "", "", s[i+1:]
	}
	name = strings.ToLower(strings.TrimSpace(s[:i]))
	s = strings.TrimLeft(s[i+1:], " \t")
	if strings.HasPrefix(s, `"`) {
		var b strings.Builder
		for j := 1; j < len(s); j++ {
			switch s[j] {
			case '\\':
				if j++; j < len(s) {
					b.WriteByte(s[j])
				}
			case '"':
				return name, b.String(), s[j+1:]
			default:
				b.WriteByte(s[j])
			}
		}
		return name, b.String(), ""
	}
	if j := strings.IndexByte(s, ';'); j >= 0 {
		s, rest = s[:j], s[j+1:]
	}
	if c := strings.IndexAny(s, " \t("); c >= 0 && name != "boundary" {
		s = s[:c]
	}
	return name, strings.TrimSpace(s), rest
}

func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// unhex is the value of a hexadecimal digit, negative for any other byte.
func unhex(c byte) int { return int(hexValue[c]) }

var hexValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "0123456789ABCDEF" {
		t[c], t[c|0x20] = int8(i), int8(i)
	}
	return t
}()
