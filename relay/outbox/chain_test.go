package outbox

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// newChain is a bench whose receiver is a sender's list: https on a loopback address, which only a test may call.
func newChain(t *testing.T) *bench {
	b := newBench(t)
	b.to = newReceiver(t, true)
	b.trust()
	return b
}

func (b *bench) trust() {
	roots := b.to.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	b.chain = chainClient(func(a netip.Addr) bool { return a.IsLoopback() }, roots)
}

// unsubscribe is what the page does.
func (b *bench) unsubscribe(mailbox, address string) {
	b.t.Helper()
	b.apply(consent.Change{Who: who(b.t, mailbox), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: b.clock.now()})
	b.Unsubscribed("r1", token.Claims{Who: who(b.t, mailbox), Scope: "news", OneClick: address}, consent.FromOneClick)
}

// notes returns what the history says that lists answered.
func (b *bench) notes(mailbox string) (all []consent.Event) {
	b.t.Helper()
	for e, err := range b.held.History(b.t.Context(), who(b.t, mailbox)) {
		must(b.t, err)
		if e.Broken != "" {
			b.t.Errorf("%+v", e)
		}
		if e.Kind == consent.Chained {
			all = append(all, e)
		}
	}
	return all
}

func (b *bench) quiet() {
	b.cfg.WebhookURL = ""
	b.store = b.held
}

func TestChain(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.run()
	address := b.to.URL + "/u?list=7&who=anna%40example.org"
	b.unsubscribe("anna@example.org", address)
	b.unsubscribe("anna@example.org", address)
	b.wait("the call", func() bool { return len(b.to.got()) > 0 && len(b.jobs()) == 0 })
	b.unsubscribe("anna@example.org", address) // once is the same as twice
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	got := b.to.got()
	if len(got) != 1 {
		t.Fatalf("%d calls", len(got))
	}
	c := got[0]
	// RFC 8058 §3.1
	if c.method != "POST" || c.path != "/u?list=7&who=anna%40example.org" || c.body != "List-Unsubscribe=One-Click" || c.contentType != "application/x-www-form-urlencoded" {
		t.Errorf("%+v", c)
	}
	if c.userAgent != "consentgate/test" || c.id != "" || c.signature != "" {
		t.Errorf("%+v", c)
	}
	notes := b.notes("anna@example.org")
	if len(notes) != 1 || !strings.HasPrefix(notes[0].Origin, "204 from 127.0.0.1 #") || notes[0].Source != consent.FromOneClick || notes[0].Scope != "news" {
		t.Errorf("%+v", notes)
	}
	if log := b.log.String(); strings.Contains(log, "list=7") || strings.Contains(log, "anna") {
		t.Errorf("the address in the log:\n%s", log)
	}
	// Subscribed again, and unsubscribed once more: the list hears of it.
	b.apply(consent.Change{Who: who(t, "anna@example.org"), Scope: "news", Mail: consent.Subscribed, Source: consent.FromPage, Time: b.clock.now()})
	b.unsubscribe("anna@example.org", address)
	b.wait("the call", func() bool { return len(b.to.got()) == 2 && len(b.jobs()) == 0 })
}

// TestChainAnswers: what is an end, and what is tried again.
func TestChainAnswers(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.run()
	b.to.header.Set("Location", "/elsewhere")
	b.to.header.Set("Set-Cookie", "a=b")
	for _, c := range []struct {
		status int
		again  bool
	}{{200, false}, {202, false}, {301, false}, {302, false}, {307, false}, {400, false}, {404, false}, {410, false}, {408, true}, {425, true}, {429, true}, {500, true}, {503, true}} {
		b.to.mu.Lock()
		b.to.calls = nil
		b.to.mu.Unlock()
		b.to.answers(func(got call) int {
			if got.path != "/u" {
				t.Errorf("a redirect was followed to %s", got.path)
			}
			return c.status
		})
		person := fmt.Sprintf("p%d@example.org", c.status)
		b.unsubscribe(person, b.to.URL+"/u")
		b.wait("a call", func() bool { return len(b.to.got()) == 1 })
		if !c.again {
			b.wait("the end", func() bool { return len(b.jobs()) == 0 })
			if n := b.notes(person); len(n) != 1 || !strings.HasPrefix(n[0].Origin, fmt.Sprint(c.status, " from ")) {
				t.Errorf("%d: %+v", c.status, n)
			}
			continue
		}
		b.wait("a note of it", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 1 })
		if n := b.notes(person); len(n) != 0 {
			t.Errorf("%d: %+v", c.status, n)
		}
		b.to.answers(nil)
		b.pass(time.Minute)
		b.wait("the end", func() bool { b.pass(time.Second); return len(b.jobs()) == 0 })
		if n := b.notes(person); len(n) != 1 || !strings.HasPrefix(n[0].Origin, "204 ") {
			t.Errorf("%d: %+v", c.status, n)
		}
	}
}

// TestChainNeverPrivate: as it is configured, no address of ours is called.
func TestChainNeverPrivate(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.chain = New(b.cfg).chain
	b.run()
	b.unsubscribe("anna@example.org", b.to.URL+"/u")
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	port := b.to.URL[strings.LastIndex(b.to.URL, ":"):]
	for i, host := range []string{"localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0"} {
		b.unsubscribe(string(rune('a'+i))+"@example.org", "https://"+host+port+"/u")
	}
	b.wait("no connection", func() bool {
		b.pass(time.Minute)
		return len(b.jobs()) == 0 || strings.Contains(b.log.String(), "no such host")
	})
	if len(b.to.got()) != 0 {
		t.Errorf("%+v", b.to.got())
	}
	if n := b.notes("anna@example.org"); len(n) != 1 || !strings.HasPrefix(n[0].Origin, "not a public address from 127.0.0.1 #") {
		t.Errorf("%+v", n)
	}
}

