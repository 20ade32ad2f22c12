package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/testdata/process"
)

var smtpAttacks = []attack{
	{"10,000 strangers connect and say nothing", 120, 3 * time.Second, silentStrangers},
	{"1,000 strangers say a byte a second", 120, 3 * time.Second, slowStrangers},
	{"100 known senders send a message at a byte a second", 120, 3 * time.Second, slowData},
	{"200 strangers ask and never read", 120, 3 * time.Second, deafStrangers},
	{"a line of 200 MB without an end, on 20 connections", 120, 3 * time.Second, endlessLine},
	{"2,000,000 commands, pipelined on 20 connections", 120, 5 * time.Second, commandFlood},
	{"strangers guess passwords, on 100 connections", 450, 5 * time.Second, guessPasswords},
	{"strangers guess tokens by mail, on 50 connections", 150, 5 * time.Second, guessByMail},
}

// silentStrangers hold what they get for ten seconds.
func silentStrangers(ctx context.Context, _ *house, g *gateway) (string, error) {
	const n = 10_000
	var in, told, cut atomic.Int64
	conns := make(chan net.Conn, n)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 100 {
		wg.Go(func() {
			for i := range work {
				c, err := dialFrom(ctx, strangerPeer(i), g.strangers)
				if err != nil {
					cut.Add(1)
					continue
				}
				conns <- c
				c.SetDeadline(time.Now().Add(20 * time.Second))
				line, err := bufio.NewReaderSize(c, 256).ReadString('\n')
				switch {
				case err != nil:
					cut.Add(1)
				case strings.HasPrefix(line, "220 "):
					in.Add(1)
				case strings.HasPrefix(line, "421 "):
					told.Add(1)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	close(conns)
	err := wait(ctx, 10*time.Second)
	for c := range conns {
		c.Close()
	}
	if in.Load() > 750 {
		err = errors.Join(err, fmt.Errorf("%d strangers came in, 750 may", in.Load()))
	}
	return fmt.Sprintf("%d came in, %d were told 421, %d cut", in.Load(), told.Load(), cut.Load()), err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drip sends text on c, then a byte a second of more for as long as the gateway takes it, at most limit.
// It returns how long that was.
func drip(ctx context.Context, c net.Conn, text, more string, limit time.Duration) time.Duration {
	begin := time.Now()
	c.SetDeadline(begin.Add(limit))
	go io.Copy(io.Discard, c)
	if _, err := io.WriteString(c, text); err != nil {
		return time.Since(begin)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Since(begin)
		}
		if _, err := io.WriteString(c, more[i%len(more):i%len(more)+1]); err != nil {
			return time.Since(begin)
		}
	}
}

// slowStrangers: idle_timeout is 20 s here.
func slowStrangers(ctx context.Context, _ *house, g *gateway) (string, error) {
	const limit = 60 * time.Second
	longest, err := drips(ctx, g.strangers, 1000, strangerPeer, "", "NOOP", limit)
	if longest > limit-10*time.Second {
		err = errors.Join(err, fmt.Errorf("one held its connection for %s", longest))
	}
	return fmt.Sprintf("all were cut within %.0f s", longest.Seconds()), err
}

// slowData is by senders who need no login, so that each gets as far as the message.
func slowData(ctx context.Context, _ *house, g *gateway) (string, error) {
	const limit = 60 * time.Second
	begin := "EHLO a\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<slow@example.com>\r\nDATA\r\n"
	longest, err := drips(ctx, g.strangers, 100, func(int) string { return honestPeer }, begin, "Subject: news\r\n", limit)
	if longest > limit-10*time.Second {
		err = errors.Join(err, fmt.Errorf("one held its connection for %s", longest))
	}
	return fmt.Sprintf("all were cut within %.0f s", longest.Seconds()), err
}

func drips(ctx context.Context, to string, n int, from func(int) string, text, more string, limit time.Duration) (time.Duration, error) {
	var mu sync.Mutex
	var longest time.Duration
	var first error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c, err := dialFrom(ctx, from(i), to)
			if err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
				return
			}
			defer c.Close()
			d := drip(ctx, c, text, more, limit)
			mu.Lock()
			longest = max(longest, d)
			mu.Unlock()
		})
	}
	wg.Wait()
	return longest, first
}

// deafStrangers fill the buffers of both sides with questions.
func deafStrangers(ctx context.Context, _ *house, g *gateway) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	var sent atomic.Int64
	var wg sync.WaitGroup
	text := []byte(strings.Repeat("EHLO a\r\n", 8000))
	for i := range 200 {
		wg.Go(func() {
			c, err := dialFrom(ctx, strangerPeer(i), g.strangers)
			if err != nil {
				return
			}
			defer c.Close()
			end, _ := ctx.Deadline()
			c.SetDeadline(end)
			for {
				n, err := c.Write(text)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%.0f MB of questions were taken", float64(sent.Load())/1e6), nil
}

func endlessLine(ctx context.Context, _ *house, g *gateway) (string, error) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	piece := []byte(strings.Repeat("x", 1<<20))
	for i := range 20 {
		wg.Go(func() {
			c, err := dialFrom(ctx, strangerPeer(i), g.strangers)
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			for range 200 {
				n, err := c.Write(piece)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if n := sent.Load(); n > 20*20<<20 {
		return "", fmt.Errorf("%d MB of lines without an end were taken", n>>20)
	}
	return fmt.Sprintf("cut after %.1f MB each", float64(sent.Load())/20e6), nil
}

func commandFlood(ctx context.Context, _ *house, g *gateway) (string, error) {
	var answers, kept atomic.Int64
	var wg sync.WaitGroup
	commands := []string{"NOOP\r\n", "RSET\r\n", "MAIL FROM:<a@example.org>\r\nRSET\r\n", "XYZZY\r\n", "VRFY a\r\n", "RCPT TO:<a@example.com>\r\n", "EHLO a\r\n"}
	for i := range 20 {
		wg.Go(func() {
			c, err := dialFrom(ctx, strangerPeer(i), g.strangers)
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			go func() {
				text := strings.Repeat(commands[i%len(commands)], 1000)
				for range 100 {
					if _, err := io.WriteString(c, text); err != nil {
						return
					}
				}
				io.WriteString(c, "QUIT\r\n")
			}()
			r := textproto.NewReader(bufio.NewReader(c))
			for {
				line, err := reply(r)
				if err != nil {
					return
				}
				answers.Add(1)
				if strings.HasPrefix(line, "221 ") {
					kept.Add(1)
					return
				}
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%d answers; %d of 20 were let go on to the end", answers.Load(), kept.Load()), nil
}

// guessPasswords goes on for fifteen seconds, of the login that there is and of others. Then the true one
// must still get in.
func guessPasswords(ctx context.Context, _ *house, g *gateway) (string, error) {
	var looked, busy, cut atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(15 * time.Second)
	for i := range 100 {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				answer, err := login(ctx, g.strangers, strangerPeer(i), []string{"shop", "root", fmt.Sprint("x", n)}[n%3], fmt.Sprint("guess", n))
				switch {
				case strings.HasPrefix(answer, "535 "):
					looked.Add(1)
				case strings.HasPrefix(answer, "454 "):
					busy.Add(1)
				case err != nil || strings.HasPrefix(answer, "421 "):
					cut.Add(1)
				}
			}
		})
	}
	wg.Wait()
	begin := time.Now()
	err := process.Until(ctx, 35*time.Second, func() error {
		answer, err := login(ctx, g.smtp, "127.0.2.1", "shop", password)
		if err == nil && !strings.HasPrefix(answer, "235 ") {
			err = fmt.Errorf("the true password is answered %q", answer)
		}
		return err
	})
	return fmt.Sprintf("%d were looked at, %d told to wait, %d cut; the true one got in %.1f s later", looked.Load(), busy.Load(), cut.Load(), time.Since(begin).Seconds()), err
}

// login logs in over STARTTLS and returns the answer.
func login(ctx context.Context, to, from, name, secret string) (string, error) {
	c, err := dialFrom(ctx, from, to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(45 * time.Second))
	say := func(c net.Conn, r *textproto.Reader, line, want string) (string, error) {
		if line != "" {
			if _, err := io.WriteString(c, line+"\r\n"); err != nil {
				return "", err
			}
		}
		got, err := reply(r)
		if err == nil && !strings.HasPrefix(got, want) {
			return got, errors.New(got)
		}
		return got, err
	}
	r := textproto.NewReader(bufio.NewReader(c))
	for _, step := range [][2]string{{"", "220"}, {"EHLO a", "250"}, {"STARTTLS", "220"}} {
		if got, err := say(c, r, step[0], step[1]); err != nil {
			return got, err
		}
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the certificate is not what is tried here
	r = textproto.NewReader(bufio.NewReader(secure))
	if got, err := say(secure, r, "EHLO a", "250"); err != nil {
		return got, err
	}
	return say(secure, r, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+name+"\x00"+secret)), "")
}

// guessByMail: anybody may write to the unsubscribe address.
func guessByMail(ctx context.Context, h *house, g *gateway) (string, error) {
	var refused, taken, other atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(10 * time.Second)
	for i := range 50 {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				c, err := dialFrom(ctx, strangerPeer(i), g.strangers)
				if err != nil {
					other.Add(1)
					continue
				}
				answer, _ := send(c, "unsubscribe@gate.example.org", "Subject: "+wrongToken(g.token, i*1000+n)+"\r\n\r\n")
				c.Close()
				switch {
				case strings.HasPrefix(answer, "250"):
					taken.Add(1)
				case strings.HasPrefix(answer, "550"):
					refused.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n > 0 {
		return "", fmt.Errorf("%d tokens that nobody made were taken", n)
	}
	return fmt.Sprintf("%d were refused, %d told to wait or cut", refused.Load(), other.Load()), nil
}

const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// wrongToken changes characters of a true one, at another place and to another each time.
func wrongToken(token string, n int) string {
	b := []byte(token)
	i := 1 + n%(len(b)-1)
	to := tokenAlphabet[n/len(b)%len(tokenAlphabet)]
	if b[i] == to {
		to = tokenAlphabet[(n/len(b)+1)%len(tokenAlphabet)]
	}
	b[i] = to
	// The last character may hold bits that count for nothing, so that another one says the same.
	b[len(b)/2] = tokenAlphabet[(strings.IndexByte(tokenAlphabet, token[len(b)/2])+1+n%62)%64]
	return string(b)
}
