package consent

// Verdict says whether a copy leaves.
type Verdict string

const (
	Send     Verdict = "send"
	Suppress Verdict = "suppress" // the person unsubscribed
	Defer    Verdict = "defer"    // not known now: the sender shall try again
)

// Reason says which rule decided, for logs, metrics and `inspect`.
type Reason string

const (
	ByScope       Reason = "scope"         // the record of this scope
	ByAnyScope    Reason = "any-scope"     // the record of "*"
	ByDefault     Reason = "default"       // nothing recorded: the policy's when_unset, or subscribed
	ByClass       Reason = "transactional" // the class lifts suppression or deferral
	ByUnreachable Reason = "unreachable"   // the store did not answer
)

// Policy is what the operator configured for what the store does not say.
type Policy struct {
	OpenWhenUnset, ClickWhenUnset State // Granted or Denied; anything else counts as Denied

	// WhenUnreachable is what marketing mail gets while the store does not answer: Defer, or
	// Send, which sends untracked and may reach people who unsubscribed.
	WhenUnreachable Verdict
}

// Decision is what a lookup yields for one recipient in one scope.
type Decision struct {
	Mail        Verdict
	Open, Click bool // tracking allowed

	MailReason, OpenReason, ClickReason Reason
}

// Decide turns what the store said about one person into a decision. It is pure; the table in
// the README is its test. Without an answer of the store nobody is tracked, in any class.
func Decide(r Result, class Class, policy Policy) Decision {
	if r.Err != nil {
		d := Decision{Mail: Defer, MailReason: ByUnreachable, OpenReason: ByUnreachable, ClickReason: ByUnreachable}
		if class == Transactional {
			d.Mail, d.MailReason = Send, ByClass
		} else if policy.WhenUnreachable == Send {
			d.Mail = Send
		}
		return d
	}
	var d Decision
	switch { // "unsubscribed" in "*" beats everything
	case r.Any.Mail.State == Unsubscribed:
		d.Mail, d.MailReason = Suppress, ByAnyScope
	case r.Scope.Mail.State == Unsubscribed:
		d.Mail, d.MailReason = Suppress, ByScope
	case r.Scope.Mail.State == Subscribed:
		d.Mail, d.MailReason = Send, ByScope
	case r.Any.Mail.State == Subscribed:
		d.Mail, d.MailReason = Send, ByAnyScope
	default:
		d.Mail, d.MailReason = Send, ByDefault
	}
	if d.Mail == Suppress && class == Transactional {
		d.Mail, d.MailReason = Send, ByClass
	}
	d.Open, d.OpenReason = tracking(r.Scope.Open.State, r.Any.Open.State, policy.OpenWhenUnset)
	d.Click, d.ClickReason = tracking(r.Scope.Click.State, r.Any.Click.State, policy.ClickWhenUnset)
	return d
}

func tracking(scope, any, whenUnset State) (bool, Reason) {
	switch {
	case scope == Granted || scope == Denied:
		return scope == Granted, ByScope
	case any == Granted || any == Denied:
		return any == Granted, ByAnyScope
	}
	return whenUnset == Granted, ByDefault
}
