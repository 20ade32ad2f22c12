package relay

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/dsn"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/spool"
)

// journal writes the log. Every text that may hold an address goes through it, since only it
// knows whether addresses may be shown.
type journal struct {
	*slog.Logger
	full   bool
	unsaid *unsaid // nil: every line is written
}

// delivered is the one line about a recipient's copy. That somebody who unsubscribed gets none is no warning.
func (j journal) delivered(m *message, r rcpt, o *outcome) {
	level, text := slog.LevelInfo, "message forwarded"
	switch {
	case o.err != nil && o.decision.Mail == consent.Suppress:
		text = "message suppressed"
	case o.err != nil:
		level, text = slog.LevelWarn, "message refused"
		if o.fate() == later {
			text = "message deferred"
		}
	case o.dropped:
		text = "message discarded"
	}
	ctx := context.Background()
	if !j.Enabled(ctx, level) {
		return
	}
	d := o.decision
	attrs := append(make([]slog.Attr, 0, 24),
		slog.String("id", m.id), slog.String("from", m.sender), slog.String("to", j.person(r.who)),
		slog.String("scope", string(m.scope)), slog.String("class", string(m.class)), slog.Bool("machine", m.machine), slog.Int64("bytes", m.body.size),
		slog.String("mail", string(d.Mail)), slog.String("mail_reason", string(d.MailReason)),
		slog.Bool("open", d.Open), slog.String("open_reason", string(d.OpenReason)),
		slog.Bool("click", d.Click), slog.String("click_reason", string(d.ClickReason)),
	)
	var findings []slog.Attr
	if o.findings != nil {
		findings = o.findings.actions
	}
	if m.set.Observe {
		attrs = append(attrs, slog.GroupAttrs("would", findings...))
		if o.withheld != nil {
			attrs = append(attrs, slog.String("would_refuse", o.withheld.Error()))
		}
	} else {
		attrs = append(attrs, slog.GroupAttrs("findings", findings...))
	}
	if o.unchained {
		attrs = append(attrs, slog.String("not_chained", "the sender's one-click address is too long"))
	}
	if o.unsigned != "" {
		attrs = append(attrs, slog.String("not_signed", j.text(o.unsigned)))
	}
	if o.reply.Code != 0 {
		attrs = append(attrs, slog.String("smarthost", o.reply.Host), slog.Int("code", o.reply.Code), slog.String("reply", j.said(o.reply.Text, m, r)))
	}
	if o.err != nil {
		attrs = append(attrs, slog.String("answer", j.said(o.err.Error(), m, r)))
	}
	j.LogAttrs(ctx, level, text, attrs...)
}

// received is the line about a message that came in whole.
func (j journal) received(m *message, c *conn) {
	attrs := append(make([]slog.Attr, 0, 9),
		slog.String("id", m.id), slog.String("peer", c.who()), slog.String("with", m.trace.with), slog.String("from", m.sender),
		slog.Int("recipients", len(m.env.rcpts)), slog.String("scope", string(m.scope)), slog.String("class", string(m.class)), slog.Int64("bytes", m.body.size),
	)
	if m.env.login != nil {
		attrs = append(attrs, slog.String("login", m.env.login.Name))
	}
	j.LogAttrs(context.Background(), slog.LevelInfo, "message received", attrs...)
}

// waits is the line about a message for some of whose recipients there is another attempt.
func (j journal) waits(m *message, recipients int, pause time.Duration) {
	j.Info("message waits", "id", m.id, "recipients", recipients, "next", pause.Round(time.Second))
}

// requested is the line about mail to the unsubscribe address.
func (j journal) requested(id string, c *conn, from string, claims token.Claims) {
	j.Info("unsubscribed by mail", "id", id, "peer", c.who(), "from", j.sender(from), "person", j.person(claims.Who), "scope", claims.Scope)
}

// spooled is the line about a message that waits on disk for so many of its recipients.
func (j journal) spooled(m *message, owed int) {
	j.LogAttrs(context.Background(), slog.LevelInfo, "message spooled",
		slog.String("id", m.id), slog.String("from", m.sender), slog.Int("recipients", owed),
		slog.String("scope", string(m.scope)), slog.String("class", string(m.class)), slog.Int64("bytes", m.body.size))
}

// unkept is the line about a message that the spool could not take.
func (j journal) unkept(m *message, err error) {
	j.Error("message refused: the spool cannot take it", "id", m.id, "from", m.sender, "err", err)
}

