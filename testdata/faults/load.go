package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// load sends messages with a mark each, over several connections, and remembers what was answered.
type load struct {
	addr, name string

	mu       sync.Mutex
	accepted map[string][]string // recipients, by mark
	refused  int                 // 4yz and 5yz: the sender still has it
	unsure   int                 // the connection broke before the answer: the sender tries again
	replies  map[string]int      // by code
}

// People of the test: whoever is named so decided so.
const (
	consents     = "both"   // to opens and clicks
	unsubscribed = "gone"   // from all mail
	ordinary     = "reader" // never asked
)

const pixel = "https://open.convertkit-mail4.com/ab12cd34ef"

func newLoad(addr, name string) *load {
	return &load{addr: addr, name: name, accepted: map[string][]string{}, replies: map[string]int{}}
}

// run keeps so many connections busy until ctx is done, with a pause between messages.
func (l *load) run(ctx context.Context, connections int, pause time.Duration, seed uint64) {
	var wg sync.WaitGroup
	for n := range connections {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			for i := 0; ctx.Err() == nil; {
				c, err := dial(l.addr)
				if err != nil { // it is being restarted
					sleep(ctx, 20*time.Millisecond)
					continue
				}
				for ctx.Err() == nil {
					i++
					if err := l.send(c, fmt.Sprintf("%s-%d-%d", l.name, n, i), random); err != nil {
						break
					}
					sleep(ctx, pause)
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
	seen := map[string]bool{}
	unique := to[:0]
	for _, r := range to {
		if !seen[r] {
			seen[r] = true
			unique = append(unique, r)
		}
	}
	size := []int{300, 3000, 50_000, 1_300_000}[min(random.IntN(40)/10, 3)]
	if size > 1<<20 && random.IntN(10) > 0 {
		size = 3000
	}
	code, text, err := c.transaction(unique, message(mark, size))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.unsure++
	case code == 250:
		l.accepted[mark] = unique
	default:
		l.refused++
	}
	if err == nil {
		l.replies[text[:min(len(text), 9)]]++
	}
	if err == nil && code == 421 {
		err = errors.New("the gateway leaves")
	}
	return err
}

func message(mark string, size int) string {
	head := "From: News <news@example.org>\r\nSubject: mark " + mark + "\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
		"<html><body><p>Hello!</p><img src=\"" + pixel + "\">"
	line := "<p>a line of this message, of which there are some</p>\r\n"
	return head + strings.Repeat(line, max(size-len(head), 0)/len(line)) + "<p>end of " + mark + "</p></body></html>\r\n"
}

// client is a plain SMTP client.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReader(conn)}
	if code, _, err := c.reply(); err != nil || code != 220 {
		conn.Close()
		return nil, fmt.Errorf("greeting: %d %v", code, err)
	}
	if code, _, err := c.say("EHLO client.example.org\r\n"); err != nil || code != 250 {
		conn.Close()
		return nil, fmt.Errorf("EHLO: %d %v", code, err)
	}
	return c, nil
}

func (c *client) say(s string) (code int, text string, err error) {
	c.SetDeadline(time.Now().Add(90 * time.Second))
	if _, err := c.Write([]byte(s)); err != nil {
		return 0, "", err
	}
	return c.reply()
}

func (c *client) reply() (code int, text string, err error) {
	c.SetDeadline(time.Now().Add(90 * time.Second))
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, "", err
		}
		if len(line) < 4 || line[3] == ' ' {
			_, err = fmt.Sscanf(line, "%d", &code)
			return code, strings.TrimSpace(line), err
		}
	}
}

// transaction sends one message and returns the answer that ends it.
func (c *client) transaction(to []string, text string) (code int, reply string, err error) {
	for i, line := range append(append([]string{"MAIL FROM:<news@example.org>"}, to...), "DATA") {
		if i > 0 && line != "DATA" {
			line = "RCPT TO:<" + line + ">"
		}
		if code, reply, err = c.say(line + "\r\n"); err != nil {
			return 0, "", err
		}
		if code/100 > 3 {
			if _, _, err := c.say("RSET\r\n"); err != nil {
				return 0, "", err
			}
			return code, reply, nil
		}
	}
	return c.say(text + ".\r\n")
}
