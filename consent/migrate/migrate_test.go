package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func who(t testing.TB, format string, args ...any) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(fmt.Sprintf(format, args...) + "@example.org")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func apply(t testing.TB, s consent.Store, changes ...consent.Change) {
	t.Helper()
	rs, err := s.Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

var long = time.Now().Add(-1000 * time.Hour).Truncate(time.Second)

func grants(a consent.Address, at time.Time) consent.Change {
	return consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Granted, Source: consent.FromImport, Notice: "2026-03", Time: at}
}

func out(a consent.Address) consent.Change {
	return consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: time.Now()}
}

func state(t testing.TB, s consent.Store, a consent.Address) consent.Record {
	t.Helper()
	rs, err := s.Lookup(t.Context(), "news", []consent.Address{a})
	if err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	return rs[0].Scope
}

// held reads everything.
func held(t testing.TB, s Store) map[consent.Key]*consent.Held {
	t.Helper()
	all := map[consent.Key]*consent.Held{}
	for page, err := range s.Pages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range page {
			if !h.Empty() {
				all[h.Key] = h
			}
		}
	}
	return all
}

// alike compares two stores byte for byte.
func alike(t testing.TB, a, b Store) {
	t.Helper()
	as, bs := held(t, a), held(t, b)
	for k, h := range as {
		if bs[k] == nil || !bs[k].Same(h) {
			t.Errorf("person %s is %q in the old store, %q in the new", k, h, bs[k])
		}
	}
	if len(as) != len(bs) {
		t.Errorf("%d people in the old store, %d in the new", len(as), len(bs))
	}
}

func mover(t testing.TB, ring *keyring.Ring, old, new Store) *Mover {
	m := New(old, new, Options{Ledger: consent.NewLedger(ring), Now: time.Now, Progress: func(string, int64, int64) {}, Say: func(s string) { t.Log(s) }})
	t.Cleanup(m.Close)
	return m
}

