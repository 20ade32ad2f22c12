package redisstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// History reads the whole history in one step before it yields.
func (s *Store) History(ctx context.Context, who consent.Address) iter.Seq2[consent.Event, error] {
	return func(yield func(consent.Event, error) bool) {
		h, err := s.read(ctx, who)
		if err != nil {
			yield(consent.Event{}, err)
			return
		}
		for _, e := range s.ledger.History(h) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Person reads one person.
func (s *Store) Person(ctx context.Context, who consent.Address) (consent.Person, error) {
	h, err := s.read(ctx, who)
	if err != nil {
		return consent.Person{}, err
	}
	return s.ledger.Person(h)
}

// read reads a person as of one moment.
func (s *Store) read(ctx context.Context, who consent.Address) (*consent.Held, error) {
	if who.IsZero() {
		return nil, consent.ErrAddress
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return s.readKey(ctx, s.Key(who))
}

// readKey is read without a look at the marker.
func (s *Store) readKey(ctx context.Context, k consent.Key) (*consent.Held, error) {
	pipe := s.rdb.TxPipeline()
	fields, events := pipe.HGetAll(ctx, hashKey(k)), pipe.LRange(ctx, listKey(k), 0, -1)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, wrap(err)
	}
	return &consent.Held{Key: k, Fields: fields.Val(), Events: events.Val()}, nil
}

// Note writes the entry as Apply does.
func (s *Store) Note(ctx context.Context, who consent.Address, e consent.Event) error {
	if who.IsZero() {
		return consent.ErrAddress
	}
	return s.one(ctx, &job{key: s.Key(who), work: func(h *consent.Held) (consent.Update, error) { return s.ledger.Note(h, e) }})
}

// Erase removes what is held in one step.
func (s *Store) Erase(ctx context.Context, who consent.Address) error {
	if who.IsZero() {
		return consent.ErrAddress
	}
	return s.one(ctx, &job{key: s.Key(who), sure: true, work: s.ledger.Erase})
}

// one runs one job.
func (s *Store) one(ctx context.Context, j *job) error {
	s.run(ctx, []*job{j})
	return j.err
}

// errAgain says that the person to rename from changed meanwhile.
var errAgain = errors.New("it changed meanwhile")

// Rename writes the new person and then the old, since a cluster may hold them on two nodes. Stopped
// between the two, it is finished by another Rename of the same.
func (s *Store) Rename(ctx context.Context, old, new consent.Address, source consent.Source, at time.Time) error {
	if old.IsZero() || new.IsZero() {
		return consent.ErrAddress
	}
	for range maxAttempts {
		from, err := s.read(ctx, old)
		if err != nil {
			return err
		}
		there := &job{key: s.Key(new), whole: true, sure: true}
		there.work = func(h *consent.Held) (consent.Update, error) {
			first, _, err := s.ledger.Rename(from, h, new, source, at)
			return first, err
		}
		if err := s.one(ctx, there); err != nil {
			return err
		}
		here := &job{key: s.Key(old), whole: true, sure: true}
		here.work = func(h *consent.Held) (consent.Update, error) {
			first, second, err := s.ledger.Rename(h, there.held, new, source, at)
			if err == nil && !first.Empty() {
				err = errAgain
			}
			return second, err
		}
		if err := s.one(ctx, here); !errors.Is(err, errAgain) {
			return err
		}
	}
	return fmt.Errorf("%w: the old address changes all the time", consent.ErrUnreachable)
}

// Purge goes through the people as Scan does.
func (s *Store) Purge(ctx context.Context, before time.Time) (int, error) {
	deleted := 0
	var flawed []error
	err := s.scan(ctx, "", func(page []string, _, _ consent.Cursor) error {
		for _, key := range page {
			k, err := keyOf(key)
			if err != nil {
				flawed = append(flawed, err)
				continue
			}
			n := 0
			j := &job{key: k, whole: true}
			j.work = func(h *consent.Held) (u consent.Update, err error) {
				u, n, err = s.ledger.Purge(h, before)
				return u, err
			}
			switch err := s.one(ctx, j); {
			case errors.Is(err, consent.ErrUnreachable), errors.Is(err, consent.ErrForeign), errors.Is(err, context.Canceled):
				return err
			case err != nil:
				flawed = append(flawed, fmt.Errorf("person %s: %w", k, err))
			default:
				deleted += n
			}
		}
		return nil
	})
	if err != nil {
		return deleted, err
	}
	return deleted, errors.Join(flawed...)
}

func keyOf(hash string) (consent.Key, error) {
	k, err := consent.ParseKey(hash[len("consent:{") : len(hash)-1])
	if err != nil {
		return k, fmt.Errorf("the key %q is none of consentgate's: %w", hash, err)
	}
	return k, nil
}

// Scan goes through each node's keys by Redis' SCAN. A person's Next is the beginning of the page
// where another comes behind in it, so going on yields up to a page again.
func (s *Store) Scan(ctx context.Context, from consent.Cursor) iter.Seq2[consent.Person, error] {
	return func(yield func(consent.Person, error) bool) {
		stop := errors.New("enough")
		err := s.scan(ctx, from, func(page []string, here, next consent.Cursor) error {
			held, err := s.readPage(ctx, page)
			if err != nil {
				return err
			}
			for i, h := range held {
				p, err := s.ledger.Person(h)
				if err != nil {
					return fmt.Errorf("person %s: %w", h.Key, err)
				}
				if len(p.Records) == 0 { // erased meanwhile, or moved to another address
					continue
				}
				if p.Next = here; i == len(held)-1 {
					p.Next = next
				}
				if !yield(p, nil) {
					return stop
				}
			}
			return nil
		})
		if err != nil && err != stop {
			yield(consent.Person{}, err)
		}
	}
}

// readPage reads people without their events.
func (s *Store) readPage(ctx context.Context, page []string) ([]*consent.Held, error) {
	if len(page) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	mark := pipe.Get(ctx, marker)
	replies := make([]*redis.MapStringStringCmd, len(page))
	for i, key := range page {
		replies[i] = pipe.HGetAll(ctx, key)
	}
	pipe.Exec(ctx) // each reply has its own error
	if err := s.judge(ctx, mark); err != nil {
		return nil, err
	}
	held := make([]*consent.Held, len(page))
	for i, r := range replies {
		k, err := keyOf(page[i])
		if err == nil {
			err = wrap(r.Err())
		}
		if err != nil {
			return nil, err
		}
		held[i] = &consent.Held{Key: k, Fields: r.Val()}
	}
	return held, nil
}
