package relay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/outbox"
)

const requestAddress = "unsubscribe@gate.example.org"

// strangers lets nobody send but to the unsubscribe address.
func strangers(c *Config, b *testbed) {
	allWays(c, b)
	withSpool(Cutthrough)(c, b)
	c.MailTo, c.Chain, c.AllowNetworks = requestAddress, true, nil
}

func (b *testbed) token() string {
	b.t.Helper()
	who, err := consent.ParseAddress("anna@example.org")
	if err != nil {
		b.t.Fatal(err)
	}
	return token.New(b.ring).Seal(token.Claims{Who: who, Scope: "newsletter", OneClick: "https://lists.example.org/u/7"})
}

func request(subject string) string {
	return "From: Somebody <other@example.net>\r\nTo: " + requestAddress + "\r\nSubject: " + subject + "\r\n\r\nhello\r\n"
}

func TestRequest(t *testing.T) {
	var told []token.Claims
	b := start(t, func(c *Config, b *testbed) {
		strangers(c, b)
		c.Unsubscribed = func(id string, claims token.Claims, source consent.Source) {
			if !strings.HasSuffix(id, "-001") {
				t.Error(id)
			}
			if source != consent.FromMailto {
				t.Error(source)
			}
			told = append(told, claims)
		}
	})
	tok := b.token()
	half := len(tok) / 2
	for name, subject := range map[string]string{
		"plain":           tok,
		"answered":        "Re: " + tok,
		"forwarded":       "Fwd: Re: AW: " + tok + " (unsubscribe)",
		"among words":     "please unsubscribe <" + tok + ">, thanks",
		"folded":          tok[:half] + "\r\n " + tok[half:],
		"folded often":    "Re:\r\n\t" + tok[:30] + "\r\n " + tok[30:60] + "\r\n " + tok[60:] + "\r\n (x)",
		"encoded":         "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("Re: "+tok)) + "?=",
		"encoded by Q":    "=?iso-8859-1?Q?" + strings.ReplaceAll(tok, "_", "=5F") + "?=",
		"encoded pieces":  "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(tok[:half])) + "?=\r\n =?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(tok[half:])) + "?=",
		"unknown charset": "=?x-unknown?B?" + base64.StdEncoding.EncodeToString([]byte(tok)) + "?=",
		"second subject":  "hello\r\nSubject: " + tok,
		"from a machine":  tok + "\r\nAuto-Submitted: auto-generated\r\nPrecedence: bulk",
		"as a report":     tok + "\r\nContent-Type: multipart/report; boundary=x",
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			told = nil
			c := b.hello()
			if got := c.send(requestAddress, request(subject)); !strings.HasPrefix(got, "250 2.0.0 ") {
				t.Fatal(got)
			}
			changes := b.store.changes()
			if len(changes) != 1 || changes[0].Who.String() != "anna@example.org" || changes[0].Scope != "newsletter" || changes[0].Mail != consent.Unsubscribed ||
				changes[0].Source != consent.FromMailto || changes[0].Check() != nil {
				t.Errorf("%+v", changes)
			}
			if len(told) != 1 || told[0].OneClick != "https://lists.example.org/u/7" {
				t.Errorf("%+v", told)
			}
			c.say("QUIT")
			c.expect("221")
		})
	}
	b.t = t
	if n := strings.Count(b.log.String(), "unsubscribed by mail"); n != 13 {
		t.Errorf("%d in the log", n)
	}

	// A forged sender, the null sender, the address in other spellings, by chunks and by LMTP.
	c := b.hello()
	c.say("MAIL FROM:<>")
	c.expect("250")
	c.say("RCPT TO:<Unsubscribe@GATE.example.ORG>")
	c.expect("250")
	c.say("RCPT TO:<%s>", requestAddress)
	c.expect("250")
	text := request(tok)
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
	c.expect("250 2.0.0 ")
	lmtp := b.dialTo("lmtp")
	lmtp.expect("220")
	lmtp.say("LHLO x.example.net")
	lmtp.expect("250")
	if got := lmtp.send(requestAddress, text); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Error(got)
	}
	if n := len(b.store.changes()); n != 2 {
		t.Errorf("%d changes", n)
	}
	if n := len(b.sink.got()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
	if log := b.log.String(); strings.Contains(log, tok) || strings.Contains(log, "anna@") || !strings.Contains(log, "a•••@example.org") {
		t.Errorf("the log:\n%s", log)
	}
}

