package redisstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// tap is a connection to a server that a test can close.
type tap struct {
	net.Listener
	silent atomic.Bool // swallows what the server answers
	deaf   atomic.Bool // swallows what it says to those who subscribed

	mu    sync.Mutex
	conns []net.Conn
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			var subscribed atomic.Bool
			wg.Go(func() {
				io.Copy(writer(func(b []byte) (int, error) {
					if bytes.Contains(b, []byte("\r\nsubscribe\r\n")) {
						subscribed.Store(true)
					}
					return out.Write(b)
				}), in)
				out.Close()
			})
			wg.Go(func() {
				io.Copy(writer(func(b []byte) (int, error) {
					if p.silent.Load() || p.deaf.Load() && subscribed.Load() {
						return len(b), nil
					}
					return in.Write(b)
				}), out)
				in.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// atOnce checks that calls fail without waiting.
func atOnce(t *testing.T, s *Store) {
	t.Helper()
	people := []consent.Address{person(t, 1)}
	var best time.Duration = time.Hour
	for range 20 {
		begin := time.Now()
		rs, err := s.Lookup(t.Context(), "newsletter", people)
		best = min(best, time.Since(begin))
		if !errors.Is(err, consent.ErrUnreachable) || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
			t.Fatalf("%+v, %v", rs, err)
		}
		if !errors.Is(rs[0].Err, consent.ErrUnasked) {
			t.Fatalf("it was asked: %v", rs[0].Err)
		}
	}
	if best > time.Millisecond {
		t.Errorf("the fastest of 20 lookups took %v", best)
	}
	if _, err := s.Apply(t.Context(), unsubscribe(people[0])); !errors.Is(err, consent.ErrUnreachable) {
		t.Errorf("Apply: %v", err)
	}
}

func TestDeadPort(t *testing.T) {
	port := storetest.FreePort(t)
	s := open(t, "redis://127.0.0.1:"+port, keyring.Ephemeral())
	atOnce(t, s)
	start(t, port)
	soon(t, "after it came up", func() error { return s.Ping(t.Context()) })
	works(t, "after it came up", s)
}

func TestBlackHole(t *testing.T) {
	addr, _ := server(t)
	p := newTap(t, addr)
	s := open(t, "redis://"+p.Addr().String(), keyring.Ephemeral())
	works(t, "before", s)
	for range 2 {
		p.silent.Store(true)
		quick(t, "the first who finds out", func() {
			if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); errors.Is(err, consent.ErrUnasked) || errors.Is(rs[0].Err, consent.ErrUnasked) {
				t.Errorf("it was asked: %+v, %v", rs, err)
			}
		})
		atOnce(t, s)
		p.silent.Store(false)
		soon(t, "recovered", func() error { return s.Ping(t.Context()) })
		works(t, "recovered", s)
	}
}

// One command that takes too long opens the breaker for as long as the server needs to answer a
// probe, and no longer.
func TestSlowCommand(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	works(t, "before", s)
	if err := bare(t, addr).Do(t.Context(), "client", "pause", "700", "all").Err(); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the slow command", func() error {
		if s.Ping(t.Context()) == nil {
			return errors.New("it is not slow yet")
		}
		return nil
	})
	soon(t, "after the slow command", func() error { return s.Ping(t.Context()) })
	works(t, "after the slow command", s)
}

// A caller who has no time left is no sign that the server is gone.
func TestImpatientCaller(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	works(t, "before", s)
	client := bare(t, addr)
	if err := client.ClientPause(t.Context(), 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Ping(ctx); err == nil {
		t.Fatal("the server was not paused")
	}
	works(t, "after a caller gave up", s)
}

// A subscription through which nothing comes any more is noticed within two seconds, also where the
// connection stays up; and each one that breaks closes its channel.
func TestWatchThatBreaks(t *testing.T) {
	srv := start(t, storetest.FreePort(t))
	p := newTap(t, srv.addr)
	s := open(t, "redis://"+p.Addr().String(), keyring.Ephemeral())
	closed := func(what string, keys <-chan consent.Told) {
		t.Helper()
		late := time.After(2 * time.Second)
		for {
			select {
			case _, ok := <-keys:
				if !ok {
					return
				}
			case <-late:
				t.Fatalf("%s: the channel is open after two seconds", what)
			}
		}
	}
	watch := func() (keys <-chan consent.Told) {
		t.Helper()
		soon(t, "Watch", func() (err error) { keys, err = s.Watch(t.Context()); return err })
		return keys
	}
	keys := watch()
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	if nextKey(keys) != s.Key(person(t, 1)) {
		t.Error("another person's key")
	}
	p.silent.Store(true)
	closed("half dead", keys)
	p.silent.Store(false)

	keys = watch()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	closed("connection cut", keys)

	keys = watch()
	if err := bare(t, srv.addr).Publish(t.Context(), s.channel(), "nonsense").Err(); err != nil {
		t.Fatal(err)
	}
	closed("nonsense", keys)

	keys = watch()
	srv.stop()
	closed("server gone", keys)
}

// Who does not read what is told is told that it is not all.
func TestWatchThatIsNotRead(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	keys, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pipe := bare(t, addr).Pipeline()
	for range watchBuffer + 10 {
		pipe.Publish(t.Context(), s.channel(), s.Key(person(t, 1)).String())
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	late := time.After(5 * time.Second)
	for open := true; open; {
		if len(keys) < watchBuffer && n == 0 { // let it fill first
			select {
			case <-late:
				t.Fatal("it never fills")
			case <-time.After(time.Millisecond):
			}
			continue
		}
		if _, open = <-keys; open {
			n++
		}
	}
	if n > watchBuffer {
		t.Errorf("%d keys", n)
	}
}
