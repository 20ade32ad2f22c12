package relay

// Where the traps of go-smtp's server are answered, and what would show that one is open again:
//
//	bare CR, LF and NUL in the data, lost CRs     smuggling_test.go, on each way in; TestStrictLines
//	MaxLineLength cuts DATA                       TestLongLines
//	ReadTimeout is not refreshed within DATA      TestSlowAndSteady, TestIdle; TestDribble for the other side
//	errors are not unwrapped                      store_down.smtp, smarthost_says.smtp
//	Shutdown leaves idle connections              TestDrain, TestDrainUnderTLS
//	quoted local parts, NUL in domains            TestMailbox, FuzzMailbox, addresses.smtp
//	a nested MAIL                                 order.smtp
//	BDAT runs Data beside Reset                   bdat.smtp, TestIdleWithinCommand, under -race
//	no authentication, LOGIN, cap or PROXY        stranger.smtp, login_*.smtp, TestTooManyConnections, proxy_*.smtp
//	MaxRecipients, one status a recipient         order.smtp, lmtp.smtp, too_many_recipients.smtp
//	SIZE over 32 bits, one byte less by DATA      size_huge.smtp, TestExactSize
//	plain text goes on where STARTTLS fails       TestFailedHandshake, TestTextBehindSTARTTLS
//	one answer for a chunk that LMTP refuses      TestRefusedChunkByLMTP

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/relay/login"
)

// What somebody in the middle puts behind STARTTLS in plain text is never obeyed, RFC 3207 §4.2.
func TestTextBehindSTARTTLS(t *testing.T) {
	const message = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\nSubject: evil\r\n\r\n.\r\n"
	for name, before := range map[string]string{
		"a command":              "STARTTLS\r\nRSET\r\n",
		"a message":              "STARTTLS\r\n" + message,
		"half a command":         "STARTTLS\r\nNOO",
		"within a transaction":   "MAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nSTARTTLS\r\nDATA\r\nSubject: evil\r\n\r\n.\r\n",
		"by chunks":              "MAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nSTARTTLS\r\nBDAT 17 LAST\r\nSubject: evil\r\n\r\n",
		"twice":                  "STARTTLS\r\nSTARTTLS\r\n",
		"a greeting and message": "STARTTLS\r\nEHLO evil\r\n" + message,
		"the end":                "STARTTLS\r\nQUIT\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, allWays)
			c := b.hello()
			c.raw(before)
			for {
				got, err := c.reply()
				if err != nil {
					t.Fatal(err)
				}
				if got == "220 2.0.0 Ready to start TLS" {
					break
				}
			}
			secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
			if err := secure.Handshake(); err == nil {
				// Half a command is thrown away. The dialogue is a new one.
				if name != "half a command" {
					t.Error("the handshake goes on")
				}
				c.Conn, c.r = secure, bufio.NewReader(secure)
				c.say("MAIL FROM:<news@example.org>")
				c.expect("502 5.5.1 Please introduce yourself first")
			}
			b.stop()
			if err := <-b.done; err != nil {
				t.Fatal(err)
			}
			b.done <- nil
			if got := b.sink.got(); len(got) != 0 {
				t.Errorf("the smarthost got %+v", got)
			}
		})
	}
}

// A handshake that fails ends the connection: there is no way back to plain text.
func TestFailedHandshake(t *testing.T) {
	for name, dial := range map[string]func(b *testbed) *client{
		"STARTTLS": func(b *testbed) *client {
			c := b.hello()
			c.say("STARTTLS")
			c.expect("220")
			return c
		},
		"implicit": func(b *testbed) *client { return b.dialTo("smtps") },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, allWays)
			c := dial(b)
			c.raw("EHLO x\r\nMAIL FROM:<news@example.org>\r\n")
			rest, _ := io.ReadAll(c.r) // a TLS alert, and a reset where it was not all read
			if strings.Contains(string(rest), "250") {
				t.Errorf("%q", rest)
			}
		})
	}
}

