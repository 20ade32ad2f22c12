package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/transfer"
)

const dotted = "From: News <news@shop.example.org>\nMessage-ID:\n <old@shop.example.org>\nSubject: dots\n\nhello\n.\n.two\n\n.end\n"

func startedSink(t *testing.T) *sink {
	t.Helper()
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// What the load generator sends is what the sink gets: lines that begin with dots, and a
// Message-ID that is no other message's.
func TestMessageArrives(t *testing.T) {
	s := startedSink(t)
	kept := make(chan []byte, 1)
	s.capture(kept)
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		got, err := load{addr: s.addr, message: m, conns: 1, rcpts: 1, people: 4, window: time.Minute, single: true}.run(t.Context())
		if err != nil || got.messages != 1 || len(got.waits) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		text := string(<-kept)
		want := "From: News <news@shop.example.org>\r\nSubject: dots\r\nMessage-ID: <bench."
		if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "@shop.example.org>\r\n\r\nhello\r\n.\r\n.two\r\n\r\n.end\r\n") {
			t.Errorf("%q", text)
		}
		seen[text] = true
	}
	if len(seen) != 2 || m.domain != "shop.example.org" {
		t.Errorf("%d different messages, domain %q", len(seen), m.domain)
	}
}

func TestLoadCountsAll(t *testing.T) {
	s := startedSink(t)
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	nobody := func() []int { return nil }
	l := load{addr: s.addr, message: m, conns: 3, rcpts: 5, people: 10, window: 50 * time.Millisecond}
	f, err := l.measure(t.Context(), s, func() []int { return []int{os.Getpid()} }, nobody)
	if err != nil {
		t.Fatal(err)
	}
	if f.rate <= 0 || f.accepted <= 0 || f.p50 > f.p99 || f.whole50 < f.p50 || f.whole50 > f.whole99 {
		t.Errorf("%+v", f)
	}
	if n := s.recipients.Load(); n == 0 || n%5 != 0 {
		t.Errorf("%d recipients in the sink, want a multiple of 5", n)
	}
}

// The end of a message is found wherever the reads cut it, and nothing else is taken for it.
func TestSinkFindsTheEnd(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5, 64 << 10} {
		s := startedSink(t)
		kept := make(chan []byte, 2)
		s.capture(kept)
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		long := strings.Repeat("x", 70<<10) // over the sink's buffer
		said := "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n" +
			"one.\r\n..\r\n. \r\n" + long + ".\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n.\r\nQUIT\r\n"
		go func() {
			for part := []byte(said); len(part) > 0; {
				n := min(size, len(part))
				if _, err := c.Write(part[:n]); err != nil {
					return
				}
				part = part[n:]
			}
		}()
		for i, want := range []string{"one.\r\n.\r\n \r\n" + long + ".\r\n", ""} {
			if got := string(<-kept); got != want {
				t.Errorf("in writes of %d: message %d has %d bytes, want %d", size, i, len(got), len(want))
			}
		}
		answers, err := io.ReadAll(c) // to the 221 and the end
		if err != nil || !strings.HasSuffix(string(answers), "\r\n221 2.0.0 bye\r\n") {
			t.Errorf("in writes of %d: %v, %q", size, err, answers)
		}
		if n := s.recipients.Load(); n != 2 {
			t.Errorf("in writes of %d: %d recipients", size, n)
		}
	}
}

// A refusal anywhere must not pass for speed.
func TestRefusalIsAnError(t *testing.T) {
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	for name, answers := range map[string][]string{
		"greeting":  {"554 no"},
		"EHLO":      {"220 hi", "502 no"},
		"recipient": {"220 hi", "250 ok", "250 ok", "550 5.7.1 no", "554 no"},
		"second":    {"220 hi", "250-a\r\n250 b", "250 ok", "452 4.5.3 too many"},
		"message":   {"220 hi", "250 ok", "250 ok", "250 ok", "354 go", "451 4.3.0 later"},
		"broken":    {"220 hi", "250 ok", "250 ok", "250 ok", "354 go"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "%s\r\n", answers[0])
			r := bufio.NewReader(c)
			for _, a := range answers[1:] {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				fmt.Fprintf(c, "%s\r\n", a)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if got, err := (load{addr: l.Addr().String(), message: m, conns: 1, rcpts: 1, people: 1, window: time.Minute}).run(ctx); err == nil {
			t.Errorf("%s: no error, %d messages", name, got.messages)
		} else if ctx.Err() != nil {
			t.Errorf("%s: hung until the test's own limit", name)
		}
		cancel()
	}
}

// A copy that is lost on the way is an error as well.
func TestLossIsAnError(t *testing.T) {
	s, other := startedSink(t), startedSink(t)
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	nobody := func() []int { return nil }
	l := load{addr: other.addr, message: m, conns: 1, rcpts: 1, people: 1, window: 10 * time.Millisecond}
	if f, err := l.measure(ctx, s, nobody, nobody); err == nil || !strings.Contains(err.Error(), "the sink has 0") {
		t.Errorf("%+v, %v", f, err)
	}
}

// An idle connection that is cut is noticed, and the large message has the size that it is said to
// have and the end that DATA wants.
func TestHeld(t *testing.T) {
	s := startedSink(t)
	all, err := openIdle(s.addr, 5)
	defer all.close()
	if err != nil || len(all) != 5 {
		t.Fatalf("%d connections, %v", len(all), err)
	}
	all[3].Close()
	if err := all.answered(); err == nil {
		t.Error("a connection that is closed was answered")
	}
	text := append(attached("shop.example.org", 3<<20-len(finalDot)), finalDot...)
	if len(text) != 3<<20 || !strings.HasSuffix(string(text), "\r\n.\r\n") {
		t.Errorf("%d bytes that end with %q", len(text), text[len(text)-20:])
	}
	got, err := sendAtOnce(t.Context(), s.addr, "shop.example.org", text, 3)
	if err != nil || got.messages != 3 || s.recipients.Load() != 3 {
		t.Errorf("%+v, %v, the sink has %d", got, err, s.recipients.Load())
	}
	s.close()
	if _, err := sendAtOnce(t.Context(), s.addr, "shop.example.org", text, 3); err == nil {
		t.Error("messages to nobody were answered")
	}
}

// The lines that are imported are all of people who were not there, in both formats.
func TestPeopleAreImported(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i, format := range []transfer.Format{transfer.NDJSON, transfer.CSV} {
		text := people(format, 10*i, 10)
		if err := importText(t.Context(), store, format, text, 10); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if err := importText(t.Context(), store, format, text, 10); err == nil {
			t.Errorf("%s: the same people once more changed as many", format)
		}
	}
}
