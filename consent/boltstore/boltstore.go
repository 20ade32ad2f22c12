// Package boltstore keeps consent in one file on this machine (bbolt), for a gateway without
// Redis and for the demo. It is not for several gateways: one process holds the file at a time,
// and the command line speaks to a running gateway over its control socket instead.
//
// Layout of the file, version 2:
//
//	bucket "meta"     "layout" → "2", "lookup" → fingerprint of the lookup key, "epoch" → a random name for this data;
//	                  while people move from store to store "layout" → "2-filling" or "2-moved", "was" → the epoch of
//	                  the data that it stands in for, "synced" → when both were the same last, in seconds (moving.go)
//	bucket "records"  KEY | scope → record
//	                  KEY | "@"   → the sealed address, 16 bytes longer than in clear
//	                  KEY | "#"   → number and proof of the last event
//	bucket "history"  KEY | 8 bytes, counting up, most significant first → event
//
// where KEY is the HMAC-SHA-256 of the normalised address (32 bytes), a record is the text that
// consent.RecordText describes, and an event that of consent's eventtext.go. No address stands in
// the file but sealed by AES-256-GCM. To look, with no gateway running (go.etcd.io/bbolt/cmd/bbolt):
//
//	$ bbolt keys consent.db records
//
// An Apply is on disk when it returns; Applies that wait at the same time share one commit.
//
// What is erased, renamed or deleted by retention is gone from the file when the call returns:
// bbolt only marks its pages as free, so they are overwritten with zeros (scrub.go). Copies of the
// file made before still hold it, and so may the disk under it.
package boltstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const (
	layout = "2"

	lockWait   = time.Second          // how long Open waits for another process to let go
	batchDelay = 2 * time.Millisecond // how long an Apply waits for company before it commits
)

var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	historyBucket = []byte("history")
)

// Store is a consent.Store in a file. Use Open.
type Store struct {
	ledger      *consent.Ledger
	path        string
	fingerprint string
	known       consent.Known
	watchers    watchers
	moving      bool // opened by OpenMoving

	mu   sync.RWMutex // held to read while db is used, to write while it is scrubbed or exchanged
	db   *bolt.DB
	file os.FileInfo // of db, when it was opened
	lost error       // why db is not the data that is known, nil where it is

	tryingMu sync.Mutex
	trying   *attempt // under way, nil where none is
}

var _ consent.Store = (*Store)(nil)

// Open opens the file at path, or makes it (mode 0600) and its folder (mode 0700). It waits at
// most a second for the file's lock. A file begun with another key file gives consent.ErrForeign.
func Open(path string, ring *keyring.Ring) (*Store, error) { return OpenKnown(path, ring, "", nil) }

// OpenKnown is Open for a gateway, which remembers in the file known which data it worked with: where that
// is gone and the file at path is a new one, or another, every call fails with consent.ErrLost until
// AcceptStore. Where known cannot be written, log is told so.
func OpenKnown(path string, ring *keyring.Ring, known string, log *slog.Logger) (*Store, error) {
	s := &Store{ledger: consent.NewLedger(ring), path: path, fingerprint: ring.Fingerprint()}
	s.known = consent.Known{Path: known, Print: s.fingerprint}
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.recognise(log); err != nil {
		s.db.Close()
		return nil, err
	}
	return s, nil
}

// recognise compares the data with what is known, and remembers it where nothing is.
func (s *Store) recognise(log *slog.Logger) error {
	if s.known.Path == "" {
		return nil
	}
	epoch, err := s.epoch()
	if err != nil {
		return fmt.Errorf("consent store %s: %w", s.path, err)
	}
	switch known, _, err := s.known.Load(); {
	case err != nil:
		return err
	case known == "":
		if err := s.known.Save(epoch, false); err != nil {
			log.Error("the consent store's loss would not be noticed after a restart", "err", err)
		}
	case known != epoch && s.meta("was") == known:
		return s.known.Save(epoch, false)
	case known != epoch:
		s.lost = fmt.Errorf("%w: %s was begun anew, or is another, since this gateway saw it last; bring the data back and start again, or run: consentgate consent accept-store", consent.ErrLost, s.path)
	}
	return nil
}

