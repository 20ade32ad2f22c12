package rewrite

import (
	"errors"
	"slices"
	"testing"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// FuzzParseHeader: the header alone is read as with all that follows it.
func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{
		"", "\r\n", "Subject: a\r\n\r\nb", "Subject: a\r\n b\r\nX-Consent-Scope: c\r\n", "From x\r\nSubject: a\r\n\r\n", "no field\r\n\r\n",
		"Subject : a\r\nsubject: b\r\n\r\n", "Content-Type: multipart/mixed; boundary=b\r\n--b\r\nSubject: x\r\n\r\n--b--\r\n", " a: b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), Options{})
		h, headerErr := ParseHeader(Bytes(src), int64(len(src)))
		if errors.Is(err, ErrHeader) != errors.Is(headerErr, ErrHeader) || (err == nil) != (headerErr == nil) {
			t.Fatalf("%q: %v, and the header alone %v", src, err, headerErr)
		}
		if err != nil {
			return
		}
		for _, field := range m.root.fields {
			if got, want := h.Fields(field.name), m.Fields(field.name); !slices.Equal(got, want) || len(got) == 0 {
				t.Fatalf("%q: %s is %q, and of the header alone %q", src, field.name, want, got)
			}
		}
		if len(h.fields) != len(m.root.fields) {
			t.Fatalf("%q: %d fields, and of the header alone %d", src, len(m.root.fields), len(h.fields))
		}
	})
}
