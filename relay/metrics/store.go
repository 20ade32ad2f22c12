package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// operations are the requests to the store that are timed.
var operations = []string{"lookup", "apply", "erase", "rename", "ping"}

const (
	lookup = iota
	apply
	erase
	rename
	ping
)

// Store returns s with what is asked of it timed and counted. It is to stand below any memory of answers.
func (m *Metrics) Store(s consent.Store) consent.Store { return &timed{s, m} }

type timed struct {
	consent.Store
	m *Metrics
}

// done takes down one request. Who gave up waiting says nothing of the store.
func (s *timed) done(ctx context.Context, operation int, began time.Time, err error) {
	if unanswered(err) && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	s.m.asked(operation, time.Since(began), err)
}

// asked takes down a request. What failed at once since the store was not asked says nothing of how long it takes.
func (m *Metrics) asked(operation int, took time.Duration, err error) {
	failed := unanswered(err)
	if !errors.Is(err, consent.ErrUnasked) {
		m.storeTime[operation][number(failed)].Observe(took.Seconds())
	}
	if failed {
		m.storeErrors[operation].Inc()
		m.storeUp.Set(0)
		return
	}
	m.storeUp.Set(1)
}

// LookupTook takes down a lookup that Store does not see.
func (m *Metrics) LookupTook(took time.Duration, err error) { m.asked(lookup, took, err) }

// unanswered reports whether the store gave no answer to go by.
func unanswered(err error) bool {
	return errors.Is(err, consent.ErrUnreachable) || errors.Is(err, consent.ErrForeign) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// whole is the error of all that was asked: whatever it says, such as that the layout is a newer one, the store gave no
// answer to go by.
func whole(err error) error {
	if err == nil || unanswered(err) {
		return err
	}
	return fmt.Errorf("%w: %w", consent.ErrUnreachable, err)
}

// worst is the error of a request to several people: that of the request, or of one that got no answer.
func worst(rs []consent.Result, err error) error {
	err = whole(err)
	for i := range rs {
		if err != nil {
			break
		}
		if rs[i].Err != nil && unanswered(rs[i].Err) {
			err = rs[i].Err
		}
	}
	return err
}

func (s *timed) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	began := time.Now()
	rs, err := s.Store.Lookup(ctx, scope, people)
	s.done(ctx, lookup, began, worst(rs, err))
	return rs, err
}

func (s *timed) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	began := time.Now()
	rs, err := s.Store.Apply(ctx, changes)
	s.done(ctx, apply, began, worst(rs, err))
	for i := range min(len(rs), len(changes)) {
		if rs[i].Err != nil {
			continue
		}
		c := &changes[i]
		for j, state := range [3]consent.State{c.Mail, c.Open, c.Click} {
			if state != "" {
				s.m.changes.WithLabelValues(string(c.Source), purposes[j], string(state)).Inc()
			}
		}
	}
	return rs, err
}

func (s *timed) Rename(ctx context.Context, old, new consent.Address, source consent.Source, at time.Time) error {
	began := time.Now()
	err := s.Store.Rename(ctx, old, new, source, at)
	s.done(ctx, rename, began, err)
	return err
}

func (s *timed) Erase(ctx context.Context, who consent.Address) error {
	began := time.Now()
	err := s.Store.Erase(ctx, who)
	s.done(ctx, erase, began, err)
	return err
}

func (s *timed) Ping(ctx context.Context) error {
	began := time.Now()
	err := s.Store.Ping(ctx)
	s.done(ctx, ping, began, whole(err))
	return err
}

// Writable does not say whether the store answers: Ping does.
func (s *timed) Writable(ctx context.Context) error {
	err := s.Store.Writable(ctx)
	switch {
	case err == nil:
		s.m.storeFull.Store(false)
	case errors.Is(err, consent.ErrUnwritable):
		s.m.storeFull.Store(true)
	}
	return err
}

// StoreWritable is consent.ErrUnwritable where the store answered and took no change when that was last tried; nil where it
// took one, or did not answer.
func (m *Metrics) StoreWritable() error {
	if m.storeFull.Load() {
		return consent.ErrUnwritable
	}
	return nil
}

const (
	probeEvery = 10 * time.Second
	probeTime  = 3 * time.Second
)

// Probe asks s, which Store returned or which stands before that, whether it answers and takes changes, every 10 s until ctx is
// done, and logs when that changes: a gateway without mail would not notice else, and none would notice before a person's
// opt-out fails that Redis is full.
func Probe(ctx context.Context, s consent.Store, log *slog.Logger) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	const down, full = "the consent store is down", "the consent store takes no changes: whoever unsubscribes is told that it did not work"
	was := ""
	for {
		asking, cancel := context.WithTimeout(ctx, probeTime)
		is, err := down, s.Ping(asking) // Store counts what comes of both
		if err == nil {
			is, err = full, s.Writable(asking)
		}
		cancel()
		if err == nil {
			is = ""
		}
		switch {
		case ctx.Err() != nil || is == was:
		case err != nil:
			log.Error(is, "err", err)
		default:
			log.Info("the consent store is up again, and takes changes")
		}
		was = is
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// resolveChanges makes the counters of changes.
func (m *Metrics) resolveChanges() {
	for _, source := range []consent.Source{consent.FromPage, consent.FromOneClick, consent.FromMailto, consent.FromAPI, consent.FromCLI, consent.FromImport} {
		for i, states := range [3][]consent.State{{consent.Unsubscribed, consent.Subscribed}, {consent.Granted, consent.Denied}, {consent.Granted, consent.Denied}} {
			for _, state := range append(states, consent.Unset) {
				m.changes.WithLabelValues(string(source), purposes[i], string(state))
			}
		}
	}
}
