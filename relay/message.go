package relay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// maxReceived is the number of Received fields from which on a message is in a loop,
// RFC 5321 §6.3.
const maxReceived = 100

// maxOwnReceived is how often this gateway may have forwarded a message to one of its recipients: some list or redirection
// may send it here once more, a smarthost that sends it back does so for ever.
const maxOwnReceived = 5

// message is one submitted message, read once, with what is to be done with it.
type message struct {
	id     string
	env    *envelope
	sender string // of the envelope, as the log shows it
	body   *body
	parts  *rewrite.Message // nil in mode spool until an attempt begins
	control
	oneClick   string // the sender's own address for one-click unsubscribe, "" where there is none to be told
	trace      trace
	set        *Settings
	queued     bool // nobody waits for the answer
	tallies    *tallies
	retryUntil time.Time // about when it is given up, for a report of a delay
}

// checkLoop refuses what goes round in a circle, RFC 5321 §6.3.
func (s *Server) checkLoop(env *envelope, header *rewrite.Header) error {
	all := header.Fields("Received")
	if len(all) >= maxReceived {
		return refuse(554, "5.4.6", "too many hops: 100 or more Received fields", nil)
	}
	own := 0
	for _, field := range all {
		if to := s.ownTrace(field); to != "" && slices.ContainsFunc(env.rcpts, func(r rcpt) bool { return strings.EqualFold(r.to, to) }) {
			own++
		}
	}
	if own < maxOwnReceived {
		return nil
	}
	return refuse(554, "5.4.6", fmt.Sprintf("mail loop: this gateway has forwarded the message to this recipient %d times; the smarthost must not send it back here", own), nil)
}

// ownTrace returns for whom a Received field says that this gateway forwarded the message, "" where it is not its own.
func (s *Server) ownTrace(field string) (to string) {
	words := strings.Fields(field)
	at := slices.Index(words, "by")
	if at < 0 || len(words) < at+8 || words[at+1] != s.cfg.Hostname || words[at+2] != "with" || words[at+4] != "id" || words[at+6] != "for" {
		return ""
	}
	if id := words[at+5]; len(id) < 20 || id[16] != '-' || strings.Trim(id[:16], digits) != "" {
		return ""
	}
	to, ok := strings.CutSuffix(words[at+7], ">;")
	if !ok {
		return ""
	}
	return strings.TrimPrefix(to, "<")
}

// read parses what was received: its header alone in mode spool, where whatever the body may hold is a matter of the
// copies, which are made later. The error is an *Error.
func (s *Server) read(id string, env *envelope, b *body) (*message, error) {
	set := s.settings()
	var parts *rewrite.Message
	var header *rewrite.Header
	var err error
	if s.cfg.Mode == Spooled {
		header, err = rewrite.ParseHeader(b.ReaderAt, b.size)
	} else if parts, err = s.parse(b, set); err == nil {
		header = parts.Header()
	}
	if err != nil {
		return nil, rewriteError(err)
	}
	if err := s.checkLoop(env, header); err != nil {
		return nil, err
	}
	ctl, err := set.readControl(header, env)
	if err != nil {
		return nil, err
	}
	if parts != nil && ctl.language == "" {
		ctl.language = ownLanguage(parts)
	}
	return &message{id: id, env: env, sender: s.log.sender(env.from), body: b, parts: parts, control: ctl, oneClick: s.ownOneClick(header), set: set, tallies: &tallies{}}, nil
}

func (s *Server) parse(b *body, set *Settings) (*rewrite.Message, error) {
	defer s.work.on(b)()
	return rewrite.Parse(b.ReaderAt, b.size, set.Rules, set.Rewrite)
}

