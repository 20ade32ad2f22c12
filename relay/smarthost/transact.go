package smarthost

import (
	"context"
	"fmt"
	"io"
)

// transact runs one mail transaction over k, and keeps k if it is still good. The error is a
// *transportError where the connection broke and the copy is certain not to have been taken.
func (c *Client) transact(ctx context.Context, k *kept, env Envelope, message io.WriterTo, size int64) (reply Reply, err error) {
	stop := context.AfterFunc(ctx, func() { k.raw.Close() })
	fit := false // whether k can be used again
	defer func() {
		if !stop() {
			fit = false
		}
		if fit {
			c.keep(k)
		} else {
			k.raw.Close()
		}
	}()
	broken := func(step string, err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return &transportError{k.hop.addr, fmt.Errorf("%s: %w", step, err)}
	}
	if env.Body8Bit && !k.offers("8BITMIME") {
		fit = true
		return Reply{}, ErrNo8BitMIME
	}
	if env.UTF8 && !k.offers("SMTPUTF8") {
		fit = true
		return Reply{}, ErrNoSMTPUTF8
	}

	said, ready, err := k.open(&env, size)
	switch {
	case err != nil:
		return Reply{}, broken(said.step, err)
	case said.code == 421: // the next hop is leaving, RFC 5321 §3.8
		return Reply{}, broken(said.step, said)
	case said.step == "MAIL" && said.code/100 == 4 && k.used:
		// It may have had enough of the connection, and would say so to all that come.
		return Reply{}, broken(said.step, said)
	case said.refusal():
		// Where DATA was answered with 354 all the same, only the end of the connection makes sure
		// that no message comes of it.
		fit, k.begun = !ready, true
		return k.reply(said.answer), nil
	case !ready:
		return Reply{}, broken(said.step, said)
	}

	// From here on only the final dot makes a message of it. Where the copy cannot be read to
	// its end, the connection is closed without one.
	out := newBody(k.wire)
	if _, err = message.WriteTo(out); err == nil && out.err == nil && out.last == '\r' {
		err = errLineEnds
	}
	cut := func(err error) (Reply, error) {
		// It may have refused the message before its end, and closed.
		if a, none := k.read(c.limit.quit); none == nil && a.refusal() && a.code != 421 {
			return k.reply(a), nil
		}
		return Reply{}, broken("message", err)
	}
	if out.err != nil {
		return cut(out.err)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	uncertain := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%w: %s: %w", ErrUncertain, k.hop.addr, err)
	}
	sent, err := out.end()
	if err != nil && !sent {
		return cut(err)
	}
	if err != nil {
		return Reply{}, uncertain(err)
	}
	// By LMTP each recipient is answered (RFC 2033 §4.2), and there is one.
	final, err := k.read(c.limit.dataEnd)
	switch {
	case err != nil:
		return Reply{}, uncertain(err)
	case !final.positive() && !final.refusal():
		return Reply{}, uncertain(final)
	}
	fit = final.code != 421
	return k.reply(final), nil
}

// step is a command and what was said to it.
type step struct {
	step string
	answer
}

// open sends everything up to DATA, at once where the next hop offers PIPELINING (RFC 2920). said is
// the first refusal, or the reply to DATA; ready says that the message is waited for now.
func (k *kept) open(env *Envelope, size int64) (said step, ready bool, err error) {
	type command struct {
		name string
		add  func([]byte) []byte
	}
	verb := func(s string) func([]byte) []byte {
		return func(b []byte) []byte { return append(append(b, s...), "\r\n"...) }
	}
	commands := make([]command, 0, 4)
	if k.begun { // before the next copy, not behind the refused one: nobody waits for it there
		commands = append(commands, command{"RSET", verb("RSET")})
	}
	commands = append(commands,
		command{"MAIL", func(b []byte) []byte { return k.appendMail(b, env, size) }},
		command{"RCPT", func(b []byte) []byte { return k.appendRcpt(b, env) }},
		command{"DATA", verb("DATA")})

	pipelining := k.offers("PIPELINING")
	if pipelining {
		for _, c := range commands {
			k.out = c.add(k.out)
		}
		if _, err := k.flush(); err != nil {
			return step{step: commands[0].name}, false, err
		}
	}
	for _, c := range commands {
		if !pipelining {
			k.out = c.add(k.out)
			if _, err := k.flush(); err != nil {
				return step{step: c.name}, false, err
			}
		}
		wait := k.limit.command
		if c.name == "DATA" {
			wait = k.limit.dataInit
		}
		a, err := k.read(wait)
		refused := said.code != 0
		switch {
		case err != nil && refused: // it has said no, and then left
			return said, true, nil
		case err != nil:
			return step{step: c.name}, false, err
		case c.name == "DATA" && a.code == 354:
			if !refused {
				said = step{c.name, a}
			}
			return said, true, nil
		case refused:
		case c.name == "RSET" && a.positive():
			k.begun = false
		case c.name == "DATA" || c.name == "RSET" || !a.positive():
			said = step{c.name, a}
			if c.name == "RSET" { // what follows would be taken for the old transaction's
				return said, false, fmt.Errorf("%w", a)
			}
			if !pipelining {
				return said, false, nil
			}
		}
	}
	return said, false, nil
}

// reply is a as the caller gets it.
func (k *kept) reply(a answer) Reply {
	r := a.reply()
	r.Host, r.DSN = k.hop.addr, k.offers("DSN")
	return r
}
