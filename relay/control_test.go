package relay

import (
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// What became of somebody's own mail reaches them though they have unsubscribed, and though the store does not answer. Marketing
// cannot hide behind that: not from a sender of its own, and not where no transactional mail may be sent.
func TestMachineMailIsNoMarketing(t *testing.T) {
	bounce := "Auto-Submitted: auto-replied\r\n" + newsletter
	send := func(t *testing.T, from, message string, change func(*Config, *testbed)) (string, *testbed) {
		t.Helper()
		b := start(t, change)
		b.store.set("joe", consent.Denied, consent.Unsubscribed)
		c := b.hello()
		c.say("MAIL FROM:<%s>", from)
		c.expect("250")
		c.say("RCPT TO:<joe@example.com>")
		c.expect("250")
		c.say("DATA")
		c.expect("354")
		c.raw(message + "\r\n.\r\n")
		got, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		return got, b
	}
	got, b := send(t, "", bounce, nil)
	if !strings.HasPrefix(got, "250 ") {
		t.Errorf("a bounce: %s", got)
	} else if text := b.sink.last(t).text; strings.Contains(text, "open.gif") || strings.Contains(text, "mail.example.org") {
		t.Errorf("its copy has trackers or a link:\n%s", text)
	}
	if got, _ := send(t, "", bounce, func(_ *Config, b *testbed) { b.store.err = consent.ErrUnreachable }); !strings.HasPrefix(got, "250 ") {
		t.Errorf("a bounce while the store is away: %s", got)
	}
	onlyMarketing := func(c *Config, _ *testbed) { c.Classes = []consent.Class{consent.Marketing} }
	for name, try := range map[string]struct {
		from, message string
		change        func(*Config, *testbed)
	}{
		"with a sender":      {"news@example.org", bounce, nil},
		"not automatic":      {"", newsletter, nil},
		"no answer":          {"", "Auto-Submitted: auto-generated\r\n" + newsletter, nil},
		"called marketing":   {"", "X-Consent-Class: marketing\r\n" + bounce, nil},
		"only marketing may": {"", bounce, onlyMarketing},
	} {
		if got, _ := send(t, try.from, try.message, try.change); !strings.HasPrefix(got, "550 5.7.1 the recipient has unsubscribed") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A message that the smarthost sends back here goes round no more than five times. What others have sent, under whatever name,
// and what this gateway sent to somebody else before, is no loop.
func TestLoop(t *testing.T) {
	b := start(t, nil)
	c := b.hello()
	next := newsletter
	for range maxOwnReceived {
		if got := c.send("joe@example.com", next); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
		next = b.sink.last(t).text
	}
	if got := c.send("joe@example.com", next); !strings.HasPrefix(got, "554 5.4.6 mail loop: ") {
		t.Errorf("%s", got)
	}
	if got := c.send("JOE@example.com", next); !strings.HasPrefix(got, "554 5.4.6 mail loop: ") {
		t.Errorf("%s", got)
	}
	if got := c.send("team@example.com", next); !strings.HasPrefix(got, "250 ") {
		t.Errorf("a list that sends it to somebody else: %s", got)
	}
	postfix := strings.Repeat("Received: from localhost (localhost [127.0.0.1])\r\n\tby gate.example.org (Postfix) with ESMTP id 4C1bXz0Jzqz9s0\r\n"+
		"\tfor <joe@example.com>; Mon, 2 Nov 2026 10:00:00 +0000 (UTC)\r\n", 20)
	if got := c.send("joe@example.com", postfix+newsletter); !strings.HasPrefix(got, "250 ") {
		t.Errorf("a Postfix of the same name: %s", got)
	}
}