// town fills a store with people of every kind.
func town(t testing.TB, s Store, n int) {
	t.Helper()
	var changes []consent.Change
	for i := range n {
		a := who(t, "p%d", i)
		changes = append(changes, grants(a, long))
		if i%3 == 0 {
			changes = append(changes, consent.Change{Who: a, Scope: "*", Open: consent.Denied, Source: consent.FromPage, Time: long.Add(time.Hour)})
		}
		if i%5 == 0 {
			c := out(a)
			c.Time = long.Add(2 * time.Hour)
			changes = append(changes, c)
		}
	}
	apply(t, s, changes...)
	ctx := t.Context()
	for i := 0; i < n; i += 50 { // of the opted out too: a keyed hash stays
		if err := s.Erase(ctx, who(t, "p%d", i)); err != nil {
			t.Fatal(err)
		}
		if err := s.Rename(ctx, who(t, "p%d", i+1), who(t, "renamed%d", i), consent.FromCLI, long.Add(3*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Purge(ctx, long.Add(150*time.Minute)); err != nil {
		t.Fatal(err)
	}
}

// People move, through every pair of kinds, while opt-outs come in: first through the old store, then through both.
func TestMigrate(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new func(testing.TB) place
	}{
		{"file to Redis", aFile, aRedis},
		{"Redis to Cluster", aRedis, aCluster},
		{"Cluster to file", aCluster, aFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ring := keyring.Ephemeral()
			from, to := c.old(t), c.new(t)
			gateway := from.open(t, ring, redisstore.None)
			town(t, gateway, 1500)
			old := gateway
			if from.file == "" {
				old = from.open(t, ring, redisstore.From)
			}
			next := to.open(t, ring, redisstore.To)

			var made [3]atomic.Int64 // opt-outs confirmed: of people of before, of new ones, through the new store
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var wg sync.WaitGroup
			press := func(i int, s func() Store, name string) {
				wg.Go(func() {
					pace := time.NewTicker(2 * time.Millisecond)
					defer pace.Stop()
					for n := int64(0); ctx.Err() == nil; <-pace.C {
						rs, err := s().Apply(context.WithoutCancel(ctx), []consent.Change{out(who(t, name, n))})
						if err == nil {
							err = rs[0].Err
						}
						if errors.Is(err, consent.ErrUnreachable) {
							continue // it is tried again, as a person would
						}
						if err != nil {
							t.Error(err)
							return
						}
						n++
						made[i].Store(n)
					}
				})
			}
			press(0, func() Store { return gateway }, "p%d")
			press(1, func() Store { return gateway }, "new%d")

			m := mover(t, ring, old, next)
			if err := m.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			press(2, func() Store { return next }, "elsewhere%d")
			end := make(chan struct{})
			followed := make(chan error, 1)
			go func() { followed <- m.Follow(t.Context(), end) }()
			for i := range made {
				was := made[i].Load()
				storetest.Eventually(t, "opt-outs while both are used", func() error {
					if made[i].Load() < was+20 {
						return errors.New("few")
					}
					return nil
				})
			}
			// What one side confirmed the other knows soon: 100 ms, as between gateways.
			at := time.Now()
			apply(t, next, out(who(t, "p1499")))
			storetest.Eventually(t, "the old store", func() error {
				if state(t, gateway, who(t, "p1499")).Mail.State != consent.Unsubscribed {
					return errors.New("not there yet")
				}
				return nil
			})
			t.Logf("through the new store, known in the old after %v", time.Since(at))
			stop()
			wg.Wait()
			close(end)
			if err := <-followed; err != nil {
				t.Fatal(err)
			}
			r, err := m.Finish(t.Context())
			if err != nil || r.Broken > 0 || r.People != len(held(t, next)) {
				t.Fatalf("%+v, %v", r, err)
			}
			t.Logf("%+v, opt-outs meanwhile: %d, %d, %d", r, made[0].Load(), made[1].Load(), made[2].Load())
			alike(t, old, next)
			for i, name := range [...]string{"p%d", "new%d", "elsewhere%d"} {
				for n := range made[i].Load() {
					if s := state(t, next, who(t, name, n)).Mail.State; s != consent.Unsubscribed {
						t.Fatalf("the opt-out of %s is lost: %q", fmt.Sprintf(name, n), s)
					}
				}
			}
		})
	}
}

// A gateway refuses a store that is being filled, or was moved, and takes the new one for the data that it knew.
func TestGatewaysDuringMove(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new func(testing.TB) place
	}{
		{"file to Redis", aFile, aRedis},
		{"Redis to file", aRedis, aFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ring := keyring.Ephemeral()
			from, to := c.old(t), c.new(t)
			known := t.TempDir() + "/store.known"
			serve := func(p place) error { return openServed(t, p, ring, known) }
			if err := serve(from); err != nil {
				t.Fatal(err)
			}
			old := from.open(t, ring, redisstore.From)
			town(t, old, 60)
			next := to.open(t, ring, redisstore.To)
			if err := next.SetMoving(t.Context(), consent.Filling, ""); err != nil {
				t.Fatal(err)
			}
			release := func(s Store) { s.Close() }
			if to.file != "" { // one process holds it at a time
				release(next)
			}
			if err := serve(to); !errors.Is(err, consent.ErrFilling) {
				t.Errorf("a store that is being filled: %v", err)
			}
			if to.file != "" {
				next = to.open(t, ring, redisstore.To)
			}
			m := mover(t, ring, old, next)
			if err := m.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.Close()
			release(old)
			release(next)
			if err := serve(from); !errors.Is(err, consent.ErrMoved) {
				t.Errorf("the store that was moved: %v", err)
			}
			if err := serve(to); err != nil {
				t.Errorf("a gateway that knew the old store, on the new one: %v", err)
			}
		})
	}
}

