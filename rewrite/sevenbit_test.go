package rewrite

import (
	"errors"
	"strings"
	"testing"
)

// TestSevenBit: a copy for a next hop without 8BITMIME has no byte over 127 in its body, and says
// the same.
func TestSevenBit(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string // in the copy
		err  error
	}{
		"text": {"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße = x\n",
			[]string{"Content-Type: text/plain; charset=utf-8\r\n", "Content-Transfer-Encoding: quoted-printable\r\n", "Gr=C3=BC=C3=9Fe =3D x\r\n", testLink[:30]}, nil},
		"no MIME fields": {"\nGr\xfc\xdfe\n", []string{"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n", "Gr=FC=DFe\r\n"}, nil},
		"HTML with a pixel": {"MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>Grüße</p><img src=\"" + pixelAddress + "\">\n",
			[]string{"<p>Gr=C3=BC=C3=9Fe</p>\r\n<div lang=3D"}, nil},
		"parts": {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n--b\n" +
			"Content-Type: application/octet-stream\nContent-Transfer-Encoding: 8bit\nContent-Disposition: attachment\n\nä\n--b\nContent-Type: text/plain\n\nplain\n--b--\n",
			[]string{"boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n", "Gr=C3=BC=C3=9Fe", "Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\nw6Q=\r\n--b", "\r\n\r\nplain\r\n--b--"}, nil},
		"signed":    {"Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/plain\n\nä\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n", nil, ErrEightBit},
		"message":   {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\nä\n--b--\n", nil, ErrEightBit},
		"7bit":      {"Content-Type: text/plain\n\nplain\n", []string{"Content-Type: text/plain\r\n", "\r\n\r\nplain\r\n"}, nil},
		"base64":    {"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n", []string{"Content-Transfer-Encoding: base64\r\n", "\r\n\r\nR3L"}, nil},
		"signature": {"Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/plain\n\nplain\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n", []string{"Content-Type: text/plain\r\n\r\nplain\r\n--b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := parseWith(t, "Subject: x\n"+c.text, testOptions())
			v := variant(false, false)
			v.SevenBit = true
			copy, err := m.Render(v)
			if !errors.Is(err, c.err) || err != nil {
				if c.err == nil || err == nil {
					t.Fatalf("Render: %v, want %v", err, c.err)
				}
				return
			}
			if copy.Needs8Bit() {
				t.Error("says that it needs 8BITMIME")
			}
			got := string(render(t, m, v))
			if !isASCII(got) {
				t.Errorf("8-bit bytes are left:\n%q", got)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in\n%s", w, got)
				}
			}
			v.SevenBit = false
			a, b := parse(t, []byte(got)), parse(t, render(t, m, v))
			for i := range b.texts {
				if string(a.texts[i].decoded()) != string(b.texts[i].decoded()) {
					t.Errorf("the text differs: %q, %q", a.texts[i].decoded(), b.texts[i].decoded())
				}
			}
		})
	}
}
