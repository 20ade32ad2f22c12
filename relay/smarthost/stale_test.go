package smarthost

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// What a next hop says behind a message, unasked, is no answer to the next one: it would be refused, for
// good, for what it has nothing to do with.
func TestSaidWhileIdle(t *testing.T) {
	for _, scheme := range []string{"smtp", "smtps"} {
		for name, at := range map[string]string{"with the answer": "with", "in a record of its own": "own", "later": "later"} {
			if at == "later" && runtime.GOOS == "windows" {
				continue
			}
			for _, unasked := range []string{"550 5.5.2 what was that?", "500 timeout"} {
				t.Run(scheme+" "+name+" "+unasked, func(t *testing.T) {
					said := make(chan bool, 10)
					l, pool := gossip(t, scheme, func(w io.Writer) {
						switch at {
						case "with":
							io.WriteString(w, "250 2.0.0 taken\r\n"+unasked+"\r\n")
						case "own": // two records, one segment
							w.(*corked).cork(func() {
								io.WriteString(w, "250 2.0.0 taken\r\n")
								io.WriteString(w, unasked+"\r\n")
							})
						case "later":
							io.WriteString(w, "250 2.0.0 taken\r\n")
							io.WriteString(w, unasked+"\r\n")
						}
						said <- true
					})
					c := newClient(t, func(c *Config) { c.TLSConfig = &tls.Config{RootCAs: pool} }, scheme+"://"+l.Addr().String())
					for i := range 3 {
						if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
							t.Fatalf("%d: %+v, %v", i, r, err)
						}
						<-said
					}
				})
			}
		}
	}
}

// corked is a connection whose writes can be sent in one piece.
type corked struct {
	net.Conn // above TLS
	below    *below
}

// below is the socket.
type below struct {
	net.Conn
	held    []byte
	holding bool
}

func (b *below) Write(p []byte) (int, error) {
	if b.holding {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

func (c *corked) cork(f func()) {
	c.below.holding = true
	f()
	c.below.holding = false
	c.below.Conn.Write(c.below.held)
	c.below.held = nil
}

// gossip is a next hop that takes everything and answers the dot as taken does.
func gossip(t *testing.T, scheme string, taken func(w io.Writer)) (net.Listener, *x509.CertPool) {
	t.Helper()
	server, pool := certificate(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := &corked{Conn: raw, below: &below{Conn: raw}}
			if c.Conn = c.below; scheme == "smtps" {
				c.Conn = tls.Server(c.below, server)
			}
			wg.Go(func() {
				defer raw.Close()
				io.WriteString(c, agreeable(1, "")+"\r\n")
				data := false
				for lines := bufio.NewScanner(c); lines.Scan(); {
					line := lines.Text()
					switch {
					case data && line == ".":
						taken(c)
						data = false
					case !data:
						data = line == "DATA"
						said := agreeable(1, line)
						if !pipelining {
							said = strings.ReplaceAll(said, "250-PIPELINING\r\n", "")
						}
						if _, err := io.WriteString(c, said+"\r\n"); err != nil {
							return
						}
					}
				}
			})
		}
	})
	return l, pool
}

// A next hop that takes only so many messages on a connection, and says so by another code than 421, gets
// the next ones on another.
func TestEnoughOfConnection(t *testing.T) {
	taken := map[int]int{}
	f := newFake(t, func(n int, line string) string {
		switch {
		case strings.HasPrefix(line, "MAIL") && taken[n] == 2:
			return "452 4.5.3 too many messages on this connection"
		case line == ".":
			taken[n]++
		}
		return agreeable(n, line)
	})
	c := newClient(t, nil, f.url("smtp"))
	for i := range 6 {
		if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
			t.Fatalf("%d: %+v, %v", i, r, err)
		}
	}
	if conns, _, messages := f.seen(); conns != 3 || len(messages) != 6 {
		t.Errorf("%d connections, %d messages", conns, len(messages))
	}
}
