package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// honest are a sender and a reader who go on with what they do while the gateway is attacked.
type honest struct {
	house   *house
	gateway *gateway
	to      string

	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	seen observed
	err  error
}

// observed is what they met.
type observed struct {
	mails, pages       int
	mailWait, pageWait time.Duration // the longest
}

const honestMail = "From: News <news@example.org>\r\nTo: reader@example.com\r\nSubject: News\r\nMessage-ID: <1@example.org>\r\n" +
	"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
	"<p>News.</p><img src=\"https://open.example.net/o.gif\" width=\"1\" height=\"1\">\r\n"

// newHonest sends the first mail, from whose copy the reader takes the link.
func newHonest(ctx context.Context, h *house, g *gateway) (*honest, error) {
	p := &honest{house: h, gateway: g, to: fmt.Sprintf("reader%d@example.com", h.attacks)}
	if err := p.mail(ctx); err != nil {
		return nil, fmt.Errorf("before the attack: %w", err)
	}
	if g.token = h.sink.link(p.to); g.token == "" {
		return nil, errors.New("before the attack: the copy holds no unsubscribe link")
	}
	return p, p.page(ctx)
}

// begin lets them go on until end.
func (p *honest) begin(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	every := func(f func(context.Context) error, count *int, longest *time.Duration) {
		p.done.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				begin := time.Now()
				err := f(context.WithoutCancel(ctx))
				p.mu.Lock()
				*count++
				*longest = max(*longest, time.Since(begin))
				if err != nil {
					p.err = errors.Join(p.err, err)
				}
				p.mu.Unlock()
				if err != nil {
					return
				}
				select {
				case <-ctx.Done():
					return
				default:
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	every(p.mail, &p.seen.mails, &p.seen.mailWait)
	every(p.page, &p.seen.pages, &p.seen.pageWait)
}

// end stops them, and returns what they met. A mail that was answered and did not come out is an error.
func (p *honest) end() (observed, error) {
	p.stop()
	p.done.Wait()
	if n, want := p.house.sink.count(p.to), p.seen.mails+1; p.err == nil && n != want {
		p.err = fmt.Errorf("%d honest mails were answered 250, %d came out", want, n)
	}
	return p.seen, p.err
}

func (p *honest) mail(ctx context.Context) error {
	c, err := dialFrom(ctx, honestPeer, p.gateway.smtp)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := send(c, p.to, honestMail)
	if err == nil && !strings.HasPrefix(answer, "250 ") {
		err = fmt.Errorf("an honest mail was answered %q", answer)
	}
	return err
}

func (p *honest) page(ctx context.Context) error {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.gateway.page+"/u/"+p.gateway.token, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "<form")) {
		err = fmt.Errorf("an honest reader got %s", resp.Status)
	}
	return err
}

// send sends one message on a fresh connection and returns the answer to it, or the one that ended the
// dialogue.
func send(c net.Conn, to, message string) (string, error) {
	c.SetDeadline(time.Now().Add(time.Minute))
	r := textproto.NewReader(bufio.NewReader(c))
	for _, step := range []struct{ say, want string }{
		{"", "220"}, {"EHLO client.example.org\r\n", "250"},
		{"MAIL FROM:<news@example.org>\r\n", "250"}, {"RCPT TO:<" + to + ">\r\n", "250"}, {"DATA\r\n", "354"},
	} {
		if _, err := io.WriteString(c, step.say); err != nil {
			return "", err
		}
		line, err := reply(r)
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(line, step.want) {
			return line, nil
		}
	}
	// A message that is refused before its end is answered only behind it, or never: a write that fails
	// is not the last word.
	_, err := io.WriteString(c, message+"\r\n.\r\n")
	line, readErr := reply(r)
	if readErr != nil {
		return "", errors.Join(err, readErr)
	}
	return line, nil
}

// reply reads one, and returns its last line.
func reply(r *textproto.Reader) (string, error) {
	for {
		line, err := r.ReadLine()
		if err != nil || len(line) < 4 || line[3] != '-' {
			return line, err
		}
	}
}
