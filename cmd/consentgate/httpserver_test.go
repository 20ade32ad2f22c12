package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consentgate/consentgate/consent/web"
)

// single is a listener with one connection.
type single chan net.Conn

func (s single) Accept() (net.Conn, error) {
	if c, ok := <-s; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (s single) Close() error   { close(s); return nil }
func (s single) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// A client that sends a byte now and then keeps its connection no longer than one who sends nothing,
// whatever it begins with.
func TestSlowClientsAreCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		begin string
		most  time.Duration
	}{
		"nothing":         {"", 6 * time.Second},
		"header":          {"GET /v1/consent HTTP/1.1\r\nHost: localhost\r\nX-A: ", 6 * time.Second},
		"body of a PUT":   {"PUT /v1/consent/news/a@example.org HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n", 16 * time.Second},
		"chunked body":    {"POST /v1/consent/lookup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", 16 * time.Second},
		"refused request": {"DELETE /v1/rename HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n", 16 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				admin := web.NewAdmin(web.AdminConfig{Log: slog.New(slog.DiscardHandler), Now: time.Now})
				server := newHTTPServer(admin, slog.New(slog.DiscardHandler))
				client, conn := net.Pipe()
				l := make(single, 1)
				l <- conn
				go server.Serve(l)
				go io.Copy(io.Discard, client)
				began := time.Now()
				text := c.begin + strings.Repeat(" ", 100)
				for i := range len(text) {
					if _, err := io.WriteString(client, text[i:i+1]); err != nil {
						break
					}
					if i >= len(c.begin) {
						time.Sleep(time.Second)
					}
				}
				if d := time.Since(began); d > c.most {
					t.Errorf("it was cut off after %v", d)
				}
				client.Close()
				server.Close()
			})
		})
	}
}

// A header has its bound, in bytes.
func TestLargeHeader(t *testing.T) {
	server := newHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: %s\r\n\r\n", strings.Repeat("x", 1<<20))
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("%q, %v", answer, err)
	}
}
