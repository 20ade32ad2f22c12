package relay

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Lines about strangers are bounded in number, and the next that is written says how many are missing.
func TestUnsaid(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	u := newUnsaid(func() time.Time { return now })
	written := 0
	for range 3 * strangerBurst {
		if ok, skipped := u.may(); ok {
			written++
			if skipped != 0 {
				t.Errorf("%d lines were left out, too early", skipped)
			}
		}
	}
	if written != strangerBurst {
		t.Errorf("%d lines", written)
	}
	now = now.Add(time.Second)
	for i := range strangerLines {
		ok, skipped := u.may()
		if want := []int{2 * strangerBurst, 0}[min(i, 1)]; !ok || skipped != want {
			t.Errorf("line %d: %v, %d were left out", i, ok, skipped)
		}
	}
	if ok, _ := u.may(); ok {
		t.Error("more than a second's lines")
	}
	now = now.Add(-time.Hour) // the clock is set back
	if ok, _ := u.may(); ok {
		t.Error("the past makes room")
	}
}

// Strangers who are refused again and again do not fill the log; a known sender's refusals are all there.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	refuse := func(from string, times int) {
		for left := times; left > 0; left -= 50 {
			c := b.dial()
			c.raw("PROXY TCP4 " + from + " 198.51.100.1 50000 25\r\n")
			c.expect("220")
			c.say("EHLO client.example.org")
			c.expect("250")
			for range 50 {
				c.say("MAIL FROM:<news@example.org> SIZE=99999999")
				if got, err := c.reply(); err != nil || got[0] != '5' {
					t.Fatalf("%q, %v", got, err)
				}
			}
			c.Close()
		}
	}
	refuse("203.0.113.1", strangerBurst+200)
	if n := strings.Count(b.log.String(), "peer=203.0.113.1"); n > strangerBurst+20 {
		t.Errorf("%d lines about a stranger", n)
	}
	refuse("192.0.2.1", strangerBurst+200)
	if n := strings.Count(b.log.String(), "peer=192.0.2.1 command=MAIL"); n != strangerBurst+200 {
		t.Errorf("%d lines about a known sender", n)
	}
}

// Nor do those whose mail to the unsubscribe address holds no token.
func TestRequestsDoNotFillTheLog(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) {
		c.MailTo = requestAddress
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = nil
	})
	c := b.dial()
	c.raw("PROXY TCP4 203.0.113.1 198.51.100.1 50000 25\r\n")
	c.expect("220")
	c.say("EHLO client.example.org")
	c.expect("250")
	for range strangerBurst + 200 {
		if got := c.send(requestAddress, "Subject: no token\r\n\r\n"); got[0] != '4' && got[0] != '5' {
			t.Fatal(got)
		}
	}
	if n := strings.Count(b.log.String(), "level=WARN"); n > strangerBurst+20 {
		t.Errorf("%d lines", n)
	}
}
