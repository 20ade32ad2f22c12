package demo

import "github.com/consentgate/consentgate/consent"

// scope is what the newsletter's X-Consent-Scope says.
const scope consent.Scope = "newsletter"

// person is one of the five, with what they agreed to before the first round. An empty state
// was never asked for.
type person struct {
	name              string // the local part of the address
	who               consent.Address
	label             string
	mail, open, click consent.State
}

var people = []person{
	newPerson("both", "both consents", consent.Subscribed, consent.Granted, consent.Granted),
	newPerson("opens", "opens only", consent.Subscribed, consent.Granted, consent.Denied),
	newPerson("clicks", "clicks only", consent.Subscribed, consent.Denied, consent.Granted),
	newPerson("none", "neither, never asked", consent.Subscribed, "", ""),
	newPerson("gone", "unsubscribed", consent.Unsubscribed, consent.Granted, consent.Granted),
}

func newPerson(name, label string, mail, open, click consent.State) person {
	who, err := consent.ParseAddress(name + "@example.org")
	if err != nil {
		panic("demo: " + err.Error()) // the names stand above
	}
	return person{name, who, label, mail, open, click}
}
