package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/testdata/process"
)

const (
	lookupPeople = 10_000
	lookupRounds = 60
	lookupBlock  = 20 * time.Millisecond
	lookupScope  = consent.Scope("newsletter")
)

// asker is one way to ask for the people of a message: those from first on.
type asker struct {
	name string
	ask  func(ctx context.Context, first, n int) error
	took []float64 // µs a message, by round
	rate []float64 // messages/s
}

// asked counts the lookups that reach a store behind a cache.
type asked struct {
	consent.Store
	n atomic.Int64
}

func (s *asked) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	s.n.Add(1)
	return s.Store.Lookup(ctx, scope, people)
}

// measureLookups asks for 1, 10 and 100 people a message, all of whom have a record.
func (s *site) measureLookups(ctx context.Context, b *strings.Builder) (err error) {
	redisStore, err := redisstore.Open(s.redisURL, s.ring, redisstore.Options{})
	if err != nil {
		return err
	}
	behind := &asked{Store: redisStore}
	cached := cache.New(behind, cache.Options{TTL: time.Hour})
	defer func() { err = errors.Join(err, cached.Close()) }() // and what is behind it
	file, err := boltstore.Open(filepath.Join(s.dir, "lookup.db"), s.ring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(filepath.Join(s.dir, "lookup.db"))) }()
	bare := redis.NewClient(&redis.Options{Addr: s.redisAddr})
	defer bare.Close()

	people := make([]consent.Address, lookupPeople)
	keys := make([]string, lookupPeople)
	changes := make([]consent.Change, lookupPeople)
	for i := range people {
		if people[i], err = consent.ParseAddress(person(i)); err != nil {
			return err
		}
		keys[i] = "consent:{" + redisStore.Key(people[i]).String() + "}"
		changes[i] = consent.Change{Who: people[i], Scope: lookupScope, Open: consent.Granted, Click: consent.Denied,
			Source: consent.FromImport, Notice: "2026-03", Time: time.Now()}
	}
	for _, store := range []consent.Store{redisStore, file} {
		if err := apply(ctx, store, changes); err != nil {
			return err
		}
	}
	through := func(store consent.Store) func(context.Context, int, int) error {
		return func(ctx context.Context, first, n int) error {
			results, err := store.Lookup(ctx, lookupScope, people[first:first+n])
			if err == nil && results[n-1].Scope.Open.State != consent.Granted {
				err = fmt.Errorf("a record is not as it was written: %+v", results[n-1])
			}
			return err
		}
	}
	pipeline := func(ctx context.Context, first, n int) error {
		pipe := bare.Pipeline()
		var last *redis.SliceCmd
		for _, key := range keys[first : first+n] {
			last = pipe.HMGet(ctx, key, string(lookupScope), string(consent.AnyScope))
		}
		_, err := pipe.Exec(ctx)
		if err == nil && last.Val()[0] == nil {
			err = errors.New("a key that should be there is not")
		}
		return err
	}
	// The memory keeps nobody before its subscription stands.
	fill := func(from, to int) error {
		had := behind.n.Load()
		for ; from < to; from += 1000 {
			if _, err := cached.Lookup(ctx, lookupScope, people[from:from+1000]); err != nil {
				return err
			}
		}
		if behind.n.Load() > had {
			return errors.New("the cache does not answer from memory")
		}
		return nil
	}
	if err := process.Until(ctx, 10*time.Second, func() error { return fill(0, 1000) }); err != nil {
		return err
	}
	changes = nil
	before := heap()
	if err := fill(1000, lookupPeople); err == nil {
		return errors.New("the cache had people who were not asked for")
	}
	entry := (heap() - before) / (lookupPeople - 1000)
	had := behind.n.Load()

	fmt.Fprintf(b, "\n## Lookups\n\nOf %d people, all with a record, other ones each time. Medians of %d rounds of %s each; \"beside\" is the median of the rounds' ratios of time to that of the bare pipeline,\n"+
		"which is go-redis as it comes, asked for HMGETs of keys that are known already.\n\n", lookupPeople, lookupRounds, lookupBlock)
	table := [][]string{{"", "callers", "people a message", "messages/s", "µs a message", "beside bare", "aim"}}
	for _, callers := range []int{1, 16} {
		for _, n := range []int{1, 10, 100} {
			fmt.Fprintf(os.Stderr, "lookups: %d callers, %d people\n", callers, n)
			all := []*asker{{name: "bare pipeline", ask: pipeline}, {name: "Redis", ask: through(redisStore)},
				{name: "Redis, in the cache", ask: through(cached)}, {name: "file", ask: through(file)}}
			for range lookupRounds {
				for _, i := range rand.Perm(len(all)) { // or each would always be behind the same other one
					if err := all[i].block(ctx, callers, n); err != nil {
						return err
					}
				}
			}
			for _, a := range all {
				ratios := make([]float64, lookupRounds)
				for i := range ratios {
					ratios[i] = a.took[i] / all[0].took[i]
				}
				line := []string{a.name, fmt.Sprint(callers), fmt.Sprint(n), fmt.Sprintf("%.0f", median(a.rate)),
					fmt.Sprintf("%.1f", median(a.took)), fmt.Sprintf("%.2f", median(ratios)), ""}
				if a.name == "Redis" {
					line[6] = "1.20"
				} else if a == all[2] && n == 1 && callers == 1 {
					line[6] = "2 µs"
				}
				table = append(table, line)
			}
		}
	}
	if n := behind.n.Load() - had; n > 0 {
		return fmt.Errorf("%d lookups were not answered by the cache", n)
	}
	writeTable(b, table)
	fmt.Fprintf(b, "\nA person in the cache takes %d bytes of memory.\n", entry)
	return nil
}

// heap is how many bytes of this process's heap are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what a sync.Pool held outlives the first
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// block asks for a while, from so many goroutines.
func (a *asker) block(ctx context.Context, callers, n int) error {
	var count atomic.Int64
	var mu sync.Mutex
	var failed error
	start := time.Now()
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			first, asked := caller*lookupPeople/callers, int64(0)
			// The clock is read once in eight messages, so that what takes a fraction of a µs is not
			// measured with it.
			for asked == 0 || time.Since(start) < lookupBlock {
				for range 8 {
					if err := a.ask(ctx, first, n); err != nil {
						mu.Lock()
						failed = errors.Join(failed, fmt.Errorf("%s: %w", a.name, err))
						mu.Unlock()
						return
					}
					asked++
					if first += n; first+n > lookupPeople {
						first = 0
					}
				}
			}
			count.Add(asked)
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	took := time.Since(start).Seconds()
	a.rate = append(a.rate, float64(count.Load())/took)
	a.took = append(a.took, took*1e6*float64(callers)/float64(count.Load()))
	return nil
}

// apply makes changes, a thousand at a time.
func apply(ctx context.Context, store consent.Store, changes []consent.Change) error {
	for len(changes) > 0 {
		n := min(len(changes), 1000)
		results, err := store.Apply(ctx, changes[:n])
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}
