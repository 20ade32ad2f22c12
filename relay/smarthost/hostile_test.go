package smarthost

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Next hops that leave, stall, babble, or are somebody else.

// One that closes behind each message, with or without a 221, loses and doubles nothing.
func TestClosesBehindEachMessage(t *testing.T) {
	for name, end := range map[string]string{"221": "250 2.0.0 taken\r\n221 2.0.0 bye", "421": "250 2.0.0 taken\r\n421 4.4.2 bye", "nothing": "250 2.0.0 taken"} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(n int, line string) string {
				if line == "." {
					return end
				}
				return agreeable(n, line)
			})
			f.once = true
			c := newClient(t, nil, f.url("smtp"))
			for i := range 3 {
				if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
					t.Fatal(i, r, err)
				}
			}
			if conns, _, messages := f.seen(); conns != 3 || len(messages) != 3 {
				t.Errorf("%d connections, %d messages", conns, len(messages))
			}
		})
	}
}

// 421 means that the next hop leaves (RFC 5321 §3.8): before the dot the next one gets the copy,
// behind it, it is an answer.
func TestLeavesAtAnyStep(t *testing.T) {
	for _, step := range []string{"", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA"} {
		t.Run("at "+step, func(t *testing.T) {
			server, pool := certificate(t, nil)
			offer := func(n int, line string) string {
				if strings.HasPrefix(line, "EHLO") {
					return "250-sink.example.org\r\n250-AUTH PLAIN\r\n250 STARTTLS"
				}
				if strings.HasPrefix(line, "AUTH") {
					return "235 2.7.0 ok"
				}
				return agreeable(n, line)
			}
			f := newFake(t, func(n int, line string) string {
				if verb, _, _ := strings.Cut(line, " "); verb == step {
					return "421 4.3.2 leaving"
				}
				return offer(n, line)
			})
			good := newFake(t, offer)
			f.tls, good.tls = server, server
			c := newClient(t, func(c *Config) {
				c.TLSConfig, c.Username, c.Password = &tls.Config{RootCAs: pool}, "shop", "secret"
			}, f.url("smtp"), good.url("smtp"))
			if r, err := send(t, c, joe, hello); err != nil || r.Host != good.l.Addr().String() || !r.Accepted() {
				t.Fatalf("%+v, %v", r, err)
			}
			_, _, messages := f.seen()
			if _, _, others := good.seen(); len(messages) != 0 || len(others) != 1 {
				t.Errorf("%d and %d messages", len(messages), len(others))
			}
		})
	}
	// Behind a refusal the kept connection begins with RSET.
	for _, step := range []string{"RSET", "MAIL"} {
		t.Run("later, at "+step, func(t *testing.T) {
			refuse, leave := true, false
			f := newFake(t, func(n int, line string) string {
				switch verb, _, _ := strings.Cut(line, " "); {
				case verb == "RCPT" && refuse:
					refuse, leave = false, true
					return "550 5.1.1 no"
				case verb == step && leave:
					leave = false
					return "421 4.3.2 leaving"
				}
				return agreeable(n, line)
			})
			c := newClient(t, nil, f.url("smtp"))
			for i, want := range []int{550, 250} {
				if r, err := send(t, c, joe, hello); err != nil || r.Code != want {
					t.Fatalf("%d: %+v, %v", i, r, err)
				}
			}
			if conns, _, messages := f.seen(); conns != 2 || len(messages) != 1 {
				t.Errorf("%d connections, %d messages", conns, len(messages))
			}
		})
	}
}

