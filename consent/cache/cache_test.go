package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/consent"
)

const ttl = 5 * time.Second

// desk is a cache that is alive, with its store.
type desk struct {
	*Store
	inner         *fake
	t             *testing.T
	anna, ben, cy consent.Address
}

// inBubble runs f with the time of a synctest bubble, in which no goroutine may be left.
func inBubble(t *testing.T, opts Options, f func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{inner: newFake(), t: t, anna: who(t, "anna@example.org"), ben: who(t, "ben@example.org"), cy: who(t, "cy@example.org")}
		d.Store = New(d.inner, opts)
		defer d.Close()
		synctest.Wait()
		f(t, d)
	})
}

func (d *desk) look(people ...consent.Address) []consent.Result {
	d.t.Helper()
	rs, err := d.Lookup(d.t.Context(), "news", people)
	if err != nil {
		d.t.Fatal(err)
	}
	return rs
}

// wantVersions looks people up and checks what they get and what the inner store was asked.
func (d *desk) wantVersions(what string, people []consent.Address, versions []uint64, asked ...[]consent.Address) {
	d.t.Helper()
	d.inner.asks()
	want := make([]consent.Result, len(versions))
	for i, v := range versions {
		want[i] = consent.Result{Scope: consent.Record{Scope: "news", Version: v}, Any: consent.Record{Scope: consent.AnyScope, Version: v}}
	}
	if diff := cmp.Diff(want, d.look(people...)); diff != "" {
		d.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(asked, d.inner.asks(), cmp.Comparer(func(a, b consent.Address) bool { return a == b })); diff != "" {
		d.t.Errorf("%s, asked (-want +got):\n%s", what, diff)
	}
}

type people = []consent.Address

// wantAsked checks whether the inner store is asked about one person.
func (d *desk) wantAsked(what string, who consent.Address, asked bool) {
	d.t.Helper()
	v := d.inner.version(who)
	if asked {
		d.wantVersions(what, people{who}, []uint64{v}, people{who})
	} else {
		d.wantVersions(what, people{who}, []uint64{v})
	}
}

// size counts what is kept.
func (d *desk) size() (queue, entries int) {
	m := d.memory.Load()
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.queue), len(m.entries)
}

func TestOnlyMissesAreAskedInOrder(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.inner.change(d.ben)
		d.inner.change(d.cy)
		d.inner.change(d.cy)
		d.wantVersions("first", people{d.ben}, []uint64{1}, people{d.ben})
		d.wantVersions("again", people{d.ben}, []uint64{1})
		d.wantVersions("some", people{d.cy, d.ben, d.anna, d.cy}, []uint64{2, 1, 0, 2}, people{d.cy, d.anna, d.cy})
		d.wantVersions("all", people{d.anna, d.cy, d.anna, d.ben}, []uint64{0, 2, 0, 1})
		d.wantVersions("nobody", nil, nil)
		rs, err := d.Lookup(t.Context(), consent.AnyScope, people{d.cy})
		if err != nil || rs[0].Scope.Scope != consent.AnyScope {
			t.Errorf("another scope: %+v, %v", rs, err)
		}
		if len(d.inner.asks()) != 1 {
			t.Error("another scope was answered from this one's memory")
		}
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.look(d.ben)

		d.inner.broken = d.cy
		rs := d.look(d.anna, d.cy, d.ben)
		if rs[0].Err != nil || !errors.Is(rs[1].Err, errDown) || rs[2].Err != nil {
			t.Errorf("one broken: %+v", rs)
		}
		d.inner.broken = consent.Address{}
		d.wantVersions("mended", people{d.anna, d.cy, d.ben}, []uint64{0, 0, 0}, people{d.cy})

		d.inner.tell(d.anna)
		d.inner.down = fmt.Errorf("%w: refused", consent.ErrUnreachable)
		rs, err := d.Lookup(t.Context(), "news", people{d.anna})
		if !errors.Is(err, consent.ErrUnreachable) || len(rs) != 1 || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
			t.Errorf("down: %+v, %v", rs, err)
		}
		rs, err = d.Lookup(t.Context(), "news", people{d.ben, d.anna})
		if err != nil || rs[0].Err != nil || !errors.Is(rs[1].Err, consent.ErrUnreachable) {
			t.Errorf("down, and one in memory: %+v, %v", rs, err)
		}
		d.inner.down, d.inner.short = nil, true
		rs, err = d.Lookup(t.Context(), "news", people{d.ben, d.anna})
		if err != nil || rs[0].Err != nil || !errors.Is(rs[1].Err, consent.ErrUnreachable) {
			t.Errorf("too few results, and one in memory: %+v, %v", rs, err)
		}
		rs, err = d.Lookup(t.Context(), "news", people{d.anna})
		if !errors.Is(err, consent.ErrUnreachable) || len(rs) != 1 || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
			t.Errorf("too few results: %+v, %v", rs, err)
		}
		d.inner.short = false
		d.wantAsked("mended", d.anna, true)
	})
}