// epoch returns the name of the data, which it is given now where it has none.
func (s *Store) epoch() (epoch string, err error) {
	name := []byte("epoch")
	err = guard(func() error {
		err := s.db.View(func(tx *bolt.Tx) error {
			epoch = string(tx.Bucket(metaBucket).Get(name))
			return nil
		})
		if err != nil || epoch != "" {
			return err
		}
		epoch = rand.Text()
		return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(name, []byte(epoch)) })
	})
	return epoch, err
}

func (s *Store) open() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("consent store: %w", err)
	}
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(s.path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("consent store %s is held by another process: a gateway is running; speak to it, or stop it first", s.path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("consent store %s is no store of consentgate, or is damaged: %w", s.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("consent store: %w: give the file to the user of the gateway", err)
	case err != nil:
		return fmt.Errorf("consent store %s: %w", s.path, err)
	}
	db.MaxBatchDelay = batchDelay
	if err := begin(db, s.fingerprint, s.moving); err != nil {
		db.Close()
		return fmt.Errorf("consent store %s: %w", s.path, err)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		db.Close()
		return fmt.Errorf("consent store: %w", err)
	}
	s.db, s.file = db, info
	return nil
}

// begin checks whose store this is, and marks it as ours where it is new.
func begin(db *bolt.DB, fingerprint string, moving bool) error {
	isNew := false
	err := guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			if info, err := os.Stat(db.Path()); err != nil {
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
			l, state, _ := strings.Cut(string(meta.Get([]byte("layout"))), "-")
			switch {
			case state != "" && moving:
			case state == string(consent.Filling):
				return consent.ErrFilling
			case state == string(consent.Moved):
				return consent.ErrMoved
			}
			if l != layout {
				return fmt.Errorf("it has layout %q, this program knows %q: use the version that wrote it, or a newer one", l, layout)
			}
			if string(meta.Get([]byte("lookup"))) != fingerprint {
				return consent.ErrForeign
			}
			if tx.Bucket(recordsBucket) == nil || tx.Bucket(historyBucket) == nil {
				return fmt.Errorf("%w: its records are gone", errDamaged)
			}
			return nil
		})
	})
	if err != nil || !isNew {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		for _, name := range [][]byte{recordsBucket, historyBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := meta.Put([]byte("layout"), []byte(layout)); err != nil {
			return err
		}
		return meta.Put([]byte("lookup"), []byte(fingerprint))
	})
}

// Key returns the person's key.
func (s *Store) Key(who consent.Address) consent.Key { return s.ledger.Key(who) }

// Lookup reads everybody in one read transaction.
func (s *Store) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	results := make([]consent.Result, len(people))
	err := ctx.Err()
	if err == nil {
		err = s.view(func(tx *bolt.Tx) error {
			records := tx.Bucket(recordsBucket)
			for i, who := range people {
				results[i] = s.result(records, who, scope)
			}
			return nil
		})
	}
	return results, fail(results, err)
}

func (s *Store) result(records *bolt.Bucket, who consent.Address, scope consent.Scope) (r consent.Result) {
	if who.IsZero() {
		return consent.Result{Err: consent.ErrAddress}
	}
	k := s.Key(who)
	own := records.Get(append(k[:], scope...))
	all := own
	if scope != consent.AnyScope {
		all = records.Get(append(k[:], consent.AnyScope...))
	}
	r.Parse(scope, string(own), string(all))
	return r
}

