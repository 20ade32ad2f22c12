package peers

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

const (
	pixel       = "https://open.convertkit-mail4.com/ab12cd34ef"
	counted     = "https://1a2b3c4d.click.convertkit-mail2.com/U6mtzvbgsw6UmKjlAUsh/xWLj9gtqWGArP4D8/aHR0cHM6Ly93d3cuZXhhbXBsZS5vcmcvbWVtYmVyc2hpcC8="
	destination = "https://www.example.org/membership/"
)

// letter is what the clients send that send what they are given. It holds what mail programs trip
// over: lines that begin with dots or with "From ", trailing blanks, a line of 900 bytes, 8-bit text
// beside a part in ASCII, an empty line at the end of a part, an attachment with long lines.
var letter = strings.ReplaceAll(`From: The shop <news@shop.example.net>
To: Readers <readers@example.org>
Subject: =?utf-8?Q?B=C3=BCcher?= for
 the long evenings
Date: Wed, 18 Nov 2026 10:00:00 +0100
Message-ID: <letter.1@shop.example.net>
MIME-Version: 1.0
X-Folded: one
	two  three
Content-Type: multipart/mixed; boundary="=_outer"

A preamble.
--=_outer
Content-Type: multipart/alternative; boundary="=_inner"

--=_inner
Content-Type: text/plain; charset=us-ascii

.
..two dots
From the shop, with a trailing blank 
-- 
The shop

--=_inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<html><body>
<p>Grüße aus der Löwengasse – „Bücher“.</p>
.<p>a line with a dot before it</p>
<p>`+strings.Repeat("a long line ", 75)+`</p>
<a href="`+counted+`">membership</a>
<img src="`+pixel+`" width="1" height="1">
</body></html>
--=_inner--

--=_outer
Content-Type: application/octet-stream
Content-Disposition: attachment; filename="data.bin"
Content-Transfer-Encoding: base64

`+strings.Repeat("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4\n", 40)+`--=_outer--
An epilogue.
`, "\n", "\r\n")

// judge says what is wrong with a copy of the letter, for somebody who agreed to tracking or did not.
func (g *gateway) judge(t testing.TB, m mail, agreed bool) {
	t.Helper()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("the copy from <%s> to <%s>: %s", m.from, m.to, fmt.Sprintf(format, args...))
	}
	g.verify(t, m)
	tracked(t, m, agreed)

	// What is no tracker is there, each line as it was, in its order.
	header, body, _ := strings.Cut(letter, "\r\n\r\n")
	gotHeader, gotBody, _ := strings.Cut(string(m.text), "\r\n\r\n")
	for _, of := range []struct{ what, want, got string }{{"header", header, gotHeader}, {"body", body, gotBody}} {
		got := strings.Split(of.got, "\r\n")
		for line := range strings.SplitSeq(of.want, "\r\n") {
			if !agreed && (strings.Contains(line, pixel) || strings.Contains(line, counted)) {
				continue
			}
			i := 0
			for i < len(got) && got[i] != line {
				i++
			}
			if i == len(got) {
				complain("the %s lacks the line %q, or has it elsewhere:\n%s", of.what, line, m.text)
				return
			}
			got = got[i+1:]
		}
	}
	if attachment := letter[strings.Index(letter, "Content-Type: application/"):]; !bytes.Contains(m.text, []byte(attachment)) {
		complain("attachment and epilogue are not as they were")
	}
	if n := strings.Count(gotBody, linkPrefix); n < 2 {
		complain("%d links of ours in the body", n)
	}
}

// verify checks the signature.
func (g *gateway) verify(t testing.TB, m mail) {
	t.Helper()
	verify(t, m, dkimSelector+"._domainkey."+dkimDomain, g.dkimRecord)
}

// verify checks the one signature by the record that the DNS would have under that name.
func verify(t testing.TB, m mail, name, record string) {
	t.Helper()
	all, err := dkim.VerifyWithOptions(bytes.NewReader(m.text), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
		if domain != name {
			return nil, fmt.Errorf("no key for %s", domain)
		}
		return []string{record}, nil
	}})
	if err != nil || len(all) != 1 || all[0].Err != nil {
		t.Errorf("the copy from <%s> to <%s>: DKIM: %v, %d signatures", m.from, m.to, err, len(all))
		for _, v := range all {
			t.Errorf("%s: %v", v.Domain, v.Err)
		}
	}
}

// unquoted undoes quoted-printable as far as addresses of pictures and links need it.
var unquoted = strings.NewReplacer("=\r\n", "", "=3D", "=")

// tracked checks that a copy, whose HTML must not be in base64, holds trackers or holds none.
func tracked(t testing.TB, m mail, agreed bool) {
	t.Helper()
	text := unquoted.Replace(string(m.text))
	for _, address := range []string{pixel, counted} {
		if got := strings.Contains(text, address); got != agreed {
			t.Errorf("the copy from <%s> to <%s>: %s is in it: %v, want %v\n%s", m.from, m.to, address, got, agreed, m.text)
		}
	}
	if !agreed && !strings.Contains(text, destination) {
		t.Errorf("the copy from <%s> to <%s> lacks %s", m.from, m.to, destination)
	}
}
