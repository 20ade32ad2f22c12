package relay

import (
	"fmt"
	"strings"
	"testing"
)

// What stands behind a sequence that some servers take for the end of the data must neither be
// obeyed nor reach the smarthost. These are the sequences of the SMTP smuggling papers of 2023
// and 2024, and what can be made of them. None is the end of data of RFC 5321 §4.1.1.4.
var falseEnds = []string{
	"\n.\n", "\n.\r\n", "\n.\r", "\r\n.\n", "\r\n.\r", "\r.\r", "\r.\r\n", "\r.\n", "\r\n.\r\r\n",
	"\r\r\n.\r\r\n", "\r\r\n.\r\n\n", "\n\n.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\x00\r\n.\x00\r\n", "\r\n.\x00\n",
	"\n\x00.\r\n", "\r\x00\n.\r\n", "\r\n.\r\x00\n", "\n.\n\r", "\n\r.\r\n", "\n\r\n.\n",
}

const smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"

// commands are what the real sender says next.
const next = "NOOP\r\nMAIL FROM:<next@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\n"

// eachWayAndEnd runs a test for each false end, on each way in.
func eachWayAndEnd(t *testing.T, test func(t *testing.T, b *testbed, c *client, end string)) {
	for name, way := range ways {
		for _, end := range falseEnds {
			t.Run(fmt.Sprintf("%s, %q", name, end), func(t *testing.T) {
				b := start(t, allWays)
				test(t, b, way(b), end)
			})
		}
	}
}

func TestSmugglingByDATA(t *testing.T) {
	eachWayAndEnd(t, func(t *testing.T, b *testbed, c *client, end string) {
		c.envelope("joe@example.com")
		c.say("DATA")
		c.expect("354")
		// The sender's server stuffs dots where it sees lines begin: behind CR LF alone.
		inner := "Subject: first\r\n\r\nfirst" + end + strings.ReplaceAll(smuggled, "\r\n.", "\r\n..")
		c.raw(inner + "\r\n.\r\n" + next)
		c.expect("554 5.6.0")
		// Then either the connection is cut, or what follows is what the sender said.
		if got, err := c.reply(); err == nil {
			if !strings.HasPrefix(got, "250 2.0.0 I have successfully done nothing") {
				t.Errorf("the reply to NOOP is %q", got)
			}
			c.expect("250")
			c.expect("250")
			c.expect("354")
			c.raw("Subject: next\r\n\r\n.\r\n")
			c.expect("250")
			if d := b.sink.last(t); d.from != "next@example.org" {
				t.Errorf("from %q", d.from)
			}
		}
		for _, d := range b.sink.got() {
			if d.from != "next@example.org" || strings.Contains(d.text, "first") || strings.Contains(d.text, "evil") {
				t.Errorf("the smarthost got %+v", d)
			}
		}
	})
}

// The same without stuffed dots, as a client sends it that does not care: nothing of it may be
// delivered, whatever is made of the rest.
func TestSmugglingWithoutStuffing(t *testing.T) {
	eachWayAndEnd(t, func(t *testing.T, b *testbed, c *client, end string) {
		c.envelope("joe@example.com")
		c.say("DATA")
		c.expect("354")
		c.raw("Subject: first\r\n\r\nfirst" + end + smuggled)
		c.expect("554 5.6.0")
		if got := b.sink.got(); len(got) != 0 {
			t.Errorf("the smarthost got %+v", got)
		}
	})
}

func TestSmugglingByBDAT(t *testing.T) {
	eachWayAndEnd(t, func(t *testing.T, b *testbed, c *client, end string) {
		c.envelope("joe@example.com")
		text := "Subject: first\r\n\r\nfirst" + end + smuggled
		c.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(text), text))
		c.expect("554 5.6.0")
		if got, err := c.reply(); err == nil && !strings.HasPrefix(got, "250 2.0.0 I have successfully done nothing") {
			t.Errorf("the reply to NOOP is %q", got)
		}
		if got := b.sink.got(); len(got) != 0 {
			t.Errorf("the smarthost got %+v", got)
		}
	})
}

// A dot that is only text comes out as it went in, at every place of a line.
func TestDotsAreText(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			b := start(t, allWays)
			c := way(b)
			text := "Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.a\r\na.\r\n. \r\n.\r\nMAIL FROM:<evil@example.org>\r\n.\r\n"
			if got := c.send("joe@example.com", text); !strings.HasPrefix(got, "250 2.0.0 ") {
				t.Fatal(got)
			}
			if d := b.sink.last(t); !strings.Contains(d.text, strings.TrimPrefix(text, "Subject: dots\r\n\r\n")) {
				t.Errorf("got %q", d.text)
			}
			if n := len(b.sink.got()); n != 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}
