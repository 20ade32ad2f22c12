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
	messages     int64
	start, end   time.Time       // end is when the last answer came
	waits        []time.Duration // from the last byte of a message handed to the kernel to the answer, sorted
	transactions []time.Duration // from MAIL to that answer, sorted
	accepted     []event         // by the number of the message, with the recipients that were accepted
}

// event is that of a message somewhere: it was accepted, or has arrived, for so many recipients.
type event struct {
	n          int64 // its number, see sequence
	recipients int
	at         time.Time
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
			one, err := l.connection(ctx, deadline)
			mu.Lock()
			defer mu.Unlock()
			s.messages += one.messages
			s.waits = append(s.waits, one.waits...)
			s.transactions = append(s.transactions, one.transactions...)
			s.accepted = append(s.accepted, one.accepted...)
			if one.end.After(s.end) {
				s.end = one.end
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
	slices.Sort(s.transactions)
	return s, nil
}

// connection sends on one connection until the deadline, one message at least.
func (l load) connection(ctx context.Context, deadline time.Time) (s sent, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return s, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.SetDeadline(deadline.Add(time.Minute)); err != nil {
		return s, err
	}
	r := bufio.NewReader(c)
	if err := answer(r, '2'); err != nil {
		return s, fmt.Errorf("greeting: %w", err)
	}
	if _, err := io.WriteString(c, "EHLO sender.example.org\r\n"); err != nil {
		return s, err
	}
	if err := answer(r, '2'); err != nil {
		return s, fmt.Errorf("EHLO: %w", err)
	}
	var buf []byte
	for s.messages == 0 || !l.single && time.Now().Before(deadline) {
		n := sequence.Add(1)
		buf = fmt.Appendf(buf[:0], "MAIL FROM:<news@%s>\r\n", l.message.domain)
		for k := range l.rcpts {
			buf = fmt.Appendf(buf, "RCPT TO:<%s>\r\n", person((int(n)*l.rcpts+k)%l.people))
		}
		buf = append(buf, "DATA\r\n"...)
		begin := time.Now()
		if _, err := c.Write(buf); err != nil {
			return s, err
		}
		for i := range l.rcpts + 2 {
			want := byte('2')
			if i == l.rcpts+1 {
				want = '3'
			}
			if err := answer(r, want); err != nil {
				return s, fmt.Errorf("MAIL, RCPT, DATA: %w", err)
			}
		}
		buf = l.message.append(buf[:0], n)
		if _, err := c.Write(buf); err != nil {
			return s, err
		}
		handed := time.Now()
		if err := answer(r, '2'); err != nil {
			return s, fmt.Errorf("message: %w", err)
		}
		s.end = time.Now()
		s.messages++
		s.waits = append(s.waits, s.end.Sub(handed))
		s.transactions = append(s.transactions, s.end.Sub(begin))
		s.accepted = append(s.accepted, event{n, l.rcpts, s.end})
	}
	_, err = io.WriteString(c, "QUIT\r\n")
	return s, err
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

// at returns the time that the share p of all times, which are sorted, does not exceed.
func at(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[min(len(times)-1, int(p*float64(len(times))))]
}
