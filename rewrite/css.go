package rewrite

import (
	"strings"
	"unicode/utf8"
)

// cssAddress is an address that a style sheet fetches.
type cssAddress struct {
	start, end int    // of the url(…) token, or of the string with its quotes
	addr       string // escapes resolved
	tiny       bool   // the block that it is in is of the size of a pixel
	quote      byte   // of a string, 0 for url(…)
	bare       bool   // it has neither
	why        string // "@import", "url()", …
	tells      string // what a block that it is in is made to find out, "" for ordinary ones
}

// replacement is what stands for the address once it is gone: valid wherever an address is, and
// fetched from nowhere.
func (a *cssAddress) replacement() string {
	if a.bare {
		return "data:"
	}
	if a.quote == 0 {
		return "url(data:,)"
	}
	return string(a.quote) + "data:," + string(a.quote)
}

// cssAddresses finds what CSS fetches, as CSS Syntax Level 3 §4 takes a style sheet apart: every
// url(…), however its name is escaped, the string of @import, and strings in the brackets of a
// function (image-set, src, the src= of old filters).
func cssAddresses(css string) []cssAddress {
	if !strings.ContainsAny(css, "(@") && !strings.Contains(css, "--") {
		return nil
	}
	var out []cssAddress
	var brackets []byte  // open ( and [
	var tells []string   // of the open blocks; the first of them that says anything holds inside
	lastStop := 0        // behind the last ; { or }
	block, first := 0, 0 // where the innermost block begins, and the first address in it
	endBlock := func(end int) {
		if first < len(out) && block > 0 {
			l := look{width: unknownSide, height: unknownSide}
			l.apply(css[block:end])
			for ; first < len(out); first++ {
				out[first].tiny = l.width >= 0 && l.height >= 0 && l.tiny()
			}
		}
		first = len(out)
	}
	named := -1 // behind the last name
	importing, custom := false, false
	in := func(kind byte) bool { return len(brackets) > 0 && brackets[len(brackets)-1] == kind }
	add := func(a cssAddress) {
		if len(tells) > 0 {
			a.tells = tells[len(tells)-1]
		}
		out = append(out, a)
	}
	for i := 0; i < len(css); {
		c := css[i]
		switch {
		case c == '/' && strings.HasPrefix(css[i:], "/*"):
			end := strings.Index(css[i+2:], "*/")
			if end < 0 {
				return out
			}
			i += end + 4
		case c == '"' || c == '\'':
			s, n := cssString(css[i:])
			switch {
			case importing:
				add(cssAddress{start: i, end: i + n, addr: s, quote: c, why: "@import"})
				importing = false
			case custom && !in('['): // image-set(var(--x) 1x) makes an address of it
				add(cssAddress{start: i, end: i + n, addr: s, quote: c, why: "string in a variable"})
			case in('('):
				add(cssAddress{start: i, end: i + n, addr: s, quote: c, why: "string in a function"})
			}
			i += n
		case c == '@':
			name, n := cssName(css[i+1:])
			importing = strings.EqualFold(name, "import")
			i += 1 + n
		case isNameStart(css[i:]):
			name, n := cssName(css[i:])
			begins := named <= lastStop
			named = i + n
			if strings.HasPrefix(name, "--") && begins {
				custom = true
			}
			if in('(') && strings.EqualFold(name, "src") && strings.HasPrefix(css[i+n:], "=") { // an old filter, without quotes
				from := i + n + 1
				if end := strings.IndexAny(css[from:], "\"',); \t\r\n"); end > 0 {
					add(cssAddress{start: from, end: from + end, addr: css[from : from+end], why: "string in a function", bare: true})
					i = from + end
					continue
				}
			}
			if i+n >= len(css) || css[i+n] != '(' {
				i += n
				continue
			}
			if !strings.EqualFold(name, "url") && !strings.EqualFold(name, "src") {
				brackets = append(brackets, '(')
				i += n + 1
				continue
			}
			addr, m := cssURL(css[i+n+1:])
			why := "url()"
			if importing {
				why = "@import"
			}
			add(cssAddress{start: i, end: i + n + 1 + m, addr: addr, why: why})
			importing = false
			i += n + 1 + m
		case c == '(' || c == '[':
			brackets = append(brackets, c)
			i++
		case c == ')' || c == ']':
			if len(brackets) > 0 {
				brackets = brackets[:len(brackets)-1]
			}
			i++
		case c == '{':
			around := ""
			if len(tells) > 0 {
				around = tells[len(tells)-1]
			}
			if around == "" {
				around = tellsOf(css[lastStop:min(i, lastStop+500)])
			}
			if len(tells) < 1000 {
				tells = append(tells, around)
			}
			brackets, importing, custom = brackets[:0], false, false
			i++
			lastStop, block, first = i, i, len(out)
		case c == '}':
			endBlock(i)
			if len(tells) > 0 {
				tells = tells[:len(tells)-1]
			}
			brackets, importing, custom = brackets[:0], false, false
			i++
			lastStop = i
		case c == ';':
			importing, custom = false, false
			i++
			lastStop = i
		default:
			i++
		}
	}
	endBlock(len(css))
	return out
}

