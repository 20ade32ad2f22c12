package trackers

import (
	"bytes"
	"strings"
)

// An address is an http or https URL taken apart the way browsers do (WHATWG URL Standard,
// section 4.4), which is laxer than RFC 3986. Query and fragment are bytes of the URL as it came,
// and so is the path but for "." and ".." in it, which browsers resolve before they ask.
type address struct {
	host     string // lower case, ASCII (punycode), no port, no trailing dot; never empty
	path     string // begins with "/", or is empty
	query    string // without the "?"
	fragment string // without the "#"

	begins uint64 // see initials; 0 until it is asked for
}

// initials says with what the names of the parameters in the query begin: each of their first bytes has its
// initial. All bits are set where there is a "%", behind which a name may hide.
func (a *address) initials() uint64 {
	if a.begins != 0 {
		return a.begins
	}
	a.begins = ^uint64(0)
	if strings.IndexByte(a.query, '%') >= 0 {
		return a.begins
	}
	a.begins = 1 // no initial; so that it is not asked again
	for query := a.query; query != ""; {
		var p pair
		if p, query = nextPair(query); p.name != "" {
			a.begins |= initial(p.name)
		}
	}
	return a.begins
}

// initial is a bit for the first byte of a name: the same for some that differ.
func initial(name string) uint64 { return 2 << (name[0] % 63) }

// split takes an absolute http(s) or a protocol-relative URL apart. False for everything
// else: relative, another scheme, no host, or a host that no browser takes. It allocates only
// for URLs that are not written plainly (upper case or encoded host, backslashes, tabs).
func split(s string) (address, bool) {
	s = browserTrim(s)
	rest, ok := afterScheme(s)
	if !ok {
		return address{}, false
	}
	var a address
	if i := strings.IndexByte(rest, '#'); i >= 0 {
		rest, a.fragment = rest[:i], rest[i+1:]
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		rest, a.query = rest[:i], rest[i+1:]
	}
	if strings.IndexByte(rest, '\\') >= 0 {
		rest = strings.ReplaceAll(rest, `\`, "/")
	}
	rest = strings.TrimLeft(rest, "/")
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, a.path = rest[:i], withoutDots(rest[i:])
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		if !digits(authority[i+1:]) {
			return address{}, false
		}
		authority = authority[:i]
	}
	a.host, ok = canonicalHost(authority)
	return a, ok
}

// withoutDots resolves the segments "." and ".." of a path, percent-encoded or not (WHATWG URL
// Standard, section 4.4, path state). The path begins with "/", and what is returned does.
func withoutDots(path string) string {
	if !hasDots(path) {
		return path
	}
	out := make([]byte, 0, len(path))
	for rest := path[1:]; ; {
		seg, more, found := strings.Cut(rest, "/")
		switch dots(seg) {
		case 0:
			out = append(append(out, '/'), seg...)
		case 2:
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
			fallthrough
		case 1:
			if !found {
				out = append(out, '/')
			}
		}
		if !found {
			return string(out)
		}
		rest = more
	}
}

func hasDots(path string) bool {
	for i := 0; i+1 < len(path); i++ {
		if path[i] == '/' && (path[i+1] == '.' || path[i+1] == '%') {
			seg, _, _ := strings.Cut(path[i+1:], "/")
			if dots(seg) > 0 {
				return true
			}
		}
	}
	return false
}

// dots returns 1 for the segment ".", 2 for "..", 0 for all others.
func dots(seg string) int {
	if len(seg) > len("%2e%2e") {
		return 0
	}
	n := 0
	for i := 0; i < len(seg); n++ {
		c, w := decodedByte(seg, i)
		if c != '.' {
			return 0
		}
		i += w
	}
	if n > 2 {
		return 0
	}
	return n
}

// withoutEmpty leaves out the empty segments of a path, as many servers do. An address that is
// part of the path keeps its own.
func withoutEmpty(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			out = append(out, path[i])
			continue
		}
		if s := path[:i-1]; hasFoldSuffix(s, "http:") || hasFoldSuffix(s, "https:") {
			return string(append(out, path[i:]...))
		}
	}
	return string(out)
}

func hasFoldSuffix(s, suffix string) bool {
	return len(s) >= len(suffix) && hasFoldPrefix(s[len(s)-len(suffix):], suffix)
}

// browserTrim removes what browsers remove before they look at a URL: control characters and
// spaces at both ends; tabs and line breaks anywhere.
func browserTrim(s string) string {
	for s != "" && s[0] <= ' ' {
		s = s[1:]
	}
	for s != "" && s[len(s)-1] <= ' ' {
		s = s[:len(s)-1]
	}
	if strings.IndexByte(s, '\t') < 0 && strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c == '\t' || c == '\n' || c == '\r' {
			return -1
		}
		return c
	}, s)
}

// afterScheme returns what follows "http:" or "https:" in s, or s itself where it is
// protocol-relative.
func afterScheme(s string) (string, bool) {
	if len(s) >= 2 && slash(s[0]) && slash(s[1]) {
		return s, true
	}
	if hasFoldPrefix(s, "http:") {
		return s[5:], true
	}
	if hasFoldPrefix(s, "https:") {
		return s[6:], true
	}
	return "", false
}

func slash(c byte) bool { return c == '/' || c == '\\' }

// hasFoldPrefix says whether s begins with prefix, which is lower case, whatever the case of s.
func hasFoldPrefix(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// A pair is one parameter of a query, as it was written.
type pair struct{ name, value string }

// nextPair cuts the first parameter off a query. Loop while query != "".
func nextPair(query string) (pair, string) {
	p, rest := query, ""
	if i := strings.IndexByte(query, '&'); i >= 0 {
		p, rest = query[:i], query[i+1:]
	}
	if i := strings.IndexByte(p, '='); i >= 0 {
		return pair{p[:i], p[i+1:]}, rest
	}
	return pair{p, ""}, rest
}

// segment returns the n-th segment of the path, as it was written: 1 is the first, -1 the last.
func (a address) segment(n int) (string, bool) {
	segs := strings.Split(strings.TrimSuffix(strings.TrimPrefix(a.path, "/"), "/"), "/")
	if n < 0 {
		n += len(segs) + 1
	}
	if n < 1 || n > len(segs) {
		return "", false
	}
	return segs[n-1], true
}

// param returns the value of a parameter as it was written, its name compared after
// percent-decoding.
func (a address) param(name string) (string, bool) {
	for q := a.query; q != ""; {
		var p pair
		p, q = nextPair(q)
		if p.name == name || strings.IndexByte(p.name, '%') >= 0 && unescape(p.name, false) == name {
			return p.value, true
		}
	}
	return "", false
}

// unescape decodes every well-formed %XX once and leaves the others as they are, as browsers
// do; plus says whether "+" stands for a space (in form-encoded queries).
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && !(plus && strings.IndexByte(s, '+') >= 0) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		c, w := decodedByte(s, i)
		if plus && w == 1 && c == '+' {
			c = ' '
		}
		b = append(b, c)
		i += w
	}
	return string(b)
}

// decodedByte returns the byte at s[i:], percent-decoded, and how many bytes it is written in.
func decodedByte(s string, i int) (byte, int) {
	if s[i] == '%' && i+2 < len(s) {
		if h, l := unhex(s[i+1]), unhex(s[i+2]); h < 16 && l < 16 {
			return h<<4 | l, 3
		}
	}
	return s[i], 1
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
