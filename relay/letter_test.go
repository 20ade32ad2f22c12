package relay

import (
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

func letterTo(t *testing.T, to string) Letter {
	t.Helper()
	who, err := consent.ParseAddress(to)
	if err != nil {
		t.Fatal(err)
	}
	return Letter{To: who, FromName: "Käse & Söhne", From: "no-reply@shop.example.net", Subject: "Bitte bestätigen Sie Ihre Wahl", Language: "de",
		Text: "Öffnen Sie diese Seite:\n\nhttps://mail.example.org/u/c/" + strings.Repeat("x", 300) + "\n", Scope: "newsletter"}
}

func checkLetter(t *testing.T, d delivered, l Letter) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(d.text))
	if err != nil {
		t.Fatal(err)
	}
	subject, _ := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	from, err := m.Header.AddressList("From")
	if d.from != "" || err != nil || len(from) != 1 || *from[0] != (mail.Address{Name: l.FromName, Address: l.From}) || subject != l.Subject ||
		m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("To") != "<"+l.To.String()+">" {
		t.Errorf("from <%s>: %v", d.from, m.Header)
	}
	for _, field := range []string{"List-Unsubscribe", "List-Unsubscribe-Post", "X-Consent-Scope"} {
		if m.Header.Get(field) != "" {
			t.Errorf("it has %s", field)
		}
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || strings.ReplaceAll(string(text), "\r\n", "\n") != l.Text {
		t.Errorf("%v:\n%s", err, text)
	}
	if from := strings.Contains(l.To.String(), "ë"); d.mail.UTF8 != from || !from && !isASCII(d.text) {
		t.Errorf("SMTPUTF8 is %v:\n%s", d.mail.UTF8, d.text)
	}
}

func TestLetter(t *testing.T) {
	for _, mode := range []Mode{Stateless, Cutthrough, Spooled} {
		t.Run(string(mode), func(t *testing.T) {
			change := withSpool(mode)
			if mode == Stateless {
				change = nil
			}
			b := start(t, change)
			for _, to := range []string{"anna@example.org", "zoë@example.org"} {
				l := letterTo(t, to)
				if err := b.SendLetter(t.Context(), l); err != nil {
					t.Fatal(err)
				}
				b.wait("the letter", func() bool { return len(b.sink.copies(to)) == 1 })
				checkLetter(t, b.sink.copies(to)[0], l)
			}
			b.halt()
			if err := b.SendLetter(t.Context(), letterTo(t, "anna@example.org")); !errors.Is(err, errStopped) {
				t.Errorf("behind the end: %v", err)
			}
		})
	}
}

// Without a spool a letter that does not get through is no success.
func TestLetterIsRefused(t *testing.T) {
	b := start(t, nil)
	b.sink.away()
	var e *Error
	if err := b.SendLetter(t.Context(), letterTo(t, "anna@example.org")); !errors.As(err, &e) || e.Code != 451 {
		t.Errorf("%v", err)
	}
}

// What the smarthost says of it goes into the log of who asked for the letter, where no address may stand.
func TestRefusedLetterNamesNobody(t *testing.T) {
	b := start(t, nil)
	var e *Error
	err := b.SendLetter(t.Context(), letterTo(t, "nobody@example.org"))
	if !errors.As(err, &e) || e.Code != 550 || strings.Contains(err.Error(), "nobody@") {
		t.Errorf("%v", err)
	}
}
