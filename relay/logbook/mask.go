package logbook

import (
	"strings"
	"unicode/utf8"
)

// bullets stand for what is masked.
const bullets = "•••"

// separator returns the length of what stands for an @ at the beginning of s, 0 where nothing does: the sign itself, as
// it is written full width or for people, (at), or as encoded in URLs (%40, and again: %2540), in quoted-printable or VERP
// (=40), in xtext (+40, RFC 3461 §4) and in HTML.
func separator(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case '@':
		return 1
	case '%', '=', '+', '&':
		return spelled(s, '@')
	case '(':
		if len(s) >= 4 && strings.EqualFold(s[:4], "(at)") {
			return 4
		}
	case "＠"[0]:
		if strings.HasPrefix(s, "＠") || strings.HasPrefix(s, "﹫") {
			return len("＠")
		}
	}
	return 0
}

// spelled returns the length of what stands encoded for want at the beginning of s, 0 where nothing does.
func spelled(s string, want byte) int {
	c, n := decode(s)
	if n > 0 && c == want {
		return n
	}
	return 0
}

// decode reads one byte that is written in an encoding. n is the length of that in s, 0 where there is none.
func decode(s string) (c byte, n int) {
	if len(s) < 3 {
		return 0, 0
	}
	switch s[0] {
	case '=', '+':
		return hex(s, 1)
	case '%':
		i := 1
		for strings.HasPrefix(s[i:], "25") {
			i += 2
		}
		if c, n = hex(s, i); n == 0 && i > 1 {
			return '%', i
		}
		return c, n
	case '&':
		return entity(s)
	}
	return 0, 0
}

// hex reads two digits at i.
func hex(s string, i int) (c byte, n int) {
	if i+2 > len(s) || digit(s[i]) > 15 || digit(s[i+1]) > 15 {
		return 0, 0
	}
	return digit(s[i])<<4 | digit(s[i+1]), i + 2
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// entity reads a character reference of HTML: &#64; &#x40; and the one name that an @ has.
func entity(s string) (c byte, n int) {
	const name = "&commat;"
	if strings.HasPrefix(s, name) {
		return '@', len(name)
	}
	if s[1] != '#' {
		return 0, 0
	}
	i, base := 2, byte(10)
	if s[2]|0x20 == 'x' {
		i, base = 3, 16
	}
	first, value := i, 0
	for ; i < len(s) && digit(s[i]) < base && value < 0x80; i++ {
		value = value*int(base) + int(digit(s[i]))
	}
	if i == first || value >= 0x80 {
		return 0, 0
	}
	if i < len(s) && s[i] == ';' {
		i++
	}
	return byte(value), i
}

// mayHold is a quick no; what is masked already is none.
func mayHold(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case '@':
			if !strings.HasSuffix(s[:i], bullets) {
				return true
			}
		case '%', '=', '+', '&', '(', "＠"[0]:
			if separator(s[i:]) > 0 {
				return true
			}
		}
	}
	return false
}

// Mask returns s with what looks like an address masked: its first character and its domain stay.
func Mask(s string) string {
	if !mayHold(s) {
		return s
	}
	var b strings.Builder
	done := 0  // up to there it is written
	floor := 0 // no local part begins before it
	for i := 0; i < len(s); {
		at := i
		n := separator(s[i:])
		if n == 0 {
			i++
			continue
		}
		end := domain(s, at, n)
		if end == 0 {
			i += n
			continue
		}
		last, from := at, at+n
		for { // bounce+jane=40example.org@list.example.net: the last domain is the one
			n := separator(s[end:])
			next := domain(s, end, n)
			if n == 0 || next == 0 {
				break
			}
			last, from, end = end, end+n, next
		}
		local := strings.TrimRight(s[floor:last], " \t")
		start, nobody := floor+localStart(local, at-floor), floor+len(local)
		i, floor = end, end
		if start >= nobody || last == at && strings.HasSuffix(local, bullets) {
			continue // or masked already
		}
		_, size := utf8.DecodeRuneInString(s[start:])
		b.WriteString(s[done : start+size])
		b.WriteString(bullets + "@")
		b.WriteString(s[from:end])
		done = end
	}
	b.WriteString(s[done:])
	return b.String()
}

