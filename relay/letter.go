package relay

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// Letter is a mail that the gateway writes itself to one person, and not about another mail.
type Letter struct {
	To                consent.Address
	FromName, From    string // From is an address, FromName may be ""
	Subject, Language string
	Text              string // plain text, LF between its lines
	Scope             consent.Scope
}

// errStopped is the error of a letter to a server that takes no more.
var errStopped = errors.New("the relay has stopped")

// SendLetter sends a letter from the null sender, as transactional mail that nobody tracks and nobody
// unsubscribes from, signed as every copy is. When it returns nil the letter is in the spool, or, where
// there is none, at the smarthost. The error names nobody.
func (s *Server) SendLetter(ctx context.Context, l Letter) error {
	if !s.begin() {
		return errStopped
	}
	defer s.underWay.Done()
	now := s.cfg.Now()
	id := s.newID()
	if request := consent.Request(ctx); request != "" { // in which nothing else is sent
		id = request + "-001"
	}
	text, err := l.bytes(id, s.cfg.Hostname, now)
	if err != nil {
		return err
	}
	utf8 := !isASCII(l.To.String())
	n := spool.New{
		Message: spool.Message{
			ID:      id,
			Arrived: now,
			Envelope: spool.Envelope{
				UTF8: utf8, Header8Bit: utf8,
				Scope: string(l.Scope), Class: string(consent.Transactional), Language: l.Language, Machine: true,
			},
			Recipients: []spool.Recipient{{To: l.To.String(), Due: now}},
			Size:       int64(len(text)),
		},
		Body: rewrite.Bytes(text),
	}
	s.log.Info("letter of our own", "id", id, "to", s.log.person(l.To), "scope", l.Scope)
	if s.spool != nil {
		if err := s.spool.Add(n); err != nil {
			return spoolError(err)
		}
		s.queue.add(n.Message)
		return nil
	}
	m, err := s.restore(n.Message, &body{ReaderAt: n.Body, size: n.Size})
	if err != nil {
		return err
	}
	sent := errStopped
	s.attempt(ctx, context.Background(), m, func(_ int, o *outcome) { sent = o.err })
	var e *Error
	if errors.As(sent, &e) { // a smarthost's words may name the person; the line about the copy has them, masked
		return &Error{Code: e.Code, Enhanced: e.Enhanced, Text: s.log.text(e.Text)}
	}
	return sent
}

// bytes writes the letter, 7bit but for an address that is not ASCII.
func (l Letter) bytes(id, hostname string, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	for _, field := range [][2]string{
		{"From", (&mail.Address{Name: l.FromName, Address: l.From}).String()},
		{"To", "<" + l.To.String() + ">"},
		{"Subject", mime.QEncoding.Encode("utf-8", l.Subject)},
		{"Date", now.Format("Mon, 02 Jan 2006 15:04:05 -0700")}, // RFC 5322 §3.3
		{"Message-ID", "<" + id + "@" + hostname + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
		{"Content-Language", l.Language},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, err := w.Write([]byte(l.Text))
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}
