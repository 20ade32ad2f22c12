package relay

import (
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite"
)

// The provider's own fields are in the copy that leaves, for who denied; where all is only observed the
// sender's stay. A field that would send this person's copy to others is refused, where that is more than observed.
func TestProviderLock(t *testing.T) {
	for _, observe := range []bool{false, true} {
		b := start(t, func(c *Config, b *testbed) {
			c.Rewrite.Lock = rewrite.Lock{Provider: rewrite.SendGrid, WithoutOpen: map[string]string{"X-Quiet": "yes"}}
			c.Observe = observe
			c.Signer, _ = newSigner(b.t)
		})
		c := b.hello()
		field := "X-SMTPAPI: {\"to\":[\"Joe@example.com\"],\"filters\":{\"opentrack\":{\"settings\":{\"enable\":1}}}}\r\n"
		if got := c.send("joe@example.com", field+newsletter); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		text := b.sink.last(t).text
		head, _, _ := strings.Cut(text, "\r\n\r\n")
		if strings.Contains(head, "X-Quiet: yes") == observe || strings.Contains(head, "\"enable\":0") == observe || strings.Contains(head, "\"enable\":1") != observe {
			t.Errorf("observe %v:\n%s", observe, head)
		}
		if got := c.send("ann@example.com", field+newsletter); strings.HasPrefix(got, "550 5.7.1") == observe {
			t.Errorf("observe %v: a copy for somebody else: %s", observe, got)
		}
	}
}
