package redisstore

import (
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// However often a server refused a connection, it is used again at once when it is back: it takes the probes
// no longer than their own pace.
func TestLongAway(t *testing.T) {
	port := storetest.FreePort(t)
	p := start(t, port, "--appendonly", "yes")
	s := open(t, "redis://"+p.addr+"?pool_size=2", keyring.Ephemeral())
	works(t, "before", s)
	p.stop()
	atOnce(t, s)
	s.pause(t.Context(), 4*probeEvery) // refusals, more than the pool has places
	start(t, port, "--appendonly", "yes", "--dir", p.dir)
	back := time.Now()
	soon(t, "after it came back", func() error { return s.Ping(t.Context()) })
	if late := time.Since(back); late > 3*probeEvery {
		t.Errorf("used again %v after it was back", late)
	}
}

// BenchmarkLookupDead is what a lookup costs while the server is known not to answer.
func BenchmarkLookupDead(b *testing.B) {
	s := open(b, "redis://127.0.0.1:"+storetest.FreePort(b), keyring.Ephemeral())
	people := []consent.Address{person(b, 1)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Lookup(b.Context(), "newsletter", people); !errors.Is(err, consent.ErrUnreachable) {
			b.Fatal(err)
		}
	}
}

// While one server of a Cluster hangs, what others are told through those that are well need not arrive: the
// subscription is over before much of that can happen.
func TestWatchWhileANodeHangs(t *testing.T) {
	nodes := clusterOf3(t)
	s := open(t, "redis+cluster://"+addrs(nodes), keyring.Ephemeral())
	works(t, "before", s)
	for i, p := range nodes {
		var keys <-chan consent.Told
		soon(t, "Watch", func() (err error) { keys, err = s.Watch(t.Context()); return err })
		s.pause(t.Context(), 50*time.Millisecond) // the first beats are heard
		hangs := time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for range keys { // until it is closed
		}
		if late := time.Since(hangs); late > 450*time.Millisecond {
			t.Errorf("node %d: the channel was open for %v", i, late)
		}
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		soon(t, "it goes on", func() error { return s.Ping(t.Context()) })
	}
}

// nextKey is whose records were changed next; the zero Key where the watch is over.
func nextKey(tellings <-chan consent.Told) consent.Key {
	for t := range tellings {
		if t.UpTo.IsZero() {
			return t.Key
		}
	}
	return consent.Key{}
}

// Once a watch says that all is told up to a moment, what was confirmed before has been told; and it says so
// of moments not long ago.
func TestWatchSaysUpToWhen(t *testing.T) {
	addr, _ := server(t)
	single := open(t, "redis://"+addr, keyring.Ephemeral())
	for name, s := range map[string]*Store{"single": single, "cluster": open(t, "redis+cluster://"+addrs(clusterOf3(t)), keyring.Ephemeral())} {
		tellings, err := s.Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		confirmed := map[consent.Key]time.Time{}
		go func() {
			for i := range 200 {
				if rs, err := s.Apply(t.Context(), unsubscribe(person(t, i))); err == nil && rs[0].Err == nil {
					mu.Lock()
					confirmed[s.Key(person(t, i))] = time.Now()
					mu.Unlock()
				}
			}
		}()
		told, beats := map[consent.Key]bool{}, 0
		for limit := time.After(20 * time.Second); len(told) < 200 || beats < 5; {
			select {
			case <-limit:
				t.Fatalf("%s: %d told, %d times up to when", name, len(told), beats)
			case m, ok := <-tellings:
				switch {
				case !ok:
					t.Fatalf("%s: the watch ended", name)
				case m.UpTo.IsZero():
					told[m.Key] = true
				default:
					beats++
					mu.Lock()
					for k, at := range confirmed {
						if at.Before(m.UpTo) && !told[k] {
							t.Errorf("%s: confirmed %v before, and not told", name, m.UpTo.Sub(at))
						}
					}
					mu.Unlock()
				}
			}
		}
	}
}