// Who says nothing where TLS is to begin, or a PROXY header is to come, is cut.
func TestSilentBeforeDialogue(t *testing.T) {
	short := func(c *Config, _ *testbed) { c.IdleTimeout = 100 * time.Millisecond }
	for name, dial := range map[string]func(t *testing.T) *client{
		"STARTTLS": func(t *testing.T) *client {
			c := start(t, func(c *Config, b *testbed) { allWays(c, b); short(c, b) }).hello()
			c.say("STARTTLS")
			c.expect("220")
			return c
		},
		"implicit": func(t *testing.T) *client {
			return start(t, func(c *Config, b *testbed) { allWays(c, b); short(c, b) }).dialTo("smtps")
		},
		"PROXY": func(t *testing.T) *client {
			c := start(t, func(c *Config, b *testbed) { setups["balancer"](c, b); short(c, b) }).dial()
			c.raw("PROXY TCP4 192.0.2.7")
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t)
			if rest, err := io.ReadAll(c.r); errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(rest), "220") {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

// What holds for a plain connection holds under TLS: the half of a message is none, and a stop lets
// those under way end.
func TestHalfAMessageUnderTLS(t *testing.T) {
	for name, way := range ways {
		for _, half := range []string{"DATA\r\nSubject: hello\r\n\r\nhello\r\n.", "BDAT 100 LAST\r\nSubject: hello\r\n\r\nhello\r\n"} {
			t.Run(name+" "+half[:4], func(t *testing.T) {
				b := start(t, allWays)
				c := way(b)
				c.raw("MAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\n" + half)
				c.Conn.(interface{ CloseWrite() error }).CloseWrite()
				io.Copy(io.Discard, c.r)
				b.stop()
				if err := <-b.done; err != nil {
					t.Fatal(err)
				}
				b.done <- nil
				if got := b.sink.got(); len(got) != 0 {
					t.Errorf("the smarthost got %q", got[0].text)
				}
			})
		}
	}
}

func TestDrainUnderTLS(t *testing.T) {
	entered, goOn := make(chan bool), make(chan bool)
	b := start(t, func(c *Config, b *testbed) {
		allWays(c, b)
		b.sink = newSink(b.t, nil)
		b.sink.onData = func() { entered <- true; <-goOn }
	})
	var idle, busy []*client
	for _, way := range ways {
		idle = append(idle, way(b))
		c := way(b)
		c.envelope("joe@example.com")
		c.say("DATA")
		c.expect("354")
		c.raw("Subject: hello\r\n\r\nhello\r\n.\r\n")
		<-entered
		busy = append(busy, c)
	}
	b.stop()
	for _, c := range idle {
		c.expect("421 4.4.2")
		c.expectEnd()
	}
	select {
	case err := <-b.done:
		t.Fatalf("Run ended before its transactions: %v", err)
	default:
	}
	for range busy {
		goOn <- true
	}
	for _, c := range busy {
		c.expect("250 2.0.0")
		c.expect("421 4.4.2")
	}
	if err := <-b.done; err != nil {
		t.Error(err)
	}
	b.done <- nil
}

// The certificate is read again when it changes, and stays where the new one is broken.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	b := start(t, func(c *Config, b *testbed) {
		c.ListenTLS = []string{"127.0.0.1:0"}
		c.TLSCert, c.TLSKey = writeCertificate(t, dir, "old.example.org")
	})
	name := func() string {
		t.Helper()
		c := b.dialTo("smtps")
		defer c.Close()
		roots := x509.NewCertPool()
		var got string
		secure := tls.Client(c.Conn, &tls.Config{RootCAs: roots, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			got = s.PeerCertificates[0].DNSNames[0]
			return nil
		}})
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	until := func(want func() bool) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for end := time.After(10 * time.Second); !want(); {
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("the certificate is for %s; log: %s", name(), b.log)
			}
		}
	}
	if got := name(); got != "old.example.org" {
		t.Fatal(got)
	}
	// Half of a new pair: the certificate is there, its key is not yet.
	other := t.TempDir()
	cert, key := writeCertificate(t, other, "new.example.org")
	if err := os.Rename(cert, filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	until(func() bool {
		return name() == "old.example.org" && strings.Count(b.log.String(), "the one before stays") == 1
	})
	if err := os.Rename(key, filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return name() == "new.example.org" })
	// Gone altogether.
	if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	until(func() bool { name(); return strings.Count(b.log.String(), "the one before stays") == 2 })
	if got := name(); got != "new.example.org" {
		t.Error(got)
	}
}

