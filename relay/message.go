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

// maxOwnReceived is how many of them may be this gateway's own: a mailing list or a redirected mailbox may send what left
// here once more; what comes a fourth time comes from a smarthost that sends it back here.
const maxOwnReceived = 3

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
func (s *Server) checkLoop(id string, header *rewrite.Header) error {
	all := header.Fields("Received")
	if len(all) >= maxReceived {
		return refuse(554, "5.4.6", "too many hops: 100 or more Received fields", nil)
	}
	own := 0
	for _, field := range all {
		words := strings.Fields(field)
		if at := slices.Index(words, "by"); at >= 0 && at+1 < len(words) && strings.EqualFold(words[at+1], s.cfg.Hostname) {
			own++
		}
	}
	if own < maxOwnReceived {
		return nil
	}
	s.log.Error("mail goes round in a circle: the smarthost sends it back to this gateway; it must deliver it, or have another relayhost", "id", id, "times", own)
	return refuse(554, "5.4.6", fmt.Sprintf("mail loop: this gateway has forwarded the message %d times before", own), nil)
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
	if err := s.checkLoop(id, header); err != nil {
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
