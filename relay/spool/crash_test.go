package spool

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestPowerCut runs a random load and cuts the power at every operation on the disk in turn, then
// once more while the spool starts again and works on. After that it must hold exactly what
// was answered with nil, with or without the one call that was under way, and never half of it.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		for n := 1; ; n++ {
			if !cutAt(t, uint64(seed), n, 100, seed%2 == 0) {
				t.Logf("seed %d: %d operations", seed, n)
				break
			}
		}
	}
}

// cutAt says whether the power went off at all.
func cutAt(t *testing.T, seed uint64, n, calls int, strict bool) bool {
	t.Helper()
	d := newDisk(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	chaos := rand.New(rand.NewPCG(seed, uint64(n)))
	tears := chaos
	if strict {
		tears = nil
	}
	d.cut = n
	before := model{}
	after := before
	wentOff := false
	for round := range 3 {
		s, err := Open("/spool", small(d))
		if err == nil {
			got, err := holds(s, "")
			if err == nil {
				diff := got.difference(before)
				if diff != "" {
					if diff = got.difference(after); diff == "" {
						before = after
					}
				}
				if diff != "" {
					t.Fatalf("seed %d, cut at %d, round %d: %s\nbefore: %s\n%v", seed, n, round, diff, got.difference(before), d)
				}
				after = before
				before, after, err = work(s, rng, before, "m", calls)
				if err != nil && !d.isOff() {
					t.Fatalf("seed %d, cut at %d, round %d: %v", seed, n, round, err)
				}
			} else if !d.isOff() {
				t.Fatalf("seed %d, cut at %d, round %d: %v", seed, n, round, err)
			}
			s.Close()
		} else if !d.isOff() {
			t.Fatalf("seed %d, cut at %d, round %d: Open: %v", seed, n, round, err)
		}
		if round == 0 {
			if wentOff = d.isOff(); !wentOff {
				return false
			}
		}
		d.restart(tears)
		if round == 0 {
			d.cut = d.ops + 1 + chaos.IntN(60)
		}
		calls = 25
	}
	return wentOff
}

func (d *disk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// work makes calls until one fails. It returns what the spool holds without and with that.
func work(s *Spool, rng *rand.Rand, m model, prefix string, calls int) (before, after model, err error) {
	for range calls {
		o := random(rng, m, prefix)
		next := m.clone()
		o.model(next)
		if err := o.spool(s); err != nil {
			return m, next, fmt.Errorf("%s: %w", o.name, err)
		}
		m = next
	}
	return m, m, nil
}

// TestPowerCutConcurrent is the same with callers that share commits.
func TestPowerCutConcurrent(t *testing.T) {
	t.Parallel()
	rounds := 80
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 3))
		d := newDisk(t)
		d.cut = 1 + rng.IntN(300)
		s, err := Open("/spool", small(d))
		const callers = 5
		var before, after [callers]model
		if err == nil {
			var all sync.WaitGroup
			for c := range callers {
				all.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(round), uint64(10+c)))
					before[c], after[c], _ = work(s, rng, model{}, fmt.Sprintf("c%d-", c), 30)
				})
			}
			all.Wait()
			s.Close()
		}
		d.restart(rng)
		s, err = Open("/spool", small(d))
		must(t, err)
		for c := range callers {
			got, err := holds(s, fmt.Sprintf("c%d-", c))
			must(t, err)
			if diff := got.difference(before[c]); diff != "" && got.difference(after[c]) != "" {
				t.Fatalf("round %d: %s", round, diff)
			}
		}
		must(t, s.Close())
	}
}
