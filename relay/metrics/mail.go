package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/consentgate/consentgate/consent"
)

// Reason is why a copy did not leave.
type Reason string

const (
	DeferredByStore     Reason = "store"
	DeferredBySmarthost Reason = "smarthost"
	DeferredByAnswer    Reason = "answer"
	DeferredInternally  Reason = "internal"

	BouncedByAnswer  Reason = "answer"
	BouncedExpired   Reason = "expired"
	BouncedByContent Reason = "content"
)

// Accepted counts a recipient whose sender was told 250.
func (m *Metrics) Accepted(c consent.Class) { m.accepted[classAt(c)].Inc() }

// Forwarded counts a copy that the smarthost took.
func (m *Metrics) Forwarded(c consent.Class) { m.forwarded[classAt(c)].Inc() }

// Deferred counts an attempt that is to be followed by another.
func (m *Metrics) Deferred(c consent.Class, why Reason) {
	at := 3
	switch why {
	case DeferredByStore:
		at = 0
	case DeferredBySmarthost:
		at = 1
	case DeferredByAnswer:
		at = 2
	}
	m.deferred[classAt(c)][at].Inc()
}

// Bounced counts a copy that will never arrive.
func (m *Metrics) Bounced(c consent.Class, why Reason) {
	at := 2
	switch why {
	case BouncedByAnswer:
		at = 0
	case BouncedExpired:
		at = 1
	}
	m.bounced[classAt(c)][at].Inc()
}

// Suppressed counts a copy to somebody who had unsubscribed.
func (m *Metrics) Suppressed(c consent.Class, discarded bool) {
	m.suppressed[classAt(c)][number(discarded)].Inc()
}

// Removed counts recipients of a waiting message that an operator removed.
func (m *Metrics) Removed(recipients int) { m.dequeued.Add(float64(recipients)) }

// Mailto is what became of a mail to the unsubscribe address.
type Mailto int

const (
	MailtoDone Mailto = iota
	MailtoBad         // nobody is meant by it
	MailtoDown        // the store did not take it
)

// Mailto counts a mail to the unsubscribe address.
func (m *Metrics) Mailto(became Mailto) { m.mailto[became].Inc() }

// Reported counts a report to a sender, about "failed", "delayed" or "relayed".
func (m *Metrics) Reported(about string) { m.reports.WithLabelValues(about).Inc() }

// Signature is what became of a copy's DKIM signature.
type Signature int

const (
	Signed Signature = iota
	NoKey            // for the domain in From
	NoFrom           // that could be read
)

// Signature counts a copy.
func (m *Metrics) Signature(s Signature) { m.signatures[s].Inc() }

// Unchained counts a copy whose sender's one-click address is too long.
func (m *Metrics) Unchained() { m.unchained.Inc() }

// The order of a decision's counters.
var (
	verdicts = []consent.Verdict{consent.Send, consent.Suppress, consent.Defer}
	reasons  = []consent.Reason{consent.ByScope, consent.ByAnyScope, consent.ByDefault, consent.ByClass, consent.ByUnreachable}
	purposes = []string{"mail", "open", "click"}
)

func verdictAt(v consent.Verdict) int {
	switch v {
	case consent.Suppress:
		return 1
	case consent.Defer:
		return 2
	}
	return 0
}

func reasonAt(r consent.Reason) int {
	switch r {
	case consent.ByScope:
		return 0
	case consent.ByAnyScope:
		return 1
	case consent.ByClass:
		return 3
	case consent.ByUnreachable:
		return 4
	}
	return 2
}

func (m *Metrics) resolveDecisions(v *prometheus.CounterVec) {
	for i, purpose := range purposes {
		decided := []string{"denied", "granted"}
		if purpose == "mail" {
			decided = nil
			for _, v := range verdicts {
				decided = append(decided, string(v))
			}
		}
		for _, d := range decided {
			for _, r := range reasons {
				m.decisions[i] = append(m.decisions[i], v.WithLabelValues(purpose, d, strings.ReplaceAll(string(r), "-", "_")))
			}
		}
	}
}

// Decided counts a decision. Opens and clicks are counted only where the mail may go.
func (m *Metrics) Decided(d consent.Decision) {
	m.decisions[0][verdictAt(d.Mail)*len(reasons)+reasonAt(d.MailReason)].Inc()
	if d.Mail != consent.Send {
		return
	}
	m.decisions[1][number(d.Open)*len(reasons)+reasonAt(d.OpenReason)].Inc()
	m.decisions[2][number(d.Click)*len(reasons)+reasonAt(d.ClickReason)].Inc()
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Connected counts a connection, turned away or let in.
func (m *Metrics) Connected(protocol string) { m.connections.WithLabelValues(protocol).Inc() }

// TurnedAway counts a connection for which there was no room.
func (m *Metrics) TurnedAway() { m.turnedAway.Inc() }

// LoginFailed counts a login; throttled says that nobody looked at it.
func (m *Metrics) LoginFailed(throttled bool) { m.failedLogins[number(throttled)].Inc() }
