package rewrite

import (
	"html"
	"net/url"
	"strings"
	"unicode"
	"unsafe"
)

// attrAddress returns the address in an attribute's value as a browser reads it: character
// references resolved, white space at the ends and tabs and line ends inside gone (WHATWG URL
// §4.4).
func (f *htmlFinder) attrAddress(raw string) string { return cleanAddress(f.unescape(raw)) }

func cleanAddress(s string) string {
	if !hasSpace(s) {
		return s
	}
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	if strings.ContainsAny(s, "\t\r\n") {
		s = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(s)
	}
	return s
}

// hasSpace reports whether any byte of s is white space of ASCII or a control character.
func hasSpace(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if notUnder(word, ' '+1)&highs != highs {
			return true
		}
	}
	for i := range len(s) {
		if s[i] <= ' ' {
			return true
		}
	}
	return false
}

// unescapeAttr resolves character references as in an attribute's value, where a name without
// its semicolon is none if "=" or a letter or digit follows (WHATWG HTML §13.2.5.73): so
// "?a=1&copy=2" stays.
func unescapeAttr(raw string) string {
	if strings.IndexByte(raw, '&') < 0 {
		return raw
	}
	return string(appendUnescaped(make([]byte, 0, len(raw)), raw))
}

// unescape is unescapeAttr for what may become a part of a finding, with one allocation for many.
func (f *htmlFinder) unescape(raw string) string {
	if strings.IndexByte(raw, '&') < 0 {
		return raw
	}
	if cap(f.unescaped)-len(f.unescaped) < len(raw) {
		f.unescaped = f.m.work.room(max(len(raw), 2048))
	}
	start := len(f.unescaped)
	b := appendUnescaped(f.unescaped[start:start:cap(f.unescaped)], raw)
	if len(b) <= cap(f.unescaped)-start { // else it is longer than raw, and elsewhere
		f.unescaped = f.unescaped[:start+len(b)]
	}
	return unsafe.String(unsafe.SliceData(b), len(b)) // nothing writes to it while the message is parsed
}

func appendUnescaped(b []byte, raw string) []byte {
	for {
		amp := strings.IndexByte(raw, '&')
		if amp < 0 {
			return append(b, raw...)
		}
		b = append(b, raw[:amp]...)
		raw = raw[amp:]
		n := 1
		if n < len(raw) && raw[n] == '#' {
			n++
			if n < len(raw) && (raw[n] == 'x' || raw[n] == 'X') {
				n++
			}
		}
		for n < len(raw) && isAlnum(raw[n]) {
			n++
		}
		ref := raw[:n]
		switch {
		case ref == "&amp":
			b = append(b, '&')
			if n < len(raw) && raw[n] == ';' {
				n++
			} else if n < len(raw) && raw[n] == '=' {
				b = append(b, "amp"...)
			}
		case n < len(raw) && raw[n] == ';':
			b = append(b, html.UnescapeString(raw[:n+1])...)
			n++
		case strings.HasPrefix(ref, "&#"):
			b = append(b, html.UnescapeString(ref)...)
		case n < len(raw) && raw[n] == '=':
			b = append(b, ref...)
		default:
			got := html.UnescapeString(ref)
			if got == html.UnescapeString(ref+";") {
				ref = got
			}
			b = append(b, ref...)
		}
		raw = raw[n:]
	}
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

var attrEscaper = strings.NewReplacer("&", "&amp;", `"`, "&quot;", "'", "&#39;", "<", "&lt;", ">", "&gt;")

// remote returns the absolute form of an address that a reader would fetch over the network,
// "" for one that stays inside the mail (data:, cid:, relative without base, fragments).
func remote(addr, base string) string {
	if addr != "" && (oddEnd(addr[0]) || oddEnd(addr[len(addr)-1])) {
		addr = strings.TrimFunc(addr, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'`<>\u200b\ufeff\ufffd", r) })
	}
	if len(addr) < 2 {
		return ""
	}
	colon := 0
	for colon < len(addr) && addr[colon] != ':' && addr[colon] != '/' && addr[colon] != '?' && addr[colon] != '#' && addr[colon] != '\\' {
		colon++
	}
	if colon > 0 && colon < len(addr) && addr[colon] == ':' {
		switch strings.ToLower(addr[:colon]) {
		case "http", "https":
			return addr
		}
		if oddScheme(addr) {
			return addr
		}
		return ""
	}
	if (addr[0] == '/' || addr[0] == '\\') && (addr[1] == '/' || addr[1] == '\\') {
		return addr
	}
	if base == "" || addr[0] == '#' {
		return ""
	}
	if b, err := url.Parse(base); err == nil && b.Host != "" {
		if r, err := b.Parse(addr); err == nil {
			return r.String()
		}
	}
	return strings.TrimRight(base, `/\`) + "/" + addr // browsers take more than net/url does
}

// oddEnd reports whether a byte at an end of an address may be one that some readers leave out
// there and others do not: quotes, and white space outside of ASCII.
func oddEnd(c byte) bool {
	return c >= 0x7f || c == '"' || c == '\'' || c == '`' || c == '<' || c == '>'
}

// oddScheme reports whether an address is fetched over the network by some reader, though not over
// HTTP. Nothing in mail has a use for it.
func oddScheme(addr string) bool {
	scheme, rest, ok := strings.Cut(addr, ":")
	if !ok {
		return false
	}
	switch strings.ToLower(scheme) {
	case "ftp", "ftps", "sftp", "smb", "nfs", "dav", "davs", "webdav", "ws", "wss", "rtsp", "rtspu", "rtmp", "mms", "mmsh", "mmst", "gopher", "feed", "jar", "mhtml", "view-source":
		return true
	case "file": // of another machine: file://host/share, file:////host/share
		slashes := 0
		for slashes < len(rest) && (rest[slashes] == '/' || rest[slashes] == '\\') {
			slashes++
		}
		host, _, _ := strings.Cut(strings.ReplaceAll(rest[slashes:], `\`, "/"), "/")
		return (slashes == 2 || slashes > 3) && host != "" && !strings.EqualFold(host, "localhost") && !strings.ContainsAny(host, ":|")
	}
	return false
}

// dataAddress takes a data: address (RFC 2397) apart.
func dataAddress(addr string) (typ, body string, ok bool) {
	if len(addr) < 5 || !strings.EqualFold(addr[:5], "data:") {
		return "", "", false
	}
	head, body, _ := strings.Cut(addr[5:], ",")
	body = percentDecode(body)
	mt := parseMediaType(head)
	if i := strings.LastIndexByte(head, ';'); i >= 0 && strings.EqualFold(strings.TrimSpace(head[i+1:]), "base64") {
		body = string(decodeBase64([]byte(body)))
	}
	if c := findCharset(mt.params["charset"]); c.wide && c.readable() {
		body = string(c.decode([]byte(body)))
	}
	return mt.value, body, true
}
