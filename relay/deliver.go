package relay

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/outbox"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/rewrite"
)

// outcome is what became of one recipient's copy.
type outcome struct {
	decision  consent.Decision
	findings  *findings // of the copy; where only observed, what would become of them; nil where there is no copy
	withheld  error     // where only observed: why there would be no copy
	unchained bool      // the sender's one-click address is too long
	signature metrics.Signature
	unsigned  string          // why the copy was not signed; "" = signed, or no key
	reply     smarthost.Reply // zero where the smarthost was not asked
	dropped   bool            // unsubscribed, and Config.Discard
	err       error           // nil: the smarthost has it, or it is dropped; else an *Error
	at        time.Time       // when the smarthost was asked; zero = not
	spooled   bool            // the copy waits in the spool, or a report about it does: its sender is told 250
}

// fate is what is to be done about an outcome.
type fate int

const (
	done    fate = iota // the smarthost has the copy, or it is dropped
	refused             // for good
	later               // refused for now, or nobody answered
)

func (o *outcome) fate() fate {
	if o.err == nil {
		return done
	}
	var e *Error
	if errors.As(o.err, &e) && e.Code/100 == 5 {
		return refused
	}
	return later
}

// outage reports whether the copy waits for the smarthost or the store to come back, and not for a
// recipient of its own.
func (o *outcome) outage() bool {
	return o.decision.Mail == consent.Defer || errors.Is(o.err, smarthost.ErrUnreachable)
}

// untried reports whether the copy was not offered: there was no connection to spare, or the smarthost
// is being left alone.
func (o *outcome) untried() bool {
	return errors.Is(o.err, smarthost.ErrBusy) || errors.Is(o.err, errHeld)
}

