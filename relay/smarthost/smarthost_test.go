package smarthost

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(both{m}) }

// pipelining says whether the next hops offer it.
var pipelining bool

// both runs all tests with next hops that take one command after another, and with such that take
// several at once.
type both struct{ *testing.M }

func (m both) Run() int {
	code := m.M.Run()
	pipelining = true
	return max(code, m.M.Run())
}

// text is a message that can be written again and again.
type text string

func (t text) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(t))
	return int64(n), err
}

const hello = text("Subject: hello\r\n\r\nhello\r\n.dot\r\n")

var joe = Envelope{From: "news@example.org", To: "joe@example.com"}

func newClient(t *testing.T, change func(*Config), urls ...string) *Client {
	t.Helper()
	cfg := Config{URLs: urls, Hostname: "gate.example.org", ConnectTimeout: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func send(t *testing.T, c *Client, env Envelope, body io.WriterTo) (Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c.Send(ctx, env, body, 32)
}

func TestSend(t *testing.T) {
	f := newFake(t, agreeable)
	c := newClient(t, nil, f.url("smtp"))
	reply, err := send(t, c, Envelope{
		From: "news@example.org", To: `"joe doe"@example.com`, UTF8: true, Body8Bit: true,
		Return: smtp.DSNReturnHeaders, EnvelopeID: "id=1",
		Notify:                []smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed},
		OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "joe+x@example.com",
	}, hello)
	if err != nil {
		t.Fatal(err)
	}
	want := Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "taken as 42", Host: f.l.Addr().String(), DSN: true}
	if reply != want || !reply.Accepted() {
		t.Errorf("reply %+v, want %+v", reply, want)
	}
	_, lines, messages := f.seen()
	for _, want := range []string{
		"EHLO gate.example.org",
		"MAIL FROM:<news@example.org> BODY=8BITMIME SIZE=32 SMTPUTF8 RET=HDRS ENVID=id+3D1",
		`RCPT TO:<"joe doe"@example.com> NOTIFY=FAILURE,DELAY ORCPT=RFC822;joe+2Bx@example.com`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in %q", want, lines)
		}
	}
	if slices.Contains(lines, "EHLO localhost") {
		t.Error("EHLO localhost")
	}
	if len(messages) != 1 || messages[0] != string(hello) {
		t.Errorf("messages %q", messages)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, at, answer string
		want             Reply
	}{
		{"MAIL", "MAIL", "552 5.3.4 too big", Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "too big"}},
		{"RCPT for good", "RCPT", "550 5.1.1 no such user", Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}},
		{"RCPT for now", "RCPT", "450 4.2.1 greylisted", Reply{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "greylisted"}},
		{"DATA", "DATA", "451 4.3.5 not now", Reply{Code: 451, Enhanced: [3]int{4, 3, 5}, Text: "not now"}},
		{"dot", ".", "554 5.7.1 spam", Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "spam"}},
		{"dot 421", ".", "421 4.3.2 leaving", Reply{Code: 421, Enhanced: [3]int{4, 3, 2}, Text: "leaving"}},
		{"several lines", "RCPT", "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three", Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "one\ntwo\nthree"}},
		{"no enhanced code", "RCPT", "550 unknown here", Reply{Code: 550, Text: "unknown here"}},
		{"enhanced code of another class", "RCPT", "550 4.7.1 odd", Reply{Code: 550, Text: "4.7.1 odd"}},
		{"three numbers that are no code", "RCPT", "550 10.0.0 is blocked", Reply{Code: 550, Text: "10.0.0 is blocked"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refused := false
			f := newFake(t, func(n int, line string) string {
				if verb, _, _ := strings.Cut(line, " "); verb == tt.at && !refused {
					refused = true
					return tt.answer
				}
				return agreeable(n, line)
			})
			c := newClient(t, nil, f.url("smtp"))
			got, err := send(t, c, joe, hello)
			tt.want.Host, tt.want.DSN = f.l.Addr().String(), true
			if err != nil || got != tt.want {
				t.Fatalf("%+v, %v; want %+v", got, err, tt.want)
			}
			// The connection is in order for the next, if it was kept.
			if got, err := send(t, c, joe, hello); err != nil || !got.Accepted() {
				t.Fatalf("next message: %+v, %v", got, err)
			}
			conns, lines, _ := f.seen()
			// Behind a recipient or DATA refused the transaction is still open there.
			if tt.at == "RCPT" || tt.at == "DATA" {
				if rset := slices.Index(lines, "RSET"); rset < 0 || slices.Index(lines[rset:], "MAIL FROM:<news@example.org> BODY=8BITMIME SIZE=32") < 0 {
					t.Errorf("no RSET before the next MAIL: %q", lines)
				}
			}
			if want := 1; tt.name != "dot 421" && conns != want {
				t.Errorf("%d connections, want %d: %q", conns, want, lines)
			}
		})
	}
}