// A caller who gave up is told so by the inner store, whatever is in memory.
func TestCancelled(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.look(d.anna)
		d.inner.asks()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d.Lookup(ctx, "news", people{d.anna})
		if len(d.inner.asks()) != 1 {
			t.Error("answered from memory")
		}
	})
}

func TestTold(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.look(d.anna, d.ben)
		d.inner.change(d.anna)
		d.wantVersions("not yet told", people{d.anna}, []uint64{0})
		d.inner.tell(d.anna)
		d.wantVersions("told", people{d.anna, d.ben}, []uint64{1, 0}, people{d.anna})
		d.wantAsked("and kept again", d.anna, false)
	})
}

// All scopes of a person go, and those own changes that failed may have been made.
func TestOwnChanges(t *testing.T) {
	change := func(who consent.Address) []consent.Change { return []consent.Change{{Who: who, Scope: "orders"}} }
	for _, c := range []struct {
		name string
		do   func(d *desk) error
		goes bool // ben, too
	}{
		{"apply", func(d *desk) error { _, err := d.Apply(d.t.Context(), change(d.anna)); return err }, false},
		{"apply two", func(d *desk) error {
			_, err := d.Apply(d.t.Context(), append(change(d.ben), change(d.anna)...))
			return err
		}, true},
		{"erase", func(d *desk) error { return d.Erase(d.t.Context(), d.anna) }, false},
		{"rename", func(d *desk) error { return d.Rename(d.t.Context(), d.anna, d.ben, consent.FromCLI, time.Now()) }, true},
		{"rename back", func(d *desk) error { return d.Rename(d.t.Context(), d.ben, d.anna, consent.FromCLI, time.Now()) }, true},
		{"accept the store", func(d *desk) error { return d.AcceptStore(d.t.Context()) }, true},
	} {
		for _, fails := range []error{nil, errDown} {
			t.Run(fmt.Sprintf("%s %v", c.name, fails), func(t *testing.T) {
				inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
					d.look(d.anna, d.ben)
					d.inner.down = fails
					if err := c.do(d); err != fails {
						t.Fatal(err)
					}
					d.inner.down = nil
					d.wantAsked("anna", d.anna, true)
					d.wantAsked("ben", d.ben, c.goes)
				})
			})
		}
	}
}

// A lookup that is under way while its person is dropped answers its caller, and nobody else. So
// also where it has read before the change and comes home long after.
func TestDroppedUnderWay(t *testing.T) {
	for name, drop := range map[string]func(d *desk){
		"told":     func(d *desk) { d.inner.change(d.anna); d.inner.tell(d.anna) },
		"applied":  func(d *desk) { d.Apply(d.t.Context(), []consent.Change{{Who: d.anna}}) },
		"cut":      func(d *desk) { d.inner.cut(); d.inner.change(d.anna) },
		"accepted": func(d *desk) { d.inner.change(d.anna); d.AcceptStore(d.t.Context()) },
		"watched anew": func(d *desk) {
			d.inner.cut()
			d.inner.change(d.anna)
			time.Sleep(firstPause)
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
				home := make(chan struct{})
				d.inner.after = func() { <-home }
				done := make(chan struct{})
				go func() {
					defer close(done)
					if rs, err := d.Lookup(t.Context(), "news", people{d.anna}); err != nil || rs[0].Scope.Version != 0 {
						t.Errorf("%+v, %v", rs, err)
					}
				}()
				synctest.Wait()
				d.inner.after = nil
				drop(d)
				close(home)
				<-done
				d.wantAsked("later", d.anna, true)
			})
		})
	}
}

