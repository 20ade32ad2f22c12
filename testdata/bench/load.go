package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is mail as a fast sender brings it: persistent connections, each with one transaction
// after the other; MAIL, RCPT and DATA in one write (RFC 2920), the message in another.
type load struct {
	addr    string
	message *message
	conns   int
	rcpts   int // a message
	people  int // recipients go round among them
	window  time.Duration
	single  bool // one message, whatever the window
}

// sent is what a load came to.
type sent struct {
	messages   int64
	start, end time.Time       // end is when the last answer came
	waits      []time.Duration // from the last byte of a message handed to the kernel to the answer, sorted
}

// sequence numbers all messages of this process, so that no two have one Message-ID.
var sequence atomic.Int64

// run sends for the window. Any answer that does not accept is an error: figures with refusals
// in them say nothing.
func (l load) run(ctx context.Context) (*sent, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &sent{start: time.Now()}
	deadline := s.start.Add(l.window)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range l.conns {
		wg.Go(func() {
			waits, err := l.connection(ctx, deadline)
			end := time.Now()
			mu.Lock()
			defer mu.Unlock()
			s.messages += int64(len(waits))
			s.waits = append(s.waits, waits...)
			if end.After(s.end) {
				s.end = end
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(s.waits)
	return s, nil
}

// connection sends on one connection until the deadline.
func (l load) connection(ctx context.Context, deadline time.Time) (waits []time.Duration, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.SetDeadline(deadline.Add(time.Minute)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	if err := answer(r, '2'); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if _, err := io.WriteString(c, "EHLO sender.example.org\r\n"); err != nil {
		return nil, err
	}
	if err := answer(r, '2'); err != nil {
		return nil, fmt.Errorf("EHLO: %w", err)
	}
	var buf []byte
	for time.Now().Before(deadline) && (!l.single || waits == nil) {
		n := sequence.Add(1)
		buf = fmt.Appendf(buf[:0], "MAIL FROM:<news@%s>\r\n", l.message.domain)
		for k := range l.rcpts {
			buf = fmt.Appendf(buf, "RCPT TO:<%s>\r\n", person((int(n)*l.rcpts+k)%l.people))
		}
		buf = append(buf, "DATA\r\n"...)
		if _, err := c.Write(buf); err != nil {
			return waits, err
		}
		for i := range l.rcpts + 2 {
			want := byte('2')
			if i == l.rcpts+1 {
				want = '3'
			}
			if err := answer(r, want); err != nil {
				return waits, fmt.Errorf("MAIL, RCPT, DATA: %w", err)
			}
		}
		buf = l.message.append(buf[:0], n)
		if _, err := c.Write(buf); err != nil {
			return waits, err
		}
		start := time.Now()
		if err := answer(r, '2'); err != nil {
			return waits, fmt.Errorf("message: %w", err)
		}
		waits = append(waits, time.Since(start))
	}
	_, err = io.WriteString(c, "QUIT\r\n")
	return waits, err
}

// answer reads a reply of any number of lines; one that does not begin with want is an error.
func answer(r *bufio.Reader, want byte) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] != want {
			return fmt.Errorf("the answer is %q", strings.TrimSpace(line))
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// at returns the wait that the share p of all waits does not exceed.
func (s *sent) at(p float64) time.Duration {
	if len(s.waits) == 0 {
		return 0
	}
	return s.waits[min(len(s.waits)-1, int(p*float64(len(s.waits))))]
}
