package relay

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// without8BitMIME stands before a next hop and hides that it takes 8-bit mail.
func without8BitMIME(t *testing.T, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				return
			}
			wg.Go(func() {
				io.Copy(server, client) // ends with either connection
				server.Close()
			})
			wg.Go(func() {
				defer client.Close()
				lines := bufio.NewReader(server)
				for {
					line, err := lines.ReadString('\n')
					if line != "250-8BITMIME\r\n" {
						io.WriteString(client, line)
					}
					if err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// A next hop without 8BITMIME gets the copy converted; what cannot be is refused.
func TestSevenBitNextHop(t *testing.T) {
	b := start(t, func(_ *Config, b *testbed) {
		b.sink = newSink(t, nil)
		b.next = newNext(t, without8BitMIME(t, b.sink.addr))
	})
	c := b.hello()
	if got := c.send("joe@example.com", "From: News <news@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	text := b.sink.last(t).text
	if !isASCII(text) || !strings.Contains(text, "Gr=C3=BC=C3=9Fe") {
		t.Errorf("the copy is\n%s", text)
	}
	if got := c.send("joe@example.com", "From: News <news@example.org>\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nGrüße\r\n--b--\r\n"); !strings.HasPrefix(got, "554 5.6.3") {
		t.Error(got)
	}
	if n := len(b.sink.got()); n != 1 {
		t.Errorf("%d messages came", n)
	}
}
