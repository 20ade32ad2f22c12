package relay

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/dsn"
)

// journal writes the log. Every text that may hold an address goes through it, since only it
// knows whether addresses may be shown.
type journal struct {
	*slog.Logger
	full bool
}

// delivered is the one line about a recipient's copy.
func (j journal) delivered(m *message, r rcpt, o *outcome) {
	level, text := slog.LevelInfo, "message forwarded"
	switch {
	case o.err != nil:
		level, text = slog.LevelWarn, "message refused"
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
	findings := make([]slog.Attr, len(o.actions))
	for i, n := range o.actions {
		findings[i] = slog.Int(string(n.Action), n.count)
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
		attrs = append(attrs, slog.String("smarthost", o.reply.Host), slog.Int("code", o.reply.Code), slog.String("reply", j.text(o.reply.Text)))
	}
	if o.err != nil {
		attrs = append(attrs, slog.String("answer", j.text(o.err.Error())))
	}
	j.LogAttrs(ctx, level, text, attrs...)
}

// requested is the line about mail to the unsubscribe address.
func (j journal) requested(id string, c *conn, from string, claims token.Claims) {
	j.Info("unsubscribed by mail", "id", id, "peer", c.who(), "from", j.sender(from), "person", j.person(claims.Who), "scope", claims.Scope)
}

// spooled is the line about a message that waits on disk for so many of its recipients.
func (j journal) spooled(m *message, owed int) {
	j.Info("message spooled", "id", m.id, "from", m.sender, "recipients", owed, "scope", m.scope, "class", m.class, "bytes", m.body.size)
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
func (j journal) rejected(id string, env *envelope, err error) {
	to := make([]string, len(env.rcpts))
	for i, r := range env.rcpts {
		to[i] = j.person(r.who)
	}
	j.Warn("message refused", "id", id, "from", j.sender(env.from), "to", to, "answer", j.text(err.Error()))
}

// refused is the line about a command that was not accepted.
func (j journal) refused(c *conn, command string, err error) {
	j.Warn("command refused", "peer", c.who(), "command", command, "answer", j.text(err.Error()))
}

// loginFailed is the line about a login that was not accepted. name is "" where there is no such
// login: people type their password there.
func (j journal) loginFailed(c *conn, name string, err error) {
	j.Warn("login failed", "peer", c.who(), "login", name, "answer", j.text(err.Error()))
}

func (j journal) panicked(id string, p any, stack []byte) {
	j.Error("panic while handling a message", "id", id, "panic", j.text(fmt.Sprint(p)), "stack", string(stack))
}

// Printf and Println make a journal go-smtp's logger for what goes wrong inside it.
func (j journal) Printf(format string, v ...any) {
	j.Debug("smtp: " + j.text(fmt.Sprintf(format, v...)))
}

func (j journal) Println(v ...any) { j.Debug("smtp: " + j.text(fmt.Sprint(v...))) }

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

// inText finds what looks like an address in a text of any origin, such as a smarthost's reply.
var inText = regexp.MustCompile(`(?:"(?:[^"\\]|\\.)*"|[^\s<>()"',:;\[\]]+)@(\[[^\]\s]*\]|[^\s<>()"',:;@]+)`)

// text masks the addresses in s.
func (j journal) text(s string) string {
	if j.full || strings.IndexByte(s, '@') < 0 {
		return s
	}
	return inText.ReplaceAllStringFunc(s, func(found string) string {
		_, n := utf8.DecodeRuneInString(found)
		domain := inText.FindStringSubmatch(found)[1]
		return found[:n] + "•••@" + domain
	})
}
