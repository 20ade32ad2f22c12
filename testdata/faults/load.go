package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// load sends messages with a mark each, over several connections, and remembers what was answered.
type load struct {
	addr, name string
	perConn    int           // messages on one connection, 0 = all
	from       string        // the address of this machine to send from, "" = whatever
	pace       time.Duration // from one message on a connection to the next; 0: as the pause says
	write      func(mark string, random *rand.Rand) letter

	mu      sync.Mutex
	answers map[string]answer // by mark
}

// letter is a message and its recipients.
type letter struct {
	to            []string
	text          string
	transactional bool
}

// answer is what a letter was answered, without its text. The code is 0 where the connection broke before
// the answer: the sender tries again.
type answer struct {
	letter
	code  int
	begun time.Time // before the first of it was sent
	took  time.Duration
}

// People of the test: whoever is named so decided so.
const (
	consents     = "both"   // to opens and clicks
	unsubscribed = "gone"   // from all mail
	ordinary     = "reader" // never asked
)

const pixel = "https://open.convertkit-mail4.com/ab12cd34ef"

func newLoad(addr, name string) *load {
	return &load{addr: addr, name: name, write: mixed, answers: map[string]answer{}}
}

// run keeps so many connections busy until ctx is done, with a pause between messages.
func (l *load) run(ctx context.Context, connections int, pause time.Duration, seed uint64) {
	var wg sync.WaitGroup
	for n := range connections {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			for i := 0; ctx.Err() == nil; {
				c, err := dial(l.addr, l.from)
				if err != nil { // it is being restarted
					sleep(ctx, 20*time.Millisecond)
					continue
				}
				for begun := i; ctx.Err() == nil && (l.perConn == 0 || i < begun+l.perConn); {
					i++
					next := time.Now().Add(l.pace)
					if err := l.send(c, fmt.Sprintf("%s-%d-%d", l.name, n, i), random); err != nil {
						break
					}
					sleep(ctx, max(pause, time.Until(next)))
				}
				c.Close()
			}
		})
	}
	wg.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// send sends one message; the error says that the connection is of no use any more.
func (l *load) send(c *client, mark string, random *rand.Rand) error {
	return l.sendLetter(c, mark, l.write(mark, random))
}

func (l *load) sendLetter(c *client, mark string, m letter) error {
	begun := time.Now()
	code, err := c.transaction(m.to, m.text)
	took := time.Since(begun)
	m.text = ""
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[mark] = answer{m, code, begun, took}
	if code == 421 {
		err = errors.New("the gateway leaves")
	}
	return err
}

// mixed is a message of some size to some people, most of whom were never asked.
func mixed(mark string, random *rand.Rand) letter {
	to := []string{fmt.Sprintf("%s%d@example.com", ordinary, random.IntN(1000))}
	for range random.IntN(4) {
		to = append(to, fmt.Sprintf("%s%d@example.com", ordinary, random.IntN(1000)))
	}
	switch random.IntN(8) {
	case 0:
		to = append(to, consents+"@example.com")
	case 1:
		to = append(to, unsubscribed+"@example.com")
	}
	size := []int{300, 3000, 50_000, 1_300_000}[min(random.IntN(40)/10, 3)]
	if size > 1<<20 && random.IntN(10) > 0 {
		size = 3000
	}
	return letter{to: unique(to), text: message(mark, "", size)}
}

func unique(to []string) []string {
	slices.Sort(to)
	return slices.Compact(to)
}

// message is one of about that many bytes, with a pixel; fields are further ones of its header.
func message(mark, fields string, size int) string {
	head := "From: News <news@example.org>\r\nSubject: mark " + mark + "\r\n" + fields + "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
		"<html><body><p>Hello!</p><img src=\"" + pixel + "\">"
	line := "<p>a line of this message, of which there are some</p>\r\n"
	return head + strings.Repeat(line, max(size-len(head), 0)/len(line)) + "<p>end of " + mark + "</p></body></html>\r\n"
}

// client is a plain SMTP client.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr, from string) (*client, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReader(conn)}
	if code, err := c.reply(); err != nil || code != 220 {
		conn.Close()
		return nil, fmt.Errorf("greeting: %d %v", code, err)
	}
	if code, err := c.say("EHLO client.example.org\r\n"); err != nil || code != 250 {
		conn.Close()
		return nil, fmt.Errorf("EHLO: %d %v", code, err)
	}
	return c, nil
}

func (c *client) say(s string) (code int, err error) {
	c.SetDeadline(time.Now().Add(90 * time.Second))
	if _, err := c.Write([]byte(s)); err != nil {
		return 0, err
	}
	return c.reply()
}

func (c *client) reply() (code int, err error) {
	c.SetDeadline(time.Now().Add(90 * time.Second))
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if len(line) < 4 || line[3] == ' ' {
			_, err = fmt.Sscanf(line, "%d", &code)
			return code, err
		}
	}
}

// transaction sends one message and returns the code that ends it.
func (c *client) transaction(to []string, text string) (code int, err error) {
	for i, line := range append(append([]string{"MAIL FROM:<news@example.org>"}, to...), "DATA") {
		if i > 0 && line != "DATA" {
			line = "RCPT TO:<" + line + ">"
		}
		if code, err = c.say(line + "\r\n"); err != nil {
			return 0, err
		}
		if code/100 > 3 {
			_, err = c.say("RSET\r\n")
			return code, err
		}
	}
	return c.say(text + ".\r\n")
}
