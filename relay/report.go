package relay

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/dsn"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// news is what a message's sender is to be told in reports, by kind. One report tells of all
// recipients that an attempt settled in the same way.
type news map[dsn.Kind][]dsn.Recipient

// note takes down what became of r, where the sender wants to know.
func (n *news) note(m *message, r rcpt, o *outcome) {
	switch {
	case m.wantsRelayed(r, o):
		n.add(dsn.Relayed, r, o)
	case o.fate() == refused && dsn.Wanted(dsn.Failed, m.env.from, r.notify):
		n.add(dsn.Failed, r, o)
	}
}

// expired takes down that no further attempt is made for r.
func (n *news) expired(m *message, r rcpt, o *outcome) {
	if dsn.Wanted(dsn.Failed, m.env.from, r.notify) {
		n.add(dsn.Failed, r, o)
	}
}

// delayed takes down that r still waits, once it did so for that long. It reports whether it did.
func (n *news) delayed(m *message, r rcpt, w spool.Recipient, o *outcome, after time.Duration) bool {
	if w.Delayed || w.Waited < after || !dsn.Wanted(dsn.Delayed, m.env.from, r.notify) {
		return false
	}
	n.add(dsn.Delayed, r, o)
	return true
}

func (n *news) add(kind dsn.Kind, r rcpt, o *outcome) {
	if *n == nil {
		*n = news{}
	}
	(*n)[kind] = append((*n)[kind], dsn.Recipient{
		To:                    r.to,
		OriginalRecipientType: r.orcptType,
		OriginalRecipient:     r.orcpt,
		Reply:                 o.lastWord(),
		LastAttempt:           o.at,
		Unsubscribed:          o.decision.Mail == consent.Suppress,
	})
}

// wantsRelayed reports whether the sender asked to be told of success, and nobody behind us will: the
// smarthost took the copy and makes no reports (RFC 3461 §5.2.2).
func (m *message) wantsRelayed(r rcpt, o *outcome) bool {
	return o.fate() == done && !o.dropped && !o.reply.DSN && dsn.Wanted(dsn.Relayed, m.env.from, r.notify)
}

// lastWord is the answer that a report names: the smarthost's, or our own.
func (o *outcome) lastWord() smarthost.Reply {
	var e *Error
	if o.reply.Code != 0 || !errors.As(o.err, &e) {
		return o.reply
	}
	return smarthost.Reply{Code: e.Code, Enhanced: e.Enhanced, Text: e.Text}
}

// reports writes the reports about m. They are messages of their own, to m's sender.
func (s *Server) reports(m *message, n news, now time.Time) []spool.New {
	var all []spool.New
	for _, kind := range []dsn.Kind{dsn.Failed, dsn.Delayed, dsn.Relayed} {
		if len(n[kind]) == 0 {
			continue
		}
		id := m.id + "-" + inDigits(uint64(s.sequence.Add(1)), 6) // so that the log tells of both under m's
		report := dsn.Report{
			Kind: kind, Hostname: s.cfg.Hostname, ID: id, To: m.env.from, Now: now,
			Arrived: m.trace.at, EnvelopeID: m.env.envelopeID, Return: m.env.ret, UTF8: m.env.utf8,
			RetryUntil: m.retryUntil,
			Recipients: n[kind],
		}
		var original io.ReaderAt
		var size int64
		if m.body != nil {
			original, size = m.body, m.body.size
		}
		text, err := s.write(report, original, size)
		if err != nil && original != nil { // rather without it than none
			s.log.Error("a report does not bring the message back", "id", m.id, "err", err)
			text, err = s.write(report, nil, 0)
		}
		if err != nil {
			s.log.Error("no report could be written", "id", m.id, "err", err)
			continue
		}
		s.cfg.Metrics.Reported(kind.String())
		s.log.reporting(m, id, report.Kind, len(n[kind]))
		all = append(all, spool.New{
			Message: spool.Message{
				ID:      id,
				Arrived: now,
				Envelope: spool.Envelope{
					UTF8:       !isASCII(m.env.from),
					Header8Bit: !isASCII(m.env.from),
					Scope:      string(m.scope), Class: string(consent.Transactional), Language: m.language, Machine: true,
				},
				Recipients: []spool.Recipient{{To: m.env.from}},
				Size:       int64(len(text)),
			},
			Body: rewrite.Bytes(text),
		})
	}
	return all
}

// write writes a report. A bug that is met there costs the report, and not the queue: it would be met
// again after each restart.
func (s *Server) write(r dsn.Report, original io.ReaderAt, size int64) (text []byte, err error) {
	defer s.caught(r.ID, &err)
	return r.Bytes(original, size)
}

// reportNow sends the reports of success, where there is no spool to put them into, and does not wait
// for that. One that does not get through is lost: the mail itself has arrived.
func (s *Server) reportNow(m *message, outcomes []*outcome) {
	var n news
	for i, o := range outcomes {
		if o.fate() == done {
			n.note(m, m.env.rcpts[i], o)
		}
	}
	for _, r := range s.reports(m, n, s.cfg.Now()) {
		report, err := s.restore(r.Message, &body{ReaderAt: r.Body, size: r.Size})
		if err != nil {
			s.log.Error("a report is not sent", "id", m.id, "err", err)
			continue
		}
		s.underWay.Add(1) // while the caller's own still counts
		go func() {
			defer s.underWay.Done()
			s.attempt(s.sending, context.Background(), report, func(int, *outcome) {}) // logged there
		}()
	}
}