// maxLiteral is more than an address literal takes, [IPv6:…] (RFC 5321 §4.1.3).
const maxLiteral = 64

// domain returns where the domain ends behind a separator of n bytes at i, 0 where there is none. It may be one label only
// where a word stands before, and oneLabel says of which look.
func domain(s string, i, n int) int {
	if n == 0 {
		return 0
	}
	from := i + n
	sign := s[i] == '@'
	if sign && from < len(s) && s[from] == '[' {
		end := from + 1
		for end < min(len(s), from+maxLiteral) && (isAlnum(s[end]) || strings.IndexByte(".:-", s[end]) >= 0) {
			end++
		}
		if end < len(s) && s[end] == ']' {
			return end + 1
		}
		return 0
	}
	end, dots := from, 0
loop:
	for end < len(s) {
		switch c := s[end]; {
		case c <= ' ', strings.IndexByte(`<>()"',:;@=+&`, c) >= 0, c == "＠"[0] && separator(s[end:]) > 0:
			break loop
		case c == '%':
			decoded, n := decode(s[end:])
			if n == 0 || sign || decoded == '@' || decoded < 0x80 && decoded != '.' && decoded != '-' && !isAlnum(decoded) {
				break loop
			}
			if end == from && !isAlnum(decoded) && decoded < 0x80 {
				break loop
			}
			if decoded == '.' {
				dots++
			}
			end += n
			continue
		case c == '.':
			if end == from && !sign {
				break loop
			}
			if end+1 < len(s) && (isAlnum(s[end+1]) && digit(s[end+1]) > 9 || s[end+1] >= 0x80 || s[end+1] == '%') {
				dots++ // none of a number
			}
		case !sign && !isAlnum(c) && c < 0x80 && (end == from || c != '-' && c != '_'): // rdns=40-1-2.mail.example.org
			break loop
		}
		end++
	}
	if end == from || dots == 0 && (i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') || !sign && !oneLabel(s[from:end], s[i])) {
		return 0
	}
	return end
}

// oneLabel says whether a label, the only one behind a separator that begins with c and is no @, may be a domain: jane%40localhost.
// Behind = and + numbers begin with 40 too (took=40s, id=40fe12), and most names of hosts without digits are longer than units.
func oneLabel(label string, c byte) bool {
	if digit(label[0]) < 10 {
		return false
	}
	if c == '=' || c == '+' {
		return len(label) >= 5 && !strings.ContainsAny(label, "0123456789")
	}
	return len(label) >= 2
}

// localStart returns where the local part begins that ends with s, and of which a first separator stands at at.
func localStart(s string, at int) int {
	at = min(at, len(s))
	i := at
	if i > 0 && i == len(s) && s[i-1] == '"' { // RFC 5321 §4.1.2, Quoted-string
		for j := i - 2; j >= 0; j-- {
			if s[j] != '"' {
				continue
			}
			k := j
			for k > 0 && s[k-1] == '\\' {
				k--
			}
			if (j-k)%2 == 0 {
				return j
			}
			j = k
		}
		i--
	}
	for i > 0 && s[i-1] > ' ' && strings.IndexByte(`<>()",:;[]`, s[i-1]) < 0 {
		i--
	}
	if word := s[i:at]; strings.HasPrefix(word, "//") || word != "" && (word[0] == '?' || word[0] == '&') { // of an URL
		i += strings.LastIndexAny(word, "/?&") + 1
		if s[i-1] != '/' {
			i += strings.IndexByte(s[i:at], '=') + 1
		}
	}
	for i < at && strings.IndexByte(`'=&?/@`, s[i]) >= 0 {
		i++
	}
	return i
}

func isAlnum(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }
