// Package boltstore keeps consent in one file on this machine (bbolt), for a gateway without
// Redis and for the demo. It is not for several gateways: one process holds the file at a time,
// and the command line speaks to a running gateway over its control socket instead.
//
// Layout of the file, version 1:
//
//	bucket "meta"     "layout" → "1", "lookup" → fingerprint of the lookup key
//	bucket "records"  HMAC-SHA-256 of the normalised address (32 bytes) | scope → record
//
// where a record is the text that consent.RecordText describes. No address stands in the file.
//
// An Apply is on disk when it returns; Applies that wait at the same time share one commit.
package boltstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const (
	layout = "1"

	lockWait   = time.Second          // how long Open waits for another process to let go
	batchDelay = 2 * time.Millisecond // how long an Apply waits for company before it commits
)

var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
)

// Store is a consent.Store in a file. Use Open.
type Store struct {
	db     *bolt.DB
	lookup []byte // HMAC key for people
}

var _ consent.Store = (*Store)(nil)

// Open opens the file at path, or makes it (mode 0600) and its folder (mode 0700). It waits at
// most a second for the file's lock. A file begun with another key file gives consent.ErrForeign.
func Open(path string, ring *keyring.Ring) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("consent store: %w", err)
	}
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("consent store %s is held by another process: a gateway is running; speak to it, or stop it first", path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return nil, fmt.Errorf("consent store %s is no store of consentgate, or is damaged: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("consent store: %w: give the file to the user of the gateway", err)
	case err != nil:
		return nil, fmt.Errorf("consent store %s: %w", path, err)
	}
	db.MaxBatchDelay = batchDelay
	s := &Store{db: db, lookup: ring.Lookup()}
	if err := s.begin(ring.Fingerprint()); err != nil {
		db.Close()
		return nil, fmt.Errorf("consent store %s: %w", path, err)
	}
	return s, nil
}

// begin checks whose store this is, and marks it as ours where it is new.
func (s *Store) begin(fingerprint string) error {
	isNew := false
	err := s.view(func(tx *bolt.Tx) error {
		if info, err := os.Stat(s.db.Path()); err != nil {
			return err
		} else if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d bytes of %d", errDamaged, info.Size(), tx.Size())
		}
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			name, _ := tx.Cursor().First()
			if isNew = name == nil; !isNew {
				return errors.New("it is a bbolt file of another program")
			}
			return nil
		}
		if l := string(meta.Get([]byte("layout"))); l != layout {
			return fmt.Errorf("it has layout %q, this program knows %q: use the version that wrote it, or a newer one", l, layout)
		}
		if string(meta.Get([]byte("lookup"))) != fingerprint {
			return consent.ErrForeign
		}
		if tx.Bucket(recordsBucket) == nil {
			return fmt.Errorf("%w: its records are gone", errDamaged)
		}
		return nil
	})
	if err != nil || !isNew {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(recordsBucket); err != nil {
			return err
		}
		if err := meta.Put([]byte("layout"), []byte(layout)); err != nil {
			return err
		}
		return meta.Put([]byte("lookup"), []byte(fingerprint))
	})
}

// Lookup reads everybody in one read transaction.
func (s *Store) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	results := make([]consent.Result, len(people))
	err := ctx.Err()
	if err == nil {
		err = s.view(func(tx *bolt.Tx) error {
			r := s.reader(tx)
			for i, who := range people {
				results[i] = r.result(who, scope)
			}
			return nil
		})
	}
	return results, fail(results, err)
}

// Apply makes the changes in one transaction. Changes that are invalid, or whose person's record
// cannot be read, get their error in Result.Err and the others are made all the same.
func (s *Store) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	results := make([]consent.Result, len(changes))
	err := ctx.Err()
	if err != nil {
		return results, fail(results, err)
	}
	// What holds already costs no commit: a link that is clicked again and again writes nothing.
	news := false
	err = s.view(func(tx *bolt.Tx) (err error) {
		news, err = s.apply(tx, changes, results)
		return err
	})
	if err == nil && news {
		err = guard(func() error {
			return s.db.Batch(func(tx *bolt.Tx) error { // may run more than once
				_, err := s.apply(tx, changes, results)
				return err
			})
		})
	}
	return results, fail(results, err)
}

// apply fills results with the records after the changes and says whether any record becomes
// another. In a transaction that cannot write it stops at the first that does.
func (s *Store) apply(tx *bolt.Tx, changes []consent.Change, results []consent.Result) (bool, error) {
	r := s.reader(tx)
	news := false
	for i, c := range changes {
		results[i] = consent.Result{}
		if err := c.Check(); err != nil {
			results[i].Err = err
			continue
		}
		res := r.result(c.Who, c.Scope)
		if res.Err != nil {
			results[i] = res
			continue
		}
		merged, changed := res.Scope.Merge(c)
		if changed {
			news = true
			if !tx.Writable() {
				return true, nil
			}
			if err := r.records.Put(r.key(c.Who, c.Scope), []byte(consent.RecordText(merged))); err != nil {
				return news, err
			}
		}
		if res.Scope = merged; c.Scope == consent.AnyScope {
			res.Any = merged
		}
		results[i] = res
	}
	return news, nil
}

// Ping says whether the file is open.
func (s *Store) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fail(nil, s.view(func(*bolt.Tx) error { return nil }))
}

// Close waits for what is under way and lets go of the file. Later calls fail.
func (s *Store) Close() error { return s.db.Close() }

// reader reads records within one transaction.
type reader struct {
	records *bolt.Bucket
	mac     hash.Hash
}

func (s *Store) reader(tx *bolt.Tx) *reader {
	return &reader{records: tx.Bucket(recordsBucket), mac: hmac.New(sha256.New, s.lookup)}
}

// key returns where the record of who in scope is kept. bbolt holds on to the key of a Put until
// the commit, so each is a slice of its own.
func (r *reader) key(who consent.Address, scope consent.Scope) []byte {
	r.mac.Reset()
	r.mac.Write([]byte(who.String()))
	return append(r.mac.Sum(make([]byte, 0, sha256.Size+len(scope))), scope...)
}

func (r *reader) result(who consent.Address, scope consent.Scope) consent.Result {
	if who.IsZero() {
		return consent.Result{Err: consent.ErrAddress}
	}
	key := r.key(who, scope)
	rec, err := consent.ParseRecord(scope, string(r.records.Get(key)))
	if err != nil {
		return consent.Result{Err: err}
	}
	if scope == consent.AnyScope {
		return consent.Result{Scope: rec, Any: rec}
	}
	key = append(key[:sha256.Size], consent.AnyScope...)
	any, err := consent.ParseRecord(consent.AnyScope, string(r.records.Get(key)))
	if err != nil {
		return consent.Result{Err: err}
	}
	return consent.Result{Scope: rec, Any: any}
}

var errDamaged = errors.New("the file is damaged: bring back a copy")

// guard runs f and makes an error of what bbolt does with a damaged file, which is to panic, or
// to read behind the end of a file that was cut. Damage must not take the mail down with it.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w (%v)", errDamaged, r)
		}
	}()
	return f()
}

func (s *Store) view(f func(*bolt.Tx) error) error {
	return guard(func() error { return s.db.View(f) })
}

// fail puts err, in the words of package consent, into every result and returns it.
func fail(results []consent.Result, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", consent.ErrUnreachable, err)
	}
	for i := range results {
		results[i] = consent.Result{Err: err}
	}
	return err
}
