package relay

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

// TestGuard: what leaves with consent leads to the guard, for this person and scope and with the sender's address
// sealed; without consent, and where only observed, all is as it is without the guard.
func TestGuard(t *testing.T) {
	const pixel, counter = "https://open.convertkit-mail4.com/ab12cd34ef", "https://click.pstmrk.it/3s/www.example.org%2Foffer/abc/def/ghi"
	const mail = "From: news@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\nX-Consent-Scope: news\r\nX-Consent-Language: de\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
		`<p><img src="` + pixel + `" alt=""><a href="` + counter + `">offer</a></p>` + "\r\n"
	guarded := regexp.MustCompile(`https://t\.example\.org/x/t/([A-Za-z0-9_-]+)`)
	ring := keyring.Ephemeral()
	for _, observe := range []bool{false, true} {
		b := start(t, func(c *Config, _ *testbed) {
			c.GuardURL, c.Hits, c.Observe = "https://t.example.org/x/", token.NewHits(ring), observe
		})
		c := b.hello()
		text := func(to string) string {
			t.Helper()
			if got := c.send(to, mail); !strings.HasPrefix(got, "250") {
				t.Fatal(got)
			}
			_, body, _ := strings.Cut(b.sink.last(t).text, "\r\n\r\n")
			if strings.Contains(b.sink.last(t).text, "quoted-printable") {
				plain, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader([]byte(body))))
				if err != nil {
					t.Fatal(err)
				}
				body = string(plain)
			}
			return body
		}
		both, none := text("both@example.com"), text("joe@example.com")
		if n := len(guarded.FindAllString(none, -1)); n != 0 {
			t.Errorf("observe %v: without consent %d guarded addresses:\n%s", observe, n, none)
		}
		if observe {
			if !strings.Contains(both, pixel) || guarded.MatchString(both) {
				t.Errorf("observed only:\n%s", both)
			}
			continue
		}
		if strings.Contains(both, pixel) || strings.Contains(both, counter) {
			t.Errorf("the sender's addresses are left:\n%s", both)
		}
		found := guarded.FindAllStringSubmatch(both, -1)
		if len(found) != 2 {
			t.Fatalf("%d guarded addresses:\n%s", len(found), both)
		}
		who, err := consent.ParseAddress("both@example.com")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []token.Hit{
			{Who: who, Scope: "news", Purpose: consent.Open, URL: pixel},
			{Who: who, Scope: "news", Purpose: consent.Click, URL: counter, Destination: "https://www.example.org/offer"},
		} {
			if got, err := token.NewHits(ring).Open(found[i][1]); err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		}
	}
}
