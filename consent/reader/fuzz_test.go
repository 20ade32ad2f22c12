package reader

import (
	"testing"

	"golang.org/x/text/language"
)

// FuzzChoose: there is always a language, the mail's own word goes first, and no header takes it away.
func FuzzChoose(f *testing.F) {
	f.Add("", "de-AT,de;q=0.9,en;q=0.5")
	f.Add("fr", "de")
	f.Add("x", "*;q=0,,;")
	f.Add("de-x-\xff", "en-GB-oxendict;q=1.5")
	tags := []language.Tag{language.English, language.German, language.French}
	f.Fuzz(func(t *testing.T, mail, accept string) {
		l := NewLanguages(tags...)
		if i := l.Choose(mail, accept); i < 0 || i >= len(tags) || i != l.Choose(mail, accept) {
			t.Fatalf("%q, %q: %d", mail, accept, i)
		}
		for i, tag := range tags {
			if got := l.Choose(tag.String(), accept); got != i {
				t.Fatalf("a mail in %s and %q: %d", tag, accept, got)
			}
			if got := l.Choose("", tag.String()); got != i {
				t.Fatalf("a reader of %s: %d", tag, got)
			}
		}
	})
}
