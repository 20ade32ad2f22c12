package smarthost

import (
	"io"
	"net"
	"strings"
	"testing"
)

// Where PIPELINING is offered, all up to DATA goes at once (RFC 2920 §3.1), else each command waits for
// the answer to the one before.
func TestPipelining(t *testing.T) {
	for _, offered := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan []string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			var reads []string
			defer func() { got <- reads }()
			buf := make([]byte, 1<<20)
			say := func(s string) string {
				io.WriteString(conn, s)
				n, _ := conn.Read(buf)
				reads = append(reads, string(buf[:n]))
				return string(buf[:n])
			}
			say("220 sink.example.org\r\n")
			extension := "SIZE"
			if offered {
				extension = "PIPELINING"
			}
			commands := say("250-sink.example.org\r\n250 " + extension + "\r\n")
			for !strings.Contains(commands, "DATA\r\n") {
				commands = say("250 ok\r\n")
			}
			if n := strings.Count(commands, "\r\n"); n > 1 {
				io.WriteString(conn, strings.Repeat("250 ok\r\n", n-1))
			}
			say("354 go on\r\n")
			say("250 taken\r\n")
		}()
		c := newClient(t, nil, "smtp://"+l.Addr().String())
		if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
			t.Fatalf("offered %v: %+v, %v", offered, r, err)
		}
		c.Close()
		reads := <-got
		l.Close()
		want := []string{"EHLO gate.example.org\r\n",
			"MAIL FROM:<news@example.org>", "RCPT TO:<joe@example.com>", "DATA",
			"Subject: hello\r\n\r\nhello\r\n..dot\r\n.\r\n", "QUIT\r\n"}
		if offered {
			want = []string{want[0], strings.Join(want[1:4], "\r\n") + "\r\n", want[4], want[5]}
		} else {
			want[1] += " SIZE=32\r\n"
			want[2] += "\r\n"
			want[3] += "\r\n"
		}
		if strings.Join(reads, "|") != strings.Join(want, "|") {
			t.Errorf("offered %v: read %q, want %q", offered, reads, want)
		}
	}
}

// A next hop that takes DATA though it refused the sender or the recipient gets no dot: what it
// would make of an empty message for nobody is not known.
func TestDataWithoutRecipient(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT"} {
		refuse := true
		f := newFake(t, func(n int, line string) string {
			if first, _, _ := strings.Cut(line, " "); first == verb && refuse {
				refuse = false
				return "550 5.7.1 no"
			}
			return agreeable(n, line)
		})
		f.lax = true
		c := newClient(t, nil, f.url("smtp"))
		for i, want := range []int{550, 250} {
			if r, err := send(t, c, joe, hello); err != nil || r.Code != want {
				t.Fatalf("%s, %d: %+v, %v", verb, i, r, err)
			}
		}
		conns, _, messages := f.seen()
		want := 1
		if pipelining {
			want = 2
		}
		if conns != want || len(messages) != 1 || messages[0] != string(hello) {
			t.Errorf("%s: %d connections, messages %q", verb, conns, messages)
		}
	}
}