// rewriteError answers for what package rewrite could not do. The texts behind its errors
// are about the sender's own message, so the sender is told.
func rewriteError(err error) error {
	switch {
	case errors.Is(err, rewrite.ErrHeader), errors.Is(err, rewrite.ErrUnreadable):
		return refuse(554, "5.6.0", err.Error(), err)
	case errors.Is(err, rewrite.ErrOpaque), errors.Is(err, rewrite.ErrSigned), errors.Is(err, rewrite.ErrRecipients):
		return refuse(550, "5.7.1", err.Error(), err)
	}
	return internal(err)
}

// owed is r as the spool is to keep it, before the first attempt.
func (r rcpt) owed(now time.Time) spool.Recipient {
	return spool.Recipient{
		To: r.to, Notify: r.notify, OriginalType: r.orcptType, Original: r.orcpt,
		Due: now,
	}
}

// waiting is m as the spool is to keep it, for those of its recipients that are owed a copy.
func (m *message) waiting(owed []spool.Recipient) spool.New {
	return spool.New{
		Message: spool.Message{
			ID:      m.id,
			Arrived: m.trace.at,
			Envelope: spool.Envelope{
				From: m.env.from, UTF8: m.env.utf8, Return: m.env.ret, EnvelopeID: m.env.envelopeID,
				Header8Bit: m.body.header8Bit,
				Scope:      string(m.scope), Class: string(m.class), Language: m.language, Machine: m.machine,
				Helo: m.trace.helo, Peer: m.trace.peer, With: m.trace.with,
			},
			Recipients: owed,
			Size:       m.body.size,
		},
		Body: m.body,
	}
}

// spooled is m with its recipients as the spool names them: whose are those that are in it, in its order.
// The attempt that is under way reads m's own.
func (m *message) spooled(whose []int) *message {
	env := *m.env
	env.rcpts = slices.Clone(env.rcpts)
	for index, i := range whose {
		env.rcpts[i].index = index
	}
	other := *m
	other.env = &env
	return &other
}

// envelopeOf is a message of the spool without its text.
func (s *Server) envelopeOf(w spool.Message) (*message, error) {
	e := w.Envelope
	m := &message{
		id:      w.ID,
		sender:  s.log.sender(e.From),
		env:     &envelope{from: e.From, utf8: e.UTF8, ret: e.Return, envelopeID: e.EnvelopeID},
		control: control{scope: consent.Scope(e.Scope), class: consent.Class(e.Class), language: cmp.Or(e.Language, defaultLanguage), machine: e.Machine},
		trace:   trace{id: w.ID, helo: e.Helo, peer: e.Peer, with: e.With, hostname: s.cfg.Hostname, at: w.Arrived},
		set:     s.settings(),
		tallies: &tallies{},
	}
	for _, r := range w.Recipients {
		who, err := consent.ParseAddress(r.To)
		if err != nil {
			return nil, fmt.Errorf("a recipient of the spool: %w", err)
		}
		m.env.rcpts = append(m.env.rcpts, rcpt{
			index: r.Index, to: r.To, who: who, notify: r.Notify, orcptType: r.OriginalType, orcpt: r.Original,
		})
	}
	return m, nil
}

// restore makes a message of the spool ready for another attempt. On success m has b.
func (s *Server) restore(w spool.Message, b *body) (*message, error) {
	m, err := s.envelopeOf(w)
	if err != nil {
		return nil, err
	}
	b.header8Bit = w.Envelope.Header8Bit
	if b.spooled != nil && b.spooled.Bytes() != nil { // package rewrite reads it faster there
		b.ReaderAt = rewrite.Bytes(b.spooled.Bytes())
	}
	m.body = b
	opts := m.set.Rewrite
	if m.machine && opts.Opaque == rewrite.OpaqueReject {
		opts.Opaque = rewrite.OpaqueUnlink // a report that quotes a link must not be lost for it
	}
	if m.parts, err = rewrite.Parse(b.ReaderAt, b.size, m.set.Rules, opts); err != nil {
		return nil, rewriteError(err)
	}
	if w.Envelope.Language == "" {
		m.language = ownLanguage(m.parts)
	}
	m.oneClick = s.ownOneClick(m.parts.Header())
	return m, nil
}
