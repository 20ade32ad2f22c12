package web

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzTokenLine: a line of the token file that is read says who and what may be, and an error about one
// does not repeat it, since it may hold the token itself.
func FuzzTokenLine(f *testing.F) {
	sum := strings.Repeat("ab", 32)
	for _, s := range []string{"", "read " + sum, "write " + sum + " the shop", "read swordfish", "swordfish", "admin " + sum, "write " + sum + " a@example.org"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h, err := parseToken(line)
		if err != nil {
			if strings.Contains(line, "swordfish") && strings.Contains(err.Error(), "swordfish") {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		if h.role == noRole || strings.ContainsAny(h.comment, "@\n\r") || len(h.comment) > 64 {
			t.Fatalf("%q is read as %+v", line, h)
		}
	})
}

// FuzzNotice: a notice that is read has a version that can stand in a record, and a text for every language.
func FuzzNotice(f *testing.F) {
	for _, s := range []string{"", "2026-03\nWe count.\n", "2026-03\n\nOne.\n\nTwo.\n[de]\nWir zählen.\n", "x\n[xx]\ny", "v\n[de]\n[de]\n", "\ufeffv\na", "a@b\nx", "v\r\na\r\n\r\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseNotice(text)
		if err != nil {
			return
		}
		if n.version == "" || len(n.version) > maxNoticeVersion || strings.ContainsFunc(n.version, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q has the version %q", text, n.version)
		}
		for _, lang := range texts {
			if len(n.texts[lang.Lang]) == 0 && len(n.texts[""]) == 0 {
				t.Fatalf("%q has no text for %s", text, lang.Lang)
			}
		}
		for _, paragraphs := range n.texts {
			for _, p := range paragraphs {
				if strings.TrimSpace(p) != p || p == "" || strings.ContainsAny(p, "\r\n") {
					t.Fatalf("%q has the paragraph %q", text, p)
				}
			}
		}
	})
}

var hexColour = regexp.MustCompile(`^#[0-9a-f]{6}$`)

// FuzzColour: what is taken for a colour can stand in a style sheet, and is taken again as the same.
func FuzzColour(f *testing.F) {
	for _, s := range []string{"", "#fff", "#1D5A88", "red", "#+12345", "#12_345", "#\u0130ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseColour(s)
		if err != nil {
			return
		}
		if again, err := ParseColour(string(c)); err != nil || again != c || !hexColour.MatchString(string(c)) || c.rgb().String() != string(c) {
			t.Fatalf("%q is %q, and that %q, %v", s, c, again, err)
		}
	})
}

// FuzzHop: what a proxy says of the peer before it is an address or nothing.
func FuzzHop(f *testing.F) {
	for _, s := range []string{"", "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]:443", "[2001:db8::1]", "2001:db8::1", "_hidden", "unknown", "fe80::1%eth0", "\"[::1]\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, ok := parseHop(s)
		if ok != addr.IsValid() || ok && (addr.Zone() != "" || addr.Is4In6()) {
			t.Fatalf("%q is %v, %v", s, addr, ok)
		}
	})
}
