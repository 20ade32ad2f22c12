package relay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Peers that may not send without a login leave room for those that may, and one address for others; who
// logs in counts no more as one of them.
func TestStrangersLeaveRoom(t *testing.T) {
	const most = 16 // so strangers have 12, one address 4
	b := start(t, func(c *Config, b *testbed) {
		logins(c, b)
		c.MaxConnections = most
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	// come connects from an address and returns the greeting; "-" is a balancer that names nobody.
	come := func(from string) (*client, string) {
		t.Helper()
		c := b.dial()
		switch {
		case from == "-":
			c.raw("PROXY UNKNOWN\r\n")
		case strings.Contains(from, ":"):
			c.raw("PROXY TCP6 " + from + " 2001:db8::1 50000 25\r\n")
		default:
			c.raw("PROXY TCP4 " + from + " 198.51.100.1 50000 25\r\n")
		}
		got, err := c.reply()
		if err != nil {
			t.Fatalf("from %s: %v", from, err)
		}
		return c, got
	}
	in := func(from string) *client {
		t.Helper()
		c, got := come(from)
		if !strings.HasPrefix(got, "220 ") {
			t.Fatalf("from %s: %q", from, got)
		}
		return c
	}
	out := func(from string) {
		t.Helper()
		c, got := come(from)
		if !strings.HasPrefix(got, "421 4.7.0 gate.example.org too many connections") {
			t.Fatalf("from %s: %q", from, got)
		}
		c.expectEnd()
	}
	var first *client
	for i := range 4 {
		if c := in("203.0.113.1"); i == 0 {
			first = c
		}
	}
	out("203.0.113.1")
	for i := range 4 { // one subscriber's network
		in(fmt.Sprintf("2001:db8:1:2::%d", i+1))
	}
	out("2001:db8:1:2:ffff::1")
	in("2001:db8:1:3::1")
	in("203.0.113.2")
	for i := range 2 {
		in(fmt.Sprintf("203.0.113.%d", i+3))
	}
	out("203.0.113.9")
	b.counts(t, map[string]float64{"smtp_connections_refused_total": 3})
	// All twelve are taken. The balancer's own check has one of the rest, and a known peer another.
	in("-").raw("QUIT\r\n")
	c := in("192.0.2.1")
	c.say("EHLO client.example.org")
	c.expect("250")
	if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	// Who logs in makes room, also on the far side of STARTTLS.
	first.say("EHLO client.example.org")
	first.expect("250")
	first.say("STARTTLS")
	first.expect("220")
	first.handshake()
	first.say("EHLO client.example.org")
	first.expect("250")
	out("203.0.113.1")
	first.say("AUTH PLAIN AHNob3AAc2VjcmV0")
	first.expect("235")
	again := in("203.0.113.1")
	out("203.0.113.1")
	// And so does who leaves.
	again.say("QUIT")
	again.expect("221")
	again.expectEnd()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, got := come("203.0.113.1"); strings.HasPrefix(got, "220 ") {
			break
		} else if time.Now().After(deadline) { // the place is free once the server has closed too
			t.Fatal(got)
		}
	}
}

// A stranger who asks and asks is sent away; a known sender is not, nor one who sends messages.
func TestStrangerSaysTooMuch(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) {
		c.MailTo = requestAddress
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	from := func(address string) *client {
		c := b.dial()
		c.raw("PROXY TCP4 " + address + " 198.51.100.1 50000 25\r\n")
		c.expect("220")
		c.say("EHLO client.example.org")
		c.expect("250")
		return c
	}
	c := from("203.0.113.1")
	for range maxCommands - 1 {
		c.say("NOOP")
		c.expect("250")
	}
	c.say("NOOP")
	c.expect("421 4.7.0 gate.example.org too many commands")
	c.expectEnd()
	// Of a command that comes in two pieces the first is not taken for another one.
	c = from("203.0.113.1")
	for range maxCommands - 1 {
		c.say("NOOP")
		c.expect("250")
	}
	c.raw("NOOP")
	time.Sleep(50 * time.Millisecond)
	c.raw(" again\r\n")
	c.expect("421 4.7.0 gate.example.org too many commands")
	c.expectEnd()
	// What is said at once is answered in order.
	c = from("203.0.113.1")
	c.raw(strings.Repeat("NOOP\r\n", 2*maxCommands))
	for range maxCommands - 1 {
		c.expect("250")
	}
	c.expect("421 4.7.0 gate.example.org too many commands")
	c.expectEnd()
	c = from("203.0.113.2")
	for range maxCommands { // each is refused, and is a message
		if got := c.send(requestAddress, "Subject: no token\r\n\r\n"); got[0] != '4' && got[0] != '5' || strings.HasPrefix(got, "421") {
			t.Fatal(got)
		}
	}
	c = from("192.0.2.1")
	for range 2 * maxCommands {
		c.say("NOOP")
		c.expect("250")
	}
}

// However a stranger's connection ends, it counts no more.
func TestStrangersAreForgotten(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		logins(c, b)
		c.AllowNetworks = nil
	})
	hello := []string{"EHLO client.example.org"}
	startTLS := append(hello, "STARTTLS")
	for name, script := range map[string]struct {
		protocol string
		plain    []string
		secure   bool
		behind   []string // under TLS
	}{
		"says nothing":              {"smtp", nil, false, nil},
		"says nothing under TLS":    {"smtps", nil, false, nil},
		"no handshake":              {"smtps", hello, false, nil},
		"leaves":                    {"smtp", append(hello, "QUIT"), false, nil},
		"breaks off a transaction":  {"smtp", append(hello, "MAIL FROM:<news@example.org>"), false, nil},
		"a bare CR":                 {"smtp", append(hello, "NO\rOP"), false, nil},
		"STARTTLS and nothing":      {"smtp", startTLS, false, nil},
		"STARTTLS and no handshake": {"smtp", append(startTLS, "this is no TLS"), false, nil},
		"a command in plain text":   {"smtp", []string{"EHLO client.example.org\r\nSTARTTLS\r\nNOOP"}, false, nil},
		"STARTTLS":                  {"smtp", startTLS, true, append(hello, "QUIT")},
		"a login":                   {"smtp", startTLS, true, append(hello, "AUTH PLAIN AHNob3AAc2VjcmV0")},
		"a login under TLS":         {"smtps", nil, true, append(hello, "AUTH PLAIN AHNob3AAc2VjcmV0", "QUIT")},
		"wrong logins":              {"smtps", nil, true, append(hello, "AUTH PLAIN AHNob3AAd3Jvbmc=", "AUTH PLAIN AHNob3AAd3Jvbmc=", "AUTH PLAIN AHNob3AAd3Jvbmc=")},
		"by LMTP":                   {"lmtp", []string{"LHLO client.example.org", "STARTTLS"}, true, []string{"LHLO client.example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.dialTo(script.protocol)
			talk := func(lines []string) {
				for _, line := range lines {
					c.raw(line + "\r\n")
					if _, err := c.reply(); err != nil {
						return
					}
				}
			}
			if script.protocol != "smtps" {
				c.expect("220")
			}
			talk(script.plain)
			if script.secure {
				c.handshake()
				if script.protocol == "smtps" {
					c.expect("220")
				}
				talk(script.behind)
			}
			open := func() int {
				b.pool.mu.Lock()
				defer b.pool.mu.Unlock()
				return len(b.pool.conns)
			}
			if script.plain == nil && !script.secure {
				b.wait("its begin", func() bool { return open() == 1 })
			}
			c.Close()
			b.wait("its end", func() bool { return open() == 0 })
			b.pool.mu.Lock()
			defer b.pool.mu.Unlock()
			if b.pool.strange != 0 || len(b.pool.strangers) != 0 {
				t.Errorf("%d strangers, %v", b.pool.strange, b.pool.strangers)
			}
		})
	}
}
