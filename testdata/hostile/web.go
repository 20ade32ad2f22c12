package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var webAttacks = []attack{
	{"10,000 readers connect and send a byte of a header a second", 250, 10 * time.Second, slowReaders},
	{"2,000 readers send a form at a byte a second", 200, 5 * time.Second, slowForms},
	{"forms of 100 MB, on 50 connections", 200, 5 * time.Second, largeForms},
	{"headers of 10 MB, on 50 connections", 200, 5 * time.Second, largeHeaders},
	{"readers guess tokens, on 50 connections", 200, 5 * time.Second, guessTokens},
	{"readers guess guarded links, on 50 connections", 200, 5 * time.Second, guessLinks},
	{"a scanner opens the link in all ways, 20,000 times", 200, 5 * time.Second, scanner},
}

func slowReaders(ctx context.Context, _ *house, g *gateway) (string, error) {
	const limit = 60 * time.Second
	longest, err := drips(ctx, g.page, 10_000, func(i int) string { return strangerPeer(i) }, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", "xxxx", limit)
	if longest > limit-5*time.Second {
		err = errors.Join(err, fmt.Errorf("one held its connection for %s", longest))
	}
	return fmt.Sprintf("all were cut within %.0f s", longest.Seconds()), err
}

func slowForms(ctx context.Context, _ *house, g *gateway) (string, error) {
	const limit = 60 * time.Second
	longest, err := drips(ctx, g.page, 2000, strangerPeer, "POST /u/"+g.token+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 10000\r\n\r\n", "List-Unsubscribe=", limit)
	if longest > limit-5*time.Second {
		err = errors.Join(err, fmt.Errorf("one held its connection for %s", longest))
	}
	return fmt.Sprintf("all were cut within %.0f s", longest.Seconds()), err
}

// pour sends begin and then 100 MB more on n connections, and tells how much was taken and the answers.
func pour(ctx context.Context, g *gateway, n int, begin string, size int) (taken int64, answers map[string]int) {
	var sent atomic.Int64
	answers = map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	piece := bytes.Repeat([]byte("a=1&"), 1<<18)
	for i := range n {
		wg.Go(func() {
			c, err := dialFrom(ctx, strangerPeer(i), g.page)
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			answer := make(chan string, 1)
			go func() {
				line, _ := bufio.NewReader(c).ReadString('\n')
				_, status, _ := strings.Cut(strings.TrimSpace(line), " ")
				answer <- status
			}()
			io.WriteString(c, begin)
			for left := size; left > 0; left -= len(piece) {
				k, err := c.Write(piece[:min(left, len(piece))])
				sent.Add(int64(k))
				if err != nil {
					break
				}
			}
			status := <-answer
			if status == "" {
				status = "cut"
			}
			mu.Lock()
			answers[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	return sent.Load(), answers
}

func count(answers map[string]int) string {
	var all []string
	for what, n := range answers {
		all = append(all, fmt.Sprintf("%s ×%d", what, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func largeForms(ctx context.Context, _ *house, g *gateway) (string, error) {
	const size = 100 << 20
	begin := fmt.Sprintf("POST /u/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", g.token, size)
	taken, answers := pour(ctx, g, 50, begin, size)
	var err error
	for answer := range answers {
		if strings.HasPrefix(answer, "200") {
			err = errors.New("a form of 100 MB was answered 200")
		}
	}
	return fmt.Sprintf("%.1f MB of each were taken; %s", float64(taken)/50e6, count(answers)), err
}

func largeHeaders(ctx context.Context, _ *house, g *gateway) (string, error) {
	taken, answers := pour(ctx, g, 50, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", 10<<20)
	return fmt.Sprintf("%.1f MB of each were taken; %s", float64(taken)/50e6, count(answers)), nil
}

// ask sends requests on n connections until d is over, and counts the answers' statuses.
func ask(ctx context.Context, n int, d time.Duration, request func(client, i int) (*http.Request, error)) (map[int]int64, error) {
	end := time.Now().Add(d)
	var mu sync.Mutex
	got := map[int]int64{}
	var first error
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() {
			from := &net.TCPAddr{IP: net.ParseIP(strangerPeer(k))}
			t := &http.Transport{DialContext: (&net.Dialer{LocalAddr: from}).DialContext}
			defer t.CloseIdleConnections()
			client := http.Client{Transport: t, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
				req, err := request(k, i)
				var resp *http.Response
				if err == nil {
					resp, err = client.Do(req.WithContext(ctx))
				}
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if errors.Is(err, errEnough) {
					return
				}
				mu.Lock()
				if err != nil {
					first = err
				} else {
					got[resp.StatusCode]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got, first
}

func guessTokens(ctx context.Context, _ *house, g *gateway) (string, error) {
	got, err := ask(ctx, 50, 10*time.Second, func(client, i int) (*http.Request, error) {
		url := "http://" + g.page + "/u/" + wrongToken(g.token, client*100_000+i)
		if i%2 == 0 {
			return http.NewRequest(http.MethodGet, url, nil)
		}
		req, err := http.NewRequest(http.MethodPost, url, strings.NewReader("List-Unsubscribe=One-Click"))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	})
	if n := got[http.StatusOK]; n > 0 {
		err = errors.Join(err, fmt.Errorf("%d tokens that nobody made were taken", n))
	}
	return statuses(got), err
}

func guessLinks(ctx context.Context, _ *house, g *gateway) (string, error) {
	got, err := ask(ctx, 50, 10*time.Second, func(client, i int) (*http.Request, error) {
		req, err := http.NewRequest(http.MethodGet, "http://"+g.page+[]string{"/l/", "/o/"}[i%2]+wrongToken(g.token, client*100_000+i), nil)
		if err == nil {
			req.Host = "links.example.org"
		}
		return req, err
	})
	for _, status := range []int{http.StatusFound, http.StatusMovedPermanently, http.StatusSeeOther, http.StatusTemporaryRedirect} {
		if n := got[status]; n > 0 {
			err = errors.Join(err, fmt.Errorf("%d links that nobody made led somewhere", n))
		}
	}
	return statuses(got), err
}

// scanner looks at a true link in every way that a mail scanner might, but for the POST that it is for. The
// person must still be subscribed, which the next honest mail shows.
func scanner(ctx context.Context, _ *house, g *gateway) (string, error) {
	var n atomic.Int64
	methods := []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND", "POST"}
	got, err := ask(ctx, 50, 30*time.Second, func(client, i int) (*http.Request, error) {
		if n.Add(1) > 20_000 {
			return nil, errEnough
		}
		return http.NewRequest(methods[i%len(methods)], "http://"+g.page+"/u/"+g.token, nil)
	})
	return statuses(got), err
}

// errEnough ends what a client does in ask.
var errEnough = errors.New("enough")

func statuses(got map[int]int64) string {
	all := map[string]int{}
	for status, n := range got {
		all[fmt.Sprint(status)] = int(n)
	}
	return count(all)
}