// attempt makes and sends a copy for each recipient of m: one lookup for all of them, one parse
// before, one Render each, and several on their way at once. It calls told, from one goroutine at
// a time, as each outcome comes, and returns behind the last. No copy is begun once begin is done, so
// that some then have no outcome.
func (s *Server) attempt(ctx, begin context.Context, m *message, told func(i int, o *outcome)) {
	n := len(m.env.rcpts)
	results, owners, err := s.ask(ctx, m)
	if err != nil {
		for i := range n {
			told(i, &outcome{err: err})
		}
		return
	}
	var (
		down atomic.Pointer[outcome] // the smarthost does not answer: the others need not find out each
		mu   sync.Mutex
		next atomic.Int64
		wg   sync.WaitGroup
	)
	if s.queue != nil {
		s.queue.asked(!slices.ContainsFunc(results, func(r consent.Result) bool { return errors.Is(r.Err, consent.ErrUnreachable) }))
		down.Store(s.queue.down())
	}
	if n == 1 {
		told(0, s.copyFor(ctx, m, 0, results[0], owners, down.Load()))
		return
	}
	for range min(n, s.cfg.MaxDeliveries) {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n && begin.Err() == nil; i = int(next.Add(1) - 1) {
				o := s.copyFor(ctx, m, i, results[i], owners, down.Load())
				if errors.Is(o.err, smarthost.ErrUnreachable) {
					down.Store(o)
				}
				mu.Lock()
				told(i, o)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// ask finds out all that is known of m's recipients. The error is a bug that was met.
func (s *Server) ask(ctx context.Context, m *message) (results []consent.Result, owners []token.Claims, err error) {
	defer s.caught(m.id, &err)
	return s.lookup(ctx, m), s.owners(m), nil
}

// caught, deferred, makes an error of a panic: a bug that was met while handling one message costs
// that message, for now, and nothing else.
func (s *Server) caught(id string, err *error) {
	if p := recover(); p != nil {
		s.log.panicked(id, p, debug.Stack())
		*err = internal(fmt.Errorf("panic: %v", p))
	}
}

// copyFor decides about the recipient of that index, and sends the copy. down is nil, or the
// outcome of another copy that found no smarthost.
func (s *Server) copyFor(ctx context.Context, m *message, i int, result consent.Result, owners []token.Claims, down *outcome) (o *outcome) {
	o = &outcome{decision: consent.Decide(result, m.class, m.set.Policy)}
	r := m.env.rcpts[i]
	defer func() {
		s.became(m, r, o)
		switch {
		case s.queue == nil || down != nil:
		case o.reply.Accepted():
			s.queue.works()
		case errors.Is(o.err, smarthost.ErrUnreachable) && ctx.Err() == nil:
			s.queue.fails()
		}
	}()
	defer s.caught(m.id, &o.err)
	switch {
	case o.decision.Mail == consent.Suppress:
		if o.dropped = m.set.Discard; !o.dropped {
			o.err = suppressed()
		}
	case o.decision.Mail != consent.Send:
		o.err = refuse(451, "4.3.0", "the consent store does not answer, try again later", result.Err)
	case down != nil:
		o.err = down.err
	default:
		s.send(ctx, m, r, owners, o)
	}
	return o
}

// became counts, logs and tells what became of a copy.
func (s *Server) became(m *message, r rcpt, o *outcome) {
	s.count(m, o)
	s.log.delivered(m, r, o)
	switch {
	case o.decision.Mail == consent.Suppress:
		s.copied(m, r, o, "suppressed")
	case o.reply.Accepted():
		s.copied(m, r, o, "accepted")
	case o.reply.Code/100 == 5:
		s.copied(m, r, o, "refused")
	}
}

func (s *Server) copied(m *message, r rcpt, o *outcome, fate string) {
	if s.cfg.Copied != nil {
		s.cfg.Copied(outbox.Copy{
			Message: m.id, Who: r.who, Scope: m.scope, Class: m.class, Fate: fate,
			Code: o.reply.Code, Text: o.reply.Text, Time: s.cfg.Now(),
		})
	}
}

func suppressed() error {
	return refuse(550, "5.7.1", "the recipient has unsubscribed from this mail", nil)
}

// lookup asks the store about all recipients, in bounded time. What it does not say comes back
// as the error of each Result.
func (s *Server) lookup(ctx context.Context, m *message) []consent.Result {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.LookupTimeout)
	defer cancel()
	people := make([]consent.Address, len(m.env.rcpts))
	for i, r := range m.env.rcpts {
		people[i] = r.who
	}
	results, err := s.store.Lookup(ctx, m.scope, people)
	if err == nil && len(results) != len(people) {
		err = fmt.Errorf("%w: %d results for %d people", consent.ErrUnreachable, len(results), len(people))
	}
	if err != nil {
		results = make([]consent.Result, len(people))
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// owners opens the tokens of the unsubscribe links that the message brought along; the zero
// Claims stand for a link that is not ours after all.
func (s *Server) owners(m *message) []token.Claims {
	links := m.parts.OwnLinks()
	claims := make([]token.Claims, len(links))
	for i, l := range links {
		if c, err := s.links.Open(l.Token); err == nil {
			claims[i] = c
		}
	}
	return claims
}

// variant says what is r's own in m.
func (s *Server) variant(m *message, r rcpt, owners []token.Claims, o *outcome) rewrite.Variant {
	d := o.decision
	v := rewrite.Variant{To: r.to, Open: d.Open, Click: d.Click, Language: m.language, Linked: make([]bool, len(owners))}
	for i, c := range owners {
		v.Linked[i] = c.Who == r.who && c.Scope == m.scope
	}
	if s.cfg.GuardURL != "" && (d.Open || d.Click) {
		v.Guard = Guard(s.cfg.GuardURL, s.cfg.Hits, r.who, m.scope, m.language)
	}
	if m.machine {
		return v
	}
	claims := token.Claims{Who: r.who, Scope: m.scope, Language: m.language}
	if m.class == consent.Marketing { // a receipt cannot be unsubscribed from
		claims.OneClick = m.oneClick
		if v.OneClick, v.MailTo = s.unsubscribeLinks(claims); len(v.OneClick) > rewrite.MaxLink || len(v.MailTo) > rewrite.MaxLink {
			o.unchained = true
			claims.OneClick = ""
			v.OneClick, v.MailTo = s.unsubscribeLinks(claims)
		}
		if len(v.OneClick) <= maxVisible {
			v.Link = v.OneClick
			return v
		}
		claims.OneClick = ""
	}
	v.Link, _ = s.unsubscribeLinks(claims)
	return v
}

// maxVisible bounds the link in the text, which people see in text/plain and some readers break: where the
// sender's one-click address makes it longer, only the header's carries that.
const maxVisible = 512

// unsubscribeLinks returns both ways to say what claims are about; the second is "" where mail is not taken.
func (s *Server) unsubscribeLinks(claims token.Claims) (link, mailTo string) {
	t := s.links.Seal(claims)
	if s.cfg.MailTo != "" {
		mailTo = "mailto:" + (&url.URL{Path: s.cfg.MailTo}).EscapedPath() + "?subject=" + t
	}
	return s.cfg.BaseURL + "/u/" + t, mailTo
}

// send makes the copy for r and offers it to the smarthost.
func (s *Server) send(ctx context.Context, m *message, r rcpt, owners []token.Claims, o *outcome) {
	v := s.variant(m, r, owners, o)
	copy, err := m.parts.Render(v)
	var found []rewrite.Outcome
	if err == nil {
		found = copy.Outcomes()
		o.findings = m.tallies.of(found, v.Open, v.Click, m.set.Observe, s.cfg.Metrics)
	}
	if m.set.Observe {
		o.withheld = err
		s.observed.note(found, err, s.cfg.Now())
		v.Open, v.Click, v.Bare, v.Guard = true, true, true, nil
		copy, err = m.parts.Render(v)
	}
	if err != nil {
		o.err = rewriteError(err)
		return
	}
	o.err = s.offer(ctx, m, r, copy, o)
	if errors.Is(o.err, smarthost.ErrNo8BitMIME) { // RFC 6152 §3: converted, and signed as it then is
		v.SevenBit = true
		if copy, err = m.parts.Render(v); err == nil {
			o.err = s.offer(ctx, m, r, copy, o)
		}
	}
}

// offer signs a copy, sends it to the smarthost, and returns what the sender is to be told.
func (s *Server) offer(ctx context.Context, m *message, r rcpt, copy *rewrite.Copy, o *outcome) error {
	if signer := m.set.Signer; signer != nil {
		err := s.sign(m, signer, copy)
		switch {
		case errors.Is(err, sign.ErrFrom):
			o.unsigned, o.signature = err.Error(), metrics.NoFrom
		case errors.Is(err, sign.ErrForeign):
			o.unsigned, o.signature = err.Error(), metrics.NoKey
		case err != nil:
			return internal(err)
		}
	}
	copy.Prepend(m.trace.received(r.to))

	o.at = s.cfg.Now()
	var err error
	o.reply, err = s.next.Send(ctx, smarthost.Envelope{
		From: m.env.from,
		To:   r.to,
		// A sender that asked for SMTPUTF8 without needing it must not fail for that.
		UTF8:                  m.env.utf8 && (m.body.header8Bit || !isASCII(m.env.from) || !isASCII(r.to)),
		Body8Bit:              copy.Needs8Bit(),
		Return:                m.env.ret,
		EnvelopeID:            m.env.envelopeID,
		Notify:                r.notify,
		OriginalRecipientType: r.orcptType,
		OriginalRecipient:     r.orcpt,
	}, copy, copy.Len())
	switch {
	case err != nil:
		return sendError(err)
	case !o.reply.Accepted():
		return &Error{Code: o.reply.Code, Enhanced: o.reply.Enhanced, Text: o.reply.Text}
	}
	if s.copies.who == r.who {
		if err := s.copies.keep(m.id, o.at, copy); err != nil {
			s.log.Warn("a copy could not be kept for verify-delivery", "id", m.id, "err", err)
		}
	}
	return nil
}

func (s *Server) sign(m *message, signer *sign.Signer, copy *rewrite.Copy) error {
	if m.queued {
		defer s.queue.turn(isUrgent(m.class, m.machine))()
	} else {
		defer s.work.on(m.body)()
	}
	return signer.Sign(copy)
}

// sendError answers where the smarthost gave no answer of its own.
func sendError(err error) error {
	switch {
	case errors.Is(err, smarthost.ErrBusy):
		return refuse(451, "4.4.5", "all connections to the next hop are in use, try again later", err)
	case errors.Is(err, smarthost.ErrUncertain):
		return refuse(451, "4.4.2", "the next hop did not say whether it took the message, try again later", err)
	case errors.Is(err, smarthost.ErrUnreachable):
		return refuse(451, "4.4.1", "the next hop cannot be reached, try again later", err)
	case errors.Is(err, smarthost.ErrNo8BitMIME): // RFC 6152 §3
		return refuse(554, "5.6.3", "the message is 8bit and the next hop does not take that", err)
	case errors.Is(err, smarthost.ErrNoSMTPUTF8): // RFC 6531 §3.5
		return refuse(550, "5.6.7", "the message needs SMTPUTF8 and the next hop does not offer it", err)
	case errors.Is(err, smarthost.ErrAddress):
		return refuse(501, "5.1.3", "this is not a mail address", err)
	}
	return internal(err)
}