// Without a certificate neither STARTTLS nor AUTH is offered, nor listened for TLS.
func TestWithoutCertificate(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) { logins(c, b); c.ListenTLS, c.TLSCert = nil, "" })
	c := b.dial()
	c.expect("220")
	c.say("EHLO x")
	if got := c.expect("250"); strings.Contains(got, "STARTTLS") || strings.Contains(got, "AUTH") {
		t.Error(got)
	}
	c.say("STARTTLS")
	c.expect("502")
	c.say("AUTH PLAIN AHNob3AAc2VjcmV0")
	c.expect("523")
	for name, change := range map[string]func(*Config){
		"no certificate": func(c *Config) { c.ListenTLS = []string{"127.0.0.1:0"} },
		"no such file":   func(c *Config) { c.TLSCert, c.TLSKey = "/nowhere/cert.pem", "/nowhere/key.pem" },
	} {
		cfg := b.cfg
		change(&cfg)
		if s, err := New(cfg, b.store, b.links, b.next, nil); err == nil {
			s.closeListeners()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFailedLoginsAreCounted(t *testing.T) {
	b := start(t, logins)
	c := ways["implicit TLS"](b)
	c.say("AUTH PLAIN AHNob3AAd3Jvbmc=")
	c.expect("535 5.7.8")
	c.say("AUTH PLAIN AHNob3AAc2VjcmV0")
	c.expect("235")
	b.counts(t, map[string]float64{"logins_failed_total reason=wrong": 1, "logins_failed_total": 1, "smtp_connections_total protocol=smtps": 1})
}

// A message of the greatest size is taken, one byte more is not.
func TestExactSize(t *testing.T) {
	const most = 100_000
	text := "Subject: exact\r\n\r\n" + strings.Repeat("seventy bytes of a message that is as large as it may be, to the byte\r\n", most)
	text = text[:most-2] + "\r\n"
	if len(text) != most {
		t.Fatal(len(text))
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, b *testbed) { allWays(c, b); c.MaxMessageBytes = most })
			c := way(b)
			for size, want := range map[int]string{most: "250", most + 1: "552 5.3.4"} {
				text := "X" + text
				text = text[len(text)-size:]
				c.envelope("joe@example.com")
				c.say("DATA")
				c.expect("354")
				c.raw(text + ".\r\n")
				c.expect(want)
				c.envelope("joe@example.com")
				c.say("BDAT %d LAST", size)
				c.raw(text)
				c.expect(want)
			}
			if n := len(b.sink.got()); n != 2 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// Chunks that go on for ever behind a refusal are cut.
func TestEndlessChunk(t *testing.T) {
	for _, way := range []string{"plain", "LMTP"} {
		t.Run(way, func(t *testing.T) {
			b := start(t, func(c *Config, b *testbed) { allWays(c, b); c.MaxMessageBytes = 100_000 })
			c := ways[way](b)
			c.envelope("joe@example.com")
			c.say("BDAT 4000000000 LAST")
			line := []byte(strings.Repeat("and on and on\r\n", 1000))
			sent := 0
			for sent < 100<<20 {
				n, err := c.Write(line)
				if sent += n; err != nil {
					break
				}
			}
			if sent >= 100<<20 {
				t.Errorf("%d bytes were taken", sent)
			}
			if got, err := c.reply(); err == nil && !strings.HasPrefix(got, "552 5.3.4") {
				t.Errorf("%q", got)
			}
		})
	}
}

// By LMTP each recipient is answered behind the last chunk, also where the message was refused long
// before its end.
func TestRefusedChunkByLMTP(t *testing.T) {
	b := start(t, allWays)
	c := ways["LMTP"](b)
	c.envelope("joe@example.com")
	c.say("RCPT TO:<ann@example.com>")
	c.expect("250")
	text := "Subject: bare\n\r\n" + strings.Repeat("a line behind it\r\n", 20_000)
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(text), text))
	c.expect("554 5.6.0 <joe@example.com>")
	c.expect("554 5.6.0 <ann@example.com>")
	c.expect("250 2.0.0 I have successfully done nothing")
}

