package canonical

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
)

// naive is RFC 6376 §3.4.3 and §3.4.4 word for word, over a text with CRLF.
func naive(body string, relaxed bool) string {
	lines := strings.Split(body, "\r\n")
	if relaxed {
		for i, line := range lines {
			line = strings.ReplaceAll(line, "\t", " ")
			for strings.Contains(line, "  ") {
				line = strings.ReplaceAll(line, "  ", " ")
			}
			lines[i] = strings.TrimSuffix(line, " ")
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		if relaxed {
			return ""
		}
		return "\r\n"
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

func withCRLF(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		"", "\r\n", "\r\n\r\n", "a", "a\r\n\r\n", " C \r\nD \t E\r\n\r\n\r\n", "a\nb\n", "\t\r\n \r\n", "a\rb\r", "a \r", "\r\r\n",
		strings.Repeat("a line like any other\r\n", 300), strings.Repeat("x", 3*bufSize) + "  y",
		strings.Repeat("a line\r\n\r\n and one more\r\n", 500) + "\r\n\r\n", strings.Repeat("plain\r\n", 999) + "two  spaces\r\n" + strings.Repeat("\r\n", 3000) + "end",
		strings.Repeat("plain\r\n", 999) + "a space \r\nbare\nb\ra\tb\r\n" + strings.Repeat("0123456789abcd\r\n", 900),
	} {
		f.Add(s, uint16(3), int64(5))
	}
	f.Fuzz(func(t *testing.T, body string, cut uint16, limit int64) {
		for _, relaxed := range []bool{true, false} {
			want := naive(withCRLF(body), relaxed)
			for _, l := range []int64{-1, limit} {
				wanted := want
				if l >= 0 {
					wanted = want[:min(l, int64(len(want)))]
				}
				for _, step := range []int{int(cut)%100 + 1, len(body) + 1} {
					b := NewBody(relaxed, max(l, -1))
					for rest := body; len(rest) > 0; {
						n := min(step, len(rest))
						b.Write([]byte(rest[:n]))
						rest = rest[n:]
					}
					sum, whole := b.Sum()
					if h := sha256.Sum256([]byte(wanted)); !bytes.Equal(sum, h[:]) {
						t.Fatalf("relaxed %v, limit %d, cut at %d: not the hash of %q", relaxed, l, step, wanted)
					}
					if l >= 0 && whole != (l <= int64(len(want))) {
						t.Fatalf("limit %d of %d: whole is %v", l, len(want), whole)
					}
				}
			}
		}
	})
}

func TestAppendField(t *testing.T) {
	for _, tt := range []struct{ field, relaxed, simple string }{
		{"A: X\r\n", "a:X\r\n", "A: X\r\n"},
		{"B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n", "B : Y\t\r\n\tZ  \r\n"},
		{"C:", "c:\r\n", "C:\r\n"},
		{"D:\r\n folded\r\n", "d:folded\r\n", "D:\r\n folded\r\n"},
		{"no colon\r\n", "no colon:\r\n", "no colon\r\n"},
	} {
		if got := string(AppendField(nil, []byte(tt.field), true)); got != tt.relaxed {
			t.Errorf("%q relaxed: %q, want %q", tt.field, got, tt.relaxed)
		}
		if got := string(AppendField(nil, []byte(tt.field), false)); got != tt.simple {
			t.Errorf("%q simple: %q, want %q", tt.field, got, tt.simple)
		}
	}
}

func TestSplitter(t *testing.T) {
	for _, tt := range []struct{ msg, header, body string }{
		{"A: b\r\n\r\nbody\r\n\r\nmore", "A: b\r\n", "body\r\n\r\nmore"},
		{"A: b\n\nbody", "A: b\n", "body"},
		{"\r\nbody", "", "body"},
		{"A: b\r\n", "A: b\r\n", ""},
		{"A: b\r\n\r\n", "A: b\r\n", ""},
	} {
		for step := 1; step <= len(tt.msg); step++ {
			var body bytes.Buffer
			s := Splitter{Body: &body}
			for rest := tt.msg; len(rest) > 0; {
				n := min(step, len(rest))
				s.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			if string(s.Header) != tt.header || body.String() != tt.body {
				t.Errorf("%q in steps of %d: %q and %q", tt.msg, step, s.Header, body.String())
			}
		}
	}
}
