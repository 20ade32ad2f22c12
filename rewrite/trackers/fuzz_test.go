package trackers

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzLink feeds any address to the whole set. What comes out may be put into a mail: an
// absolute address of a harmless scheme, in ASCII, that is no counter which could be read.
func FuzzLink(f *testing.F) {
	var file struct {
		Rule []ruleText `toml:"rule"`
	}
	if _, err := toml.Decode(string(defaultRules), &file); err != nil {
		f.Fatal(err)
	}
	for _, rule := range file.Rule {
		f.Add(rule.Example)
	}
	for _, s := range []string{
		mailjetAround("javascript:alert(1)"), mailjetAround(sesAround(mailgunLink("//example.org"))), safelinksAround(mailjetAround("https://example.org")),
		sparkpostLink(sparkpostField(4, "https://example.org/a")), mailjetAround(sendgridLink), "https://example.org/?mc_eid=1&a=2#b", "mailto:a@b",
		mailjetAround("https:\\\\ex\x00ample.org/\"é"),
	} {
		f.Add(s)
	}
	r := Default()
	f.Fuzz(func(t *testing.T, s string) {
		l, ok := r.Link(s)
		if ok != (l.Rule != nil || len(l.Identifiers) > 0) || l.Opaque && l.Rule == nil {
			t.Fatalf("%q: %v %+v", s, ok, l)
		}
		if l.Rule != nil && l.Destination == "" && !l.Opaque {
			t.Fatalf("%q: leads nowhere, and is not opaque", s)
		}
		if d := l.Destination; d != "" {
			if !strings.HasPrefix(d, "https://") && !strings.HasPrefix(d, "http://") && !strings.HasPrefix(d, "mailto:") && !strings.HasPrefix(d, "tel:") {
				t.Fatalf("%q leads to %q", s, d)
			}
			for i := range len(d) {
				if unsafe(d[i]) {
					t.Fatalf("%q leads to %q", s, d)
				}
			}
			again, _ := r.Link(d)
			if again.Destination != "" || l.Opaque != again.Opaque {
				t.Fatalf("%q leads to %q (opaque %v), and that to %q (opaque %v)", s, d, l.Opaque, again.Destination, again.Opaque)
			}
		}
		stripped := r.StripIdentifiers(s)
		if stripped == "" && s != "" || len(stripped) > len(s) || r.StripIdentifiers(stripped) != stripped {
			t.Fatalf("%q stripped is %q", s, stripped)
		}
		if l.Rule == nil {
			if after, ok := r.Link(stripped); ok {
				t.Fatalf("%q stripped is %q: %+v", s, stripped, after)
			}
		} else if stripped != s && l.Rule.Kind == Click {
			t.Fatalf("%q: a counter was stripped to %q", s, stripped)
		}
		r.Open(s)
		r.Spacer(s)
		r.Allowed(s)
	})
}

// FuzzLoad feeds any rules file; one that is taken can be used.
func FuzzLoad(f *testing.F) {
	f.Add(string(defaultRules[:6000]), mailjetLink)
	f.Add("[[rule]]\nname=\"x\"\nprovider=\"X\"\nkind=\"click\"\nhosts=[\"*.x?.example\"]\npath=\"/{id 3+}*a*b/**\"\nexample=\"https://a.x1.example/a1bab\"\n", "https://a.x1.example/a1bab")
	f.Add("[[identifier]]\nname=\"a*\"\n", "https://example.org/?ab=1")
	f.Fuzz(func(t *testing.T, file, url string) {
		r, err := Load([]byte(file))
		if err != nil {
			return
		}
		r = Default().With(r)
		r.Link(url)
		r.Open(url)
		r.StripIdentifiers(url)
	})
}
