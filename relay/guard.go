package relay

import (
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/rewrite"
)

// GuardPath stands between the public address of the guard and a token.
const GuardPath = "/t/"

// Guard returns what puts the guard's addresses into one person's copy (rewrite.Variant.Guard): baseURL + GuardPath +
// token. language is the mail's.
func Guard(baseURL string, hits *token.Hits, who consent.Address, scope consent.Scope, language string) func(rewrite.Target) string {
	return func(t rewrite.Target) string {
		h := token.Hit{Who: who, Scope: scope, Purpose: consent.Open, URL: t.URL, Destination: t.Destination, Language: language}
		if t.Kind == rewrite.ClickTracker {
			h.Purpose = consent.Click
		}
		return baseURL + GuardPath + hits.Seal(h)
	}
}