// Who was erased stays so, also where that was while nobody moved anything; and what was begun is gone on with.
func TestErasedStayErased(t *testing.T) {
	ring := keyring.Ephemeral()
	from, to := aRedis(t), aRedis(t)
	gateway := from.open(t, ring, redisstore.None)
	town(t, gateway, 1000)
	old, next := from.open(t, ring, redisstore.From), to.open(t, ring, redisstore.To)
	erase := func(s Store, name string) {
		t.Helper()
		if err := s.Erase(t.Context(), who(t, "%s", name)); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(name string) {
		t.Helper()
		for _, s := range []Store{old, next} {
			if p, err := s.Person(t.Context(), who(t, "%s", name)); err != nil || len(p.Records) > 0 {
				t.Errorf("%s is there: %+v, %v", name, p, err)
			}
		}
	}
	there := func(name string) {
		t.Helper()
		for _, s := range []Store{old, next} {
			if p, err := s.Person(t.Context(), who(t, "%s", name)); err != nil || len(p.Records) == 0 {
				t.Errorf("%s is not there: %+v, %v", name, p, err)
			}
		}
	}

	// Stopped in the middle of copying.
	ctx, cancel := context.WithCancel(t.Context())
	m := mover(t, ring, old, next)
	m.Progress = func(_ string, done, _ int64) {
		if done > 300 {
			cancel()
		}
	}
	if err := m.Begin(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for k := range held(t, next) { // one who was copied
		for i := 2; i < 1000; i++ {
			if a := who(t, "p%d", i); next.Key(a) == k && i%5 != 0 {
				erase(gateway, fmt.Sprintf("p%d", i))
				defer gone(fmt.Sprintf("p%d", i))
				break
			}
		}
		break
	}
	m = mover(t, ring, old, next)
	m.Missing = Erased
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	alike(t, old, next)

	// While both are followed, in either.
	end := make(chan struct{})
	followed := make(chan error, 1)
	go func() { followed <- m.Follow(t.Context(), end) }()
	erase(gateway, "p2")
	erase(next, "p3")
	apply(t, next, grants(who(t, "young"), time.Now()))
	close(end)
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	gone("p2")
	gone("p3")
	there("young")

	// While nobody follows.
	m.Close()
	if err := next.SetSynced(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	erase(gateway, "p4")
	erase(next, "p6")
	apply(t, next, grants(who(t, "younger"), time.Now().Add(time.Second)))
	apply(t, gateway, grants(who(t, "youngest"), time.Now().Add(time.Second)))
	m = mover(t, ring, old, next)
	if err := m.Begin(t.Context()); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	m.Missing = Erased
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone("p4")
	gone("p6")
	there("younger")
	there("youngest")
	alike(t, old, next)
}

func TestNotEmpty(t *testing.T) {
	ring := keyring.Ephemeral()
	from, to := aFile(t), aFile(t)
	old, next := from.open(t, ring, redisstore.From), to.open(t, ring, redisstore.To)
	apply(t, old, grants(who(t, "anna"), long), grants(who(t, "ben"), long))
	apply(t, next, grants(who(t, "ben"), long.Add(-time.Hour)), out(who(t, "ben")), grants(who(t, "cleo"), long))
	m := mover(t, ring, old, next)
	if err := m.Begin(t.Context()); !errors.Is(err, ErrNotEmpty) {
		t.Fatal(err)
	}
	m.Merge = true
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Finish(t.Context()); err != nil || r.People != 3 || r.Broken > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	alike(t, old, next)
	for _, merge := range []bool{false, true} { // once more, which is not to end with advice that does harm
		m = mover(t, ring, old, next)
		m.Merge = merge
		if err := m.Begin(t.Context()); !errors.Is(err, ErrDone) {
			t.Errorf("what was moved, moved again: %v", err)
		}
	}
	if s := state(t, next, who(t, "ben")).Mail.State; s != consent.Unsubscribed {
		t.Errorf("ben is %s", s)
	}
}

// What somebody tampered with in one store is neither taken for the truth nor hidden.
func TestTampered(t *testing.T) {
	ring := keyring.Ephemeral()
	old, next := aFile(t).open(t, ring, redisstore.From), aFile(t).open(t, ring, redisstore.To)
	anna, ben := who(t, "anna"), who(t, "ben")
	apply(t, old, grants(anna, long), grants(ben, long))
	apply(t, old, out(anna), out(ben))
	tamper := func(s Store, a consent.Address) {
		t.Helper()
		errs, err := s.Edit(t.Context(), []consent.Key{s.Key(a)}, func(_ int, h *consent.Held) (consent.Update, error) {
			return consent.Update{Fields: map[string]string{"news": "3\ts1763900000o\tg=\tg="}}, nil
		})
		if err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	tamper(old, ben) // before anything moves
	m := mover(t, ring, old, next)
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	tamper(next, anna)
	r, err := m.Finish(t.Context())
	if err != nil || r.Broken != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := state(t, next, anna).Mail.State; s != consent.Unsubscribed {
		t.Errorf("what was tampered with in the new store stays: %s", s)
	}
	alike(t, old, next)
}

// moved returns two stores of one kind after people moved from one to the other, or, where that has not ended, when both
// hold the same.
func moved(t *testing.T, ring *keyring.Ring, kind func(testing.TB) place, ended bool, held ...consent.Change) (old, next Store) {
	t.Helper()
	from := kind(t)
	if from.file == "" {
		from.open(t, ring, redisstore.None) // which begins it
	}
	old, next = from.open(t, ring, redisstore.From), kind(t).open(t, ring, redisstore.To)
	apply(t, old, held...)
	m := mover(t, ring, old, next)
	defer m.Close()
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ended {
		if _, err := m.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return old, next
}

// A move is given up before its end, or people go back after it: what was decided meanwhile comes along, and who was
// erased meanwhile stays away.
func TestGoBack(t *testing.T) {
	for _, kind := range []func(testing.TB) place{aFile, aRedis} {
		for _, ended := range []bool{false, true} {
			t.Run(fmt.Sprintf("ended %v", ended), func(t *testing.T) {
				t.Parallel()
				ring := keyring.Ephemeral()
				anna, ben, cleo := who(t, "anna"), who(t, "ben"), who(t, "cleo")
				old, next := moved(t, ring, kind, ended, grants(anna, long), grants(ben, long))
				apply(t, next, out(anna), out(cleo))
				if err := next.Erase(t.Context(), ben); err != nil {
					t.Fatal(err)
				}
				back := mover(t, ring, next, old)
				back.Missing = Erased
				if err := back.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				if r, err := back.Finish(t.Context()); err != nil || r.Broken > 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				alike(t, next, old)
				for a, want := range map[consent.Address]consent.State{anna: consent.Unsubscribed, cleo: consent.Unsubscribed, ben: ""} {
					if got := state(t, old, a).Mail.State; got != want {
						t.Errorf("%s is %q, want %q", a, got, want)
					}
				}
				for s, want := range map[Store]consent.Moving{old: consent.Settled, next: consent.Moved} {
					if now, err := s.Moving(t.Context()); err != nil || now.Moving != want {
						t.Errorf("%q, %v, want %q", now.Moving, err, want)
					}
				}
				again := mover(t, ring, next, old)
				if err := again.Begin(t.Context()); !errors.Is(err, ErrDone) {
					t.Errorf("%v, want that it is done", err)
				}
			})
		}
	}
}

// The store that was moved to lost people, and one was erased there: going back takes nobody for erased unasked, and
// never one who had unsubscribed.
func TestGoBackFromLoss(t *testing.T) {
	for _, kind := range []func(testing.TB) place{aFile, aRedis} {
		for _, ended := range []bool{false, true} {
			for _, missing := range []Missing{Keep, Erased} {
				t.Run(fmt.Sprintf("ended %v, %s", ended, missing), func(t *testing.T) {
					t.Parallel()
					ring := keyring.Ephemeral()
					grantor, left, other := who(t, "g"), who(t, "h"), who(t, "i")
					gone := out(left)
					gone.Time = long.Add(time.Hour)
					old, next := moved(t, ring, kind, ended, grants(grantor, long), grants(left, long), grants(other, long), gone)
					lose(t, next, grantor, left)
					apply(t, next, out(other))
					before, moving := held(t, old), consent.Settled
					if ended {
						moving = consent.Moved
					}
					back := mover(t, ring, next, old)
					if err := back.Begin(t.Context()); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "nothing was changed: 2 people of the store to move to are missing in the store to move from, 1 of them unsubscribed") {
						t.Fatal(err)
					}
					for k, h := range held(t, old) {
						if !h.Same(before[k]) {
							t.Errorf("%s changed", k)
						}
					}
					if now, err := old.Moving(t.Context()); err != nil || now.Moving != moving {
						t.Errorf("%q, %v", now.Moving, err)
					}
					back.Missing = missing
					if err := back.Begin(t.Context()); err != nil {
						t.Fatal(err)
					}
					if _, err := back.Finish(t.Context()); err != nil {
						t.Fatal(err)
					}
					alike(t, next, old)
					after := held(t, old)
					if k := old.Key(left); after[k] == nil || !after[k].Same(before[k]) {
						t.Errorf("who had unsubscribed: %q, was %q", after[k], before[k])
					}
					if k := old.Key(grantor); missing == Keep && (after[k] == nil || !after[k].Same(before[k])) {
						t.Errorf("who was kept: %q, was %q", after[k], before[k])
					} else if missing == Erased && after[k] != nil {
						t.Errorf("who was erased: %q", after[k])
					}
					if s := state(t, old, other).Mail.State; s != consent.Unsubscribed {
						t.Errorf("what was decided meanwhile: %q", s)
					}
				})
			}
		}
	}
}

// lose takes people away as a store does that loses data, with no trace.
func lose(t testing.TB, s Store, people ...consent.Address) {
	t.Helper()
	keys := make([]consent.Key, len(people))
	for i, a := range people {
		keys[i] = s.Key(a)
	}
	errs, err := s.Edit(t.Context(), keys, func(_ int, h *consent.Held) (consent.Update, error) {
		return h.Until(&consent.Held{Key: h.Key}), nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// A store that comes back without some of its people, while both are kept the same, ends that.
func TestLossWhileFollowed(t *testing.T) {
	ring := keyring.Ephemeral()
	old, next := aFile(t).open(t, ring, redisstore.From), aFile(t).open(t, ring, redisstore.To)
	anna := who(t, "anna")
	apply(t, old, grants(anna, long))
	m := mover(t, ring, old, next)
	if err := m.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range m.watch { // as when the server goes away
		w.close()
	}
	lose(t, next, anna)
	if err := m.Follow(t.Context(), nil); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	if s := state(t, old, anna).Open.State; s != consent.Granted {
		t.Errorf("the consent that is in the old store alone: %q", s)
	}
}
