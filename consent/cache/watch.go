package cache

import (
	"context"
	"errors"
	"time"
)

// Pauses between attempts to watch: they double from the first to the longest.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

var errClosed = errors.New("the subscription ended")

// watch keeps a subscription alive until ctx ends.
func (s *Store) watch(ctx context.Context) {
	defer close(s.done)
	pause, off := firstPause, false
	for {
		var began time.Time // the zero time where no subscription came about
		err := s.follow(ctx, func() {
			began = time.Now()
			if off {
				s.opts.Log.Info("consents are kept in memory again: the store tells of changes")
				off = false
			}
		})
		if ctx.Err() != nil {
			return
		}
		lived := !began.IsZero() && time.Since(began) >= longestPause
		if !off && !lived { // one that lived may be back in a moment, as on a machine that was too busy to hear it
			s.opts.Log.Warn("no consent is kept in memory until the store tells of changes; every message asks it", "err", err)
			off = true
		}
		if lived {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// follow is one subscription: it begins with an empty memory, drops who is told, and ends without
// a memory. It calls alive once what is looked up is kept.
func (s *Store) follow(ctx context.Context, alive func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tellings, err := s.Store.Watch(ctx)
	if err != nil {
		return err
	}
	m := newMemory(s.opts.TTL, s.opts.Max)
	s.memory.Store(m)
	defer s.memory.Store(nil)
	alive()
	sweep := time.NewTicker(s.opts.TTL)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case told, ok := <-tellings:
			switch {
			case !ok:
				return errClosed
			case !told.UpTo.IsZero():
				m.upTo.Store(int64(told.UpTo.Sub(s.begun)))
			default:
				m.drop(told.Key)
			}
		case <-sweep.C:
			m.sweep(s.now())
		}
	}
}
