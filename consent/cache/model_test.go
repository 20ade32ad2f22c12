package cache

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// TestModel does random things in a random order, with calls under way at every point, and checks
// each lookup against what was told, or confirmed, before it began, and against the time to live.
func TestModel(t *testing.T) {
	rounds := uint64(200)
	if testing.Short() {
		rounds = 20
	}
	answered, asked := 0, 0
	for seed := range rounds {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), inner: newFake(), floor: make(map[consent.Address]uint64)}
			w.run()
			answered += w.answered
			for _, people := range w.inner.asked {
				asked += len(people)
			}
		})
	}
	t.Logf("%d answers, %d of them by the inner store", answered, asked)
	if answered < 10*int(rounds) || asked > answered*9/10 || asked < answered/10 {
		t.Errorf("%d answers, %d of them by the inner store: this tries too little", answered, asked)
	}
}

// world is what the model knows.
type world struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand
	inner  *fake
	cache  *Store
	people people
	told   int // how many of inner.changes were told, or need not be

	mu       sync.Mutex
	floor    map[consent.Address]uint64 // the version that a lookup which begins now must not be behind
	gates    []chan struct{}            // of calls under way, each waiting
	answered int
}

func (w *world) run() {
	for i := range 4 {
		w.people = append(w.people, who(w.t, fmt.Sprintf("p%d@example.org", i)))
	}
	w.inner.before, w.inner.after, w.inner.committed = w.wait, w.wait, w.wait
	w.cache = New(w.inner, Options{TTL: ttl, Max: 2 + w.rand.IntN(20)})
	for range 300 {
		synctest.Wait()
		if !w.alive() { // nothing is kept
			for w.told < len(w.inner.changes) {
				w.tell()
			}
		}
		w.step()
	}
	for synctest.Wait(); len(w.gates) > 0; synctest.Wait() {
		w.pass()
	}
	if err := w.cache.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) step() {
	who := w.people[w.rand.IntN(len(w.people))]
	switch w.rand.IntN(16) {
	case 0, 1, 2, 3:
		go w.lookup(w.some(), []consent.Scope{"news", "orders"}[w.rand.IntN(2)], w.floors())
	case 4, 5, 6, 7, 8, 9:
		w.pass()
	case 10: // elsewhere
		if w.rand.IntN(2) == 0 {
			w.inner.change(who)
		}
	case 11:
		if w.told < len(w.inner.changes) {
			w.inner.tell(w.inner.changes[w.told].who)
			w.tell()
		}
	case 12:
		if w.rand.IntN(2) == 0 {
			go w.apply(who)
		}
	case 13:
		time.Sleep(time.Duration(w.rand.Int64N(int64(ttl / 8))))
	case 14:
		if w.rand.IntN(4) == 0 {
			time.Sleep(time.Duration(w.rand.Int64N(int64(ttl))))
		}
	case 15:
		if w.alive() && w.rand.IntN(6) == 0 {
			w.inner.cut()
			w.inner.setMute(w.rand.IntN(2) == 0)
		} else {
			w.inner.setMute(false)
		}
	}
}

func (w *world) alive() bool {
	w.inner.mu.Lock()
	defer w.inner.mu.Unlock()
	return w.inner.keys != nil
}

// tell takes the next change for told.
func (w *world) tell() {
	c := w.inner.changes[w.told]
	w.told++
	w.raise(c.who, c.version)
}

func (w *world) raise(who consent.Address, version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.floor[who] = max(w.floor[who], version)
}

// wait holds a call under way until it is passed.
func (w *world) wait() {
	gate := make(chan struct{})
	w.mu.Lock()
	w.gates = append(w.gates, gate)
	w.mu.Unlock()
	<-gate
}

// pass lets any of the calls under way go on.
func (w *world) pass() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.gates) == 0 {
		return
	}
	i := w.rand.IntN(len(w.gates))
	close(w.gates[i])
	w.gates = slices.Delete(w.gates, i, i+1)
}

func (w *world) some() people {
	all := make(people, 1+w.rand.IntN(3))
	for i := range all {
		all[i] = w.people[w.rand.IntN(len(w.people))]
	}
	return all
}

// floors are the versions that a lookup of now must not be behind: what was told, and what was so
// when an answer of now may at the earliest have been asked for.
func (w *world) floors() map[consent.Address]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	floors := maps.Clone(w.floor)
	for _, c := range w.inner.changes {
		if time.Since(c.at) >= ttl {
			floors[c.who] = max(floors[c.who], c.version)
		}
	}
	return floors
}

func (w *world) lookup(who people, scope consent.Scope, floors map[consent.Address]uint64) {
	rs, err := w.cache.Lookup(w.t.Context(), scope, who)
	if err != nil || len(rs) != len(who) {
		w.t.Errorf("seed %d: %+v, %v", w.seed, rs, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered += len(rs)
	for i, r := range rs {
		if r.Err != nil || r.Scope.Scope != scope || r.Scope.Version < floors[who[i]] {
			w.t.Errorf("seed %d: %v in %s: %+v, want at least version %d", w.seed, who[i], scope, r, floors[who[i]])
		}
	}
}

func (w *world) apply(who consent.Address) {
	rs, err := w.cache.Apply(w.t.Context(), []consent.Change{{Who: who, Scope: "news"}})
	if err != nil {
		w.t.Errorf("seed %d: %v", w.seed, err)
		return
	}
	w.raise(who, rs[0].Scope.Version)
}

// TestConcurrent lets writers and readers run into each other as they like, for the race detector,
// with the same rule as the model. Its changes are told at once.
func TestConcurrent(t *testing.T) {
	const changes = 2000
	inner := newFake()
	s := New(inner, Options{TTL: time.Minute, Max: 50})
	defer s.Close()
	for s.memory.Load() == nil {
		runtime.Gosched()
	}
	var all people
	for i := range 20 {
		all = append(all, who(t, fmt.Sprintf("p%d@example.org", i)))
	}
	floor := make([]atomic.Uint64, len(all))
	var writing, reading sync.WaitGroup
	writing.Go(func() { // elsewhere; only this one raises the even ones
		for n := range changes {
			i := n % 10 * 2
			v := inner.change(all[i])
			inner.keys <- consent.Told{Key: inner.Key(all[i])}
			inner.keys <- consent.Told{}
			inner.keys <- consent.Told{} // the one before was taken, so the key was seen to
			floor[i].Store(v)
		}
	})
	writing.Go(func() {
		for n := range changes {
			i := n%10*2 + 1
			rs, err := s.Apply(t.Context(), []consent.Change{{Who: all[i]}})
			if err != nil {
				t.Error(err)
				return
			}
			floor[i].Store(rs[0].Scope.Version)
		}
	})
	stop := make(chan struct{})
	for seed := range uint64(4) {
		reading.Go(func() {
			rand := rand.New(rand.NewPCG(seed, 0))
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := rand.IntN(len(all))
				want := floor[i].Load()
				rs, err := s.Lookup(t.Context(), "news", all[i:i+1])
				if err != nil || rs[0].Scope.Version < want {
					t.Errorf("%+v, %v, want at least version %d", rs, err, want)
					return
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
}