func TestReuse(t *testing.T) {
	f := newFake(t, agreeable)
	c := newClient(t, nil, f.url("smtp"))
	for range 5 {
		if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
			t.Fatal(r, err)
		}
	}
	conns, lines, messages := f.seen()
	if conns != 1 || len(messages) != 5 {
		t.Errorf("%d connections, %d messages", conns, len(messages))
	}
	if slices.Contains(lines, "RSET") {
		t.Error("RSET between messages that were taken costs two round trips")
	}
	c.Close()
	if _, lines, _ := f.seen(); lines[len(lines)-1] != "QUIT" {
		t.Errorf("last line %q", lines[len(lines)-1])
	}
	if _, err := send(t, c, joe, hello); !errors.Is(err, ErrClosed) {
		t.Errorf("send after Close: %v", err)
	}
}

// A kept connection that died is no reason to fail, whether it is closed or says 421.
func TestStale(t *testing.T) {
	for name, end := range map[string]string{"closed": hangUp, "421": "421 4.4.2 idle for too long", "nonsense": "hm?"} {
		t.Run(name, func(t *testing.T) {
			mails := 0
			f := newFake(t, func(n int, line string) string {
				if strings.HasPrefix(line, "MAIL") {
					if mails++; mails == 2 {
						return end
					}
				}
				return agreeable(n, line)
			})
			c := newClient(t, nil, f.url("smtp"))
			for i := range 3 {
				if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
					t.Fatal(i, r, err)
				}
			}
			if conns, _, messages := f.seen(); conns != 2 || len(messages) != 3 {
				t.Errorf("%d connections, %d messages", conns, len(messages))
			}
		})
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	quit := make(chan bool, 1)
	f := newFake(t, func(n int, line string) string {
		if line == "QUIT" {
			quit <- true
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, f.url("smtp"))
	c.limit.idle = 10 * time.Millisecond
	if _, err := send(t, c, joe, hello); err != nil {
		t.Fatal(err)
	}
	select {
	case <-quit:
	case <-time.After(10 * time.Second):
		t.Fatal("no QUIT")
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "smtp://" + l.Addr().String()
	l.Close()
	fails := map[string]func(int, string) string{
		"greeting 554":   func(n int, line string) string { return "554 5.3.2 no service here" },
		"EHLO 421":       at("EHLO", "421 4.3.2 busy"),
		"EHLO 451":       at("EHLO", "451 4.3.2 busy"),
		"greeting 421":   func(n int, line string) string { return "421 4.3.2 busy" },
		"no greeting":    func(n int, line string) string { return hangUp },
		"nonsense":       func(n int, line string) string { return "HTTP/1.1 400 Bad Request" },
		"silence":        func(n int, line string) string { return silence },
		"421 at MAIL":    at("MAIL", "421 4.3.2 leaving"),
		"250 for DATA":   at("DATA", "250 ok"),
		"breaks at RCPT": at("RCPT", hangUp),
		"breaks at DATA": at("DATA", hangUp),
		"silent at MAIL": at("MAIL", silence),
	}
	for name, reply := range fails {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, reply)
			c := newClient(t, nil, f.url("smtp"), dead)
			c.limit.greeting, c.limit.command, c.limit.dataInit = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
			_, err := send(t, c, joe, hello)
			if !errors.Is(err, ErrUnreachable) {
				t.Fatalf("error %v", err)
			}
			if _, _, messages := f.seen(); len(messages) != 0 {
				t.Errorf("messages %q", messages)
			}
			good := newFake(t, agreeable)
			c2 := newClient(t, nil, f.url("smtp"), dead, good.url("smtp"))
			c2.limit = c.limit
			if r, err := send(t, c2, joe, hello); err != nil || r.Host != good.l.Addr().String() {
				t.Errorf("third next hop: %+v, %v", r, err)
			}
		})
	}
}

func at(verb, answer string) func(int, string) string {
	return func(n int, line string) string {
		if v, _, _ := strings.Cut(line, " "); v == verb {
			return answer
		}
		return agreeable(n, line)
	}
}

