package rewrite

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/unicode/norm"
)

// charset is a character set (RFC 2978 names).
type charset struct {
	name string
	// wide says that markup in it cannot be found byte by byte: UTF-16, UTF-7, ISO-2022 and
	// the like. Such a part is converted to UTF-8 and, where edited, leaves in UTF-8.
	wide bool
	// enc converts; nil for UTF-8, US-ASCII and for what nobody knows.
	enc encoding.Encoding
}

func findCharset(name string) charset {
	n := strings.ToLower(strings.Trim(name, " '\""))
	c := charset{name: n}
	switch n {
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "utf-8", "utf8", "unknown-8bit", "x-unknown", "default":
		return c
	case "utf-7", "utf7", "x-utf-7", "u7", "unicode-1-1-utf-7", "csunicode11utf7", "csutf7", "x-imap4-modified-utf7":
		c.name, c.wide = "utf-7", true
		return c
	case "utf16", "ucs-2", "ucs2", "csucs2", "iso-10646-ucs-2", "csunicode":
		n, c.name = "utf-16be", "utf-16be"
	case "scsu", "bocu-1":
		c.wide = true
		return c
	case "utf-32", "utf32", "ucs-4", "ucs4", "csucs4", "iso-10646-ucs-4", "utf-32be":
		c.wide, c.enc = true, utf32.UTF32(utf32.BigEndian, utf32.UseBOM)
		return c
	case "utf-32le":
		c.wide, c.enc = true, utf32.UTF32(utf32.LittleEndian, utf32.UseBOM)
		return c
	}
	// Mail's names first: for a browser, iso-8859-1 is windows-1252, and so it is for readers.
	if e, err := htmlindex.Get(n); err == nil && n != "replacement" {
		c.enc = e
	} else if e, err := ianaindex.MIME.Encoding(n); err == nil && e != nil {
		c.enc = e
	}
	if c.enc == encoding.Replacement { // what browsers do not read, others may
		c.enc = nil
	}
	if n == "hz-gb-2312" || n == "hz-gb2312" || n == "hz" {
		c.enc = simplifiedchinese.HZGB2312
	}
	if strings.HasPrefix(n, "iso-2022-kr") || strings.HasPrefix(n, "iso-2022-cn") || n == "csiso2022kr" {
		return c // sniff sees the escapes
	}
	c.wide = ebcdic.MatchString(n) && c.enc == nil || strings.HasPrefix(n, "utf-16") || strings.HasPrefix(n, "iso-2022") || n == "csiso2022jp" || c.enc == simplifiedchinese.HZGB2312 ||
		strings.HasPrefix(n, "iso-10646") || strings.HasPrefix(n, "unicode") || c.enc == charmap.CodePage037 || c.enc == charmap.CodePage1047 || c.enc == charmap.CodePage1140
	if c.enc == nil && strings.HasPrefix(n, "iso-2022") {
		c.enc, _ = htmlindex.Get("iso-2022-jp")
	}
	return c
}

// sniff returns the character set that a reader goes by: a byte order mark beats what the header
// says (WHATWG Encoding §6), and where that says nothing, HTML may name one itself (WHATWG HTML
// §13.2.3.2). ok is false where the text switches between sets by escape sequences (ISO 2022)
// and nothing says so: it may be read in either way.
func (c charset) sniff(b []byte, html bool) (found charset, ok bool) {
	switch {
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return findCharset("utf-16be"), true
	case bytes.HasPrefix(b, []byte{0xff, 0xfe, 0, 0}) && isUTF32(c.enc): // no browser knows it, other readers do
		return c, true
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		return findCharset("utf-16le"), true
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return findCharset("utf-8"), true
	}
	if html && (c.name == "" || c.enc == nil && !c.wide && !c.isUTF8()) {
		if meta := metaCharset(b); meta != "" {
			if m := findCharset(meta); !strings.HasPrefix(m.name, "utf-16") && !strings.HasPrefix(m.name, "utf-32") {
				c = m
			}
		}
	}
	return c, c.wide || !html || bytes.IndexByte(b, 0x1b) < 0 || !bytes.Contains(b, []byte("\x1b$")) && !bytes.Contains(b, []byte("\x1b("))
}

func isUTF32(e encoding.Encoding) bool {
	return e == utf32.UTF32(utf32.BigEndian, utf32.UseBOM) || e == utf32.UTF32(utf32.LittleEndian, utf32.UseBOM)
}

// ebcdic matches the names of IBM's character sets that are no ASCII.
var ebcdic = regexp.MustCompile(`^(x-)?(ibm|cp|ccsid|csibm|ebcdic)[-_]?0*(37|29[0-9]|27[3-9]|28[0-9]|42[0-4]|500|8(70|71|80)|905|918|92[45]|10(26|47)|11[1-4][0-9]|.*[a-z].*)$`)

func (c charset) isUTF8() bool { return c.name == "utf-8" || c.name == "utf8" }

var metaName = regexp.MustCompile(`(?i)<meta[^>]{0,200}charset\s*=\s*["']?\s*([a-z0-9_:.-]{2,40})`)

// metaCharset is what a meta element in the first 4 KiB names.
func metaCharset(b []byte) string {
	if m := metaName.FindSubmatch(b[:min(len(b), 4096)]); m != nil {
		return string(m[1])
	}
	return ""
}

// readable reports whether text in c can be searched for trackers at all.
func (c charset) readable() bool { return !c.wide || c.enc != nil || c.name == "utf-7" }

// decode converts to UTF-8.
func (c charset) decode(b []byte) []byte {
	if c.name == "utf-7" {
		return decodeUTF7(b)
	}
	if c.enc == nil {
		return b
	}
	out, err := c.enc.NewDecoder().Bytes(b)
	if err != nil {
		return bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return out
}

// encode converts s to c, ok is false where c cannot say it.
func (c charset) encode(s string) (b []byte, ok bool) {
	if isASCII(s) {
		return []byte(s), true
	}
	switch {
	case c.isUTF8():
		return []byte(s), true
	case c.enc == nil || c.wide:
		return nil, false
	}
	out, err := c.enc.NewEncoder().Bytes([]byte(s))
	return out, err == nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// toASCII writes s without accents, for a text whose charset nobody knows.
func toASCII(s string) string {
	s = strings.NewReplacer("ß", "ss", "ł", "l", "Ł", "L", "ø", "o", "Ø", "O", "æ", "ae", "œ", "oe", "–", "-", "—", "-", "’", "'", "…", "...").Replace(s)
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r):
			return -1
		case r >= utf8.RuneSelf:
			return '?'
		}
		return r
	}, norm.NFD.String(s))
}

// decodeUTF7 decodes UTF-7 (RFC 2152), leniently.
func decodeUTF7(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '+' {
			out = append(out, b[i])
			continue
		}
		i++
		if i < len(b) && b[i] == '-' {
			out = append(out, '+')
			continue
		}
		var bits uint32
		var n int
		var units []uint16
		for ; i < len(b); i++ {
			v := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", b[i])
			if v < 0 {
				break
			}
			bits, n = bits<<6|uint32(v), n+6
			if n >= 16 {
				n -= 16
				units = append(units, uint16(bits>>n))
				bits &= 1<<n - 1
			}
		}
		out = append(out, string(utf16.Decode(units))...)
		if i < len(b) && b[i] != '-' {
			i--
		}
	}
	return out
}
