package smarthost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// transact runs one mail transaction over k, and keeps k if it is still good. The error is a
// *transportError where the connection broke and the copy is certain not to have been taken.
func (c *Client) transact(ctx context.Context, k *kept, env Envelope, body io.WriterTo, size int64) (reply Reply, err error) {
	stop := context.AfterFunc(ctx, func() { k.conn.Close() })
	fit := false // whether k can be used again
	defer func() {
		if !stop() {
			fit = false
		}
		if fit {
			c.keep(k)
		} else {
			k.conn.Close()
		}
	}()
	cl := k.client
	broken := func(step string, err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return &transportError{k.hop.addr, fmt.Errorf("%s: %w", step, err)}
	}

	// Before the next copy, not behind the refused one: nobody waits for it there.
	if k.open {
		cl.CommandTimeout = c.limit.command
		if err := cl.Reset(); err != nil {
			return Reply{}, broken("RSET", err)
		}
		if err := cl.Hello(c.cfg.Hostname); err != nil { // go-smtp wants one behind each RSET
			return Reply{}, broken("EHLO", err)
		}
		k.open = false
	}
	if ok, _ := cl.Extension("8BITMIME"); env.Body8Bit && !ok {
		fit = true
		return Reply{}, ErrNo8BitMIME
	}
	if ok, _ := cl.Extension("SMTPUTF8"); env.UTF8 && !ok {
		fit = true
		return Reply{}, ErrNoSMTPUTF8
	}
	cl.CommandTimeout = c.limit.command
	err = cl.Mail(env.From, &smtp.MailOptions{Size: size, UTF8: env.UTF8, Return: env.Return, EnvelopeID: env.EnvelopeID})
	step := "MAIL"
	if err == nil {
		err = cl.Rcpt(env.To, &smtp.RcptOptions{
			Notify:                env.Notify,
			OriginalRecipientType: env.OriginalRecipientType,
			OriginalRecipient:     env.OriginalRecipient,
		})
		step = "RCPT"
	}
	var w *smtp.DataCommand
	if err == nil {
		cl.CommandTimeout = c.limit.dataInit
		w, err = cl.Data()
		cl.CommandTimeout = c.limit.command
		step = "DATA"
	}
	if err != nil {
		reply, ok := k.refusal(err)
		if !ok || reply.Code == 421 { // 421: the next hop is leaving, RFC 5321 §3.8
			return Reply{}, broken(step, err)
		}
		fit, k.open = true, true
		return reply, nil
	}

	// From here on only the final dot makes a message of it. Where the copy cannot be read to
	// its end, the connection is closed: closing w would send the dot behind half a message.
	out := &sink{w: w}
	buf := bufio.NewWriterSize(out, 32<<10)
	if _, err = body.WriteTo(buf); err == nil {
		err = buf.Flush()
	}
	if out.err != nil {
		return Reply{}, broken("message", out.err)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	// A flush that fails here may have carried the dot or not.
	said, err := finish(w, k.hop.lmtp)
	if err != nil {
		reply, ok := k.refusal(err)
		if !ok {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return Reply{}, fmt.Errorf("%w: %s: %w", ErrUncertain, k.hop.addr, err)
		}
		fit = reply.Code != 421
		return reply, nil
	}
	fit = true
	return k.accepted(said), nil
}

// finish sends the final dot and returns what was said to it, where that is a 250. By LMTP each
// recipient is answered (RFC 2033 §4.2), and there is one.
func finish(w *smtp.DataCommand, lmtp bool) (string, error) {
	if !lmtp {
		resp, err := w.CloseWithResponse()
		if err != nil {
			return "", err
		}
		return resp.StatusText, nil
	}
	each, err := w.CloseWithLMTPResponse()
	if err != nil {
		return "", err
	}
	for _, resp := range each {
		return resp.StatusText, nil
	}
	return "", errors.New("no recipient was answered")
}

// refusal turns go-smtp's error into the reply of the next hop; false where it is none, since
// the connection broke or what was said is no refusal (a 2yz or 3yz out of place).
func (k *kept) refusal(err error) (Reply, bool) {
	var said *smtp.SMTPError
	if !errors.As(err, &said) || (said.Code/100 != 4 && said.Code/100 != 5) {
		return Reply{}, false
	}
	r := Reply{Code: said.Code, Enhanced: [3]int(said.EnhancedCode), Text: said.Message, Host: k.hop.addr, DSN: k.offersDSN()}
	// RFC 3463 §2: the class is that of the reply. Anything else that looks like three
	// numbers is text.
	if e := r.Enhanced; e != [3]int{} && (e[0] != r.Code/100 || e[1] < 0 || e[1] > 999 || e[2] < 0 || e[2] > 999) {
		r.Text = fmt.Sprintf("%d.%d.%d %s", e[0], e[1], e[2], r.Text)
		r.Enhanced = [3]int{}
	}
	return r, true
}

// accepted is the reply behind a final 250; go-smtp leaves its enhanced code in the text.
func (k *kept) accepted(text string) Reply {
	r := Reply{Code: 250, Text: text, Host: k.hop.addr, DSN: k.offersDSN()}
	first, rest, _ := strings.Cut(text, " ")
	if e, ok := parseEnhanced(first); ok && e[0] == 2 {
		r.Enhanced = e
		r.Text = strings.ReplaceAll(rest, "\n"+first+" ", "\n") // each line has it, RFC 2034 §4
	}
	return r
}

func (k *kept) offersDSN() bool {
	ok, _ := k.client.Extension("DSN")
	return ok
}

// parseEnhanced reads a status code of RFC 3463 §2.
func parseEnhanced(s string) (e [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 10)
		if err != nil || n > 999 {
			return e, false
		}
		e[i] = int(n)
	}
	return e, true
}

// sink remembers that writing failed, to tell that from a copy that cannot be read.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