func TestRequestRefused(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		strangers(c, b)
		c.Unsubscribed = func(string, token.Claims, consent.Source) { t.Error("told of") }
	})
	tok := b.token()
	who, err := consent.ParseAddress("anna@example.org")
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(tok)
	flipped[40] ^= 1
	foreign := token.New(keyring.Ephemeral()).Seal(token.Claims{Who: who, Scope: "newsletter"})
	answers := map[string]bool{}
	for name, text := range map[string]string{
		"none":        request("unsubscribe"),
		"empty":       request(""),
		"flipped":     request(string(flipped)),
		"cut":         request(tok[:len(tok)-1]),
		"foreign":     request(foreign),
		"many pieces": request(strings.Repeat("a ", 20000)),
		"no subject":  "From: x@example.net\r\n\r\n" + tok + "\r\n",
		"in the body": request("hello") + "Subject: " + tok + "\r\n",
		"nothing":     "",
	} {
		got := b.hello().send(requestAddress, text)
		answers[regexp.MustCompile(`\S+$`).ReplaceAllString(got, "")] = true
		if !strings.HasPrefix(got, "550 5.7.1 nobody was unsubscribed") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(answers) != 1 {
		t.Errorf("they differ: %v", answers)
	}
	if got := b.hello().send(requestAddress, request(tok)+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1100)); !strings.HasPrefix(got, "552 5.3.4") {
		t.Error(got)
	}
	if got := b.hello().send(requestAddress, request(tok)+"a\nb\r\n"); !strings.HasPrefix(got, "554 5.6.0") {
		t.Error(got)
	}
	b.store.fail(errStoreDown)
	if got := b.hello().send(requestAddress, request(tok)); !strings.HasPrefix(got, "451 4.3.0 ") || strings.Contains(got, "10.9.8.7") {
		t.Error(got)
	}
	if n := len(b.store.changes()); n != 0 {
		t.Errorf("%d changes", n)
	}
	if len(b.sink.got()) != 0 {
		t.Error("something was sent")
	}
}

// TestRequestsOpenNothing: it is one address that strangers may write to.
func TestRequestsOpenNothing(t *testing.T) {
	b := start(t, strangers)
	c := b.hello()
	c.say("MAIL FROM:<x@example.net>")
	c.expect("250")
	for _, to := range []string{"joe@example.com", "postmaster@gate.example.org", "unsubscribe+x@gate.example.org", "unsubscribe@example.org", "unsubscribe@x.gate.example.org"} {
		c.say("RCPT TO:<%s>", to)
		c.expect("530 5.7.0")
	}
	c.say("DATA")
	c.expect("502")
	c.say("RCPT TO:<%s>", requestAddress)
	c.expect("250")
	c.say("RCPT TO:<joe@example.com>")
	c.expect("530 5.7.0")
	c.say("RCPT TO:<@example.com:%s>", requestAddress) // a source route is dropped, RFC 5321 §4.1.1.3
	if got, _ := c.reply(); !strings.HasPrefix(got, "250") && !strings.HasPrefix(got, "50") {
		t.Error(got)
	}
	c.say("DATA")
	c.expect("354")
	c.raw(request(b.token()) + ".\r\n")
	c.expect("250")

	// Without the address, strangers do not come as far as that.
	none := start(t, func(c *Config, b *testbed) { c.AllowNetworks = nil })
	c = none.hello()
	c.say("MAIL FROM:<x@example.net>")
	c.expect("530 5.7.0")
}

// TestRequestAmongMail: our own senders' mail to the address is a request, too, and goes alone.
func TestRequestAmongMail(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.MailTo = requestAddress
	})
	c := b.hello()
	c.envelope("joe@example.com")
	c.say("RCPT TO:<%s>", requestAddress)
	c.expect("452 4.5.3 mail to the unsubscribe address")
	c.say("RSET")
	c.expect("250")
	c.envelope(requestAddress)
	c.say("RCPT TO:<joe@example.com>")
	c.expect("452 4.5.3 mail to the unsubscribe address")
	c.say("RSET")
	c.expect("250")
	if got := c.send(requestAddress, newsletter); !strings.HasPrefix(got, "550 5.7.1") {
		t.Error(got)
	}
	if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") || len(b.sink.got()) != 1 {
		t.Error(got)
	}
}

// TestShortestToken: no token is too short to be looked at.
func TestShortestToken(t *testing.T) {
	b := start(t, strangers)
	who, err := consent.ParseAddress("a@b")
	if err != nil {
		t.Fatal(err)
	}
	short := token.New(b.ring).Seal(token.Claims{Who: who, Scope: "a"})
	if claims, found := b.claimsIn([]string{"Re: " + short}, true); !found || claims.Who != who || len(short) != minToken {
		t.Errorf("%q: %v", short, found)
	}
}