// TestChainRestart: it survives one, and is given up after a day, which the history says.
func TestChainRestart(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.to.answers(always(http.StatusServiceUnavailable))
	b.run()
	b.unsubscribe("anna@example.org", b.to.URL+"/u")
	b.wait("a note of it", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 1 })
	b.restart()
	b.trust()
	b.run()
	b.wait("another call", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 2 })
	b.pass(25 * time.Hour)
	b.wait("the end", func() bool { b.wake(); return len(b.jobs()) == 0 })
	if n := b.notes("anna@example.org"); len(n) != 1 || !strings.HasPrefix(n[0].Origin, "given up: 503 from 127.0.0.1 #") {
		t.Errorf("%+v", n)
	}
}

// TestChainTakenBack: who has subscribed again meanwhile is not taken off the sender's list, and is once it is said again.
func TestChainTakenBack(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.unsubscribe("anna@example.org", b.to.URL+"/u")
	b.apply(consent.Change{Who: who(t, "anna@example.org"), Scope: "news", Mail: consent.Subscribed, Source: consent.FromPage, Time: b.clock.now()})
	b.run()
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	if len(b.to.got()) != 0 {
		t.Errorf("%+v", b.to.got())
	}
	b.unsubscribe("anna@example.org", b.to.URL+"/u")
	b.wait("a call", func() bool { return len(b.to.got()) == 1 && len(b.jobs()) == 0 })
}

// TestChainWaitsForUndo: what was done on the page is told when it cannot be undone there any more.
func TestChainWaitsForUndo(t *testing.T) {
	b := newChain(t)
	b.quiet()
	claims := token.Claims{Who: who(t, "anna@example.org"), Scope: "news", OneClick: b.to.URL + "/u"}
	b.apply(consent.Change{Who: claims.Who, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromPage, Time: b.clock.now()})
	b.Unsubscribed("r1", claims, consent.FromPage)
	b.pass(token.UndoTime - time.Minute)
	if l, _ := b.next(); l != nil || len(b.jobs()) != 1 {
		t.Fatal("it is told at once")
	}
	b.pass(time.Minute)
	b.run()
	b.wait("a call", func() bool { return len(b.to.got()) == 1 && len(b.jobs()) == 0 })
}

// TestChainErased: of an erased person nobody is told anything, and nothing comes back.
func TestChainErased(t *testing.T) {
	b := newChain(t)
	b.quiet()
	b.unsubscribe("anna@example.org", b.to.URL+"/u")
	b.unsubscribe("ben@example.org", b.to.URL+"/u")
	must(t, b.Forget(who(t, "anna@example.org")))
	must(t, b.held.Erase(t.Context(), who(t, "anna@example.org")))
	must(t, b.held.Erase(t.Context(), who(t, "ben@example.org"))) // by another gateway
	if len(b.jobs()) != 1 {
		t.Errorf("%d jobs", len(b.jobs()))
	}
	b.run()
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	if len(b.to.got()) != 0 || len(b.notes("ben@example.org")) != 0 {
		t.Errorf("%+v", b.to.got())
	}
}

func TestParseOneClick(t *testing.T) {
	for address, good := range map[string]bool{
		"https://lists.example.org/u/1":                          true,
		"https://lists.example.org:8443/u?a=b":                   true,
		"http://lists.example.org/u":                             false,
		"https://user@lists.example.org/u":                       false,
		"https:///u":                                             false,
		"https:lists.example.org":                                false,
		"mailto:a@example.org":                                   false,
		"https://lists.example.org/ü":                            false,
		"https://lists.example.org/a b":                          false,
		"https://lists.example.org/\r\nX: y":                     false,
		"https://lists.example.org/" + strings.Repeat("x", 1024): false,
		"": false,
	} {
		if _, err := ParseOneClick(address); (err == nil) != good {
			t.Errorf("%.60q: %v", address, err)
		}
	}
}

func TestPublicOnly(t *testing.T) {
	for address, public := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.0": true, "223.255.255.255": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "127.0.0.1": false, "127.255.255.255": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false,
		"240.0.0.1": false, "255.255.255.255": false,

		"2606:4700::1111": true, "2a00:1450:4001::1": true, "64:ff9b::8.8.8.8": true,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::8.8.8.8": false,
		"64:ff9b::127.0.0.1": false, "64:ff9b::10.1.2.3": false, "64:ff9b::169.254.169.254": false, "64:ff9b:1::8.8.8.8": false,
		"100::1": false, "fc00::1": false, "fd12:3456::1": false, "fe80::1": false, "fec0::1": false, "ff02::1": false, "ff0e::1": false,
		"2001::1": false, "2001:db8::1": false, "2001:10::1": false, "2002:7f00:1::": false, "2002:808:808::1": false, "3fff::1": false, "4000::1": false, "5f00::1": false,
	} {
		if got := publicOnly(netip.MustParseAddr(address)); got != public {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !publicOnly(netip.MustParseAddr("::ffff:8.8.8.8")) {
		t.Error("a mapped public address is public")
	}
}

// TestPlainWebhook: without TLS it leaves no private network, whatever its name says.
func TestPlainWebhook(t *testing.T) {
	b := newBench(t)
	b.webhook = webhookClient("http://hooks.example.org")
	b.cfg.WebhookURL = "http://8.8.8.8:9/"
	if a := b.post(t.Context(), "x", nil); a.said != notPublic {
		t.Error(a.said)
	}
	b.cfg.WebhookURL = b.to.URL
	if a := b.post(t.Context(), "x", nil); !a.done {
		t.Error(a.said)
	}
	b.webhook.CloseIdleConnections()
}
