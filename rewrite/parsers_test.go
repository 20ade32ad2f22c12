package rewrite

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/emersion/go-message/textproto"
)

// The parsers of this package, each held against another program's or against what writes what it reads.

// FuzzQuotedPrintable: what is encoded reads the same; what mime/quotedprintable reads without an error is
// read likewise; and each byte of the text is where rawAt and rawEnd say.
func FuzzQuotedPrintable(f *testing.F) {
	for _, s := range []string{"", "a=3Db", "soft=\r\nbreak", "soft= \t\r\nbreak", "white \t \r\nspace", "a=\n=", "=3d=C3=A4", "bare\nLF =", "= =41", "ä\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, jumps := decodeQP(raw, nil, nil)
		tx := &text{enc: quotedPrintable, raw: raw, plain: plain, jumps: jumps}
		for i := range plain {
			from, to := tx.rawAt(i), tx.rawEnd(i+1)
			if from >= to || to > len(raw) {
				t.Fatalf("byte %d of %q stands at %d to %d of %q", i, plain, from, to, raw)
			}
			if one, _ := decodeQP(raw[from:to], nil, nil); len(one) > 1 || len(one) == 1 && one[0] != plain[i] && raw[from] != ' ' && raw[from] != '\t' {
				t.Fatalf("byte %d of %q is %q of %q", i, plain, raw[from:to], raw)
			}
		}
		// A bare CR is for us a byte like another. That library takes "\r" before the end for a line end, and of
		// an escape that is none, and the end of the text behind "=", it makes its own.
		if want, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(raw))); err == nil && !bareCR(raw) && !endsOpen(raw) && !bytes.Equal(plain, want) {
			t.Fatalf("%q is read as %q, by mime/quotedprintable as %q", raw, plain, want)
		}
		// Now raw is the text.
		encoded, _ := appendQP(nil, raw, 0)
		if again, _ := decodeQP(encoded, nil, nil); !bytes.Equal(again, raw) {
			t.Fatalf("%q becomes %q, which is read as %q", raw, encoded, again)
		}
		for line := range bytes.SplitSeq(encoded, []byte("\r\n")) {
			if len(line) > 76 || bytes.ContainsFunc(line, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }) {
				t.Fatalf("%q has the line %q", raw, line)
			}
		}
	})
}

// endsOpen reports whether the last line is white space that ends with no line end, or a soft line break
// that breaks nothing: readers differ there.
func endsOpen(raw []byte) bool {
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		for i := bytes.IndexByte(line, '='); i >= 0 && i < len(line); {
			rest := bytes.TrimRight(line[i+1:], " \t")
			if len(rest) > 0 && (len(rest) < 2 || unhex(rest[0]) < 0 || unhex(rest[1]) < 0) {
				return true // no escape
			}
			next := bytes.IndexByte(line[i+1:], '=')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	last := raw[bytes.LastIndexByte(raw, '\n')+1:]
	trimmed := bytes.TrimRight(last, " \t\r")
	return len(trimmed) < len(last) || bytes.HasSuffix(trimmed, []byte("="))
}

// FuzzBase64: what is encoded reads the same, in lines of 76; and what encoding/base64 reads is read likewise.
func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "QUJD", "QUI=", "QQ==\r\nQUJD", "Q U\tJ\r\nD", "QUJ!D", "====", "Q"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := decodeBase64(raw)
		if want, err := base64.StdEncoding.DecodeString(string(raw)); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q is read as %q, by encoding/base64 as %q", raw, got, want)
		}
		if len(got) > len(raw)*3/4 {
			t.Fatalf("%q is read as the longer %q", raw, got)
		}
		encoded := appendBase64(nil, raw)
		if again := decodeBase64(encoded); !bytes.Equal(again, raw) {
			t.Fatalf("%q becomes %q, which is read as %q", raw, encoded, again)
		}
		for line := range bytes.SplitSeq(encoded, []byte("\r\n")) {
			if len(line) > 76 {
				t.Fatalf("a line of %d", len(line))
			}
		}
	})
}

