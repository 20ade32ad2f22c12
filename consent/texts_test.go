package consent

import (
	"strings"
	"testing"
	"time"
)

// FuzzParseLine: an event that is read is written as it was, and whatever is read is an event that can be.
func FuzzParseLine(f *testing.F) {
	m := string(mac{1, 2, 3}.appendText(nil))
	for _, s := range []string{"", "\t", "7\tc1763900000o\tnewsletter\tsu\t\t\t2026-03\t192.0.2.0/24\t" + m, "1\th1o\tnews\tx\t" + m, "2\tf5a\t" + strings.Repeat("A", 43) + "\t" + m + "\t" + m,
		"3\tt5a\t" + strings.Repeat("A", 43) + "\t" + m, "4\tk9\t" + m + "\t" + m, "0\tk9\t" + m + "\t" + m, "01\tk9\t" + m + "\t" + m} {
		f.Add(s)
	}
	for _, kind := range []EventKind{Changed, Chained, RenamedFrom, RenamedTo, Checkpoint} {
		l := line{Event: Event{Number: 3, Kind: kind, Time: time.Unix(1763900000, 0), Source: FromPage, Scope: "news", Origin: "x"}}
		f.Add(string(l.appendBody(nil)) + "\t" + m)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLine(text)
		if err != nil {
			if l.Number != 0 || l.Kind != "" {
				t.Fatalf("%q is an error and says %+v", text, l)
			}
			return
		}
		if got := string(l.mac.appendText(append(l.appendBody(nil), '\t'))); got != text {
			t.Fatalf("%q is written as %q", text, got)
		}
		if l.Number == 0 || l.Number > maxNumber || l.Kind == "" || l.Time.Location() != time.UTC {
			t.Fatalf("%q is read as %+v", text, l)
		}
	})
}

// FuzzParseKey: there is one way to write a key.
func FuzzParseKey(f *testing.F) {
	f.Add(strings.Repeat("A", 43))
	f.Add(strings.Repeat("A", 42) + "B")
	f.Add("AAA\r\n" + strings.Repeat("A", 40))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil && k.String() != text {
			t.Fatalf("%q is written as %q", text, k)
		}
	})
}

// FuzzWords: scopes, classes and states that are taken are in their one spelling, and can stand in the
// texts of records, keys and links.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"", "*", "newsletter", "a b", "a\tb", "marketing", "granted", "subscribed", "Ä", "n\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if scope, err := ParseScope(s); err == nil && (strings.ContainsFunc(string(scope), func(r rune) bool { return r <= ' ' || r == 0x7f }) || scope == "" || len(scope) > 256) {
			t.Fatalf("the scope %q is taken as %q", s, scope)
		} else if again, bad := ParseScope(string(scope)); err == nil && (bad != nil || again != scope) {
			t.Fatalf("the scope %q is taken as %q, and that as %q, %v", s, scope, again, bad)
		}
		if class, err := ParseClass(s); err == nil && class != Marketing && class != Transactional {
			t.Fatalf("the class %q is taken as %q", s, class)
		}
		for _, p := range []Purpose{Mail, Open, Click} {
			if state, err := ParseState(p, s); err == nil && stateCodes[state] == 0 {
				t.Fatalf("the state %q is taken as %q", s, state)
			}
		}
	})
}
