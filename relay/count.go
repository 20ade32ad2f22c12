package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
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
	if !o.untried() && !m.isOwn() {
		c.Decided(o.decision)
	}
	class := m.countedAs()
	switch fate := o.fate(); {
	case o.decision.Mail == consent.Suppress:
		c.Suppressed(class, o.dropped)
	case fate == later:
		c.Deferred(class, o.deferredBy())
	case fate == refused && o.reply.Code/100 == 5:
		c.Bounced(class, metrics.BouncedByAnswer)
	case fate == refused:
		c.Bounced(class, metrics.BouncedByContent)
	default:
		c.Forwarded(class)
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

// isOwn reports whether this gateway wrote m itself: a report, and not one that came in, or a letter.
func (m *message) isOwn() bool { return m.machine && m.trace.with == "" }

// countedAs is the class under which its copies are counted.
func (m *message) countedAs() consent.Class {
	if m.isOwn() {
		return metrics.Report
	}
	return m.class
}

// command names the command that go-smtp answers, for labels.
func (c *conn) command() string {
	c.mu.Lock()
	verb, _, _ := strings.Cut(strings.TrimRight(string(c.verb[:]), "\x00\r\n"), " ")
	c.mu.Unlock()
	return metrics.Command(strings.ToUpper(verb))
}

// unasked are the lines by which go-smtp answers no command, or one a second time.
var unasked = []string{
	"421 4.4.2 Idle timeout, bye bye\r\n",
	"421 4.4.0 Connection error, sorry\r\n",
	"500 5.5.1 Too many errors. Quiting now\r\n",
}

// refused sees the last line of every answer that is not "yes", and counts those that go-smtp made. It returns the line
// as it is to be sent.
func (c *conn) refused(line []byte) []byte {
	if said, ours := bytes.CutSuffix(line, []byte(own+"\r\n")); ours {
		return slices.Concat(said, []byte("\r\n"))
	}
	text, command := string(line), c.command()
	c.notAccepted(command, strings.TrimSpace(text))
	if !slices.Contains(unasked, text) {
		var code int
		var enhanced [3]int
		fmt.Sscanf(text, "%d %d.%d.%d", &code, &enhanced[0], &enhanced[1], &enhanced[2]) // what is not there is 0
		why := metrics.RefusalOf(command, code, enhanced)
		if why == metrics.RefusedUnknown && command != "EHLO" { // command is an earlier one, where go-smtp has read on behind a chunk
			command = "other"
		}
		c.pool.metrics.Refused(command, why)
	}
	return line
}

// notAccepted is the line about an answer that no other line tells of.
func (c *conn) notAccepted(command, text string) {
	if log := c.pool.log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.bounded(c, slog.LevelDebug, "command not accepted", "id", c.id, "peer", c.who(), "command", command, "answer", log.text(text))
	}
}

// Connections returns how many of senders are open, and how many may be.
func (s *Server) Connections() (open, limit int) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return len(s.pool.conns), s.pool.max
}

// CertificateEnds returns when the certificate of the listeners ends; false where there is none.
func (s *Server) CertificateEnds() (time.Time, bool) { return CertificateEnds(s.smtp.starttls) }
