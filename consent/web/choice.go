package web

import (
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// holds is what the page shows and asks about: the states that count in this scope, with those
// of "*" where the scope says nothing, as consent.Decide has it.
type holds struct {
	Mail, Open, Click consent.State
	Everywhere        bool // unsubscribed by "*", which no state of another scope lifts
}

func holding(scope consent.Scope, r consent.Result) holds {
	tracking := func(own, any consent.State) consent.State {
		for _, s := range []consent.State{own, any} {
			if s == consent.Granted || s == consent.Denied {
				return s
			}
		}
		return consent.Unset
	}
	h := holds{
		Mail:  consent.Subscribed,
		Open:  tracking(r.Scope.Open.State, r.Any.Open.State),
		Click: tracking(r.Scope.Click.State, r.Any.Click.State),
	}
	h.Everywhere = scope != consent.AnyScope && r.Any.Mail.State == consent.Unsubscribed
	if h.Everywhere || r.Scope.Mail.State == consent.Unsubscribed {
		h.Mail = consent.Unsubscribed
	}
	return h
}

// choice is what a form of the page asks for: the states to set, "" for those to leave.
type choice struct{ Mail, Open, Click consent.State }

// readChoice reads the fields of one of the page's forms. Fields that none of them has, and
// states that the purpose does not have, make it false.
func readChoice(fields map[string]string) (choice, bool) {
	var c choice
	do := fields["do"]
	switch {
	case do == "unsubscribe" && len(fields) == 1:
		c.Mail = consent.Unsubscribed
	case do == "resubscribe" && len(fields) == 1:
		c.Mail = consent.Subscribed
	case do == "stop-tracking" && len(fields) == 1:
		c.Open, c.Click = consent.Denied, consent.Denied
	case do == "save":
		for name, value := range fields {
			var state *consent.State
			switch consent.Purpose(name) {
			case consent.Mail:
				state = &c.Mail
			case consent.Open:
				state = &c.Open
			case consent.Click:
				state = &c.Click
			default:
				if name == "do" {
					continue
				}
				return choice{}, false
			}
			s, err := consent.ParseState(consent.Purpose(name), value)
			if err != nil {
				return choice{}, false
			}
			*state = s
		}
	default:
		return choice{}, false
	}
	return c, true
}

// changes returns what must be applied so that c holds where h held, and the choice that takes
// it back. What holds already is left as it was recorded. A consent is recorded with the version
// of the text that asked for it; a withdrawal needs none.
func (c choice) changes(h holds, claims token.Claims, notice string, now time.Time) ([]consent.Change, choice) {
	var back choice
	base := consent.Change{Who: claims.Who, Scope: claims.Scope, Source: consent.FromPage, Time: now}
	grants, rest := base, base
	grants.Notice = notice
	set := func(new, old consent.State, back, grant, other *consent.State) {
		switch {
		case new == "" || new == old:
			return
		case new == consent.Granted:
			*grant = new
		default:
			*other = new
		}
		*back = old
	}
	if !h.Everywhere || c.Mail == consent.Unsubscribed {
		set(c.Mail, h.Mail, &back.Mail, &grants.Mail, &rest.Mail)
	}
	set(c.Open, h.Open, &back.Open, &grants.Open, &rest.Open)
	set(c.Click, h.Click, &back.Click, &grants.Click, &rest.Click)
	var changes []consent.Change
	for _, ch := range []consent.Change{grants, rest} {
		if ch.Mail != "" || ch.Open != "" || ch.Click != "" {
			changes = append(changes, ch)
		}
	}
	return changes, back
}
