package relay

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/rewrite"
)

// count counts what came of an attempt at one recipient's copy; a copy that is tried several times counts each time.
func (s *Server) count(m *message, o *outcome) {
	c := s.cfg.Metrics
	if !o.untried() {
		c.Decided(o.decision)
	}
	switch fate := o.fate(); {
	case o.decision.Mail == consent.Suppress:
		c.Suppressed(m.class, o.dropped)
	case fate == later:
		c.Deferred(m.class, o.deferredBy())
	case fate == refused && o.reply.Code/100 == 5:
		c.Bounced(m.class, metrics.BouncedByAnswer)
	case fate == refused:
		c.Bounced(m.class, metrics.BouncedByContent)
	default:
		c.Forwarded(m.class)
		if o.findings != nil {
			o.findings.counts.Count()
		}
		if m.set.Signer != nil && !m.machine { // reports come from this host, whose name seldom has a key
			c.Signature(o.signature)
		}
		if o.unchained {
			c.Unchained()
		}
	}
}

func (o *outcome) deferredBy() metrics.Reason {
	switch {
	case o.decision.Mail == consent.Defer:
		return metrics.DeferredByStore
	case o.reply.Code != 0:
		return metrics.DeferredByAnswer
	case errors.Is(o.err, smarthost.ErrUnreachable), errors.Is(o.err, smarthost.ErrUncertain), o.untried():
		return metrics.DeferredBySmarthost
	}
	return metrics.DeferredInternally
}

// findings are what became of those of a message in all copies of one kind.
type findings struct {
	actions []slog.Attr // how often each was done, for the log, in the order of their names
	counts  metrics.Tally
}

// tallies hold the findings of a message's kinds of copy, so that they are added up once for each and not for each
// recipient. The zero value is ready.
type tallies struct {
	mu  sync.Mutex
	all map[*rewrite.Outcome]*findings
}

// of adds up what is found; open and click say what the person agreed to.
func (t *tallies) of(found []rewrite.Outcome, open, click, observed bool, m *metrics.Metrics) *findings {
	if len(found) == 0 {
		return &findings{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.all[&found[0]]; f != nil {
		return f
	}
	f := &findings{counts: m.Tally(found, open, click, observed)}
	actions := map[rewrite.Action]int{}
	for _, o := range found {
		actions[o.Action]++
	}
	for _, action := range slices.Sorted(maps.Keys(actions)) {
		f.actions = append(f.actions, slog.Int(string(action), actions[action]))
	}
	if t.all == nil {
		t.all = map[*rewrite.Outcome]*findings{}
	}
	t.all[&found[0]] = f
	return f
}

// Connections returns how many of senders are open, and how many may be.
func (s *Server) Connections() (open, limit int) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return len(s.pool.conns), s.pool.max
}

// CertificateEnds returns when the certificate of the listeners ends; false where there is none.
func (s *Server) CertificateEnds() (time.Time, bool) { return CertificateEnds(s.smtp.starttls) }
