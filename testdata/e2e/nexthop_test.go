package e2e

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nextConn is one connection to a server that does what the test wants.
type nextConn struct {
	net.Conn
	r      *bufio.Reader
	number int // from 1
}

// startNext listens until the end of the test and hands each connection to serve, which returns
// where it is to be closed. It returns its address.
func startNext(t testing.TB, serve func(*nextConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			n := len(open)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(&nextConn{c, bufio.NewReader(c), n})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// What a step of smtpUntil does in place of the right answer.
const (
	reset = "\x00reset" // RST
	hush  = "\x00hush"  // never a word
	leave = "\x00leave" // close, without a word
)

// steps of a transaction, as smtpUntil counts them.
const (
	atGreeting = "greeting"
	atEHLO     = "EHLO"
	atMail     = "MAIL"
	atRcpt     = "RCPT"
	atData     = "DATA"
	inMessage  = "message"
	atDot      = "."
)

// smtpUntil plays a smarthost that answers rightly up to a step, and there says (or does) what.
func (c *nextConn) smtpUntil(step, what string) {
	say := func(at, right string) bool {
		if at != step {
			_, err := io.WriteString(c, right+"\r\n")
			return err == nil
		}
		switch what {
		case leave:
		case reset:
			c.Conn.(*net.TCPConn).SetLinger(0) // the Close that follows is an RST
		case hush:
			io.Copy(io.Discard, c.r)
		default:
			io.WriteString(c, what+"\r\n")
			io.Copy(io.Discard, c.r)
		}
		return false
	}
	if !say(atGreeting, "220 next.example.org ESMTP") {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(line)), " ")
		switch verb {
		case "EHLO":
			if !say(atEHLO, "250-next.example.org\r\n250-8BITMIME\r\n250 SMTPUTF8") {
				return
			}
		case "DATA":
			if !say(atData, "354 go on") {
				return
			}
			if step == inMessage && !say(inMessage, "") {
				return
			}
			for line != ".\r\n" {
				if line, err = c.r.ReadString('\n'); err != nil {
					return
				}
			}
			if !say(atDot, "250 2.0.0 taken") {
				return
			}
		case "QUIT":
			io.WriteString(c, "221 2.0.0 bye\r\n")
			return
		default:
			if !say(verb, "250 2.1.0 ok") {
				return
			}
		}
	}
}