// TestManySubjects: a stranger's header costs little, and a token that stands behind all of it in one piece counts.
func TestManySubjects(t *testing.T) {
	b := start(t, strangers)
	tok := b.token()
	subjects := slices.Repeat([]string{strings.Repeat("AQ"+strings.Repeat("A", minToken)+" ", maxPieces)}, 30)
	if _, found := b.claimsIn(append(subjects, tok[:60]+" "+tok[60:]), true); found {
		t.Error("pieces are put together without end")
	}
	if _, found := b.claimsIn(append(subjects, "Re: "+tok), true); !found {
		t.Error("the token is not found")
	}
}

// TestGuessers have to wait, and nobody else; a true request from where they come from goes through.
func TestGuessers(t *testing.T) {
	var a attempts
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	six, near := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	// Those that share a slot by chance wait for each other.
	for a.slot(one, now) == a.slot(six, now) || a.slot(one, now) == a.slot(netip.Addr{}, now) || a.slot(six, now) == a.slot(netip.Addr{}, now) {
		a = attempts{}
	}
	for range maxAttempts {
		if !a.allow(one, now) || !a.allow(near, now) {
			t.Fatal("too early")
		}
		a.failed(one, now)
		a.failed(six, now)
	}
	if a.allow(one, now) || a.allow(near, now) || !a.allow(netip.Addr{}, now) {
		t.Error("who guesses goes on")
	}
	if a.slot(one, now) != a.slot(other, now) && !a.allow(other, now) {
		t.Error("another has to wait")
	}
	if now = now.Add(attemptPeriod); !a.allow(one, now) {
		t.Error("nothing is forgotten")
	}

	b := start(t, strangers)
	c := b.hello()
	for range maxAttempts {
		c.send(requestAddress, request("hello"))
	}
	if got := c.send(requestAddress, request("hello")); !strings.HasPrefix(got, "450 4.7.1") {
		t.Error(got)
	}
	if got := c.send(requestAddress, request("Re: "+b.token())); !strings.HasPrefix(got, "250") || len(b.store.changes()) != 1 {
		t.Error(got)
	}
}

// TestChainedLinks: the sender's own one-click address goes into the tokens where it fits.
func TestChainedLinks(t *testing.T) {
	for name, c := range map[string]struct {
		own          string // fields of the message
		chain        bool
		class        string
		header, text string // what the tokens hold
		counted      float64
	}{
		"a pair": {own: "List-Unsubscribe: <mailto:x@example.org>,\r\n <https://lists.example.org/u?a=1&b=2>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
			chain: true, header: "https://lists.example.org/u?a=1&b=2", text: "https://lists.example.org/u?a=1&b=2"},
		"folded within": {own: "List-Unsubscribe: <https://lists.example.org/\r\n u/1>\r\nList-Unsubscribe-Post: list-unsubscribe=one-click\r\n",
			chain: true, header: "https://lists.example.org/u/1", text: "https://lists.example.org/u/1"},
		"switched off": {own: "List-Unsubscribe: <https://lists.example.org/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"},
		"no post":      {own: "List-Unsubscribe: <https://lists.example.org/u/1>\r\n", chain: true},
		"two pairs": {own: "List-Unsubscribe: <https://lists.example.org/u/1>\r\nList-Unsubscribe: <https://lists.example.org/u/2>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
			chain: true},
		"http":          {own: "List-Unsubscribe: <http://lists.example.org/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", chain: true},
		"transactional": {own: "List-Unsubscribe: <https://lists.example.org/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", chain: true, class: "X-Consent-Class: transactional\r\n"},
		"longer than the text takes": {own: "List-Unsubscribe: <https://lists.example.org/" + strings.Repeat("x", 350) + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
			chain: true, header: "https://lists.example.org/" + strings.Repeat("x", 350)},
		"too long": {own: "List-Unsubscribe: <https://lists.example.org/" + strings.Repeat("x", 700) + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
			chain: true, counted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(cfg *Config, _ *testbed) { cfg.MailTo, cfg.Chain = requestAddress, c.chain })
			if got := b.hello().send("joe@example.com", c.own+c.class+newsletter); !strings.HasPrefix(got, "250") {
				t.Fatal(got)
			}
			sent := b.sink.last(t).text
			for i, line := range strings.Split(sent, "\r\n") {
				if len(line) > 998 {
					t.Errorf("line %d has %d characters", i, len(line))
				}
			}
			links := token.New(b.ring)
			holds := func(where, what string) string {
				t.Helper()
				m := regexp.MustCompile(what).FindStringSubmatch(where)
				if m == nil {
					t.Fatalf("no %s in\n%s", what, where)
				}
				claims, err := links.Open(m[1])
				if err != nil || claims.Who.String() != "joe@example.com" || claims.Scope != "default" {
					t.Errorf("%+v, %v", claims, err)
				}
				return claims.OneClick
			}
			_, body, _ := strings.Cut(sent, "\r\n\r\n")
			if got := holds(strings.ReplaceAll(body, "=\r\n", ""), `https://mail\.example\.org/u/([\w-]+)`); got != c.text {
				t.Errorf("the text holds %q", got)
			}
			if c.class == "" {
				for _, what := range []string{`List-Unsubscribe: <https://mail\.example\.org/u/([\w-]+)>`, `<mailto:unsubscribe@gate\.example\.org\?subject=([\w-]+)>`} {
					if got := holds(header(sent), what); got != c.header {
						t.Errorf("%s holds %q", what, got)
					}
				}
			}
			if c.header != "" { // a second passage keeps the sender's, and does not wrap ours
				if got := b.hello().send("joe@example.com", sent); !strings.HasPrefix(got, "250") {
					t.Fatal(got)
				}
				if got := holds(header(b.sink.last(t).text), `List-Unsubscribe: <https://mail\.example\.org/u/([\w-]+)>`); got != c.header {
					t.Errorf("a second passage: %q", got)
				}
			}
			if n := b.counted(t, "unchained_total"); n != c.counted || strings.Contains(b.log.String(), "not_chained") != (n > 0) || strings.Contains(b.log.String(), "xxxx") {
				t.Errorf("%v counted; log:\n%s", n, b.log)
			}
		})
	}
}

