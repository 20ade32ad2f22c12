package trackers

import "strings"

// accept turns what a decoder read into the address that a link may lead to: absolute http or
// https with a host, mailto or tel, in ASCII. False for everything else (javascript:, data:,
// relative, empty). A protocol-relative address becomes https; one that is still
// percent-encoded as a whole is decoded, at most twice. Bytes that would end an attribute or
// a word of plain text are percent-encoded; all others are kept.
func accept(raw string) (string, bool) {
	s := browserTrim(raw)
	for range 2 {
		if !hasFoldPrefix(s, "http%3a") && !hasFoldPrefix(s, "https%3a") {
			break
		}
		s = browserTrim(unescape(s, false))
	}
	scheme, rest := "", ""
	switch {
	case len(s) >= 2 && slash(s[0]) && slash(s[1]):
		scheme, rest = "https:", s
	case hasFoldPrefix(s, "https:"):
		scheme, rest = "https:", s[6:]
	case hasFoldPrefix(s, "http:"):
		scheme, rest = "http:", s[5:]
	case hasFoldPrefix(s, "mailto:"):
		return "mailto:" + encodeUnsafe(s[7:]), len(s) > 7
	case hasFoldPrefix(s, "tel:"):
		return "tel:" + encodeUnsafe(s[4:]), len(s) > 4
	default:
		return "", false
	}
	host := strings.TrimLeft(rest, `/\`)
	if len(rest)-len(host) < 2 { // "https:path" is relative to browsers where the scheme is the same
		return "", false
	}
	s = scheme + "//" + encodeUnsafe(host)
	_, ok := split(s)
	return s, ok
}

const upperHex = "0123456789ABCDEF"

func encodeUnsafe(s string) string {
	n := 0
	for i := range len(s) {
		if unsafe(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; unsafe(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func unsafe(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '`' || c == '<' || c == '>'
}

// looksLikeAddress says whether what was read may have been put there as a link's target,
// good or bad: printable, and it begins like an address. It tells a counter on an unknown
// host from an ordinary link whose path happens to have the same shape.
func looksLikeAddress(raw string) bool {
	s := browserTrim(raw)
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	if s == "" || s[0] == '/' {
		return s != ""
	}
	if hasFoldPrefix(s, "http%3a") || hasFoldPrefix(s, "https%3a") {
		return true
	}
	i := 0 // a scheme, RFC 3986 §3.1
	for i < len(s) && (isAlnum(s[i]) || s[i] == '+' || s[i] == '-' || s[i] == '.') {
		i++
	}
	return i > 0 && i < len(s) && s[i] == ':' && lower(s[0])-'a' < 26
}

// Web returns the address (absolute or protocol-relative, HTML entities decoded) as it can be followed:
// absolute http or https with a host, in ASCII, "/" for "\" before the query. False for any other.
func Web(url string) (string, bool) {
	s, ok := accept(url)
	if !ok || !strings.HasPrefix(s, "http") {
		return "", false
	}
	end := strings.IndexAny(s, "?#")
	if end < 0 {
		end = len(s)
	}
	return strings.ReplaceAll(s[:end], `\`, "/") + s[end:], true
}
