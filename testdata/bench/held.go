package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/consentgate/consentgate/testdata/process"
)

// What make load holds against the gateway.
const (
	idlers    = 1000
	senders   = 200
	sendFor   = 8 * time.Second
	largeSize = 50<<20 - 1 // with its final dot; smtp.max_message_bytes allows 50 MiB
	larges    = 20
	finalDot  = ".\r\n"

	// The most that the gateway may take, in MB: while it has all the large messages, 1,000 MB, at
	// once; and with the many connections, of which 1,200 buffers make the most, twice over for the
	// garbage collector.
	largeLimit = 300
	heldLimit  = 600
)

// hold opens 1,000 connections that do nothing beside 200 that send, and then sends a message of 50 MiB
// on 20 connections at once, in the modes that have a spool. It prints what memory the gateway took;
// a message that was not answered, one that did not come out, or memory that grows with the sum of
// the messages is an error.
func (s *site) hold(ctx context.Context, msg *message, sink *sink, people int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	large := append(attached(msg.domain, largeSize-len(finalDot)), finalDot...)
	fmt.Println("| mode | load | messages | answered in (p50 / p99) | all out after | RSS before | RSS, peak | RSS after |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, mode := range []string{"cutthrough", "spool"} {
		err := s.row(ctx, mode, fmt.Sprintf("%d idle, %d sending", idlers, senders), heldLimit, sink, func(g *gateway) (*sent, error) {
			waiting, err := openIdle(g.smtp, idlers)
			defer waiting.close()
			if err != nil {
				return nil, err
			}
			got, err := load{addr: g.smtp, message: msg, conns: senders, rcpts: 1, people: people, window: sendFor}.run(ctx)
			if err != nil {
				return nil, err
			}
			return got, waiting.answered()
		})
		if err != nil {
			return err
		}
		err = s.row(ctx, mode, fmt.Sprintf("%d MiB on %d at once", (largeSize+1)>>20, larges), largeLimit, sink, func(g *gateway) (*sent, error) {
			return sendAtOnce(ctx, g.smtp, msg.domain, large, larges)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// row serves in a fresh process, puts a load on it, waits until the sink has all of it, and prints a
// line.
func (s *site) row(ctx context.Context, mode, name string, limit float64, sink *sink, f func(*gateway) (*sent, error)) (err error) {
	fail := func(err error) error { return fmt.Errorf("mode %s, %s: %w", mode, name, err) }
	g, err := s.serve(ctx, mode)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, g.Stop()) }()
	before := process.Memory(g.PID(), "VmRSS")
	had := sink.recipients.Load()
	got, err := f(g)
	if err != nil {
		return fail(err)
	}
	err = process.Until(ctx, 3*time.Minute, func() error {
		if n := sink.recipients.Load() - had; n != got.messages {
			return fmt.Errorf("%d messages were accepted, %d came out", got.messages, n)
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	out := time.Unix(0, sink.last.Load()).Sub(got.start)
	peak := process.Memory(g.PID(), "VmHWM")
	fmt.Printf("| %s | %s | %d | %.0f / %.0f ms | %.1f s | %.0f MB | %.0f MB | %.0f MB |\n",
		mode, name, got.messages, ms(at(got.waits, .5)), ms(at(got.waits, .99)), out.Seconds(), before, peak, process.Memory(g.PID(), "VmRSS"))
	if peak > limit {
		return fail(fmt.Errorf("the gateway took %.0f MB, and may take %.0f", peak, limit))
	}
	return nil
}

// idle are connections that said EHLO and then nothing.
type idle []net.Conn

func openIdle(addr string, n int) (all idle, err error) {
	for range n {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return all, err
		}
		all = append(all, c)
		c.SetDeadline(time.Now().Add(3 * time.Minute))
		r := bufio.NewReader(c) // nothing is said ahead, so that it can be let go
		err = answer(r, '2')
		if err == nil {
			if _, err = io.WriteString(c, "EHLO idle.example.org\r\n"); err == nil {
				err = answer(r, '2')
			}
		}
		if err != nil {
			return all, fmt.Errorf("idle connection %d: %w", len(all), err)
		}
	}
	return all, nil
}

// answered makes sure that each is still there and is answered.
func (all idle) answered() error {
	for i, c := range all {
		if _, err := io.WriteString(c, "NOOP\r\n"); err != nil {
			return err
		}
		if err := answer(bufio.NewReader(c), '2'); err != nil {
			return fmt.Errorf("idle connection %d: NOOP: %w", i+1, err)
		}
	}
	return nil
}

func (all idle) close() {
	for _, c := range all {
		c.Close()
	}
}

// sendAtOnce sends text on each of n connections, to somebody else each. All are in the middle of
// the message before any comes to its end.
func sendAtOnce(ctx context.Context, addr, domain string, text []byte, n int) (*sent, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &sent{start: time.Now()}
	var mu sync.Mutex
	var halfway, done sync.WaitGroup
	halfway.Add(n)
	for i := range n {
		done.Go(func() {
			half := sync.OnceFunc(halfway.Done)
			defer half()
			wait, err := sendLarge(ctx, addr, domain, text, person(i), func() {
				half()
				halfway.Wait()
			})
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			s.messages++
			s.waits = append(s.waits, wait)
			s.end = time.Now()
		})
	}
	done.Wait()
	slices.Sort(s.waits)
	return s, context.Cause(ctx)
}

// sendLarge sends text, calls halfway in the middle of it, and returns how long the answer took
// behind its end.
func sendLarge(ctx context.Context, addr, domain string, text []byte, to string, halfway func()) (time.Duration, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(c)
	for i, said := range []string{"", "EHLO sender.example.org\r\n", "MAIL FROM:<news@" + domain + ">\r\n", "RCPT TO:<" + to + ">\r\n", "DATA\r\n"} {
		if _, err := io.WriteString(c, said); err != nil {
			return 0, err
		}
		want := byte('2')
		if i == 4 {
			want = '3'
		}
		if err := answer(r, want); err != nil {
			return 0, fmt.Errorf("%q: %w", said, err)
		}
	}
	if _, err := c.Write(text[:len(text)/2]); err != nil {
		return 0, err
	}
	halfway()
	if _, err := c.Write(text[len(text)/2:]); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := answer(r, '2'); err != nil {
		return 0, fmt.Errorf("message: %w", err)
	}
	return time.Since(start), nil
}