// TestCopied: what became of each copy for good is told once.
func TestCopied(t *testing.T) {
	var told []outbox.Copy
	b := start(t, func(c *Config, _ *testbed) { c.Copied = func(o outbox.Copy) { told = append(told, o) } })
	c := b.hello()
	var want []string
	for _, to := range []struct{ local, fate string }{{"joe", "accepted 250"}, {"gone", "suppressed 0"}, {"nobody", "refused 550"}, {"later", ""}} {
		c.send(to.local+"@example.com", newsletter)
		if to.fate != "" {
			want = append(want, to.local+"@example.com "+to.fate)
		}
	}
	var got []string
	for _, o := range told {
		got = append(got, fmt.Sprint(o.Who, " ", o.Fate, " ", o.Code))
		if o.Message == "" || o.Scope != "default" || o.Class != consent.Marketing || o.Time.IsZero() {
			t.Errorf("%+v", o)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestCopyExpired: that a copy is given up is told, too.
func TestCopyExpired(t *testing.T) {
	told := make(chan outbox.Copy, 10)
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.RetryFor, c.Copied = time.Millisecond, func(o outbox.Copy) { told <- o }
	})
	if got := b.hello().send("later@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	select {
	case o := <-told:
		if o.Fate != "expired" || o.Code != 450 || o.Who.String() != "later@example.com" {
			t.Errorf("%+v", o)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
}

// FuzzRequest reads mail to the unsubscribe address from strangers: none of it opens anything.
func FuzzRequest(f *testing.F) {
	f.Add(request("Re: hello"))
	f.Add(request("=?utf-8?B?aGVsbG8=?= =?x?Q?_=5F?="))
	f.Add("Subject:\r\n\r\n\r\n")
	links := token.New(keyring.Ephemeral())
	f.Fuzz(func(t *testing.T, text string) {
		subjects, err := readRequest(strings.NewReader(text))
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%v is no answer", err)
		}
		if claims, found := (&Server{links: links}).claimsIn(subjects, true); found {
			t.Fatalf("%+v", claims)
		}
	})
}

// FuzzFirstHTTPS: what is found in a List-Unsubscribe field can be called.
func FuzzFirstHTTPS(f *testing.F) {
	f.Add("<mailto:x@example.org>, <https://lists.example.org/u>")
	f.Add("<https://\r\n lists.example.org/u")
	f.Fuzz(func(t *testing.T, field string) {
		address, err := firstHTTPS(field)
		if err != nil {
			return
		}
		if u, err := outbox.ParseOneClick(address); err != nil || u.Scheme != "https" || u.Hostname() == "" {
			t.Fatalf("%q: %v", address, err)
		}
	})
}