func isNameStart(s string) bool {
	c := s[0]
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '-' || c >= 0x80 || c == '\\' && len(s) > 1 && s[1] != '\n'
}

// cssName reads a name with its escapes (§4.3.11).
func cssName(s string) (name string, n int) {
	for n < len(s) {
		c := s[n]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c >= 0x80 {
			n++
			continue
		}
		if c != '\\' || n+1 >= len(s) || s[n+1] == '\n' {
			break
		}
		_, k := cssEscape(s[n:])
		n += k
	}
	return cssPlain(s[:n]), n
}

// cssEscape reads an escape, s[0] being the backslash (§4.3.7).
func cssEscape(s string) (r rune, n int) {
	n = 1
	if n == len(s) {
		return utf8.RuneError, n
	}
	if unhex(s[n]) < 0 {
		r, k := utf8.DecodeRuneInString(s[n:])
		return r, n + k
	}
	for n < 7 && n < len(s) && unhex(s[n]) >= 0 {
		r = r<<4 | rune(unhex(s[n]))
		n++
	}
	if strings.HasPrefix(s[n:], "\r\n") {
		n += 2
	} else if n < len(s) && strings.IndexByte(" \t\r\n\f", s[n]) >= 0 {
		n++
	}
	return r, n
}

// cssString reads a string, s[0] being its quote (§4.3.5). A line end in it ends it, as it ends
// what readers take for the address.
func cssString(s string) (text string, n int) {
	var b strings.Builder
	for n = 1; n < len(s); {
		switch c := s[n]; {
		case c == s[0]:
			return b.String(), n + 1
		case c == '\n' || c == '\f':
			return b.String(), n
		case c == '\\':
			if strings.HasPrefix(s[n+1:], "\r\n") {
				n += 3
				continue
			}
			if n+1 < len(s) && (s[n+1] == '\n' || s[n+1] == '\f') {
				n += 2
				continue
			}
			r, k := cssEscape(s[n:])
			b.WriteRune(r)
			n += k
		default:
			b.WriteByte(c)
			n++
		}
	}
	return b.String(), n
}

// cssURL reads what stands behind "url(", the closing bracket included (§4.3.6), lenient as to
// what follows a quoted address.
func cssURL(s string) (addr string, n int) {
	for n < len(s) && strings.IndexByte(" \t\r\n\f", s[n]) >= 0 {
		n++
	}
	if n < len(s) && (s[n] == '"' || s[n] == '\'') {
		text, k := cssString(s[n:])
		n += k
		if end := strings.IndexAny(s[n:], ");}"); end >= 0 {
			if s[n+end] == ')' {
				end++
			}
			return text, n + end
		}
		return text, len(s)
	}
	var b strings.Builder
	for n < len(s) {
		switch c := s[n]; c {
		case ')':
			return strings.TrimSpace(b.String()), n + 1
		case '\\':
			r, k := cssEscape(s[n:])
			b.WriteRune(r)
			n += k
		default:
			b.WriteByte(c)
			n++
		}
	}
	return strings.TrimSpace(b.String()), n
}

// tellsOf says what a block around an address is made to find out: the ways in which trackers
// see that a mail is printed or forwarded. "" for an ordinary block.
func tellsOf(prelude string) string {
	p := strings.ToLower(cssPlain(prelude))
	switch {
	case strings.Contains(p, "outlookmessageheader"), strings.Contains(p, "moz-email-headers-table"), strings.Contains(p, "mailcontainerbody"),
		strings.Contains(p, "blockquote #"):
		return "forward"
	case strings.Contains(p, "@media") && strings.Contains(p, "print"):
		return "print"
	}
	return ""
}