// One that failed is left alone, and asked again later or where nobody else is there.
func TestPenalty(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	bad := newFake(t, func(n int, line string) string {
		if sick.Load() && line == "" {
			return hangUp
		}
		return agreeable(n, line)
	})
	good := newFake(t, agreeable)
	c := newClient(t, nil, bad.url("smtp"), good.url("smtp"))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.now = func() time.Time { return now }
	for range 3 {
		if r, err := send(t, c, joe, hello); err != nil || r.Host != good.l.Addr().String() {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if conns, _, _ := bad.seen(); conns != 1 {
		t.Errorf("the sick one was asked %d times, want 1", conns)
	}
	sick.Store(false)
	now = now.Add(c.limit.penalty)
	if r, err := send(t, c, joe, hello); err != nil || r.Host != bad.l.Addr().String() {
		t.Errorf("after the penalty: %+v, %v", r, err)
	}
	alone := newClient(t, nil, bad.url("smtp"))
	sick.Store(true)
	for range 2 {
		if _, err := send(t, alone, joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	}
	sick.Store(false)
	if r, err := send(t, alone, joe, hello); err != nil || !r.Accepted() {
		t.Errorf("the only one must be asked at once: %+v, %v", r, err)
	}
}

// Behind the dot nothing is tried again: the message may have been taken.
func TestUncertain(t *testing.T) {
	for name, answer := range map[string]string{"closed": hangUp, "silent": silence, "nonsense": "what?", "354": "354 go on"} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, at(".", answer))
			other := newFake(t, agreeable)
			c := newClient(t, nil, f.url("smtp"), other.url("smtp"))
			c.limit.dataEnd = 200 * time.Millisecond
			_, err := send(t, c, joe, hello)
			if !errors.Is(err, ErrUncertain) || errors.Is(err, ErrUnreachable) {
				t.Errorf("error %v", err)
			}
			conns, _, messages := f.seen()
			if others, _, _ := other.seen(); conns != 1 || len(messages) != 1 || others != 0 {
				t.Errorf("%d connections, %d messages, %d to the other", conns, len(messages), others)
			}
		})
	}
}

// half is a copy that cannot be read to its end.
type half struct{}

func (half) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, "Subject: hello\r\n\r\n"+strings.Repeat("half a message\r\n", 10000))
	if err == nil {
		err = errors.New("disk error")
	}
	return int64(n), err
}

func TestSourceError(t *testing.T) {
	f := newFake(t, agreeable)
	c := newClient(t, nil, f.url("smtp"))
	if _, err := send(t, c, joe, half{}); !errors.Is(err, ErrSource) || errors.Is(err, ErrUnreachable) {
		t.Fatalf("error %v", err)
	}
	if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
		t.Fatal(r, err)
	}
	conns, _, messages := f.seen()
	if conns != 2 || len(messages) != 1 || messages[0] != string(hello) {
		t.Errorf("%d connections, messages %.100q", conns, messages)
	}
}