// expired is the line about a recipient for whom no further attempt is made.
func (j journal) expired(m *message, r rcpt) {
	j.Warn("message given up", "id", m.id, "from", m.sender, "to", j.person(r.who), "class", m.class)
}

// reporting is the line about a report to m's sender, a message of its own.
func (j journal) reporting(m *message, id string, kind dsn.Kind, recipients int) {
	j.Info("report to the sender", "id", m.id, "report", id, "about", kind, "recipients", recipients, "to", m.sender)
}

// rejected is the line about a message that came to no decision.
func (j journal) rejected(id string, c *conn, env *envelope, err error) {
	to := make([]string, len(env.rcpts))
	for i, r := range env.rcpts {
		to[i] = j.person(r.who)
	}
	j.ofStranger(c, "message refused", "id", id, "from", j.sender(env.from), "to", to, "answer", j.text(err.Error()))
}

// refused is the line about a command that was not accepted.
func (j journal) refused(id string, c *conn, command string, err error) {
	j.ofStranger(c, "command refused", "id", id, "peer", c.who(), "command", command, "answer", j.text(err.Error()))
}

// loginFailed is the line about a login that was not accepted. name is "" where there is no such
// login: people type their password there.
func (j journal) loginFailed(c *conn, name string, err error) {
	j.ofStranger(c, "login failed", "id", c.id, "peer", c.who(), "login", name, "answer", j.text(err.Error()))
}

func (j journal) panicked(id string, p any, stack []byte) {
	j.Error("panic while handling a message", "id", id, "panic", j.text(fmt.Sprint(p)), "stack", string(stack))
}

// Printf and Println make a journal go-smtp's logger for what goes wrong inside it.
func (j journal) Printf(format string, v ...any) {
	ctx := context.Background()
	if !j.Enabled(ctx, slog.LevelDebug) {
		return
	}
	var attrs []slog.Attr
	for _, of := range v {
		if peer, ok := of.(named); ok {
			attrs = []slog.Attr{slog.String("id", peer.id)}
		}
	}
	j.LogAttrs(ctx, slog.LevelDebug, "smtp: "+j.text(fmt.Sprintf(format, v...)), attrs...)
}

func (j journal) Println(v ...any) { j.Debug("smtp: " + j.text(fmt.Sprint(v...))) }

// byHand is the line about what an operator did with messages that wait, or the lines.
func (j journal) byHand(what string, messages ...spool.Message) {
	if what == "retry" && len(messages) != 1 { // all, which may be many
		j.Info("all that waits is tried at once, by hand", "messages", len(messages))
		return
	}
	for _, m := range messages {
		switch what {
		case "retry":
			j.Info("message is tried at once, by hand", "id", m.ID)
		case "remove":
			to := make([]string, len(m.Recipients))
			for i, r := range m.Recipients {
				to[i] = j.sender(r.To)
			}
			j.Info("message removed by hand", "id", m.ID, "from", j.sender(m.From), "to", to, "scope", m.Scope, "class", m.Class)
		}
	}
}

// disconnected is the line about a connection that has ended.
func (j journal) disconnected(c *conn) {
	if !j.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	c.mu.Lock()
	messages := c.messages
	c.mu.Unlock()
	j.Debug("disconnected", "id", c.id, "lasted", time.Since(c.since).Round(time.Millisecond), "messages", messages)
}

func (j journal) person(a consent.Address) string {
	if j.full {
		return a.String()
	}
	return a.Masked()
}

// sender masks the envelope's sender; one of the VERP kind names the recipient.
func (j journal) sender(from string) string {
	if from == "" {
		return "<>"
	}
	if j.full {
		return from
	}
	a, err := consent.ParseAddress(from)
	if err != nil {
		return "•••"
	}
	return a.Masked()
}

// said masks the addresses in what a next hop said about the copy for r, and r's own and m's sender's local parts where
// they stand alone: "550 jane.doe: no such user".
func (j journal) said(s string, m *message, r rcpt) string {
	if j.full {
		return s
	}
	s = logbook.MaskKnown(s, r.to, aloneTo)
	s = logbook.MaskKnown(s, m.env.from, aloneFrom)
	return logbook.Mask(s)
}

// From how many bytes on a local part is masked where it stands alone. Shorter ones are words of any answer, and so are
// many of senders: mail, news.
const (
	aloneTo   = 3
	aloneFrom = 6
)

// text masks the addresses in s.
func (j journal) text(s string) string {
	if j.full {
		return s
	}
	return logbook.Mask(s)
}
