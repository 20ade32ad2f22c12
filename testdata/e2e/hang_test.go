package e2e

import (
	"net"
	"strings"
	"testing"
	"time"
)

// A client that hangs is told 421 4.4.2 once smtp.idle_timeout is over, wherever it hangs, and
// cut; nothing of a half message leaves, and the log has a line about each message that was under
// way. Meanwhile the gateway serves others.
func TestHang(t *testing.T) {
	t.Parallel()
	next := startSink(t)
	s := newSite(t,
		`urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
		`listen = ["127.0.0.1:0"]`, `listen = ["127.0.0.1:0"]`+"\n"+`idle_timeout = "1s"`)
	g := s.start(t)
	const (
		idle      = `421 4\.4\.2 `
		inMessage = `421 4\.4\.2 waited too long for the message`
	)
	t.Run("clients", func(t *testing.T) {
		for name, c := range map[string]struct {
			say    func(d *dialogue) // what it says before it hangs
			answer string
			logged bool // the message was under way
		}{
			"before its greeting": {func(d *dialogue) { d.expect("220 ") }, idle, false},
			"in its greeting":     {func(d *dialogue) { d.expect("220 "); d.raw("EHLO sho") }, idle, false},
			"behind its greeting": {func(d *dialogue) { d.expect("220 "); d.say("EHLO shop.example.net"); d.expect("250 ") }, idle, false},
			"behind RCPT":         {func(d *dialogue) { greet(d); d.envelope("rcpt@example.org") }, idle, false},
			"behind DATA":         {func(d *dialogue) { data(d, "data0@example.org") }, inMessage, true},
			"in the header":       {func(d *dialogue) { data(d, "data1@example.org"); d.raw("Subject: hello\r\nFro") }, inMessage, true},
			"in the body":         {func(d *dialogue) { data(d, "data2@example.org"); d.raw("Subject: hello\r\n\r\nhello\r\n") }, inMessage, true},
			"in the end":          {func(d *dialogue) { data(d, "data3@example.org"); d.raw("Subject: hello\r\n\r\nhello\r\n.\r") }, inMessage, true},
			"behind a megabyte": {func(d *dialogue) {
				data(d, "data4@example.org")
				d.raw("Subject: hello\r\n\r\n" + strings.Repeat("hello\r\n", 300_000))
			}, inMessage, true},
			"in a BDAT chunk": {func(d *dialogue) {
				greet(d)
				d.envelope("bdat0@example.org")
				d.raw("BDAT 100 LAST\r\nSubject: hello\r\n\r\nhel")
			}, inMessage, true},
			"in a BDAT chunk of no byte": {func(d *dialogue) { greet(d); d.envelope("bdat1@example.org"); d.raw("BDAT 100 LAST\r\n") }, inMessage, true},
			"in a chunk that is not LAST": {func(d *dialogue) {
				greet(d)
				d.envelope("bdat2@example.org")
				d.raw("BDAT 100\r\nSubject: hello\r\n\r\nhel")
			}, inMessage, true},
			"between chunks, behind a 250": {func(d *dialogue) {
				greet(d)
				d.envelope("bdat3@example.org")
				d.raw("BDAT 23\r\nSubject: hello\r\n\r\nhello")
				d.expect("250 ")
			}, `421 4\.4\.[02] `, true},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := g.dial(t)
				c.say(d)
				d.last(c.answer)
			})
		}
		t.Run("one that works", func(t *testing.T) {
			t.Parallel()
			if got := g.deliver(t, "reader@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") {
				t.Errorf("answered %q", got)
			}
		})
	})
	if n := next.count(); n != 1 {
		t.Errorf("%d copies left, want 1", n)
	}
	g.stop(t) // the log is complete then
	log := g.log.text()
	if n := strings.Count(log, `msg="message refused"`); n != 9 {
		t.Errorf("%d lines about messages that did not come to their end, want 9:\n%s", n, log)
	}
	if n := strings.Count(log, `to=[d•••@example.org] answer="421 4.4.2 waited too long for the message`); n != 5 {
		t.Errorf("%d lines about messages that hung in DATA, want 5:\n%s", n, log)
	}
	if strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
}

func greet(d *dialogue) {
	d.t.Helper()
	d.expect("220 ")
	d.say("EHLO shop.example.net")
	d.expect("250 ")
}

func data(d *dialogue, to string) {
	d.t.Helper()
	greet(d)
	d.envelope(to)
	d.say("DATA")
	d.expect("354 ")
}

// A client that never reads its answers cannot hold the gateway up: it is cut by the timeout for
// writing.
func TestDeafClient(t *testing.T) {
	t.Parallel()
	s := newSite(t, `listen = ["127.0.0.1:0"]`, `listen = ["127.0.0.1:0"]`+"\n"+`idle_timeout = "1s"`)
	g := s.start(t)
	d := g.dial(t)
	if err := d.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if err := d.SetDeadline(time.Now().Add(4 * time.Minute)); err != nil { // some megabytes of answers fit between, on a busy machine
		t.Fatal(err)
	}
	commands := []byte(strings.Repeat("EHLO shop.example.net\r\n", 10_000))
	for sent := 0; ; {
		n, err := d.Write(commands)
		if sent += n; err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("the gateway still waits, after %d bytes", sent)
			}
			break
		}
		if sent > 1<<30 {
			t.Fatal("the gateway takes commands without end")
		}
	}
	g.hello(t) // and serves others
}
