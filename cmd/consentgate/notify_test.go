package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newManager plays a service manager: it returns what it is told, a datagram each.
func newManager(t *testing.T, watchdog time.Duration) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	heard := make(chan string, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			heard <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return heard
}

// next returns the next thing that was said, pings of the watchdog aside; those come in between.
func next(t *testing.T, heard <-chan string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case said := <-heard:
			if said != "WATCHDOG=1" {
				return said
			}
		case <-limit:
			t.Fatal("the service manager hears nothing")
		}
	}
}

// The service manager is told of the start, of a reload that works and of one that does not, and of the end.
func TestNotify(t *testing.T) {
	heard := newManager(t, time.Minute)
	g := start(t, newSink(t).address, "file:DIR/consent.db", "")
	expect := func(want string) {
		t.Helper()
		if got := next(t, heard); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	expect("READY=1\nSTATUS=Takes mail.")
	g.reload()
	expect("RELOADING=1")
	expect("READY=1\nSTATUS=The configuration was read again.")

	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"hostname = \"gate", "hostname = \"other", "READY=1\nSTATUS=The configuration was read again; a restart is needed for hostname."},
		{"[rewrite]", "[rewrit]", "READY=1\nSTATUS=The configuration was not taken over: it holds a mistake, which the log names. What was in force stays."},
	} {
		if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		g.reload()
		expect("RELOADING=1")
		expect(c.want)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	expect("STOPPING=1\nSTATUS=Takes no more mail; what is under way ends first.")
}

// The watchdog of a real gateway is fed.
func TestWatchdog(t *testing.T) {
	heard := newManager(t, time.Minute)
	start(t, newSink(t).address, "file:DIR/consent.db", "")
	for range 2 {
		select {
		case said := <-heard:
			if said == "WATCHDOG=1" {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no ping")
		}
	}
	t.Error("no ping among the first two things that were said")
}

// It is fed only while the gateway is well: a check that fails, and one that hangs, feed nothing.
func TestWatchdogNotWell(t *testing.T) {
	heard := newManager(t, 30*time.Millisecond)
	var state atomic.Value
	state.Store("well")
	asked := make(chan string)
	alive := func(ctx context.Context) error {
		now := state.Load().(string)
		defer func() {
			select {
			case asked <- now:
			default:
			}
		}()
		switch now {
		case "ill":
			return errors.New("ill")
		case "hangs":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	m := manager{slog.New(slog.DiscardHandler)}
	go func() {
		m.watch(ctx, alive)
		close(ended)
	}()
	for _, bad := range []string{"ill", "hangs"} {
		state.Store("well")
		if said := <-heard; said != "WATCHDOG=1" {
			t.Errorf("told %q", said)
		}
		state.Store(bad)
		for <-asked != bad { // what was asked before may still feed it
		}
		m.tell("from here on")
		for <-heard != "from here on" {
		}
		for range 5 {
			if now := <-asked; now != bad {
				t.Errorf("asked while it %s", now)
			}
		}
		m.tell("up to here")
		if said := <-heard; said != "up to here" {
			t.Errorf("fed while it %s", bad)
		}
	}
	cancel()
	<-ended
}

// Nobody is told where nobody wants to know.
func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var log strings.Builder
	m := manager{slog.New(slog.NewTextHandler(&log, nil))}
	m.tell("READY=1")
	m.watch(t.Context(), func(context.Context) error { t.Error("asked for nobody"); return nil }) // and returns
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	m.tell("READY=1")
	if !strings.Contains(log.String(), "cannot be told") {
		t.Errorf("logged: %q", &log)
	}
}
