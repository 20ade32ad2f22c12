package rewrite

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

const (
	pixelAddress = "https://open.convertkit-mail4.com/ab12cd34ef"
	pixel        = `<p>Hello</p><img src="` + pixelAddress + `">`
)

func utf16Text(s string, bigEndian, mark bool) string {
	var b strings.Builder
	if mark {
		s = "\uFEFF" + s
	}
	for _, u := range utf16.Encode([]rune(s)) {
		if bigEndian {
			b.WriteString(string([]byte{byte(u >> 8), byte(u)}))
		} else {
			b.WriteString(string([]byte{byte(u), byte(u >> 8)}))
		}
	}
	return b.String()
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// mimeEvasions are bodies that hold a pixel in a way that some reader finds and a hasty filter
// does not. refused says that readers differ on them, so that they do not leave at all without
// consent.
var mimeEvasions = []struct {
	name, text string
	refused    bool
}{
	{"upper case type", "Content-Type: TEXT/HTML\n\n" + pixel, false},
	{"space in the type", "Content-Type: text / html\n\n" + pixel, false},
	{"comment in the type", "Content-Type: text/(plain)html\n\n" + pixel, false},
	{"comment before the type", "Content-Type: (a) text/html\n\n" + pixel, false},
	{"parameter without semicolon", "Content-Type: text/html charset=utf-8\n\n" + pixel, false},
	{"quoted type", "Content-Type: \"text/html\"\n\n" + pixel, false},
	{"half a type", "Content-Type: html\n\n" + pixel, false},
	{"folded type", "Content-Type:\n text/html\n\n" + pixel, false},
	{"XHTML", "Content-Type: application/xhtml+xml\n\n" + pixel, false},
	{"two types", "Content-Type: text/plain\nContent-Type: text/html\n\n" + pixel, false},
	{"two types, the other way", "Content-Type: text/html\nContent-Type: text/plain\n\n" + pixel, false},
	{"two types, a multipart among them", "Content-Type: text/html\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\n" + pixel + "\n--a--\n", true},
	{"two multiparts", "Content-Type: multipart/mixed; boundary=b\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", true},
	{"two equal types", "Content-Type: text/html\nContent-Type: text/html; charset=utf-8\n\n" + pixel, false},
	{"two encodings", "Content-Type: text/html\nContent-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\n" + b64(pixel), true},
	{"encoding in upper case with a comment", "Content-Type: text/html\nContent-Transfer-Encoding: BASE64 (really)\n\n" + b64(pixel), false},
	{"unknown encoding", "Content-Type: text/html\nContent-Transfer-Encoding: x-uuencode\n\n" + pixel, true},
	{"base64 with junk", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n!!" + strings.Join(strings.Split(b64(pixel), ""), "\n*") + "\n", false},
	{"base64 in padded pieces", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + b64(pixel[:20]) + b64(pixel[20:40]) + "\n" + b64(pixel[40:]), false},
	{"base64 that padding shifts", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + b64("x" + pixel)[:1] + "=" + b64("x" + pixel)[1:], true},
	{"quoted-printable, each byte", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n" + qpAll(pixel), false},
	{"quoted-printable, lower case and soft breaks", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(strings.ToLower(qpAll(pixel)), "=6f", "=6f= \t\n"), false},

	{"NUL in a name", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + b64(strings.Replace(pixel, "src", "s\x00rc", 1)), true},
	{"NUL in the text", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + b64("\x00\x0b"+pixel), false},
	{"XHTML, another prefix", "Content-Type: application/xhtml+xml\n\n<s:svg xmlns:s='http://www.w3.org/2000/svg'><s:image href='" + pixelAddress + "'/></s:svg>", false},
	{"XHTML, another prefix, CSS", "Content-Type: application/xhtml+xml\n\n<h:style>p{background:url(" + pixelAddress + ")}</h:style>", false},
	{"XHTML, an entity of its own", "Content-Type: application/xhtml+xml\n\n<!DOCTYPE html [<!ENTITY a '>'><!ENTITY b '" + pixelAddress + "'>]><img src='&b;'/>", true},

	{"attachment that is the body", "Content-Type: text/html\nContent-Disposition: attachment\n\n" + pixel, false},
	{"attachment to choose from", "Content-Type: multipart/alternative; boundary=a\n\n--a\n\nx\n--a\nContent-Type: text/html\nContent-Disposition: attachment\n\n" + pixel + "\n--a--\n", false},
	{"two dispositions", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\nContent-Disposition: attachment\nContent-Disposition: inline\n\n" + pixel + "\n--a--\n", false},
	{"type by the file name", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: application/octet-stream; name=X.HTML\nContent-Disposition: inline\n\n" + pixel + "\n--a--\n", false},
	{"comment before the encoding", "Content-Type: text/html\nContent-Transfer-Encoding: (really) base64\n\n" + b64(pixel), false},
	{"quoted encoding", "Content-Type: text/html\nContent-Transfer-Encoding: \"base64\"\n\n" + b64(pixel), true},
	{"type without a subtype", "Content-Type: text\n\n" + pixel, true},
	{"type that is none", "Content-Type: foo\n\n" + pixel, true},
	{"multipart in base64", "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n\n" + b64("--a\nContent-Type: text/html\n\n"+pixel+"\n--a--\n"), true},
	{"multipart without parts", "Content-Type: multipart/mixed; boundary=a\n\n" + pixel, true},
	{"another boundary", "Content-Type: multipart/mixed; boundary=b\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a\n\nx\n--a--\n", false},
	{"comment behind the boundary", "Content-Type: multipart/mixed; boundary=a (b)\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a\n\nx\n--a--\n", false},
	{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\nContent-Type: text/html\n\n" + pixel + "\n----\n", true},
	{"part behind the end", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", false},
	{"white space before the first field of a part", "Content-Type: multipart/mixed; boundary=a\n\n--a\n Content-Type: text/html\n\n" + pixel + "\n--a--\n", true},
	{"a piece of a message", "Content-Type: message/partial; id=a; number=1; total=1\n\nContent-Type: text/html\n\n" + pixel, true},
	{"a message for a body", "Content-Type: message/rfc822\n\nContent-Type: text/html\n\n" + pixel, true},

	{"a message for a body, in base64", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + b64("Content-Type: text/html\n\n"+pixel), true},

	{"two boundaries", "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\nContent-Type: text/plain\n\n--b\nContent-Type: text/html\n\n" + pixel + "\n--b--\n--a--\n", true},
	{"two boundaries, one of RFC 2231", "Content-Type: multipart/mixed; boundary=a; boundary*0=b\n\n--a\nContent-Type: text/plain\n\n--b\nContent-Type: text/html\n\n" + pixel + "\n--b--\n--a--\n", true},
	{"boundary of 300 characters", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("x", 300) + "\n\n--" + strings.Repeat("x", 300) + "\nContent-Type: text/html\n\n" + pixel + "\n", false},
	{"boundary with a space behind", "Content-Type: multipart/mixed; boundary=\"a \"\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", false},
	{"white space behind the delimiter", "Content-Type: multipart/mixed; boundary=a\n\n--a" + strings.Repeat(" ", 400) + "\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", false},
	{"much white space behind the delimiter", "Content-Type: multipart/mixed; boundary=a\n\n--a" + strings.Repeat(" ", 4000) + "\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", true},
	{"no boundary named", "Content-Type: multipart/mixed\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a\n\nx\n--a--\n", false},
	{"boundary in pieces", "Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\nContent-Type: text/html\n\n" + pixel + "\n--ab--\n", false},
	{"closing delimiter missing", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n", false},
	{"part behind a closed one", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=ab\n\n--ab\n\nx\n--ab--\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", false},
	{"inline part in a digest", "Content-Type: multipart/digest; boundary=a\n\n--a\nContent-Type: text/html\n\n" + pixel + "\n--a--\n", false},

	{"UTF-16 with a mark, said to be ASCII", "Content-Type: text/html; charset=us-ascii\nContent-Transfer-Encoding: base64\n\n" + b64(utf16Text(pixel, false, true)), false},
	{"UTF-16BE with a mark, said to be UTF-8", "Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + b64(utf16Text(pixel, true, true)), false},
	{"UTF-16LE", "Content-Type: text/html; charset=utf-16le\nContent-Transfer-Encoding: base64\n\n" + b64(utf16Text(pixel, false, false)), false},
	{"UTF-8 with a mark, said to be UTF-16", "Content-Type: text/html; charset=utf-16\nContent-Transfer-Encoding: base64\n\n" + b64("\uFEFF"+pixel), false},
	{"UTF-7", "Content-Type: text/html; charset=utf-7\n\n+ADw-img src+AD0AIg-" + pixelAddress + "+ACIAPg-\n", false},
	{"UTF-7 named by the HTML alone", "Content-Type: text/html\n\n<meta charset=utf-7>+ADw-img src+AD0AIg-" + pixelAddress + "+ACIAPg-\n", false},
	{"UTF-7 by another name", "Content-Type: text/html; charset=utf7\n\n+ADw-img src+AD0AIg-" + pixelAddress + "+ACIAPg-\n", false},
	{"UTF-7 in RFC 2231 beside another", "Content-Type: text/html; charset=utf-8; charset*=''utf-7\n\n+ADw-img src+AD0AIg-" + pixelAddress + "+ACIAPg-\n", true},
	{"UTF-16 without a mark, by another name", "Content-Type: text/html; charset=ucs-2\nContent-Transfer-Encoding: base64\n\n" + b64(utf16Text(pixel, true, false)), false},
	{"UTF-16 without a mark, said to be UTF-8", "Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + b64(utf16Text(pixel, true, false)), true},
	{"EBCDIC", "Content-Type: text/html; charset=ibm500\nContent-Transfer-Encoding: base64\n\nTMmUlw==", true},
	{"HZ", "Content-Type: text/html; charset=hz-gb-2312\n\n~{<!--~}" + pixel, false},
	{"Korean ISO 2022", "Content-Type: text/html; charset=iso-2022-kr\n\n" + pixel, false},
	{"katakana of ISO 2022", "Content-Type: text/html; charset=utf-8\n\n\x1b(I<!--\x1b(B" + pixel, true},
	{"ISO-2022-JP", "Content-Type: text/html; charset=iso-2022-jp\n\n\x1b$B<!--\x1b(B" + pixel, false},
	{"ISO-2022-JP named by the HTML alone", "Content-Type: text/html\n\n<meta charset=iso-2022-jp>\x1b$B<!--\x1b(B" + pixel, false},
	{"ISO-2022-JP named by nobody", "Content-Type: text/html\n\n\x1b$B<!--\x1b(B" + pixel, true},
	{"unknown character set", "Content-Type: text/html; charset=x-nobody-knows\n\n" + pixel, false},
}

// TestForwarded: a clean message in place of the body leaves as it is, with the List fields.
func TestForwarded(t *testing.T) {
	src := crlf([]byte("Content-Type: message/rfc822\n\nContent-Type: text/html\n\n<p>Hello</p>\n"))
	if got := render(t, parse(t, src), variant(false, false)); !bytes.HasSuffix(got, []byte("Content-Type: text/html\r\n\r\n<p>Hello</p>\r\n")) {
		t.Errorf("changed:\n%s", got)
	}
}

func qpAll(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteString("=" + upperHex[s[i]>>4:s[i]>>4+1] + upperHex[s[i]&15:s[i]&15+1])
		if i%20 == 19 {
			b.WriteString("=\n")
		}
	}
	return b.String()
}

// TestMIMEEvasions: without consent the pixel does not leave, however the body is wrapped.
func TestMIMEEvasions(t *testing.T) {
	for _, e := range mimeEvasions {
		t.Run(e.name, func(t *testing.T) {
			m := parse(t, crlf([]byte("MIME-Version: 1.0\nSubject: x\n"+e.text)))
			c, err := m.Render(variant(false, false))
			if (err != nil) != e.refused || err != nil && !errors.Is(err, ErrUnreadable) {
				t.Fatalf("Render: %v, want refused: %v", err, e.refused)
			}
			render(t, m, variant(true, true))
			if err != nil {
				return
			}
			var b strings.Builder
			c.WriteTo(&b)
			found := 0
			for _, f := range m.Findings() {
				if f.Kind == OpenTracker && f.URL == pixelAddress {
					found++
				}
			}
			if found != 1 {
				t.Fatalf("found %d times", found)
			}
			again := parse(t, []byte(b.String()))
			for _, f := range again.Findings() {
				if f.Kind == OpenTracker {
					t.Errorf("left: %+v in\n%s", f, b.String())
				}
			}
		})
	}
}

// A header that is longer than is read ends in a refusal wherever the reading stops, also within a line that
// does not look like a field up to there: what is behind it would pass for a text without trackers.
func TestHeaderTooLong(t *testing.T) {
	const head = "From: news@example.org\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n"
	const body = "\r\n<p>x</p><img src=\"https://open.example.net/o.gif\" width=1 height=1>\r\n"
	refused := 0
	for _, field := range []string{"X-A: b\r\n", "X-Long-Name-Of-A-Field: b\r\n", "X-A: b\r\n c\r\n\td\r\n", "X-A:" + strings.Repeat(" b", 5000) + "\r\n"} {
		most := maxHeader/len(field) + 2
		for n := most - 5; n <= most+5; n++ {
			for _, part := range []bool{false, true} {
				text := strings.Repeat(field, n) + head + body
				if part {
					text = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + text + "--b--\r\n"
				}
				m, err := Parse(Bytes([]byte(text)), int64(len(text)), trackers.Default(), testOptions())
				if err != nil {
					refused++
					continue
				}
				c, err := m.Render(variant(false, false))
				if err != nil {
					refused++
					continue
				}
				var b strings.Builder
				if _, err := c.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(b.String(), "open.example.net") {
					t.Errorf("%d times %.10q, in a part %v: the pixel is still there", n, field, part)
				}
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused, so nothing was too long")
	}
}