func TestWhileNotWatched(t *testing.T) {
	inner := newFake()
	inner.setMute(true)
	synctest.Test(t, func(t *testing.T) {
		d := &desk{inner: inner, t: t, anna: who(t, "anna@example.org")}
		var log bytes.Buffer
		d.Store = New(inner, Options{TTL: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer d.Close()
		synctest.Wait()
		d.wantAsked("not yet", d.anna, true)
		d.wantAsked("not yet", d.anna, true)

		time.Sleep(20 * time.Second)
		if n := inner.watches(); n < 20 || n > 25 {
			t.Errorf("%d attempts to watch in 20 s", n)
		}
		d.wantAsked("still not", d.anna, true)
		inner.setMute(false)
		time.Sleep(longestPause)
		synctest.Wait()
		d.wantAsked("watched", d.anna, true)
		d.wantAsked("watched", d.anna, false)
		if s := log.String(); strings.Count(s, "level=WARN") != 1 || !strings.Contains(s, "err=down") || strings.Count(s, "level=INFO") != 1 {
			t.Errorf("the log:\n%s", s)
		}

		time.Sleep(longestPause) // it has lived for long enough
		old := inner.watching
		inner.cut()
		if old.Err() == nil {
			t.Error("the old subscription was not given up")
		}
		d.wantAsked("cut", d.anna, true)
		d.wantAsked("cut", d.anna, true)
		time.Sleep(firstPause)
		synctest.Wait()
		d.wantAsked("empty after the cut", d.anna, true)
		d.wantAsked("kept after the cut", d.anna, false)
		if s := log.String(); strings.Count(s, "level=WARN") != 1 {
			t.Errorf("a subscription that was back at once is warned of:\n%s", s)
		}

		time.Sleep(longestPause)
		inner.setMute(true)
		inner.cut()
		time.Sleep(firstPause)
		synctest.Wait()
		if s := log.String(); strings.Count(s, "level=WARN") != 2 {
			t.Errorf("a subscription that did not come back is not warned of:\n%s", s)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.inner.after = func() { time.Sleep(time.Second) } // counts
		d.look(d.anna)
		d.inner.after = nil
		time.Sleep(ttl - time.Second - time.Nanosecond)
		d.wantAsked("just before", d.anna, false)
		time.Sleep(time.Nanosecond)
		d.wantAsked("just after", d.anna, true)
	})
}

func TestClockSetBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // without a monotonic reading
	inBubble(t, Options{TTL: ttl, Now: func() time.Time { return now }}, func(t *testing.T, d *desk) {
		d.look(d.anna)
		d.wantAsked("at the same time", d.anna, false)
		now = now.Add(-time.Hour)
		d.wantAsked("an hour before", d.anna, true)
		d.wantAsked("and kept since", d.anna, false)
		now = now.Add(2 * time.Hour)
		d.wantAsked("two hours later", d.anna, true)
	})
}

func TestBounded(t *testing.T) {
	inBubble(t, Options{TTL: ttl, Max: 2}, func(t *testing.T, d *desk) {
		d.look(d.anna)
		d.look(d.ben)
		d.wantAsked("anna fits", d.anna, false)
		d.look(d.cy)
		d.wantAsked("ben fits", d.ben, false)
		d.wantAsked("cy fits", d.cy, false)
		d.wantAsked("anna was the oldest", d.anna, true)
		for range 100 {
			d.look(d.anna, d.ben, d.cy)
			d.inner.tell(d.anna)
			if queue, entries := d.size(); queue > 2 || entries > 2 {
				t.Fatalf("%d in the queue, %d entries", queue, entries)
			}
		}
	})
}

// An answer that was dropped makes room, and does not take the one that followed it along.
func TestDroppedMakesRoom(t *testing.T) {
	inBubble(t, Options{TTL: ttl, Max: 2}, func(t *testing.T, d *desk) {
		d.look(d.anna)
		d.inner.tell(d.anna)
		d.look(d.anna)
		d.look(d.ben)
		d.wantAsked("anna", d.anna, false)
		d.wantAsked("ben", d.ben, false)
	})
}

// Once nobody asks, nothing stays in memory.
func TestSwept(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		many := make(people, 2500)
		for i := range many {
			many[i] = who(t, fmt.Sprintf("p%d@example.org", i))
		}
		d.look(many...)
		if queue, entries := d.size(); queue != len(many) || entries != len(many) {
			t.Fatalf("%d in the queue, %d entries", queue, entries)
		}
		time.Sleep(2 * ttl)
		synctest.Wait()
		if queue, entries := d.size(); queue != 0 || entries != 0 {
			t.Errorf("%d in the queue, %d entries", queue, entries)
		}
	})
}

// An answer that took long throws out none that were asked for since.
func TestSlowAnswer(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.inner.after = func() { time.Sleep(time.Second) }
		go d.Lookup(t.Context(), "news", people{d.anna})
		synctest.Wait()
		d.inner.after = nil
		time.Sleep(time.Millisecond)
		d.look(d.ben)
		time.Sleep(2 * time.Second)
		d.wantAsked("ben", d.ben, false)
		d.wantAsked("anna", d.anna, false)
	})
}

