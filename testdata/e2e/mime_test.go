package e2e

import (
	"bytes"
	"encoding/base64"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// part is a MIME part as a lenient mail reader sees it. This walk is written for these tests and
// knows nothing of package rewrite.
type part struct {
	fields   []field
	typ      string            // "text/html", lower case
	params   map[string]string // of Content-Type
	children []*part
	body     []byte // decoded, of a part without children; text in UTF-8 where its charset is a wide one
	foreign  bool   // a transfer encoding that nobody knows
}

type field struct{ name, body string }

func (p *part) get(name string) string {
	for _, f := range p.fields {
		if strings.EqualFold(f.name, name) {
			return f.body
		}
	}
	return ""
}

func (p *part) all(name string) []string {
	var out []string
	for _, f := range p.fields {
		if strings.EqualFold(f.name, name) {
			out = append(out, f.body)
		}
	}
	return out
}

func (p *part) attached() bool {
	kind, _, _ := strings.Cut(strings.ToLower(p.get("Content-Disposition")), ";")
	return strings.TrimSpace(kind) == "attachment"
}

// parse reads a message, with CRLF or LF line ends.
func parse(text []byte) *part { return parsePart(text, "text/plain") }

// parsePart reads a part that has the type assumed where it names none.
func parsePart(text []byte, assumed string) *part {
	p := &part{typ: assumed}
	for len(text) > 0 {
		line, rest := cutLine(text)
		if len(line) == 0 {
			text = rest
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(p.fields) == 0 {
				break
			}
			p.fields[len(p.fields)-1].body += string(line)
			text = rest
			continue
		}
		name, body, colon := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !colon || len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			break // no field (RFC 5322 §2.2): the body begins without an empty line
		}
		p.fields = append(p.fields, field{string(name), string(body)})
		text = rest
	}
	for i := range p.fields {
		p.fields[i].body = strings.TrimSpace(p.fields[i].body)
	}
	if t := p.get("Content-Type"); t != "" {
		p.typ, p.params = parameters(t)
	}
	if boundary := p.params["boundary"]; strings.HasPrefix(p.typ, "multipart/") && boundary != "" {
		inner := "text/plain"
		if p.typ == "multipart/digest" { // RFC 2046 §5.1.5
			inner = "message/rfc822"
		}
		for _, piece := range split(text, boundary) {
			p.children = append(p.children, parsePart(piece, inner))
		}
	}
	if strings.HasPrefix(p.typ, "multipart/") && p.params["boundary"] == "" {
		p.typ = "text/plain" // there can be no parts: readers show what is there
	}
	if len(p.children) == 0 {
		p.body, p.foreign = decode(text, p.get("Content-Transfer-Encoding"))
		if cs := strings.ToLower(p.params["charset"]); strings.HasPrefix(cs, "utf-16") || strings.HasPrefix(cs, "utf-32") {
			if enc, err := htmlindex.Get(cs); err == nil {
				if out, err := enc.NewDecoder().Bytes(p.body); err == nil {
					p.body = out
				}
			}
		}
	}
	return p
}

func cutLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// split returns what stands between the delimiter lines of a boundary (RFC 2046 §5.1.1), to the
// end of the text where the closing one is missing.
func split(text []byte, boundary string) [][]byte {
	var out [][]byte
	var piece []byte
	inside := false
	end := func() {
		if inside { // the line end before a delimiter belongs to it
			piece = bytes.TrimSuffix(piece, []byte("\n"))
			out = append(out, bytes.TrimSuffix(piece, []byte("\r")))
		}
		piece = nil
	}
	for len(text) > 0 {
		line, rest := cutLine(text)
		after, is := strings.CutPrefix(string(line), "--"+boundary)
		switch after = strings.TrimRight(after, " \t"); {
		case is && after == "":
			end()
			inside = true
		case is && after == "--":
			end()
			return out
		default:
			piece = append(piece, text[:len(text)-len(rest)]...)
		}
		text = rest
	}
	end()
	return out
}