// Apply makes the changes in one transaction. Changes that are invalid, or whose person's record
// cannot be read, get their error in Result.Err and the others are made all the same.
func (s *Store) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	results := make([]consent.Result, len(changes))
	err := s.ready(ctx)
	if err != nil {
		return results, fail(results, err)
	}
	// What holds already costs no commit: a link that is clicked again and again writes nothing.
	var changed []consent.Key
	err = s.view(func(tx *bolt.Tx) (err error) {
		changed, err = s.apply(tx, changes, results)
		return err
	})
	if err == nil && len(changed) > 0 {
		err = s.batch(func(tx *bolt.Tx) (err error) { // may run more than once
			changed, err = s.apply(tx, changes, results)
			return err
		})
		if err == nil {
			s.watchers.tell(changed)
		}
	}
	return results, fail(results, err)
}

// apply fills results with the records after the changes and returns whose become others. In a
// transaction that cannot write it stops at the first.
func (s *Store) apply(tx *bolt.Tx, changes []consent.Change, results []consent.Result) (changed []consent.Key, err error) {
	for i, c := range changes {
		if err := c.Check(); err != nil {
			results[i] = consent.Result{Err: err}
			continue
		}
		h := readLast(tx, s.Key(c.Who))
		made, u := s.ledger.Apply(h, changes[i:i+1])
		results[i] = made[0]
		if u.Empty() {
			continue
		}
		changed = append(changed, h.Key)
		if !tx.Writable() {
			return changed, nil
		}
		if err := write(tx, h.Key, u); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// Ping says whether the file is open and still the one at its path.
func (s *Store) Ping(ctx context.Context) error { return fail(nil, s.ready(ctx)) }

// attempt is a small write, made to see whether one is possible.
type attempt struct {
	done chan struct{}
	err  error // once done is closed
}

// Writable writes and syncs one small value. A disk that hangs is not waited for beyond ctx; who asks meanwhile waits for the
// same write.
func (s *Store) Writable(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	s.tryingMu.Lock()
	try := s.trying
	if try == nil {
		try = &attempt{done: make(chan struct{})}
		s.trying = try
		go func() {
			try.err = s.batch(func(tx *bolt.Tx) error {
				return tx.Bucket(metaBucket).Put([]byte("written"), []byte(time.Now().UTC().Format(time.RFC3339)))
			})
			s.tryingMu.Lock()
			s.trying = nil
			s.tryingMu.Unlock()
			close(try.done)
		}()
	}
	s.tryingMu.Unlock()
	select {
	case <-try.done:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return fmt.Errorf("%w: the disk does not answer", consent.ErrUnwritable)
	}
	if try.err != nil && s.Ping(ctx) == nil {
		return fmt.Errorf("%w: %w", consent.ErrUnwritable, try.err)
	}
	return fail(nil, try.err)
}

// ready says whether what is written now will be found again. Who moved or deleted the file
// meanwhile would else learn of it by a restart with an empty store.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.view(func(*bolt.Tx) error { return s.here() })
}

// AcceptStore goes on with the file that is at the path now, or with a new one, where it is not
// the one that was opened.
func (s *Store) AcceptStore(ctx context.Context) error {
	err := s.ready(ctx)
	if !errors.Is(err, consent.ErrLost) {
		return fail(nil, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.here() != nil {
		if err := s.db.Close(); err != nil {
			return fail(nil, err)
		}
		if err := s.open(); err != nil {
			return fail(nil, err)
		}
	}
	epoch, err := s.epoch()
	if err == nil {
		err = s.known.Save(epoch, false)
	}
	if err == nil {
		s.lost = nil
	}
	return fail(nil, err)
}

// Watch tells of changes made through this Store; nobody else can make any.
func (s *Store) Watch(ctx context.Context) (<-chan consent.Told, error) {
	if err := s.Ping(ctx); err != nil {
		return nil, err
	}
	return s.watchers.add(ctx)
}

// Close waits for what is under way and lets go of the file. Later calls fail.
func (s *Store) Close() error {
	s.watchers.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db.Close()
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
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.lost != nil {
		return s.lost
	}
	return guard(func() error { return s.db.View(f) })
}

// batch runs f, maybe more than once, in a transaction that others may share.
func (s *Store) batch(f func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.lost != nil {
		return s.lost
	}
	return guard(func() error { return s.db.Batch(f) })
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
