package relay

import (
	"errors"

	"github.com/consentgate/consentgate/rewrite"
)

// maxReceived is the number of Received fields from which on a message is in a loop,
// RFC 5321 §6.3.
const maxReceived = 100

// message is one submitted message, read once, with what is to be done with it.
type message struct {
	id    string
	env   *envelope
	body  *body
	parts *rewrite.Message
	control
	trace    trace
	observed bool // Config.Observe
}

// read parses what was received. The error is an *Error.
func (s *Server) read(id string, env *envelope, b *body) (*message, error) {
	parts, err := rewrite.Parse(b, b.size, s.cfg.Rules, s.cfg.Rewrite)
	if err != nil {
		return nil, rewriteError(err)
	}
	if len(parts.Fields("Received")) >= maxReceived {
		return nil, refuse(554, "5.4.6", "too many hops: 100 or more Received fields", nil)
	}
	ctl, err := s.cfg.readControl(parts, env)
	if err != nil {
		return nil, err
	}
	return &message{id: id, env: env, body: b, parts: parts, control: ctl, observed: s.cfg.Observe}, nil
}

// rewriteError answers for what package rewrite could not do. The texts behind its errors
// are about the sender's own message, so the sender is told.
func rewriteError(err error) error {
	switch {
	case errors.Is(err, rewrite.ErrHeader), errors.Is(err, rewrite.ErrUnreadable):
		return refuse(554, "5.6.0", err.Error(), err)
	case errors.Is(err, rewrite.ErrOpaque), errors.Is(err, rewrite.ErrSigned):
		return refuse(550, "5.7.1", err.Error(), err)
	}
	return internal(err)
}