// A refusal is an answer, and no reason to ask another.
func TestRefusalIsAnAnswer(t *testing.T) {
	for _, step := range []string{"MAIL", "RCPT", "DATA", "."} {
		for _, code := range []string{"451 4.7.1", "550 5.7.1"} {
			f, other := newFake(t, at(step, code+" no")), newFake(t, agreeable)
			c := newClient(t, nil, f.url("smtp"), other.url("smtp"))
			for range 2 {
				r, err := send(t, c, joe, hello)
				if err != nil || r.Accepted() || r.Host != f.l.Addr().String() || r.Code/100 != int(code[0]-'0') {
					t.Errorf("%s at %s: %+v, %v", code, step, r, err)
				}
			}
			if conns, _, _ := other.seen(); conns != 0 {
				t.Errorf("%s at %s: the other was asked", code, step)
			}
		}
	}
}

// Each step has the limit that RFC 5321 §4.5.3.2 gives it, and no other.
func TestTimeouts(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, tt := range []struct {
		step  string
		limit func(*timeouts) *time.Duration
		want  error
	}{
		{"", func(l *timeouts) *time.Duration { return &l.greeting }, ErrUnreachable},
		{"EHLO", func(l *timeouts) *time.Duration { return &l.command }, ErrUnreachable},
		{"MAIL", func(l *timeouts) *time.Duration { return &l.command }, ErrUnreachable},
		{"RCPT", func(l *timeouts) *time.Duration { return &l.command }, ErrUnreachable},
		{"DATA", func(l *timeouts) *time.Duration { return &l.dataInit }, ErrUnreachable},
		{".", func(l *timeouts) *time.Duration { return &l.dataEnd }, ErrUncertain},
	} {
		t.Run(tt.step, func(t *testing.T) {
			f := newFake(t, at(tt.step, silence))
			c := newClient(t, nil, f.url("smtp"))
			c.limit.greeting, c.limit.command, c.limit.dataInit, c.limit.dataEnd = time.Hour, time.Hour, time.Hour, time.Hour
			*tt.limit(&c.limit) = short
			_, err := send(t, c, joe, hello)
			var timeout net.Error
			if !errors.Is(err, tt.want) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("error %v", err)
			}
			if conns, _, _ := f.seen(); conns != 1 {
				t.Errorf("%d connections", conns)
			}
		})
	}
	// The body: a next hop that does not read on.
	t.Run("body", func(t *testing.T) {
		f := newFake(t, agreeable)
		f.deaf = true
		c := newClient(t, nil, f.url("smtp"))
		c.limit.dataBlock = short
		if _, err := send(t, c, joe, text("Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<18))); !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v", err)
		}
	})
}

// babbler greets and answers as agreeable does until step, and then writes begin and piece
// without end. It counts what it got rid of.
func babbler(t *testing.T, step, begin, piece string) (url string, written *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	written = new(atomic.Int64)
	done := make(chan bool)
	t.Cleanup(func() { l.Close(); <-done })
	babble := func(c net.Conn) {
		c.SetWriteDeadline(time.Now().Add(30 * time.Second))
		n, err := io.WriteString(c, begin)
		written.Add(int64(n))
		block := strings.Repeat(piece, 64<<10/len(piece))
		for err == nil {
			n, err = io.WriteString(c, block)
			written.Add(int64(n))
		}
	}
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		l.Close()
		if step == "" {
			babble(c)
			return
		}
		io.WriteString(c, agreeable(1, "")+"\r\n")
		data := false
		for r := bufio.NewScanner(c); r.Scan(); {
			line := r.Text()
			if data && line != "." {
				continue
			}
			data = line == "DATA"
			if verb, _, _ := strings.Cut(line, " "); verb == step {
				babble(c)
				return
			}
			io.WriteString(c, agreeable(1, line)+"\r\n")
		}
	}()
	return "smtp://" + l.Addr().String(), written
}