// parameters takes a Content-Type apart, leniently.
func parameters(s string) (string, map[string]string) {
	first, rest, ok := strings.Cut(s, ";")
	if !ok { // a semicolon that was forgotten
		first, rest, _ = strings.Cut(strings.ReplaceAll(s, "\t", " "), " ")
	}
	params := map[string]string{}
	for rest != "" {
		var name, value string
		name, rest, _ = strings.Cut(rest, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if i := strings.LastIndexByte(name, ';'); i >= 0 {
			name = strings.TrimSpace(name[i+1:])
		}
		rest = strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				value += rest[i : i+1]
			}
			_, rest, _ = strings.Cut(rest[min(i, len(rest)):], ";")
		} else {
			value, rest, _ = strings.Cut(rest, ";")
			value = strings.TrimSpace(value)
		}
		if _, again := params[name]; !again {
			params[name] = value
		}
	}
	if words := strings.Fields(strings.ToLower(first)); len(words) > 0 {
		return words[0], params
	}
	return "text/plain", params
}

// decode undoes a Content-Transfer-Encoding as mail readers do: what cannot be decoded is passed
// over (base64) or stays as it is (quoted-printable). foreign says that nobody knows the encoding.
func decode(text []byte, encoding string) (body []byte, foreign bool) {
	words := strings.FieldsFunc(strings.ToLower(encoding), func(r rune) bool { return r == ' ' || r == '\t' || r == ';' })
	if len(words) == 0 {
		return text, false
	}
	switch strings.Trim(words[0], `"`) {
	case "base64":
		var digits []byte
		for _, c := range text {
			switch {
			case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
				digits = append(digits, c)
			}
		}
		if len(digits)%4 == 1 {
			digits = digits[:len(digits)-1]
		}
		out, _ := base64.RawStdEncoding.DecodeString(string(digits)) // only digits are left
		return out, false
	case "quoted-printable":
		var out []byte
		for len(text) > 0 {
			line, rest := cutLine(text)
			ended := len(rest) > 0 || bytes.HasSuffix(text, []byte("\n"))
			text = rest
			line = bytes.TrimRight(line, " \t")
			soft := bytes.HasSuffix(line, []byte("="))
			line = bytes.TrimSuffix(line, []byte("="))
			for i := 0; i < len(line); i++ {
				if line[i] == '=' && i+2 < len(line) && hex(line[i+1]) >= 0 && hex(line[i+2]) >= 0 {
					out = append(out, byte(hex(line[i+1])<<4|hex(line[i+2])))
					i += 2
				} else {
					out = append(out, line[i])
				}
			}
			if !soft && ended {
				out = append(out, "\r\n"...)
			}
		}
		return out, false
	case "7bit", "8bit", "binary", "7-bit", "8-bit", "7bits", "8bits":
		return text, false
	}
	return text, true
}

func hex(c byte) int {
	return strings.IndexByte("0123456789ABCDEF", bytes.ToUpper([]byte{c})[0])
}

// bodies returns the text parts that a reader shows as the body: one, or one for each
// alternative.
func (p *part) bodies() []*part {
	if p.attached() || p.foreign {
		return nil
	}
	if len(p.children) == 0 {
		switch p.typ {
		case "text/plain", "text/html", "text/x-amp-html", "text/enriched", "text/richtext", "text/markdown":
			return []*part{p}
		}
		return nil
	}
	switch p.typ {
	case "multipart/signed", "multipart/encrypted": // nothing inside may change
		return nil
	case "multipart/alternative":
		var all []*part
		for _, c := range p.children {
			all = append(all, c.bodies()...)
		}
		return all
	case "multipart/related": // RFC 2387 §3.2
		root := p.children[0]
		if start := strings.Trim(p.params["start"], "<> "); start != "" {
			for _, c := range p.children {
				if strings.Trim(c.get("Content-ID"), "<> ") == start {
					root = c
				}
			}
		}
		return root.bodies()
	}
	var first []*part
	for _, c := range p.children {
		found := c.bodies()
		if found != nil && len(bytes.TrimSpace(found[0].body)) > 0 {
			return found
		}
		if first == nil {
			first = found // an empty text before an attachment
		}
	}
	return first
}

// leaves yields the parts without children.
func (p *part) leaves(yield func(*part) bool) bool {
	if len(p.children) == 0 {
		return yield(p)
	}
	for _, c := range p.children {
		if !c.leaves(yield) {
			return false
		}
	}
	return true
}

// readable reports whether a reader shows the part as text, or its source may be fetched from
// while it does.
func (p *part) readable() bool {
	return strings.HasPrefix(p.typ, "text/") && !p.attached()
}
