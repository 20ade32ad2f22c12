package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dialogue is a client that says what the test wants, right or wrong. Nothing in it waits for
// longer than a minute.
type dialogue struct {
	net.Conn
	t    testing.TB
	r    *bufio.Reader
	from string // of each envelope; "" = news@shop.example.net
}

// dial connects and says nothing.
func (g *gateway) dial(t testing.TB) *dialogue {
	t.Helper()
	c, err := net.Dial("tcp", g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &dialogue{Conn: c, t: t, r: bufio.NewReader(c)}
}

// hello connects and says EHLO.
func (g *gateway) hello(t testing.TB) *dialogue {
	t.Helper()
	d := g.dial(t)
	d.expect("220 ")
	d.say("EHLO shop.example.net")
	d.expect("250 ")
	return d
}

// say sends a line.
func (d *dialogue) say(line string) {
	d.t.Helper()
	d.raw(line + "\r\n")
}

// raw sends text as it is.
func (d *dialogue) raw(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d, text); err != nil {
		d.t.Fatalf("sending %.40q: %v", text, err)
	}
}

// reply returns the last line of the next answer.
func (d *dialogue) reply() (string, error) {
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) > 3 && line[3] != '-' {
			return strings.TrimSuffix(line, "\r\n"), nil
		}
	}
}

// expect reads an answer, which must match from its beginning.
func (d *dialogue) expect(pattern string) string {
	d.t.Helper()
	got, err := d.reply()
	if err != nil {
		d.t.Fatalf("no answer, want %q: %v", pattern, err)
	}
	if !regexp.MustCompile("^(?:" + pattern + ")").MatchString(got) {
		d.t.Fatalf("answered %q, want %q", got, pattern)
	}
	return got
}

// last reads all answers until the gateway closes the connection; the last one must match.
func (d *dialogue) last(pattern string) {
	d.t.Helper()
	for last := ""; ; {
		got, err := d.reply()
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			d.t.Fatalf("the connection is still open, answered %q", last)
		}
		if err != nil {
			if !regexp.MustCompile("^(?:" + pattern + ")").MatchString(last) {
				d.t.Errorf("the last answer is %q, want %q", last, pattern)
			}
			return
		}
		last = got
	}
}

// expectEnd makes sure that the gateway closes the connection and says no more.
func (d *dialogue) expectEnd() {
	d.t.Helper()
	if got, err := d.reply(); err == nil {
		d.t.Fatalf("answered %q, want the end of the connection", got)
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		d.t.Fatal("the connection is still open")
	}
}

// envelope begins a transaction, up to where the message comes.
func (d *dialogue) envelope(to string) {
	d.t.Helper()
	if d.from == "" {
		d.from = "news@shop.example.net"
	}
	d.say("MAIL FROM:<" + d.from + ">")
	d.expect("250 ")
	d.say("RCPT TO:<" + to + ">")
	d.expect("250 ")
}

// submit sends a message by DATA, as it is but for doubled dots, and returns the answer.
func (d *dialogue) submit(to string, text []byte) string {
	d.t.Helper()
	d.envelope(to)
	d.say("DATA")
	d.expect("354 ")
	if _, err := d.Write(stuffed(text)); err != nil {
		d.t.Fatal(err)
	}
	d.raw("\r\n")
	got, err := d.reply()
	if err != nil {
		d.t.Fatalf("no answer to the message: %v", err)
	}
	return got
}

// deliver sends a message over a connection of its own.
func (g *gateway) deliver(t testing.TB, to string, text []byte) string {
	t.Helper()
	d := g.hello(t)
	defer d.Close()
	return d.submit(to, text)
}

// newsletter is a message of a class with a pixel and a counted link, both of a known tracker.
func newsletter(class string) []byte {
	return fmt.Appendf(nil, "From: Shop <news@%s>\r\nTo: reader@example.org\r\nSubject: Sale\r\nMIME-Version: 1.0\r\n"+
		"X-Consent-Class: %s\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>%s\r\n", dkimDomain, class, pixel)
}

// pixel is an open tracker that everybody knows; pixelHost is what must not be left of it.
const (
	pixelHost    = "list-manage.com"
	pixelAddress = "https://shop.us1." + pixelHost + "/track/open.php?u=1&id=2&e=3"
	pixel        = `<img src="` + pixelAddress + `" width="1" height="1">`
)

// logged waits for a line of the log that matches, and fails the test if none comes.
func (g *gateway) logged(t testing.TB, pattern string) {
	t.Helper()
	want := regexp.MustCompile("(?m)^.*" + pattern + ".*$")
	for range every(t, 20*time.Millisecond, 10*time.Second) {
		if want.MatchString(g.log.text()) {
			return
		}
	}
	t.Errorf("the log has no line %q:\n%s", pattern, tail(g.log.text(), 20))
}
