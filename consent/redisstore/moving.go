package redisstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// What package migrate needs of a store beyond consent.Store.

const synced = marker + ":synced"

// Moving says how far the store is.
func (s *Store) Moving(ctx context.Context) (consent.MovingState, error) {
	if err := s.Ping(ctx); err != nil {
		return consent.MovingState{}, err
	}
	text, err := s.rdb.Get(ctx, marker).Result()
	if err != nil {
		return consent.MovingState{}, wrap(err)
	}
	words := append(strings.Fields(text), "", "", "", "")
	_, state, _ := strings.Cut(words[0], "-")
	return consent.MovingState{Moving: consent.Moving(state), Epoch: words[2], Was: words[3]}, nil
}

// SetMoving writes how far the store is; its epoch stays.
func (s *Store) SetMoving(ctx context.Context, state consent.Moving, was string) error {
	now, err := s.Moving(ctx)
	if err != nil {
		return err
	}
	first := layout
	if state != consent.Settled {
		first += "-" + string(state)
	}
	text := strings.TrimSpace(fmt.Sprintf("%s %s %s %s", first, s.print, now.Epoch, was))
	if err := s.rdb.Set(ctx, marker, text, 0).Err(); err != nil {
		return wrap(err)
	}
	if state == consent.Moved { // what cannot be understood ends every watch, and with it what gateways keep in memory
		if err := s.rdb.Publish(ctx, s.channel(), "moved").Err(); err != nil {
			return wrap(err)
		}
	}
	return s.Ping(ctx)
}

// Synced returns when both stores were the same last, the zero time where that is not known.
func (s *Store) Synced(ctx context.Context) (time.Time, error) {
	text, err := s.rdb.Get(ctx, synced).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, wrap(err)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0), err
}

// SetSynced writes it; the zero time removes it.
func (s *Store) SetSynced(ctx context.Context, at time.Time) error {
	if at.IsZero() {
		return wrap(s.rdb.Del(ctx, synced).Err())
	}
	return wrap(s.rdb.Set(ctx, synced, at.Unix(), 0).Err())
}

// Count returns about how many people there are: half of the keys, since each has a history beside the records.
func (s *Store) Count(ctx context.Context) (int64, error) {
	var keys atomic.Int64
	see := func(ctx context.Context, client redis.Cmdable) error {
		info, err := client.Info(ctx, "keyspace").Result()
		if err != nil {
			return wrap(err)
		}
		for line := range strings.SplitSeq(info, "\n") {
			_, rest, _ := strings.Cut(line, ":keys=")
			number, _, _ := strings.Cut(rest, ",")
			if n, err := strconv.ParseInt(number, 10, 64); err == nil {
				keys.Add(n)
			}
		}
		return nil
	}
	var err error
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error { return see(ctx, client) })
	} else {
		err = see(ctx, s.rdb)
	}
	return keys.Load() / 2, err
}

// Pages yields all people with all that is held of them, those too of whom only a history is left. Who is there all
// the while is yielded at least once.
func (s *Store) Pages(ctx context.Context) iter.Seq2[consent.Page, error] {
	return func(yield func(consent.Page, error) bool) {
		stop := errors.New("enough")
		err := s.scan(ctx, "", func(page []string, _, _ consent.Cursor) error {
			keys := make([]consent.Key, len(page))
			for i, name := range page {
				k, err := keyOf(name)
				if err != nil {
					return err
				}
				keys[i] = k
			}
			held, err := s.Read(ctx, keys)
			if err != nil {
				return err
			}
			if !yield(held, nil) {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			yield(nil, err)
		}
	}
}

// Read returns what is held of those people, each as of one moment.
func (s *Store) Read(ctx context.Context, keys []consent.Key) ([]*consent.Held, error) {
	held := make([]*consent.Held, 0, len(keys))
	for len(keys) > 0 {
		n := min(len(keys), maxPipeline)
		jobs := make([]*job, n)
		for i, k := range keys[:n] {
			jobs[i] = &job{key: k, whole: true}
		}
		if err := s.readAll(ctx, jobs); err != nil {
			return nil, err
		}
		for _, j := range jobs {
			h, err := j.held, j.err
			if err == nil && h.Torn() { // somebody wrote between the two readings
				h, err = s.readKey(ctx, j.key)
			}
			if err != nil {
				return nil, err
			}
			held = append(held, h)
		}
		keys = keys[n:]
	}
	return held, nil
}

// Edit makes of each person what work says, in one step each, and reports which of them it left as they
// were because work returned an error for them, or that could not be reached.
func (s *Store) Edit(ctx context.Context, keys []consent.Key, work func(int, *consent.Held) (consent.Update, error)) ([]error, error) {
	errs := make([]error, len(keys))
	for at := 0; at < len(keys); at += maxPipeline {
		var jobs []*job
		for i, k := range keys[at:min(at+maxPipeline, len(keys))] {
			jobs = append(jobs, &job{key: k, whole: true, work: func(h *consent.Held) (consent.Update, error) { return work(at+i, h) }})
		}
		if err := s.run(ctx, jobs); err != nil {
			return nil, err
		}
		for i, j := range jobs {
			if errors.Is(j.err, consent.ErrUnreachable) {
				return nil, j.err
			}
			errs[at+i] = j.err
		}
	}
	return errs, nil
}
