// Package dsn writes the reports that tell a sender what became of a message: delivery status
// notifications, RFC 3464 in the multipart/report of RFC 6522, and who is to get one
// (RFC 3461).
//
// It is made of pure functions: it sends nothing, and time and identifiers are handed in. What
// a report holds comes from strangers to a good part (replies of a next hop, addresses, the
// header of the message), so nothing of that is written without being made safe: it can neither
// begin a header field nor end a MIME part.
//
// A report is 7bit, so that it gets through any next hop; only where the sender's own address is
// not ASCII, its header is not either and it needs SMTPUTF8 (RFC 6531), as that address does.
package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/smarthost"
)

// Kind says what a report is about.
type Kind int

const (
	Failed  Kind = iota // given up
	Delayed             // not yet delivered, and still tried
	Relayed             // handed to a next hop that makes no reports, RFC 3461 §5.2.2
)

// String is the value of the field Action, RFC 3464 §2.3.3.
func (k Kind) String() string {
	switch k {
	case Delayed:
		return "delayed"
	case Relayed:
		return "relayed"
	}
	return "failed"
}

// MarshalText makes String what a log of JSON holds.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Wanted reports whether the sender is to be told of kind about a recipient that came with
// notify, the NOTIFY parameter (RFC 3461 §4.1): failures unless it was asked not to, the others
// only if it was asked to, and the null sender nothing ever (RFC 5321 §4.5.5).
func Wanted(kind Kind, from string, notify []smtp.DSNNotify) bool {
	if from == "" || slices.Contains(notify, smtp.DSNNotifyNever) {
		return false
	}
	switch kind {
	case Failed:
		return len(notify) == 0 || slices.Contains(notify, smtp.DSNNotifyFailure)
	case Delayed:
		return slices.Contains(notify, smtp.DSNNotifyDelayed)
	case Relayed:
		return slices.Contains(notify, smtp.DSNNotifySuccess)
	}
	return false
}

// Report is one report to one sender about one message.
type Report struct {
	Kind     Kind
	Hostname string // of this gateway
	ID       string // of the report, unique here: letters, digits, "-", "_" and "."
	To       string // the sender, without angle brackets and not null
	Now      time.Time

	// Of the message: its envelope as it came in, EnvelopeID without its xtext encoding.
	Arrived    time.Time
	EnvelopeID string
	Return     smtp.DSNReturn
	UTF8       bool // it came with SMTPUTF8

	RetryUntil time.Time // for Delayed: when it will be given up; zero = not said
	Recipients []Recipient
}

// Recipient is somebody whom the report is about. Nobody else is named in it.
type Recipient struct {
	To string // as it came in

	// ORCPT without its encoding; "" = not given.
	OriginalRecipientType smtp.DSNAddressType
	OriginalRecipient     string

	// Reply is the last answer; its Host is empty where it is the gateway's own. It is zero
	// where nobody answered.
	Reply        smarthost.Reply
	LastAttempt  time.Time // zero = never sent
	Unsubscribed bool      // not sent for that
}

// most that is written of what strangers say.
const (
	maxPath    = 320 // 64 + 1 + 255, RFC 5321 §4.5.3.1
	maxAddress = 900
	maxReply   = 2000
)

// Bytes writes the report, with CRLF. original is the message as it came in, of size bytes, and
// nil where it is not there any more.
//
// A failure brings the message back where Return is FULL (RFC 3461 §4.3), up to 1 MiB of it;
// in all other cases its header comes back, the first 64 KiB. So it does where the message is
// 8bit, since message/rfc822 must not be encoded (RFC 2046 §5.2.1), unless it came with
// SMTPUTF8: message/global may be (RFC 6532 §3.7). Bcc stays out of both.
//
// The error is about a Report that cannot be one, or an original that cannot be read.
func (r *Report) Bytes(original io.ReaderAt, size int64) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	back, err := r.giveBack(original, size)
	if err != nil {
		return nil, fmt.Errorf("report: the message cannot be read: %w", err)
	}
	parts := []part{r.explain(back), r.status()}
	if back.part.content != nil {
		parts = append(parts, back.part)
	}

	var b bytes.Buffer
	field := func(name, value string) { writeField(&b, name, value) }
	field("From", "Mail Delivery System <MAILER-DAEMON@"+r.Hostname+">")
	field("To", "<"+r.To+">")
	field("Subject", r.subject())
	field("Date", date(r.Now))
	field("Message-ID", "<"+r.ID+"@"+r.Hostname+">")
	if back.messageID != "" {
		field("In-Reply-To", back.messageID)
		field("References", back.messageID)
	}
	field("Auto-Submitted", "auto-replied") // RFC 3834 §3.1.7
	field("MIME-Version", "1.0")
	boundary := r.boundary(parts)
	field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	b.WriteString("\r\n")
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n")
		field("Content-Type", p.contentType)
		field("Content-Description", p.description)
		field("Content-Transfer-Encoding", p.encoding)
		b.WriteString("\r\n")
		b.Write(p.content)
		b.WriteString("\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes(), nil
}

