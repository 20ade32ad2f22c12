// Package cache answers lookups from memory, so that a mailing to the same people in several
// messages asks the store once.
//
// Its contract is that memory is never behind what the store has told: a person's answer is
// dropped before a lookup that begins later can see it, whether the change was made through this
// Store (Apply, Rename, Erase) or told by the inner store's Watch. While Watch is not alive (not
// begun, closed, being begun again) nothing is kept and every lookup asks; each subscription
// begins with an empty memory. Nor is anything answered from memory while Watch has not said that all is
// told up to a moment within Lease: what is confirmed to anybody holds here no later than that, whatever
// part of the store hangs. And no answer is older than its time to live, counted from when it
// was asked for. Errors are never kept.
//
// What it relies on is that Watch tells every change made after it returned, and that a lookup
// which begins after a change was told, or after Apply returned, reads that change.
//
// It is not for anything but Lookup: all other calls go to the inner store.
package cache

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// Lease is how long after a change was confirmed, through whatever gateway, an answer from before may still
// be given.
const Lease = 100 * time.Millisecond

// DefaultMax is the Max of Options where it is 0.
const DefaultMax = 100_000

// Options say how long and how much is kept.
type Options struct {
	// TTL is how long an answer may be reused, from when it was asked for. 0 = the cache is off.
	TTL time.Duration
	// Max bounds the answers kept, one a person and scope, of 0.2 KB each; beyond it the oldest goes. 0 = DefaultMax.
	Max int
	// Now must go by a clock that does not jump, as time.Now does; nil = time.Now. An answer that
	// it says is from the future is not used.
	Now func() time.Time
	// Log is told when the cache is off since changes made elsewhere are not told, and when it is on again. nil = nobody.
	Log *slog.Logger
}

// Store is a consent.Store before another one.
type Store struct {
	consent.Store
	opts   Options
	begun  time.Time
	memory atomic.Pointer[memory] // nil while there is no subscription
	cancel context.CancelFunc
	done   chan struct{} // closed when the watch has ended

	hits, misses atomic.Uint64 // people
}

// Stats returns how many people were looked up whose answer was in memory, and how many the inner store was asked for.
func (s *Store) Stats() (hits, misses uint64) { return s.hits.Load(), s.misses.Load() }

// New returns a Store before inner, which it closes when it is closed. It asks inner nothing and
// begins to watch it meanwhile.
func New(inner consent.Store, opts Options) *Store {
	if opts.Max == 0 {
		opts.Max = DefaultMax
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{Store: inner, opts: opts, begun: opts.Now(), cancel: cancel, done: make(chan struct{})}
	if opts.TTL > 0 {
		go s.watch(ctx)
	} else {
		close(s.done)
	}
	return s
}

// Lookup answers what it can from memory and asks the inner store once for the rest. Where that
// fails for all of the rest and others were in memory, each of the rest has the error and the
// returned one is nil.
func (s *Store) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	m := s.memory.Load()
	now := s.now()
	if m == nil || ctx.Err() != nil || now-time.Duration(m.upTo.Load()) > Lease {
		s.misses.Add(uint64(len(people)))
		return s.Store.Lookup(ctx, scope, people)
	}
	results, missing := m.find(now, scope, people)
	s.hits.Add(uint64(len(people) - len(missing)))
	s.misses.Add(uint64(len(missing)))
	if len(missing) == 0 {
		return results, nil
	}
	rest := people
	if len(missing) < len(people) {
		rest = make([]consent.Address, len(missing))
		for i, at := range missing {
			rest[i] = people[at]
		}
	}
	marks := make([]mark, len(rest))
	for i, who := range rest {
		marks[i] = m.mark(s.Store.Key(who))
	}
	answers, err := s.Store.Lookup(ctx, scope, rest)
	if err == nil && len(answers) != len(rest) {
		err = fmt.Errorf("%w: %d results for %d people", consent.ErrUnreachable, len(answers), len(rest))
	}
	if err != nil {
		answers = failed(len(rest), err)
	} else {
		m.keep(now, scope, rest, answers, marks)
	}
	if len(rest) == len(people) {
		return answers, err
	}
	for i, at := range missing {
		results[at] = answers[i]
	}
	return results, nil
}

func failed(n int, err error) []consent.Result {
	results := make([]consent.Result, n)
	for i := range results {
		results[i].Err = err
	}
	return results
}

// Apply drops the people of all changes, also where it fails: a change that was not confirmed may
// have been made.
func (s *Store) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	defer func() {
		for _, c := range changes {
			s.drop(c.Who)
		}
	}()
	return s.Store.Apply(ctx, changes)
}

// Rename drops both addresses.
func (s *Store) Rename(ctx context.Context, old, new consent.Address, source consent.Source, at time.Time) error {
	defer s.drop(old, new)
	return s.Store.Rename(ctx, old, new, source, at)
}

// Erase drops the person.
func (s *Store) Erase(ctx context.Context, who consent.Address) error {
	defer s.drop(who)
	return s.Store.Erase(ctx, who)
}

// AcceptStore drops everybody, since what was kept may be of the records that were lost.
func (s *Store) AcceptStore(ctx context.Context) error {
	defer func() {
		if m := s.memory.Load(); m != nil {
			m.dropAll()
		}
	}()
	return s.Store.AcceptStore(ctx)
}

// Close ends the watch, waits for it, and closes the inner store.
func (s *Store) Close() error {
	s.cancel()
	<-s.done
	return s.Store.Close()
}

func (s *Store) drop(people ...consent.Address) {
	m := s.memory.Load()
	if m == nil {
		return
	}
	for _, who := range people {
		m.drop(s.Store.Key(who))
	}
}

// now is the time since the Store was begun.
func (s *Store) now() time.Duration { return s.opts.Now().Sub(s.begun) }
