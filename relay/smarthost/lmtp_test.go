package smarthost

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLMTP(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "lmtp")
	overTCP := func(reply func(int, string) string) (*fake, string, string) {
		f := newFake(t, reply)
		return f, f.url("lmtp"), f.l.Addr().String()
	}
	overUnix := func(reply func(int, string) string) (*fake, string, string) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		return serveFake(t, l, reply), "lmtp+unix://" + socket, socket
	}
	for name, start := range map[string]func(func(int, string) string) (*fake, string, string){"tcp": overTCP, "unix": overUnix} {
		t.Run(name, func(t *testing.T) {
			// The third is refused behind the dot, as only LMTP does it to one recipient.
			dots := 0
			f, url, host := start(func(n int, line string) string {
				if line == "." {
					if dots++; dots == 3 {
						return "552 5.2.2 mailbox full"
					}
				}
				return agreeable(n, line)
			})
			c := newClient(t, nil, url)
			for i := range 4 {
				want := Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "taken as 42", Host: host, DSN: true}
				if i == 2 {
					want = Reply{Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "mailbox full", Host: host, DSN: true}
				}
				if got, err := send(t, c, joe, hello); err != nil || got != want {
					t.Errorf("%d: %+v, %v, want %+v", i, got, err, want)
				}
			}
			conns, lines, messages := f.seen()
			if conns != 1 || len(messages) != 4 || messages[0] != string(hello) {
				t.Errorf("%d connections, messages %q", conns, messages)
			}
			if !slices.Contains(lines, "LHLO gate.example.org") || slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "EHLO") }) {
				t.Errorf("lines %q", lines)
			}
		})
	}
}

// Behind the dot LMTP is as uncertain as SMTP.
func TestLMTPUncertain(t *testing.T) {
	f := newFake(t, at(".", hangUp))
	c := newClient(t, nil, f.url("lmtp"))
	if _, err := send(t, c, joe, hello); !errors.Is(err, ErrUncertain) {
		t.Errorf("error %v", err)
	}
	if _, _, messages := f.seen(); len(messages) != 1 {
		t.Errorf("%d messages", len(messages))
	}
}

// What speaks SMTP is not taken for LMTP, and a socket that is not there is out of reach.
func TestLMTPUnreachable(t *testing.T) {
	f := newFake(t, at("LHLO", "502 5.5.1 what is that"))
	for _, url := range []string{f.url("lmtp"), "lmtp+unix://" + filepath.Join(t.TempDir(), "none")} {
		c := newClient(t, nil, url)
		if _, err := c.Send(context.Background(), joe, hello, 32); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, lines, _ := f.seen(); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "MAIL") }) {
		t.Errorf("lines %q", lines)
	}
}