func TestClose(t *testing.T) {
	inBubble(t, Options{TTL: ttl}, func(t *testing.T, d *desk) {
		d.look(d.anna)
		watching := d.inner.watching
		if err := d.Close(); err != nil || !d.inner.closed {
			t.Errorf("%v, the inner store is closed: %v", err, d.inner.closed)
		}
		if watching.Err() == nil {
			t.Error("still watched")
		}
		d.wantAsked("closed", d.anna, true)
	})
}

func TestOff(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, d *desk) {
		if d.inner.watches() != 0 {
			t.Error("watched for nothing")
		}
		d.look(d.anna)
		d.wantAsked("again", d.anna, true)
	})
}

// What is kept as text is the answer as it was, down to the last entry.
func TestMemoryKeepsAnswersWhole(t *testing.T) {
	m := newMemory(time.Minute, 10)
	at := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	all := people{who(t, "a@example.org"), who(t, "never-seen@example.org")}
	answers := []consent.Result{{
		Scope: consent.Record{Scope: "news", Version: 3,
			Mail:  consent.Entry{State: consent.Subscribed, Time: at, Source: consent.FromPage, Notice: "2026-03"},
			Open:  consent.Entry{State: consent.Granted, Time: at, Source: consent.FromPage, Notice: "2026-03"},
			Click: consent.Entry{State: consent.Denied, Time: at.Add(time.Hour), Source: consent.FromAPI}},
		Any: consent.Record{Scope: consent.AnyScope, Version: 1, Mail: consent.Entry{State: consent.Unsubscribed, Time: at, Source: consent.FromOneClick}},
	}, {
		Scope: consent.Record{Scope: "news"}, Any: consent.Record{Scope: consent.AnyScope},
	}}
	m.keep(0, "news", all, answers, make([]mark, len(all)))
	got, missing := m.find(time.Second, "news", all)
	if diff := cmp.Diff(answers, got); diff != "" || len(missing) > 0 {
		t.Errorf("missing %v\n%s", missing, diff)
	}
}

func BenchmarkLookup(b *testing.B) {
	inner := newFake()
	s := New(inner, Options{TTL: time.Hour})
	defer s.Close()
	for s.memory.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	for _, n := range []int{1, 1000} {
		all := make(people, n)
		for i := range all {
			all[i] = who(b, fmt.Sprintf("p%d@example.org", i))
		}
		for name, store := range map[string]consent.Store{"memory": s, "inner": inner} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				store.Lookup(b.Context(), "news", all)
				inner.asks()
				b.ReportAllocs()
				for b.Loop() {
					if rs, err := store.Lookup(b.Context(), "news", all); err != nil || len(rs) != n {
						b.Fatal(len(rs), err)
					}
				}
				if store == consent.Store(s) && len(inner.asks()) > 0 {
					b.Error("the inner store was asked")
				}
			})
		}
	}
}

// What is in memory is used only while all changes are known to be told up to a moment within Lease.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newFake()
		inner.unsure = true
		s := New(inner, Options{TTL: time.Hour})
		defer s.Close()
		synctest.Wait()
		anna := []consent.Address{who(t, "anna@example.org")}
		asks := func(want int) {
			t.Helper()
			synctest.Wait()
			for range 2 {
				if _, err := s.Lookup(t.Context(), "news", anna); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(inner.asks()); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		}
		asks(2) // nothing was said yet
		inner.keys <- consent.Told{UpTo: time.Now()}
		asks(1)
		time.Sleep(Lease)
		asks(0)
		time.Sleep(time.Nanosecond)
		asks(2)
		inner.keys <- consent.Told{UpTo: time.Now()}
		asks(0) // it was kept, and nothing was changed
		inner.keys <- consent.Told{UpTo: time.Now().Add(-Lease - 1)}
		asks(2)
	})
}

// What memory knew is counted by people, and what was asked for too.
func TestStats(t *testing.T) {
	inBubble(t, Options{TTL: 5 * time.Second}, func(t *testing.T, d *desk) {
		d.look(d.anna, d.ben)
		d.look(d.anna, d.cy)
		d.look(d.anna, d.ben, d.cy)
		if hits, misses := d.Stats(); hits != 4 || misses != 3 {
			t.Errorf("%d hits, %d misses", hits, misses)
		}
	})
	inBubble(t, Options{}, func(t *testing.T, d *desk) { // off
		d.look(d.anna, d.ben)
		if hits, misses := d.Stats(); hits != 0 || misses != 2 {
			t.Errorf("%d hits, %d misses while it is off", hits, misses)
		}
	})
}