// A smarthost that is down, leaves, resets or says nonsense: the sender is told to try again, in
// words that tell nothing of the inside; the log has the step and the cause; and where it is not
// known whether the copy was taken, the answer says that.
func TestBadSmarthost(t *testing.T) {
	t.Parallel()
	const (
		gone      = `451 4\.4\.1 the next hop cannot be reached, try again later$`
		uncertain = `451 4\.4\.2 the next hop did not say whether it took the message, try again later$`
	)
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name, step, what string
		want             string // the answer to the sender
		log              string // behind answer="
	}{
		{"leaves instead of a greeting", atGreeting, leave, gone, `greeting: EOF`},
		{"resets instead of a greeting", atGreeting, reset, gone, `connection reset by peer`},
		{"is busy", atGreeting, "421 4.3.2 too many connections", gone, `greeting: 421 .*4\.3\.2 too many connections`},
		{"speaks HTTP", atGreeting, "HTTP/1.1 400 Bad Request", gone, `greeting: .*HTTP/1\.1 400 Bad Request`},
		{"speaks in bytes", atGreeting, "\xff\xfe\x00\x01\x02", gone, `greeting: `},
		{"never ends its greeting", atGreeting, "220-" + long, gone, `greeting: `},
		{"speaks without end at EHLO", atEHLO, strings.Repeat("250-X\r\n", 1<<18), gone, `EHLO: `},
		{"leaves at EHLO", atEHLO, leave, gone, `EHLO: EOF`},
		{"leaves at MAIL", atMail, leave, gone, `MAIL: EOF`},
		{"resets at MAIL", atMail, reset, gone, `MAIL: .*connection reset by peer`},
		{"speaks nonsense at MAIL", atMail, "ok, go on", gone, `MAIL: `},
		{"says 354 to MAIL", atMail, "354 go on", gone, `MAIL: `},
		{"says 999 to RCPT", atRcpt, "999 9.9.9 what", gone, `RCPT: `},
		{"leaves at RCPT", atRcpt, leave, gone, `RCPT: EOF`},
		{"says 250 to DATA", atData, "250 ok", gone, `DATA: `},
		{"leaves at DATA", atData, leave, gone, `DATA: EOF`},
		{"leaves at the dot", atDot, leave, uncertain, `EOF`},
		{"resets at the dot", atDot, reset, uncertain, `connection reset by peer`},
		{"speaks nonsense at the dot", atDot, "thank you", uncertain, ``},
		{"answers the dot without end", atDot, "250-" + long + "\r\n" + strings.Repeat("250-more\r\n", 1<<16), uncertain, ``},
		// What it says in good SMTP is the answer, and its 421 does not end the sender's connection.
		{"is shutting down at the dot", atDot, "421 4.3.2 bye", `451 4\.3\.2 bye$`, `421 4\.3\.2 bye`},
		{"refuses for good", atDot, "554 5.7.1 spam", `554 5\.7\.1 spam$`, `554 5\.7\.1 spam`},
		{"refuses without an enhanced code", atRcpt, "550 nobody", `550 5\.0\.0 nobody$`, `550 `},
		{"refuses in bytes", atRcpt, "550 5.1.1 no\x00\x1b[31m\xffbody", `550 5\.1\.1 [ -~]+$`, `550 5\.1\.1 `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := startNext(t, func(c *nextConn) { c.smtpUntil(tt.step, tt.what) })
			g := newSite(t, `mode = "cutthrough"`, `mode = "stateless"`, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+address+`"]`).start(t)
			d := g.hello(t)
			d.envelope("reader@example.org")
			d.say("DATA")
			d.expect("354 ")
			d.raw(string(newsletter("marketing")) + ".\r\n")
			got := d.expect(tt.want)
			if strings.Contains(got, "127.0.0.1") {
				t.Errorf("the sender is told of the inside: %q", got)
			}
			d.say("NOOP") // the connection is in order
			d.expect("250 ")
			g.logged(t, `level=WARN msg="message (?:refused|deferred)" .*to=r•••@example\.org .*answer="?`+`[^\n]*`+tt.log)
			for line := range strings.Lines(g.log.text()) {
				if len(line) > 8<<10 {
					t.Errorf("a line of the log has %d bytes: %.200q …", len(line), line)
				}
			}
		})
	}
	t.Run("is down", func(t *testing.T) {
		t.Parallel()
		g := newSite(t, `mode = "cutthrough"`, `mode = "stateless"`, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+freeAddress(t)+`"]`).start(t)
		if got := g.deliver(t, "reader@example.org", newsletter("marketing")); got != "451 4.4.1 the next hop cannot be reached, try again later" {
			t.Errorf("answered %q", got)
		}
		g.logged(t, `msg="message deferred" .*answer="451 4\.4\.1 .*connection refused"`)
		g.await(t, 200) // nothing is wrong with this gateway
	})
	t.Run("is down and there is another", func(t *testing.T) {
		t.Parallel()
		next := startSink(t)
		g := newSite(t, `mode = "cutthrough"`, `mode = "stateless"`, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+freeAddress(t)+`", "smtp://`+next.addr+`"]`).start(t)
		if got := g.deliver(t, "reader@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") || next.count() != 1 {
			t.Errorf("answered %q, %d copies", got, next.count())
		}
	})
}

// A smarthost that stalls holds up the mail that it stalls on, and nothing else: other mail goes
// on meanwhile, and SIGTERM ends the gateway within its 30 s, with an answer that lets the sender
// try again.
func TestStalledSmarthost(t *testing.T) {
	t.Parallel()
	for _, step := range []string{atMail, atDot} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			stalled := make(chan struct{})
			address := startNext(t, func(c *nextConn) {
				if c.number > 1 {
					c.smtpUntil("", "")
					return
				}
				close(stalled)
				c.smtpUntil(step, hush)
			})
			g := newSite(t, `mode = "cutthrough"`, `mode = "stateless"`, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+address+`"]`).start(t)
			d := g.hello(t)
			d.envelope("slow@example.org")
			d.say("DATA")
			d.expect("354 ")
			d.raw(string(newsletter("marketing")) + ".\r\n")
			<-stalled
			if got := g.deliver(t, "reader@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") {
				t.Errorf("other mail is answered %q", got)
			}
			before := time.Now()
			g.cmd.Process.Signal(syscall.SIGTERM)
			d.expect(`451 4\.4\.[12] the next hop `)
			d.expect(`421 4\.`)
			d.expectEnd()
			<-g.done
			if took := time.Since(before); took > 31*time.Second {
				t.Errorf("it took %v to stop", took)
			}
			g.logged(t, `msg="message deferred" .*to=s•••@example\.org .*answer="451 .*context canceled`)
		})
	}
}
