package web

import (
	"strings"

	"github.com/consentgate/consentgate/consent"
)

// holds is what the page shows and asks about: the states that count in this scope, with those
// of "*" where the scope says nothing, as consent.Decide has it.
type holds struct {
	Mail, Open, Click consent.State
	Everywhere        bool                     // unsubscribed by "*", which no state of another scope lifts
	pending           map[consent.Purpose]bool // a consent was asked for and is not yet confirmed
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
		Mail:    consent.Subscribed,
		Open:    tracking(r.Scope.Open.State, r.Any.Open.State),
		Click:   tracking(r.Scope.Click.State, r.Any.Click.State),
		pending: map[consent.Purpose]bool{},
	}
	h.Everywhere = scope != consent.AnyScope && r.Any.Mail.State == consent.Unsubscribed
	if h.Everywhere || r.Scope.Mail.State == consent.Unsubscribed {
		h.Mail = consent.Unsubscribed
	}
	for purpose, entry := range entries(&r.Scope) {
		h.pending[purpose] = isAsked(*entry)
	}
	return h
}

// state returns what holds for a purpose.
func (h holds) state(p consent.Purpose) consent.State {
	switch p {
	case consent.Mail:
		return h.Mail
	case consent.Open:
		return h.Open
	}
	return h.Click
}

// Checked reports whether the preferences show s as chosen. Where something waits to be confirmed they
// show nothing, so that saving something else neither asks again nor withdraws.
func (h holds) Checked(p consent.Purpose, s consent.State) bool {
	return h.state(p) == s && !h.pending[p]
}

// Shown is what the preferences show as agreed to, by purpose. Left as it is that is no choice: it may have been
// withdrawn elsewhere while the page stood open.
func (h holds) Shown() string {
	var all []string
	for _, p := range []consent.Purpose{consent.Mail, consent.Open, consent.Click} {
		if s := h.state(p); isGrant(s) && h.Checked(p, s) {
			all = append(all, string(p))
		}
	}
	return strings.Join(all, " ")
}

func isGrant(s consent.State) bool { return s == consent.Granted || s == consent.Subscribed }

// lines says in words what holds.
func (h holds) lines(t *text, policy consent.Policy) []line {
	mail := t.MailOn
	switch {
	case h.Everywhere:
		mail = t.MailOffEverywhere
	case h.Mail == consent.Unsubscribed:
		mail = t.MailOff
	}
	tracking := func(s, whenUnset consent.State, on, off, unset, unsetOn string) string {
		switch {
		case s == consent.Granted:
			return on
		case s == consent.Denied:
			return off
		case whenUnset == consent.Granted:
			return unsetOn
		}
		return unset
	}
	return []line{
		{mail, h.pending[consent.Mail]},
		{tracking(h.Open, policy.OpenWhenUnset, t.OpenOn, t.OpenOff, t.OpenUnset, t.OpenUnsetOn), h.pending[consent.Open]},
		{tracking(h.Click, policy.ClickWhenUnset, t.ClickOn, t.ClickOff, t.ClickUnset, t.ClickUnsetOn), h.pending[consent.Click]},
	}
}

// choice is what a form of the page asks for, by purpose.
type choice map[consent.Purpose]consent.State

// readChoice reads the fields of one of the page's forms. Fields that none of them has, and
// states that the page does not offer, make it false.
func readChoice(fields map[string]string) (choice, bool) {
	do := fields["do"]
	switch {
	case do == "unsubscribe" && len(fields) == 1:
		return choice{consent.Mail: consent.Unsubscribed}, true
	case do == "resubscribe" && len(fields) == 1:
		return choice{consent.Mail: consent.Subscribed}, true
	case do == "stop-tracking" && len(fields) == 1:
		return choice{consent.Open: consent.Denied, consent.Click: consent.Denied}, true
	case do != "save":
		return nil, false
	}
	c := choice{}
	for name, value := range fields {
		if name == "do" || name == "shown" || name == "notice" {
			continue
		}
		s, err := consent.ParseState(consent.Purpose(name), value)
		if err != nil || s == consent.Unset {
			return nil, false
		}
		c[consent.Purpose(name)] = s
	}
	for p := range strings.FieldsSeq(fields["shown"]) {
		if isGrant(c[consent.Purpose(p)]) {
			delete(c, consent.Purpose(p))
		}
	}
	return c, true
}

