package boltstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// What package migrate needs of a store beyond consent.Store.

// OpenMoving is Open for what brings people to the file or takes them out: also where it is being filled, or
// was moved.
func OpenMoving(path string, ring *keyring.Ring) (*Store, error) {
	s := &Store{ledger: consent.NewLedger(ring), path: path, fingerprint: ring.Fingerprint(), moving: true}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// meta returns a value of the bucket meta, "" where there is none.
func (s *Store) meta(name string) (value string) {
	s.view(func(tx *bolt.Tx) error {
		value = string(tx.Bucket(metaBucket).Get([]byte(name)))
		return nil
	})
	return value
}

func (s *Store) setMeta(values map[string]string) error {
	return s.batch(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		for name, value := range values {
			var err error
			if value == "" {
				err = meta.Delete([]byte(name))
			} else {
				err = meta.Put([]byte(name), []byte(value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Moving says how far the store is.
func (s *Store) Moving(ctx context.Context) (consent.MovingState, error) {
	if err := s.Ping(ctx); err != nil {
		return consent.MovingState{}, err
	}
	epoch, err := s.epoch()
	if err != nil {
		return consent.MovingState{}, fail(nil, err)
	}
	_, state, _ := strings.Cut(s.meta("layout"), "-")
	return consent.MovingState{Moving: consent.Moving(state), Epoch: epoch, Was: s.meta("was")}, nil
}

// SetMoving writes how far the store is; its epoch stays.
func (s *Store) SetMoving(ctx context.Context, state consent.Moving, was string) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	text := layout
	if state != consent.Settled {
		text += "-" + string(state)
	}
	return fail(nil, s.setMeta(map[string]string{"layout": text, "was": was}))
}

// Synced returns when both stores were the same last, the zero time where that is not known.
func (s *Store) Synced(context.Context) (time.Time, error) {
	text := s.meta("synced")
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0), err
}

// SetSynced writes it; the zero time removes it.
func (s *Store) SetSynced(_ context.Context, at time.Time) error {
	text := ""
	if !at.IsZero() {
		text = strconv.FormatInt(at.Unix(), 10)
	}
	return fail(nil, s.setMeta(map[string]string{"synced": text}))
}

// Count returns how many people there are.
func (s *Store) Count(ctx context.Context) (n int64, err error) {
	err = s.view(func(tx *bolt.Tx) (err error) {
		n, err = count(ctx, tx)
		return err
	})
	return n, fail(nil, err)
}

// Held is Count of what AcceptStore would go on with: of the file that is open though it is not the known one, or of the
// one that is in its place now. Nothing is written.
func (s *Store) Held(ctx context.Context) (n int64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err = guard(func() error {
		db := s.db
		if s.here() != nil {
			if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if db, err = bolt.Open(s.path, 0o600, &bolt.Options{Timeout: lockWait, ReadOnly: true}); err != nil {
				return err
			}
			defer db.Close()
		}
		return db.View(func(tx *bolt.Tx) (err error) {
			n, err = count(ctx, tx)
			return err
		})
	})
	return n, fail(nil, err)
}

func count(ctx context.Context, tx *bolt.Tx) (n int64, err error) {
	records := tx.Bucket(recordsBucket)
	if records == nil {
		return 0, errDamaged
	}
	var last consent.Key
	c := records.Cursor()
	for key, _ := c.First(); key != nil && ctx.Err() == nil; key, _ = c.Next() {
		if k := consent.Key(key); n == 0 || k != last {
			last = k
			n++
		}
	}
	return n, ctx.Err()
}

// Pages yields all people with all that is held of them, those too of whom only a history is left.
func (s *Store) Pages(ctx context.Context) iter.Seq2[consent.Page, error] {
	return func(yield func(consent.Page, error) bool) {
		var after consent.Key
		for first := true; ; first = false {
			page, err := s.page(ctx, after, first)
			if err == nil {
				err = s.view(func(tx *bolt.Tx) error {
					for i, h := range page {
						page[i] = readAll(tx, h.Key)
					}
					return nil
				})
				err = fail(nil, err)
			}
			if !yield(page, err) || err != nil || len(page) < pageSize {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// Read returns what is held of those people.
func (s *Store) Read(ctx context.Context, keys []consent.Key) ([]*consent.Held, error) {
	held := make([]*consent.Held, len(keys))
	err := ctx.Err()
	if err == nil {
		err = s.view(func(tx *bolt.Tx) error {
			for i, k := range keys {
				held[i] = readAll(tx, k)
			}
			return nil
		})
	}
	return held, fail(nil, err)
}

// Edit makes of each person what work says, in one transaction, and reports which of them it left as they
// were because work returned an error for them.
func (s *Store) Edit(ctx context.Context, keys []consent.Key, work func(int, *consent.Held) (consent.Update, error)) ([]error, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fail(nil, err)
	}
	var errs []error
	var changed []consent.Key
	removed := false
	err := s.batch(func(tx *bolt.Tx) error { // may run more than once
		errs, changed, removed = make([]error, len(keys)), nil, false
		for i, k := range keys {
			u, err := work(i, readAll(tx, k))
			if errs[i] = err; err != nil || u.Empty() {
				continue
			}
			if err := write(tx, k, u); err != nil {
				return err
			}
			changed = append(changed, k)
			removed = removed || u.Replace
			for _, text := range u.Fields {
				removed = removed || text == ""
			}
		}
		return nil
	})
	if err != nil {
		return nil, fail(nil, err)
	}
	s.watchers.tell(changed)
	if removed {
		err = s.scrub()
	}
	return errs, fail(nil, err)
}