// A client that always says a little, and never enough, is cut as an idle one is.
func TestDribble(t *testing.T) {
	for name, tt := range map[string]struct{ begin, drop string }{
		"before EHLO":         {"", "E"},
		"a command":           {"EHLO x\r\n", "N"},
		"DATA":                {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\nSubject: ", "x"},
		"BDAT":                {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nBDAT 10000 LAST\r\nSubject: ", "x"},
		"behind a refusal":    {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\n\nSubject: ", "x"},
		"a TLS record, DATA.": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, b *testbed) { allWays(c, b); c.IdleTimeout = 300 * time.Millisecond })
			var c *client
			if tt.drop == "" { // within a record
				c = ways["STARTTLS"](b)
				raw := c.Conn.(*tls.Conn).NetConn()
				c.Conn = struct{ net.Conn }{raw}
				tt.begin, tt.drop = "\x17\x03\x03\x40\x00", "x"
			} else {
				c = b.dial()
			}
			c.raw(tt.begin)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dropped := make(chan struct{})
			go func() {
				defer close(dropped)
				tick := time.NewTicker(30 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						if _, err := io.WriteString(c.Conn, tt.drop); err != nil {
							return
						}
					case <-ctx.Done():
						return
					}
				}
			}()
			begin, last := time.Now(), ""
			for {
				got, err := c.reply()
				if err != nil {
					break
				}
				last = got
			}
			cancel()
			<-dropped
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if want := "421 4.4.2"; !strings.HasPrefix(last, want) && name != "behind a refusal" {
				t.Errorf("the last answer is %q", last)
			}
		})
	}
}

// A login that Reload takes away, changes or gives another password is so on connections that logged in
// before, too: whoever stole it would not hang up.
func TestReloadOfLogins(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*login.Login)
		want   string
	}{
		"nothing":  {func(*login.Login) {}, "250"},
		"gone":     {func(l *login.Login) { l.Name = "other" }, "530 5.7.0"},
		"password": {func(l *login.Login) { l.Hash = strings.Replace(l.Hash, "TnDE", "AnDE", 1) }, "530 5.7.0"},
		"domains":  {func(l *login.Login) { l.FromDomains = []string{"other.example"} }, "550 5.7.1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, b *testbed) { logins(c, b); c.AllowNetworks = nil })
			c := ways["implicit TLS"](b)
			c.say("AUTH PLAIN AHNob3AAc2VjcmV0")
			c.expect("235")
			c.say("MAIL FROM:<news@example.org>")
			c.expect("250")
			c.say("RSET")
			c.expect("250")
			set := *b.settings()
			set.Logins = slices.Clone(set.Logins)
			tt.change(&set.Logins[0])
			if err := b.Reload(set); err != nil {
				t.Fatal(err)
			}
			c.say("MAIL FROM:<news@example.org>")
			if name == "domains" { // it is the message's From that counts
				c.expect("250")
				c.say("RCPT TO:<joe@example.com>")
				c.expect("250")
				c.say("DATA")
				c.expect("354")
				c.raw(newsletter + "\r\n.\r\n")
			}
			c.expect(tt.want)
		})
	}
}

// The answer to a transfer by BDAT that was broken off is not the one to the next message: its sender would
// send that again.
func TestBrokenTransfer(t *testing.T) {
	for name, first := range map[string]string{"nothing sent": "BDAT 0\r\n", "a chunk": "BDAT 12\r\nSubject: a\r\n", "then EHLO": "BDAT 0\r\nEHLO x\r\n"} {
		t.Run(name, func(t *testing.T) {
			b := start(t, nil)
			for range 20 {
				before := len(b.sink.got())
				c := b.hello()
				const begin = "MAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\n"
				c.raw(begin + first + "RSET\r\n" + begin + "BDAT 18 LAST\r\nSubject: hello\r\n\r\n")
				var said []string
				for {
					s, err := c.reply()
					if err != nil {
						break
					}
					said = append(said, s)
				}
				leaves := func(s string) bool { return strings.HasPrefix(s, "421 4.3.2") }
				if !slices.ContainsFunc(said, leaves) || len(b.sink.got()) != before {
					t.Fatalf("%d messages arrived, and it said %q", len(b.sink.got())-before, said)
				}
			}
			c := b.hello() // with the transfer at its end another transaction may follow
			for range 2 {
				c.envelope("joe@example.com")
				c.say("BDAT 0")
				c.expect("250")
				c.raw("BDAT 18 LAST\r\nSubject: hello\r\n\r\n")
				c.expect("250")
				c.say("RSET")
				c.expect("250")
			}
		})
	}
}