// FuzzCharset: a text that a character set can say comes back from it; what is decoded is UTF-8; and
// UTF-7 is read as it is written.
func FuzzCharset(f *testing.F) {
	for _, name := range []string{"", "utf-8", "iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp", "utf-16", "utf-16le", "utf-7", "utf-32", "gb18030", "big5", "shift_jis", "euc-kr", "hz-gb-2312", "ibm037", "iso-8859-15", "nobody-knows"} {
		f.Add(name, "Grüße, 日本 +-&", []byte("Gr\xfc\xdfe+AGE-"))
	}
	f.Fuzz(func(t *testing.T, name, s string, b []byte) {
		c := findCharset(name)
		if out, ok := c.encode(s); ok && !c.wide && utf8.ValidString(s) && !strings.ContainsAny(s, "\x1b\x0e\x0f") {
			// Two characters of one code: what comes back is one that looks the same.
			if back := c.decode(out); string(back) != s {
				if again, ok := c.encode(string(back)); !ok || !bytes.Equal(again, out) {
					t.Fatalf("%s: %q becomes %q, which is read as %q", name, s, out, back)
				}
			}
		}
		if out := c.decode(b); (c.enc != nil || c.name == "utf-7" && isASCII(string(b))) && !utf8.Valid(out) {
			t.Fatalf("%s: %q is read as %q", name, b, out)
		}
		if utf8.ValidString(s) {
			if got := decodeUTF7(encodeUTF7(s)); string(got) != s {
				t.Fatalf("%q is read from UTF-7 as %q", s, got)
			}
		}
	})
}

// encodeUTF7 writes RFC 2152 with everything but letters and digits in base64.
func encodeUTF7(s string) []byte {
	var out []byte
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || !isAlnum(byte(r)) })
		if n < 0 {
			return append(out, s...)
		}
		out, s = append(out, s[:n]...), s[n:]
		n = strings.IndexFunc(s, func(r rune) bool { return r < utf8.RuneSelf && isAlnum(byte(r)) })
		if n < 0 {
			n = len(s)
		}
		var units []byte
		for _, u := range utf16.Encode([]rune(s[:n])) {
			units = append(units, byte(u>>8), byte(u))
		}
		out = append(base64.RawStdEncoding.AppendEncode(append(out, '+'), units), '-')
		s = s[n:]
	}
	return out
}

// FuzzMediaType: what mime.ParseMediaType reads without an error is read likewise. Comments, backslashes
// and continuations are left out: it knows none of the first, and reads the others in its own way.
func FuzzMediaType(f *testing.F) {
	for _, s := range []string{"", "text/html", "Text/HTML; charset=utf-8", `multipart/mixed; boundary="a b;c"; x=y`, "text/html;;charset=x", "attachment; filename*0=a; filename*1=b", "text / html", "text/html charset=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := parseMediaType(s)
		if strings.ToLower(got.value) != got.value && isASCII(got.value) {
			t.Fatalf("%q: the type is %q", s, got.value)
		}
		value, params, err := mime.ParseMediaType(s)
		if err != nil || strings.ContainsAny(s, `\(*'`) || !isASCII(s) {
			return
		}
		if got.value != value {
			t.Fatalf("%q is of the type %q, by package mime %q", s, got.value, value)
		}
		for name, want := range params {
			if v, ok := got.params[name]; !ok || v != want {
				t.Fatalf("%q: %s is %q, by package mime %q", s, name, v, want)
			}
		}
	})
}

