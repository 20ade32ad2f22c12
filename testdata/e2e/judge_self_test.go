package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestJudge sees that the judge notices what it is there for.
func TestJudge(t *testing.T) {
	const link = linkPrefix + "abc"
	const good = "List-Unsubscribe: <" + link + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" +
		"Content-Type: multipart/alternative; boundary=a\r\n\r\n" +
		"--a\r\n\r\nHello, " + link + "\r\n" +
		"--a\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<a href=3D\"" + link + "\">x</a=\r\n>\r\n--a--\r\n" +
		"--m\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nhttps://pixel.example/1?a=1&b=2\r\n--m--\r\n"
	gone := []string{"https://pixel.example/1?a=1&b=2"}
	tests := []struct{ name, old, new, want string }{
		{"a good copy", "", "", ""},
		{"no link in the text", "Hello, " + link, "Hello", "0 links of ours in a part of type text/plain"},
		{"two links in the text", "Hello, ", link + " ", "2 links of ours in a part of type text/plain"},
		{"a link in the attachment", "\r\nhttps://pixel", "\r\n" + link + " https://pixel", "1 links of ours in a part of type text/plain (attachment: true"},
		{"another person's link", "Hello, " + link, "Hello, " + linkPrefix + "xyz", "is not the one of List-Unsubscribe"},
		{"no List-Unsubscribe", "List-Unsubscribe: <" + link + ">\r\n", "", "List-Unsubscribe is []"},
		{"two of them", "MIME-Version", "List-Unsubscribe: <" + link + ">\r\nMIME-Version", "List-Unsubscribe is ["},
		{"Post of another value", "=One-Click", "=one-click", "List-Unsubscribe-Post is"},
		{"Bcc", "MIME-Version", "bcc: a@example.org\r\nMIME-Version", "the field bcc leaves"},
		{"a control field", "MIME-Version", "X-Consent-Scope: a\r\nMIME-Version", "the field X-Consent-Scope leaves"},
		{"a pixel left", "x</a", "<img src=3D\"https://pixel.example/1?a=3D1&amp;b=3D2\"></a", "is left in a part of type text/html"},
		{"a pixel in a comment", "x</a", "<!-- <img src=3D\"https://pixel.example/1?a=3D1&amp;b=3D2\"> --></a", ""},
		{"a longer address", "Hello", "https://pixel.example/1?a=1&b=22 Hello", ""},
	}
	for _, tt := range tests {
		copy := strings.Replace(good, tt.old, tt.new, 1)
		wrong := judge([]byte(good), []byte(copy), gone, false, false, "")
		switch {
		case tt.want == "" && len(wrong) > 0:
			t.Errorf("%s: %q", tt.name, wrong)
		case tt.want != "" && !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, tt.want) }):
			t.Errorf("%s: %q, want %q", tt.name, wrong, tt.want)
		}
	}
	if wrong := judge([]byte(good), []byte(good), nil, false, true, ""); len(wrong) != 1 || !strings.Contains(wrong[0], "0 DKIM signatures") {
		t.Errorf("unsigned: %q", wrong)
	}
}