// part is one of the three parts of a report, its content encoded.
type part struct {
	contentType, description, encoding string
	content                            []byte
}

// boundary returns one that no part holds.
func (r *Report) boundary(parts []part) string {
	for n := 0; ; n++ {
		s := fmt.Sprintf("=_%s_%d", r.ID, n)
		if !slices.ContainsFunc(parts, func(p part) bool { return bytes.Contains(p.content, []byte(s)) }) {
			return s
		}
	}
}

func (r *Report) check() error {
	switch {
	case len(r.Recipients) == 0:
		return errors.New("report: about nobody")
	case r.ID == "" || len(r.ID) > 40 || strings.ContainsFunc(r.ID, notIn("-_.")):
		return errors.New("report: its ID is not fit for a Message-ID")
	case r.Hostname == "" || len(r.Hostname) > 255 || strings.ContainsFunc(r.Hostname, notIn("-_.:[]")):
		return errors.New("report: the host name is none")
	case !isPath(r.To):
		return errors.New("report: the sender's address is not fit for a header field")
	}
	return nil
}

// notIn returns what finds a character that is no ASCII letter, digit or one of also.
func notIn(also string) func(rune) bool {
	return func(c rune) bool {
		return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.ContainsRune(also, c))
	}
}

// isPath reports whether s is one address that stays inside its angle brackets.
func isPath(s string) bool {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 || len(s) > maxPath || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return false
	}
	local, domain := s[:at], s[at+1:]
	if strings.ContainsAny(domain, ` <>(),;"\`) {
		return false
	}
	if local[0] != '"' {
		return !strings.ContainsAny(local, ` <>(),;:@[]"\`)
	}
	for i := 1; i < len(local); i++ {
		switch local[i] {
		case '\\':
			i++
		case '"':
			return i == len(local)-1
		}
	}
	return false
}

// date is in the form of RFC 5322 §3.3.
func date(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// writeField writes a header field and folds it at spaces, so that unfolding yields value again
// (RFC 5322 §2.2.3). A word too long for a line is cut. value holds neither control
// characters nor hundreds of spaces in a row.
func writeField(b *bytes.Buffer, name, value string) {
	const want, most = 76, 900
	b.WriteString(name + ": ")
	used := len(name) + 2
	for value != "" {
		// A word with the space before it.
		n := 1
		for n < len(value) && (value[n] != ' ' || value[n-1] == ' ') {
			n++
		}
		switch {
		case used > 1 && value[0] == ' ' && used+n > want && strings.TrimSpace(value[:n]) != "":
			b.WriteString("\r\n")
			used = 0
		case used > most-utf8.UTFMax:
			b.WriteString("\r\n ")
			used = 1
		}
		if n > most-used {
			n = most - used
			for n < len(value) && !utf8.RuneStart(value[n]) {
				n--
			}
		}
		b.WriteString(value[:n])
		used += n
		value = value[n:]
	}
	b.WriteString("\r\n")
}

// printable makes s fit to be shown, and no longer than most bytes: a single line without
// anything that steers a terminal, a header field or the direction of writing.
func printable(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	s = strings.Map(smarthost.Printable, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ") // a folded run of spaces could look like the end of a header
}

// ascii puts a question mark in the place of what is not.
func ascii(s string) string {
	return strings.Map(func(c rune) rune {
		if c > '~' {
			return '?'
		}
		return c
	}, s)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}