// FuzzHeader: a header that go-message reads without an error is read likewise: the same fields in the
// same order, with the same text but for white space, and the same body behind it.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "\r\n", "A: b\r\nC: d\r\n e\r\n\r\nbody", "From x\r\nA: b\r\n\r\n", "A:b\r\n\tc\r\n\r\n", "A : b\r\n\r\n", "a\r\n\r\n", "A: b\n\nbody", ": x\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p := &parser{w: newWindow(Bytes(src), int64(len(src)))}
		h := p.readHeader(0, true)
		p.fill(&h)
		at := int64(0)
		for _, field := range h.fields {
			if field.start != at || field.end <= field.start {
				t.Fatalf("the fields of %q are not one behind the other: %+v", src, h.fields)
			}
			at = field.end
		}
		if h.body < at || h.body > int64(len(src)) {
			t.Fatalf("the body of %q is at %d", src, h.body)
		}
		r := bufio.NewReader(bytes.NewReader(src))
		want, err := textproto.ReadHeader(r)
		// It passes over a field without a name, behind which we see the body.
		if err != nil || bareCR(src) || h.tooLong || bytes.HasPrefix(src, []byte(":")) || bytes.Contains(src, []byte("\n:")) || !bytes.Contains(src, []byte("\n\r\n")) && !bytes.Contains(src, []byte("\n\n")) {
			return
		}
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		i := 0
		for fields := want.Fields(); fields.Next(); i++ {
			if i >= len(h.fields) {
				t.Fatalf("%q has %d fields, by go-message more", src, i)
			}
			if got := h.fields[i]; !strings.EqualFold(got.name, fields.Key()) || squeeze(got.body) != squeeze(fields.Value()) {
				t.Fatalf("field %d of %q is %q: %q, by go-message %q: %q", i, src, got.name, got.body, fields.Key(), fields.Value())
			}
		}
		rest, _ := io.ReadAll(r) // from memory
		if i != len(h.fields) || !bytes.Equal(src[h.body:], rest) {
			t.Fatalf("%q: %d fields and the body %q, by go-message %d and %q", src, len(h.fields), src[h.body:], i, rest)
		}
	})
}

// FuzzStyleSheet: what a style sheet fetches stands in order and within it, its stand-in fetches nothing,
// and what is put in front of it is found, with any of its characters escaped.
func FuzzStyleSheet(f *testing.F) {
	for _, s := range []string{"", "a{background:url(http://x.example/o)}", `@import "http://x.example/o";`, `a{b:url("http://x.example/\6f")}`, `a{b:image-set("http://x.example/o" 1x)}`,
		"a{b:u\\72l(http://x.example/o)}", "/*url(a)*/b{c:url( 'd' )}", "a{b:url(c", "@font-face{src:url(//x.example/f)}", "a{b:\"\\\nurl(x)\"}", "url(a b)url(c)"} {
		f.Add(s, uint16(5))
	}
	f.Fuzz(func(t *testing.T, sheet string, bits uint16) {
		found := cssAddresses(sheet)
		at := 0
		for _, a := range found {
			if a.start < at || a.end <= a.start || a.end > len(sheet) {
				t.Fatalf("%q: %+v", sheet, found)
			}
			at = a.end
			for _, within := range cssAddresses("a{b:image-set(" + a.replacement() + " 1x)}") {
				if remote(within.addr, "") != "" {
					t.Fatalf("%q: what stands in for %+v fetches %q", sheet, a, within.addr)
				}
			}
		}
		readSheets([]byte("<style>"+sheet), []int{0})
		// A rule of its own in front is found whatever follows, however it is written.
		const want = "http://x.example/o"
		for _, rule := range []string{
			"a{b:" + escapeSome("url", bits) + "(" + want + ")}", "a{b:" + escapeSome("url", bits) + "( '" + escapeSome(want, bits>>3) + "' )}",
			"@" + escapeSome("import", bits) + " \"" + want + "\";", "a{b:" + escapeSome("image-set", bits) + "('" + want + "' 1x)}",
		} {
			if got := cssAddresses(rule + sheet); len(got) == 0 || got[0].addr != want || got[0].end > len(rule) {
				t.Fatalf("%q: %+v", rule+sheet, got)
			}
		}
	})
}