func TestMissingExtensions(t *testing.T) {
	f := newFake(t, func(n int, line string) string {
		if strings.HasPrefix(line, "EHLO") {
			return "250 plain.example.org"
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, f.url("smtp"))
	env := joe
	env.Body8Bit = true
	if _, err := send(t, c, env, hello); !errors.Is(err, ErrNo8BitMIME) {
		t.Errorf("8bit: %v", err)
	}
	env = joe
	env.UTF8 = true
	if _, err := send(t, c, env, hello); !errors.Is(err, ErrNoSMTPUTF8) {
		t.Errorf("utf8: %v", err)
	}
	env = joe
	env.Return, env.Notify, env.EnvelopeID = smtp.DSNReturnFull, []smtp.DSNNotify{smtp.DSNNotifyNever}, "x"
	if r, err := send(t, c, env, hello); err != nil || !r.Accepted() || r.DSN {
		t.Error(r, err)
	}
	conns, lines, _ := f.seen()
	if conns != 1 || !slices.Contains(lines, "MAIL FROM:<news@example.org>") || !slices.Contains(lines, "RCPT TO:<joe@example.com>") {
		t.Errorf("%d connections, lines %q", conns, lines)
	}
}

// What needs SMTPUTF8 does not fail for good since the one that offers it is away, or was.
func TestSMTPUTF8OfAnother(t *testing.T) {
	plain := newFake(t, func(n int, line string) string {
		if strings.HasPrefix(line, "EHLO") {
			return "250 plain.example.org"
		}
		return agreeable(n, line)
	})
	var away atomic.Bool
	away.Store(true)
	full := newFake(t, func(n int, line string) string {
		if away.Load() {
			return hangUp
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, full.url("smtp"), plain.url("smtp"))
	env := joe
	env.UTF8 = true
	if _, err := send(t, c, env, hello); !errors.Is(err, ErrUnreachable) {
		t.Errorf("away: %v", err)
	}
	away.Store(false) // and still left alone
	if r, err := send(t, c, env, hello); err != nil || r.Host != full.l.Addr().String() {
		t.Errorf("back: %+v, %v", r, err)
	}
}

func TestHELOOnly(t *testing.T) {
	f := newFake(t, func(n int, line string) string {
		if strings.HasPrefix(line, "EHLO") {
			return "502 5.5.1 what is that"
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, f.url("smtp"))
	if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
		t.Fatal(r, err)
	}
}

func TestTLS(t *testing.T) {
	server, pool := certificate(t, nil)
	offer := func(n int, line string) string {
		if strings.HasPrefix(line, "EHLO") {
			return "250-sink.example.org\r\n250-AUTH LOGIN PLAIN\r\n250-8BITMIME\r\n250 STARTTLS"
		}
		if strings.HasPrefix(line, "AUTH") {
			return "235 2.7.0 ok"
		}
		return agreeable(n, line)
	}
	withTLS := func(reply func(int, string) string) *fake {
		f := newFake(t, reply)
		f.tls = server
		return f
	}
	trusting := func(c *Config) { c.TLSConfig = server.Clone(); c.TLSConfig.RootCAs = pool }
	login := func(c *Config) { trusting(c); c.Username, c.Password = "shop", "secret" }

	t.Run("must, trusted", func(t *testing.T) {
		f := withTLS(offer)
		if r, err := send(t, newClient(t, login, f.url("smtp+starttls")), joe, hello); err != nil || !r.Accepted() {
			t.Fatal(r, err)
		}
		conns, lines, _ := f.seen()
		if conns != 1 || !slices.Contains(lines, "AUTH PLAIN AHNob3AAc2VjcmV0") {
			t.Errorf("%d connections, %q", conns, lines)
		}
		if i := slices.Index(lines, "STARTTLS"); i != 1 {
			t.Errorf("STARTTLS is line %d of %q", i, lines)
		}
	})
	t.Run("must, not trusted", func(t *testing.T) {
		f := withTLS(offer)
		if _, err := send(t, newClient(t, nil, f.url("smtp+starttls")), joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v", err)
		}
		if _, lines, _ := f.seen(); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "MAIL") }) {
			t.Error("mail went out")
		}
	})
	t.Run("must, not offered", func(t *testing.T) {
		f := newFake(t, agreeable)
		if _, err := send(t, newClient(t, trusting, f.url("smtp+starttls")), joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("when offered, on this machine", func(t *testing.T) {
		f := withTLS(offer)
		if r, err := send(t, newClient(t, nil, f.url("smtp")), joe, hello); err != nil || !r.Accepted() {
			t.Fatal(r, err)
		}
		if _, lines, _ := f.seen(); !slices.Contains(lines, "STARTTLS") {
			t.Errorf("no STARTTLS: %q", lines)
		}
	})
	t.Run("said ahead in clear", func(t *testing.T) {
		f := withTLS(func(n int, line string) string {
			if line == "STARTTLS" {
				return "220 go on\r\n250 injected"
			}
			return offer(n, line)
		})
		if _, err := send(t, newClient(t, trusting, f.url("smtp")), joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("implicit", func(t *testing.T) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		f := serveFake(t, l, offer)
		c := newClient(t, login, f.url("smtps"))
		if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
			t.Fatal(r, err)
		}
		c.Close()
		if _, err := send(t, newClient(t, nil, f.url("smtps")), joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Errorf("not trusted: %v", err)
		}
	})
	t.Run("login refused", func(t *testing.T) {
		f := withTLS(func(n int, line string) string {
			if strings.HasPrefix(line, "AUTH") {
				return "535 5.7.8 no"
			}
			return offer(n, line)
		})
		_, err := send(t, newClient(t, login, f.url("smtp+starttls")), joe, hello)
		if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
	})
}

func TestContextEndsSend(t *testing.T) {
	stuck := make(chan bool, 1)
	f := newFake(t, func(n int, line string) string {
		if strings.HasPrefix(line, "RCPT") {
			stuck <- true
			return silence
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, f.url("smtp"))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stuck; cancel() }()
	if _, err := c.Send(ctx, joe, hello, 32); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v", err)
	}
}

func TestMaxConnections(t *testing.T) {
	started, goOn := make(chan bool, 10), make(chan bool)
	f := newFake(t, func(n int, line string) string {
		if strings.HasPrefix(line, "MAIL") {
			started <- true
			<-goOn
		}
		return agreeable(n, line)
	})
	c := newClient(t, func(c *Config) { c.MaxConnections = 2 }, f.url("smtp"))
	done := make(chan error, 6)
	for range 6 {
		go func() {
			r, err := c.Send(context.Background(), joe, hello, 32)
			if err == nil && !r.Accepted() {
				err = errors.New(r.Text)
			}
			done <- err
		}()
	}
	<-started
	<-started
	if n, _, _ := f.seen(); n != 2 {
		t.Errorf("%d connections", n)
	}
	impatient, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := c.Send(impatient, joe, hello, 32); !errors.Is(err, ErrUnreachable) {
		t.Errorf("all in use: %v", err)
	}
	close(goOn)
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, _, messages := f.seen(); n != 2 || len(messages) != 6 {
		t.Errorf("%d connections, %d messages", n, len(messages))
	}
}

func TestBadAddresses(t *testing.T) {
	f := newFake(t, agreeable)
	c := newClient(t, nil, f.url("smtp"))
	for _, bad := range []string{
		"a> NOTIFY=NEVER <b@example.org", "a b@example.org", "a@example.org\r\nRCPT TO:<x@example.org>",
		"a@example.org\nDATA", "a@b@example.org", "a@", "@example.org", "a", "a\x00b@example.org",
		`"a"b@example.org`, `"a@example.org`, `a"b"@example.org`, "a@example.org>", "a@exa mple.org", `"a\`, `"a"@b"@x`,
	} {
		if _, err := send(t, c, Envelope{From: "x@example.org", To: bad}, hello); !errors.Is(err, ErrAddress) {
			t.Errorf("to %q: %v", bad, err)
		}
		if _, err := send(t, c, Envelope{From: bad, To: "x@example.org"}, hello); !errors.Is(err, ErrAddress) {
			t.Errorf("from %q: %v", bad, err)
		}
	}
	if _, err := send(t, c, Envelope{From: "x@example.org"}, hello); !errors.Is(err, ErrAddress) {
		t.Errorf("no recipient: %v", err)
	}
	for _, good := range []string{`"a> NOTIFY=NEVER"@example.org`, `"a\"b\\"@example.org`, "a+b=c@example.org", "ä@exämple.org", "x@[IPv6:::1]", `"a@b"@example.org`} {
		if err := checkPath(good, false); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if conns, _, _ := f.seen(); conns != 0 {
		t.Errorf("%d connections", conns)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no URL":          {Hostname: "gate.example.org"},
		"no hostname":     {URLs: []string{"smtp://mail.example.org"}},
		"hostname":        {URLs: []string{"smtp://mail.example.org"}, Hostname: "a b"},
		"lmtp, no host":   {URLs: []string{"lmtp://"}, Hostname: "gate.example.org"},
		"lmtp, no path":   {URLs: []string{"lmtp+unix://"}, Hostname: "gate.example.org"},
		"lmtp, a folder":  {URLs: []string{"lmtp+unix:///run/"}, Hostname: "gate.example.org"},
		"lmtp, relative":  {URLs: []string{"lmtp+unix://run/lmtp"}, Hostname: "gate.example.org"},
		"socket, no lmtp": {URLs: []string{"smtp+unix:///run/smtp"}, Hostname: "gate.example.org"},
		"scheme":          {URLs: []string{"http://mail.example.org"}, Hostname: "gate.example.org"},
		"no scheme":       {URLs: []string{"mail.example.org:25"}, Hostname: "gate.example.org"},
		"password in it":  {URLs: []string{"smtp://u:p@mail.example.org"}, Hostname: "gate.example.org"},
		"path":            {URLs: []string{"smtp://mail.example.org/x"}, Hostname: "gate.example.org"},
		"half a password": {URLs: []string{"smtp://mail.example.org"}, Hostname: "gate.example.org", Username: "x"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, err := New(Config{URLs: []string{"smtp://a.example.org", "smtp+starttls://b.example.org", "smtps://[::1]/", "smtp://c.example.org:2525", "lmtp://d.example.org", "lmtp+unix:///run/lmtp"}, Hostname: "gate.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for _, h := range c.hops {
		addrs = append(addrs, h.addr)
	}
	if want := []string{"a.example.org:25", "b.example.org:587", "[::1]:465", "c.example.org:2525", "d.example.org:24", "/run/lmtp"}; !slices.Equal(addrs, want) {
		t.Errorf("%q, want %q", addrs, want)
	}
}
