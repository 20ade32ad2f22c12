package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// standIn is what HAProxy takes for a gateway: it greets and says yes, and has a page and the addresses of the checks.
type standIn struct {
	gateway
	conns   atomic.Int64 // that brought a name and an address
	noStore atomic.Bool
}

func newStandIn(t *testing.T) *standIn {
	s := &standIn{}
	serve := func(h http.HandlerFunc) string {
		l := listen(t)
		go http.Serve(l, h)
		return l.Addr().String()
	}
	s.page = serve(func(w http.ResponseWriter, r *http.Request) {
		if s.noStore.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "the gateway's page")
	})
	s.api = "http://" + serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" && s.noStore.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	l := listen(t)
	s.smtp = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.greet(c)
		}
	}()
	return s
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (s *standIn) greet(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	if first, err := r.Peek(6); err != nil {
		return
	} else if string(first) == "PROXY " {
		r.ReadString('\n')
	} else {
		head := make([]byte, 16)
		io.ReadFull(r, head)
		io.CopyN(io.Discard, r, int64(head[14])<<8|int64(head[15]))
	}
	io.WriteString(c, "220 stand-in\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "EHLO client") {
			s.conns.Add(1)
		}
		io.WriteString(c, "250 yes\r\n")
	}
}

// overStandIns runs HAProxy with the example before three of them.
func overStandIns(t *testing.T) (*balancer, []*standIn) {
	if _, err := exec.LookPath(haproxy()); err != nil {
		t.Skip("haproxy is not installed; make need does that on Debian")
	}
	var all []*standIn
	var gateways []*gateway
	for range manyGateways {
		s := newStandIn(t)
		all, gateways = append(all, s), append(gateways, &s.gateway)
	}
	dir, err := os.MkdirTemp("", "haproxy-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := newBalancer(t.Context(), dir, filepath.Join("..", "..", proxyConfig), gateways)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "haproxy.log"))
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(b.close)
	return b, all
}

func get(t *testing.T, url string) (int, string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// Mail gets in however many connections strangers open to the page; these end soon, so that the page is there again, and
// one stranger alone does not even keep others from the page.
func TestPageCannotStopMail(t *testing.T) {
	b, _ := overStandIns(t)
	occupy := func(sources, each int) (opened *atomic.Int64, leave func()) {
		opened = &atomic.Int64{}
		var mu sync.Mutex
		var held []net.Conn
		var wg sync.WaitGroup
		for n := range sources {
			wg.Go(func() {
				dialer := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.0.1.%d", n+1))}}
				if sources > 1 { // a network each, since that is what is counted
					dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, byte(1+n), 0, 1)}
				}
				for range each {
					if c, err := dialer.Dial("tcp", b.page); err == nil {
						opened.Add(1)
						mu.Lock()
						held = append(held, c)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		return opened, func() {
			for _, c := range held {
				c.Close()
			}
		}
	}
	mail := func(when string) {
		for _, addr := range []string{b.v2, b.v1} {
			c, err := net.DialTimeout("tcp", addr, 2*time.Second)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			c.SetDeadline(time.Now().Add(2 * time.Second))
			if line, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				t.Errorf("%s: %q, %v", when, line, err)
			}
			c.Close()
		}
	}
	opened, leave := occupy(1, 1200)
	mail("one stranger at the page")
	if code, text := get(t, "http://"+b.page+"/"); code != 200 {
		t.Errorf("one stranger with %d connections, and the page answers %d %q", opened.Load(), code, text)
	}
	leave()
	opened, leave = occupy(44, 98)
	defer leave()
	mail(fmt.Sprintf("%d idle connections to the page", opened.Load()))
	if opened.Load() < 900 {
		t.Errorf("no more than %d connections could be opened", opened.Load())
	}
	begun := time.Now()
	_, err := until(t.Context(), "the page", func(context.Context) error {
		client := http.Client{Timeout: time.Second}
		answer, err := client.Get("http://" + b.page + "/")
		if err == nil {
			answer.Body.Close()
		}
		return err
	})
	if took := time.Since(begun); err != nil || took > 25*time.Second {
		t.Errorf("the page was there again after %v, %v", took, err)
	}
}

// Readers who share an address, with six connections each that their browsers hold, all get the page. Where somebody asks
// without an end, that address is told to come later, and one click gets through all the same.
func TestManyShareAnAddress(t *testing.T) {
	b, _ := overStandIns(t)
	url := "http://" + b.page + "/"
	readers := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer readers.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c, err := net.Dial("tcp", b.page)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: page\r\n\r\n")
			if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
				t.Errorf("a reader got %q, %v", line, err)
			}
			time.Sleep(time.Second) // it holds the connection
		})
	}
	wg.Wait()
	var last *http.Response
	for range 1200 {
		answer, err := readers.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		last = answer
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("who asks 1,400 times is told %s, Retry-After %q", last.Status, last.Header.Get("Retry-After"))
	}
	answer, err := readers.Post(url, "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("one click is told %s", answer.Status)
	}
}

// Without their store the gateways have mail to take all the same, and the page that the reader gets is theirs.
func TestNoStoreNoBalancer(t *testing.T) {
	b, gateways := overStandIns(t)
	gateways[0].noStore.Store(true)
	for range 2 * manyGateways {
		if code, text := get(t, "http://"+b.page+"/"); code != 200 {
			t.Errorf("one of three without its store, and the page answers %d %q", code, text)
		}
	}
	for _, g := range gateways {
		g.noStore.Store(true)
	}
	time.Sleep(4 * time.Second) // HAProxy marks a server down after two checks, of one a second
	for _, addr := range []string{b.v2, b.v1} {
		c, err := dial(addr, allowed)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if code, text := get(t, "http://"+b.page+"/"); code != 503 || text != "the gateway's page" {
		t.Errorf("the page answers %d %q", code, text)
	}
}

// What the example says of a restart: no connection comes to a gateway that is to drain, and those that it has can be
// counted.
func TestDrain(t *testing.T) {
	b, gateways := overStandIns(t)
	var held []*client
	come := func(n int) {
		for range n {
			for _, addr := range []string{b.v2, b.v1} {
				c, err := dial(addr, allowed)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, c)
			}
		}
	}
	used := func() int {
		all, err := b.states()
		if err != nil {
			t.Fatal(err)
		}
		return all["gateways/one"].number("scur") + all["gateways-v1/one"].number("scur")
	}
	come(6)
	before := gateways[0].conns.Load()
	if n := used(); before == 0 || n == 0 {
		t.Fatalf("%d connections came to the first gateway, and it has %d", before, n)
	}
	for _, backend := range backends {
		if said, err := b.ask("set server " + backend + "/one state drain"); err != nil || strings.TrimSpace(said) != "" {
			t.Fatalf("%q, %v", said, err)
		}
	}
	come(6)
	if n := gateways[0].conns.Load(); n != before {
		t.Errorf("%d connections came to a gateway that drains", n-before)
	}
	for _, c := range held {
		c.Close()
	}
	if _, err := until(t.Context(), "an empty gateway", func(context.Context) error {
		if n := used(); n > 0 {
			return fmt.Errorf("it has %d connections", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, backend := range backends {
		if _, err := b.ask("set server " + backend + "/one state ready"); err != nil {
			t.Fatal(err)
		}
	}
	come(6)
	if n := gateways[0].conns.Load(); n == before {
		t.Error("no connection comes to a gateway that is ready again")
	}
}