// escapeSome writes the characters of s whose bits are set as escapes, CSS Syntax Level 3 §4.3.7.
func escapeSome(s string, bits uint16) string {
	var b strings.Builder
	for i, c := range []byte(s) {
		switch {
		case bits>>(i%16)&1 == 0:
			b.WriteByte(c)
		case i%2 == 0:
			fmt.Fprintf(&b, "\\%06X", c)
		default:
			fmt.Fprintf(&b, "\\%x\n", c)
		}
	}
	return b.String()
}

// FuzzSrcset: an address holds no white space and stands in the text, and of candidates that are written
// out none is missed.
func FuzzSrcset(f *testing.F) {
	f.Add("a 1x, b 2x", "http://x.example/o", "http://x.example/p,q")
	f.Add("a,b", "data:,x", "//x.example")
	f.Fuzz(func(t *testing.T, any, first, second string) {
		for _, addr := range srcset(nil, any) {
			if strings.ContainsFunc(addr, func(r rune) bool { return r <= ' ' }) || !strings.Contains(any, addr) {
				t.Fatalf("%q holds %q", any, addr)
			}
		}
		for _, s := range []string{first, second} { // §4.8.4.2.1: an address neither begins nor ends with a comma
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' }) || strings.Trim(s, ",") != s {
				return
			}
		}
		got := srcset(nil, " "+first+" 1x , "+second+" 600w")
		has := func(want string) bool {
			for _, addr := range got {
				if addr == want {
					return true
				}
			}
			return false
		}
		if !has(first) || !has(second) {
			t.Fatalf("%q and %q are read as %q", first, second, got)
		}
	})
}

// TestUTF32: a byte order mark of UTF-32 begins like one of UTF-16.
func TestUTF32(t *testing.T) {
	src := "Subject: x\r\nContent-Type: text/html; charset=utf-32\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	wide := []byte{0xff, 0xfe, 0, 0}
	for _, c := range []byte(`<p>hi</p><img src="https://x.example.org/o.gif" width=1 height=1>`) {
		wide = append(wide, c, 0, 0, 0)
	}
	m := parse(t, appendBase64([]byte(src), wide))
	if got := render(t, m, variant(false, false)); bytes.Contains(got, []byte("x.example.org")) || !bytes.Contains(got, []byte("<p>hi</p>")) {
		t.Errorf("the copy is\n%s", got)
	}
}

// FuzzCard: a picture in a calendar that opens are counted by goes without consent and stays with it, whatever
// else stands there, and what goes are whole lines.
func FuzzCard(f *testing.F) {
	for _, s := range []string{"", "END:VCALENDAR\r\n", "SUMMARY:a\r\n b\r\n", "ATTACH;X=\"a:b\":https://x.example.org/o\r\n", "X-ALT-DESC;FMTTYPE=text/html:<p>\\n</p>\r\n", "\"", "a.PHOTO;VALUE=uri:cid:x", "\n \n\t\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		if strings.Contains(rest, pixelAddress) || bareCR([]byte(rest)) {
			return
		}
		src := message("Content-Type: text/calendar; charset=utf-8\nContent-Transfer-Encoding: 8bit\n", "BEGIN:VCALENDAR\nATTACH;FMTTYPE=image/gif:"+pixelAddress[:9]+"\n "+pixelAddress[9:]+"\nX:1\n"+rest)
		m := parse(t, src)
		if len(m.texts) != 1 {
			return
		}
		at := 0
		for _, e := range m.texts[0].edits {
			plain := m.texts[0].decoded()
			if e.start < at || e.end <= e.start || e.start > 0 && plain[e.start-1] != '\n' || e.end < len(plain) && plain[e.end-1] != '\n' {
				t.Fatalf("%q is cut from %d to %d", plain, e.start, e.end)
			}
			at = e.end
		}
		folded := []byte(pixelAddress[:9] + "\r\n " + pixelAddress[9:])
		if got := render(t, m, variant(false, false)); bytes.Contains(got, folded) {
			t.Fatalf("it is still in\n%s", got)
		}
		if got := render(t, m, plainVariant); !bytes.Contains(got, folded) {
			t.Fatalf("it is not in\n%s", got)
		}
	})
}
