// Package reader chooses the language in which a page speaks to who has a mail before them.
//
// It holds no texts: those are the pages' own.
package reader

import "golang.org/x/text/language"

// Languages are those that a page has texts in. They are safe for concurrent use.
type Languages struct{ matcher language.Matcher }

// NewLanguages takes the languages in the order of the texts; the first is the one for everybody else.
func NewLanguages(tags ...language.Tag) Languages {
	return Languages{language.NewMatcher(tags)}
}

// maxAcceptLanguage bounds what is read of a header that any stranger may fill.
const maxAcceptLanguage = 512

// Choose returns the index of the mail's language (RFC 5646) where there is a text in it, else of what the
// reader's program asks for (Accept-Language, RFC 9110 §12.5.4), else 0.
func (l Languages) Choose(mail, accept string) int {
	if tag, err := language.Parse(mail); err == nil && mail != "" {
		if _, i, confidence := l.matcher.Match(tag); confidence >= language.High {
			return i
		}
	}
	if len(accept) <= maxAcceptLanguage {
		if tags, _, err := language.ParseAcceptLanguage(accept); err == nil && len(tags) > 0 {
			if _, i, confidence := l.matcher.Match(tags...); confidence >= language.Low {
				return i
			}
		}
	}
	return 0
}