// step is what becomes of a choice.
type step struct {
	again   []consent.Change // withdrawals that are recorded already, as they are
	now     []consent.Change // what holds at once
	ask     []consent.Change // what is written down of a consent that has to be confirmed
	granted consent.Record   // what then holds once it is confirmed
	before  consent.Record   // the entries that all that replaces
}

// step works out what must be applied so that c holds where r does. What holds already is left as it
// was recorded. A consent is recorded with the version of the text that asked for it; a withdrawal
// needs none. base says whose it is, when and how.
//
// A consent that has to be confirmed changes no state. Only the asking is recorded, in the notice of
// the entry, which proves it; and every withdrawal replaces it, here or elsewhere, so that it cannot
// be confirmed any more.
func (c choice) step(r consent.Result, base consent.Change, noticed string, confirm bool) step {
	h := holding(base.Scope, r)
	grant, rest, asked := base, base, base
	grant.Notice, asked.Notice = noticed, askedFor+noticed
	s := step{granted: consent.Record{Scope: base.Scope}, before: consent.Record{Scope: base.Scope}}
	granted, before, own := entries(&s.granted), entries(&s.before), entries(&r.Scope)
	for purpose, want := range c {
		isGrant := isGrant(want)
		switch {
		case isGrant && purpose == consent.Mail && h.Everywhere:
			continue
		case h.state(purpose) == want && (isGrant || !h.pending[purpose]):
			if is := own[purpose]; !isGrant && is.State == want {
				same := base
				same.Notice = is.Notice
				set(&same, purpose, want)
				s.again = append(s.again, same)
			}
			continue
		case isGrant && confirm:
			state := own[purpose].State
			if state == "" {
				state = consent.Unset // mail that is to be subscribed to has a state
			}
			set(&asked, purpose, state)
			*granted[purpose] = consent.Entry{State: want, Time: base.Time, Source: base.Source, Notice: noticed}
		case isGrant:
			set(&grant, purpose, want)
		default:
			set(&rest, purpose, want)
		}
		was := *own[purpose]
		if was.State == "" {
			was = consent.Entry{State: consent.Unset, Time: base.Time, Source: base.Source}
			if purpose == consent.Mail {
				was.State = consent.Subscribed
			}
		}
		if isAsked(was) { // that it was asked is not brought back
			was.Notice = ""
		}
		*before[purpose] = was
	}
	for _, change := range []consent.Change{grant, rest} {
		if names(change) {
			s.now = append(s.now, change)
		}
	}
	if names(asked) {
		s.ask = append(s.ask, asked)
	}
	return s
}

// askedFor stands before the notice of an entry that says that a consent was asked for and is not
// yet confirmed.
const askedFor = "asked:"

func isAsked(e consent.Entry) bool { return strings.HasPrefix(e.Notice, askedFor) }

// entries are those of a record, by purpose.
func entries(r *consent.Record) map[consent.Purpose]*consent.Entry {
	return map[consent.Purpose]*consent.Entry{consent.Mail: &r.Mail, consent.Open: &r.Open, consent.Click: &r.Click}
}

func set(c *consent.Change, p consent.Purpose, s consent.State) {
	switch p {
	case consent.Mail:
		c.Mail = s
	case consent.Open:
		c.Open = s
	case consent.Click:
		c.Click = s
	}
}

// names reports whether a change changes anything.
func names(c consent.Change) bool { return c.Mail != "" || c.Open != "" || c.Click != "" }
