package migrate

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// markEvery is how often it is noted that both stores are the same.
const markEvery = time.Second

// retryAfter is how long a store that did not answer is left alone.
const retryAfter = time.Second

// Follow keeps both stores the same until end is closed, and then returns once all that was told by then is
// done. Where a store does not answer it waits, says so, and goes on with a look at everybody, unless that store lost
// people.
func (m *Mover) Follow(ctx context.Context, end <-chan struct{}) error {
	for {
		err := m.follow(ctx, end)
		if err == nil || ctx.Err() != nil || errors.Is(err, consent.ErrForeign) {
			return err
		}
		said := ""
		for err != nil {
			if text := err.Error(); text != said {
				m.Say(text + ": trying again")
				said = text
			}
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
				return ctx.Err()
			}
			if err = m.look(ctx); err == nil {
				err = m.pass(ctx, "compared", nil)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			} else if errors.Is(err, ErrMissing) {
				return err
			}
		}
	}
}

var errUntold = errors.New("a store did not tell of every change")

func (m *Mover) follow(ctx context.Context, end <-chan struct{}) error {
	ticker := time.NewTicker(markEvery)
	defer ticker.Stop()
	var until time.Time // when it was to end
	for {
		upTo, err := m.catchUp(ctx)
		if err != nil {
			return err
		}
		if !until.IsZero() && !upTo.Before(until) {
			return m.mark(ctx, until)
		}
		select {
		case <-m.watch[0].wake:
		case <-m.watch[1].wake:
		case <-end:
			until, end = m.Now(), nil
		case <-ticker.C:
			if now := m.Now(); upTo.After(now) {
				upTo = now
			}
			if err := m.mark(ctx, upTo); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp joins those who changed, and returns up to when both stores are the same by that.
func (m *Mover) catchUp(ctx context.Context) (time.Time, error) {
	told := map[consent.Key]side{}
	var upTo [2]time.Time
	for i, w := range m.watch {
		keys, to, lost := w.take()
		if lost {
			return time.Time{}, cmp.Or(ctx.Err(), errUntold) // the end of ctx is that of the telling, too
		}
		upTo[i] = to
		for k := range keys {
			s := told[k]
			if i == 0 {
				s.old = true
			} else {
				s.new = true
			}
			told[k] = s
		}
	}
	keys := slices.Collect(maps.Keys(told))
	if err := m.same(ctx, keys, told, nil); err != nil {
		return time.Time{}, err
	}
	if upTo[1].Before(upTo[0]) {
		return upTo[1], nil
	}
	return upTo[0], nil
}

// settle is how long a gateway may still write that looked at the old store before it was marked as moved: the
// time limits of one change in Redis.
const settle = 3 * time.Second

// Finish compares all people of both stores, marks the old one as moved, and compares once more, since a gateway
// may have been writing meanwhile. Without an error all is in the new store, and every history was checked.
func (m *Mover) Finish(ctx context.Context) (Result, error) {
	if _, err := m.compare(ctx); err != nil {
		return Result{}, err
	}
	from, err := m.old.Moving(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := m.old.SetMoving(ctx, consent.Moved, from.Was); err != nil {
		return Result{}, fmt.Errorf("the old store: %w", err)
	}
	if from.Moving != consent.Moved {
		m.Say(Closed)
	}
	if err := m.wait(ctx, settle); err != nil {
		return Result{}, err
	}
	r, err := m.compare(ctx)
	if err != nil {
		return r, fmt.Errorf("the old store is marked as moved; run this again: %w", err)
	}
	end := make(chan struct{})
	close(end)
	if err := m.Follow(ctx, end); err != nil { // what was told until now
		return r, fmt.Errorf("the old store is marked as moved; run this again: %w", err)
	}
	return r, m.new.SetSynced(ctx, time.Time{})
}

func (m *Mover) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxPasses bounds how often everybody is looked at anew because a store did not answer meanwhile.
const maxPasses = 20

// again calls f, which looks at everybody, until it succeeds.
func (m *Mover) again(ctx context.Context, f func() error) (err error) {
	for i := range maxPasses {
		if i > 0 {
			err = m.look(ctx)
		}
		if err == nil {
			err = f()
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, consent.ErrForeign) || errors.Is(err, ErrMissing) {
			return err
		}
		m.Say(fmt.Sprintf("%v: trying again", err))
		if err := m.wait(ctx, retryAfter); err != nil {
			return err
		}
	}
	return err
}

// compare looks at everybody and checks the histories of all.
func (m *Mover) compare(ctx context.Context) (r Result, err error) {
	err = m.again(ctx, func() (err error) {
		r, err = m.compareOnce(ctx)
		return err
	})
	if err == nil && len(m.refused) > 0 {
		err = fmt.Errorf("%d people differ between the stores and could not be joined", len(m.refused))
	}
	return r, err
}

func (m *Mover) compareOnce(ctx context.Context) (r Result, err error) {
	looked := map[uint64]bool{} // everybody is seen in both stores, and counts once
	err = m.pass(ctx, "compared", func(h *consent.Held) {
		short := binary.BigEndian.Uint64(h.Key[:])
		if h.Empty() || looked[short] {
			return
		}
		looked[short] = true
		r.People++
		r.Events += len(h.Events)
		for _, e := range m.Ledger.History(h) {
			if e.Broken != "" {
				r.Broken++
				m.Say(fmt.Sprintf("person %s: the history does not hold, in both stores alike: number %d: %s", h.Key, e.Number, e.Broken))
				return
			}
		}
	})
	return r, err
}