// A reply without end is cut off before it fills the memory.
func TestEndlessReplies(t *testing.T) {
	for _, step := range []string{"", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		for name, say := range map[string][2]string{
			"a line":      {"250 ", "x"},
			"lines":       {"", "250-more\r\n"},
			"a refusal":   {"550 ", "x"},
			"no newlines": {"", "\x00"},
		} {
			t.Run(name+" at "+step, func(t *testing.T) {
				url, written := babbler(t, step, say[0], say[1])
				c := newClient(t, nil, url)
				want := ErrUnreachable
				if step == "." {
					want = ErrUncertain
				}
				// Where its first bytes come alone, they count as the reply that they are.
				r, err := send(t, c, joe, hello)
				begun := err == nil && (say[0] == "550 " && r.Code == 550 || say[0] == "250 " && r.Code == 250 && step == ".")
				if !errors.Is(err, want) && !begun {
					t.Errorf("%+v, error %v", r, err)
				}
				c.Close()
				// What lies in the buffers of the two sockets counts as well.
				if n := written.Load(); n > 16<<20 {
					t.Errorf("%d bytes were taken", n)
				}
			})
		}
	}
}

func TestGarbageReplies(t *testing.T) {
	for _, garbage := range []string{"\x00\xff\xfe", "25", "250", "2500 x", "-1 x", "999 x", "250-a\r\n550 b", "\r\n250 ok", " 250 ok", "٢٥٠ ok"} {
		for _, step := range []string{"EHLO", "MAIL", "RCPT", "DATA", "."} {
			f := newFake(t, at(step, garbage))
			c := newClient(t, nil, f.url("smtp"))
			c.limit.command, c.limit.dataInit, c.limit.dataEnd = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
			r, err := send(t, c, joe, hello)
			_, _, messages := f.seen()
			switch {
			case err == nil && r.Accepted() && len(messages) == 1 && garbage == "250": // RFC 5321 §4.2: the text may be missing
			case err == nil && !r.Accepted() && r.Code >= 400 && r.Code <= 599:
			case errors.Is(err, ErrUnreachable) && len(messages) == 0:
			case errors.Is(err, ErrUncertain) && step == ".":
			default:
				t.Errorf("%q at %s: %+v, %v, %d messages", garbage, step, r, err, len(messages))
			}
		}
	}
}

// What a next hop says is printed and logged: nothing in it steers a terminal, and the lines stay lines.
func TestControlsInReplies(t *testing.T) {
	f := newFake(t, at("RCPT", "451-4.2.1 \x1b[31mred\x1b[0m\x00\t\rx\x7f é\xe9\r\n451 4.2.1 \u009b31m\u202ered"))
	r, err := send(t, newClient(t, nil, f.url("smtp")), joe, hello)
	if want := "?[31mred?[0m?  x? é?\n?31m?red"; err != nil || r.Text != want || r.Enhanced != [3]int{4, 2, 1} {
		t.Errorf("%+q, %v, want %+q", r.Text, err, want)
	}
}

// Only a certificate for this name that holds now is taken, but where TLS is a courtesy on this
// machine.
func TestCertificates(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"another name": func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example.org"} },
		"expired":      func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"not yet":      func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			server, pool := certificate(t, change)
			trusting := func(c *Config) { c.TLSConfig = &tls.Config{RootCAs: pool} }
			offer := func(n int, line string) string {
				if strings.HasPrefix(line, "EHLO") {
					return "250-sink.example.org\r\n250 STARTTLS"
				}
				return agreeable(n, line)
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", server)
			if err != nil {
				t.Fatal(err)
			}
			implicit, start := serveFake(t, l, offer), newFake(t, offer)
			start.tls = server
			for url, f := range map[string]*fake{implicit.url("smtps"): implicit, start.url("smtp+starttls"): start} {
				_, err := send(t, newClient(t, trusting, url), joe, hello)
				var certificate *tls.CertificateVerificationError
				if !errors.Is(err, ErrUnreachable) || !errors.As(err, &certificate) {
					t.Errorf("%s: %v", url, err)
				}
				if _, lines, _ := f.seen(); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "MAIL") }) {
					t.Errorf("%s: mail went out", url)
				}
			}
			if r, err := send(t, newClient(t, trusting, start.url("smtp")), joe, hello); err != nil || !r.Accepted() {
				t.Errorf("a courtesy: %+v, %v", r, err)
			}
		})
	}
}

