package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
)

// pageSize is how many people are read in one transaction by what goes through all of them.
const pageSize = 200

// History reads the whole history in one transaction before it yields.
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

// Note writes no record, so nobody who watches is told.
func (s *Store) Note(ctx context.Context, who consent.Address, e consent.Event) error {
	if who.IsZero() {
		return consent.ErrAddress
	}
	if err := s.ready(ctx); err != nil {
		return fail(nil, err)
	}
	var refused error
	err := s.batch(func(tx *bolt.Tx) error { // may run more than once
		k := s.Key(who)
		var u consent.Update
		if u, refused = s.ledger.Note(readLast(tx, k), e); refused != nil {
			return nil
		}
		return write(tx, k, u)
	})
	if err != nil {
		return fail(nil, err)
	}
	return refused
}

// Person reads one person.
func (s *Store) Person(ctx context.Context, who consent.Address) (consent.Person, error) {
	h, err := s.read(ctx, who)
	if err != nil {
		return consent.Person{}, err
	}
	return s.ledger.Person(h)
}

func (s *Store) read(ctx context.Context, who consent.Address) (h *consent.Held, err error) {
	if who.IsZero() {
		return nil, consent.ErrAddress
	}
	if err = ctx.Err(); err == nil {
		err = s.view(func(tx *bolt.Tx) error {
			h = readAll(tx, s.Key(who))
			return nil
		})
	}
	return h, fail(nil, err)
}

// Scan goes through the people by their keys; the Cursor is the key of the last one.
func (s *Store) Scan(ctx context.Context, from consent.Cursor) iter.Seq2[consent.Person, error] {
	return func(yield func(consent.Person, error) bool) {
		var after consent.Key
		first := from == ""
		if !first {
			var err error
			if after, err = consent.ParseKey(string(from)); err != nil {
				yield(consent.Person{}, fmt.Errorf("the cursor: %w", err))
				return
			}
		}
		for {
			page, err := s.page(ctx, after, first)
			if err != nil {
				yield(consent.Person{}, err)
				return
			}
			for _, h := range page {
				p, err := s.ledger.Person(h)
				if err == nil && len(p.Records) == 0 { // moved to another address
					continue
				}
				p.Next = consent.Cursor(h.Key.String())
				if !yield(p, err) || err != nil {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			after, first = page[len(page)-1].Key, false
		}
	}
}

// page reads the people behind a key, or the first ones, with no events.
func (s *Store) page(ctx context.Context, after consent.Key, first bool) (page []*consent.Held, err error) {
	if err = ctx.Err(); err == nil {
		err = s.view(func(tx *bolt.Tx) error {
			c := tx.Bucket(recordsBucket).Cursor()
			for key, text := c.Seek(after[:]); key != nil; key, text = c.Next() {
				if len(key) <= len(after) || !first && bytes.HasPrefix(key, after[:]) {
					continue
				}
				k := consent.Key(key)
				if n := len(page); n == 0 || page[n-1].Key != k {
					if n == pageSize {
						return nil
					}
					page = append(page, &consent.Held{Key: k, Fields: map[string]string{}})
				}
				page[len(page)-1].Fields[string(key[len(k):])] = string(text)
			}
			return nil
		})
	}
	return page, fail(nil, err)
}

// Rename does it in one transaction.
func (s *Store) Rename(ctx context.Context, old, new consent.Address, source consent.Source, at time.Time) error {
	if old.IsZero() || new.IsZero() {
		return consent.ErrAddress
	}
	return s.change(ctx, func(tx *bolt.Tx) (map[consent.Key]consent.Update, error) {
		from, to := s.Key(old), s.Key(new)
		first, second, err := s.ledger.Rename(readAll(tx, from), readAll(tx, to), new, source, at)
		return map[consent.Key]consent.Update{to: first, from: second}, err
	})
}

// Erase leaves nothing behind in the file.
func (s *Store) Erase(ctx context.Context, who consent.Address) error {
	if who.IsZero() {
		return consent.ErrAddress
	}
	return s.change(ctx, func(tx *bolt.Tx) (map[consent.Key]consent.Update, error) {
		k := s.Key(who)
		u, err := s.ledger.Erase(readAll(tx, k))
		return map[consent.Key]consent.Update{k: u}, err
	})
}

// change writes the updates of f and removes what they deleted from the file. An error of f is
// about a person and not about the store.
func (s *Store) change(ctx context.Context, f func(*bolt.Tx) (map[consent.Key]consent.Update, error)) error {
	if err := s.ready(ctx); err != nil {
		return fail(nil, err)
	}
	var changed []consent.Key
	var refused error
	err := s.batch(func(tx *bolt.Tx) error { // may run more than once
		var updates map[consent.Key]consent.Update
		if updates, refused = f(tx); refused != nil {
			return nil
		}
		changed = nil
		for k, u := range updates {
			if u.Empty() {
				continue
			}
			if err := write(tx, k, u); err != nil {
				return err
			}
			changed = append(changed, k)
		}
		return nil
	})
	if err != nil {
		return fail(nil, err)
	}
	if refused != nil {
		return refused
	}
	s.watchers.tell(changed)
	return fail(nil, s.scrub()) // also where nothing changed, since the call before may have been stopped here
}

// Purge goes through the people a page at a time.
func (s *Store) Purge(ctx context.Context, before time.Time) (int, error) {
	deleted := 0
	var flawed []error
	var after consent.Key
	for first := true; ; first = false {
		page, err := s.page(ctx, after, first)
		if err != nil {
			return deleted, err
		}
		var due []consent.Key
		err = s.view(func(tx *bolt.Tx) error {
			for _, h := range page {
				if _, n, err := s.ledger.Purge(readAll(tx, h.Key), before); err != nil {
					flawed = append(flawed, fmt.Errorf("person %s: %w", h.Key, err))
				} else if n > 0 {
					due = append(due, h.Key)
				}
			}
			return nil
		})
		n := 0
		if err == nil && len(due) > 0 {
			err = s.batch(func(tx *bolt.Tx) error { // may run more than once
				n = 0
				for _, k := range due {
					u, m, err := s.ledger.Purge(readAll(tx, k), before)
					if err != nil || m == 0 {
						continue // somebody was faster; the next Purge says what is wrong
					}
					if err := write(tx, k, u); err != nil {
						return err
					}
					n += m
				}
				return nil
			})
		}
		if err != nil {
			return deleted, fail(nil, err)
		}
		deleted += n
		if len(page) < pageSize {
			break
		}
		after = page[len(page)-1].Key
	}
	if deleted > 0 {
		if err := s.scrub(); err != nil {
			return deleted, fail(nil, err)
		}
	}
	return deleted, errors.Join(flawed...)
}