// STARTTLS that is offered and refused is no reason to go on in clear.
func TestSTARTTLSRefused(t *testing.T) {
	for _, scheme := range []string{"smtp", "smtp+starttls"} {
		f := newFake(t, func(n int, line string) string {
			switch line {
			case "EHLO gate.example.org":
				return "250-sink.example.org\r\n250 STARTTLS"
			case "STARTTLS":
				return "454 4.7.0 not now"
			}
			return agreeable(n, line)
		})
		if _, err := send(t, newClient(t, nil, f.url(scheme)), joe, hello); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", scheme, err)
		}
		if _, lines, _ := f.seen(); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "MAIL") }) {
			t.Errorf("%s: mail went out in clear", scheme)
		}
	}
}

func TestLogin(t *testing.T) {
	for _, tt := range []struct {
		offered string
		lines   []string // what logs in; nil: nothing can
	}{
		{"AUTH PLAIN LOGIN", []string{"AUTH PLAIN AHNob3AAc2VjcmV0"}},
		{"AUTH LOGIN", []string{"AUTH LOGIN c2hvcA==", "c2VjcmV0"}},
		{"AUTH CRAM-MD5", nil},
		{"SIZE", nil},
	} {
		f := newFake(t, func(n int, line string) string {
			switch {
			case strings.HasPrefix(line, "EHLO"):
				return "250-sink.example.org\r\n250 " + tt.offered
			case line == "AUTH LOGIN c2hvcA==":
				return "334 UGFzc3dvcmQ6"
			case line == "c2VjcmV0", strings.HasPrefix(line, "AUTH PLAIN"):
				return "235 2.7.0 ok"
			}
			return agreeable(n, line)
		})
		c := newClient(t, func(c *Config) { c.Username, c.Password = "shop", "secret" }, f.url("smtp"))
		r, err := send(t, c, joe, hello)
		_, lines, messages := f.seen()
		if tt.lines == nil {
			if !errors.Is(err, ErrUnreachable) || len(messages) != 0 {
				t.Errorf("%s: %+v, %v, %d messages", tt.offered, r, err, len(messages))
			}
			continue
		}
		at := slices.Index(lines, tt.lines[0])
		if err != nil || !r.Accepted() || at < 0 || !slices.Equal(lines[at:at+len(tt.lines)], tt.lines) {
			t.Errorf("%s: %+v, %v, lines %q", tt.offered, r, err, lines)
		}
	}
}

// One that refuses a message before its end, and closes, has answered: it is not out of reach.
func TestRefusalBeforeTheEnd(t *testing.T) {
	for _, want := range []int{552, 0} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan int)
		go func() {
			conns := 0
			defer func() { done <- conns }()
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conns++
				io.WriteString(conn, "220 sink.example.org\r\n")
				for lines := bufio.NewReader(conn); ; {
					line, err := lines.ReadString('\n')
					if err != nil {
						break
					}
					if line == "DATA\r\n" {
						io.WriteString(conn, "354 go on\r\n")
						io.CopyN(io.Discard, lines, 1<<20)
						if want != 0 {
							io.WriteString(conn, "552 5.3.4 too big\r\n")
						}
						break
					}
					io.WriteString(conn, "250 ok\r\n")
				}
				conn.Close()
			}
		}()
		c := newClient(t, nil, "smtp://"+l.Addr().String())
		r, err := send(t, c, joe, text(strings.Repeat("a line of text\r\n", 4<<20)))
		if r.Code != want || (err == nil) != (want != 0) || err != nil && !errors.Is(err, ErrUnreachable) {
			t.Errorf("%+v, %v; want %d", r, err, want)
		}
		l.Close()
		if n := <-done; n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}
