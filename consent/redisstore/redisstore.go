// Package redisstore keeps consent in one Redis server (7.0 or newer), for any number of
// gateways. Sentinel and Cluster are not supported yet.
//
// Layout of the keys, version 1:
//
//	consentgate           string: "1 FINGERPRINT", the layout's version and the fingerprint of the lookup key
//	consent:{TAG}         hash: one field a scope ("newsletter", "*"), its value the record of
//	                      that person in that scope, as the text that consent.RecordText describes
//
// TAG is the HMAC-SHA-256 of the normalised address under the lookup key, in base64url; it stands
// in braces so that all keys of a person lie in one slot of a cluster. No address stands in Redis.
// To look:
//
//	$ redis-cli GET consentgate
//	"1 ADwyt6sAeSHZQm6DuZn0sA"
//	$ redis-cli --scan --pattern 'consent:*' | head -1
//	consent:{mE9x…}
//	$ redis-cli HGETALL 'consent:{mE9x…}'
//	1) "newsletter"
//	2) "3\tu1763900000o\tg1763800000p2026-03\t"
//
// which is the third state of a record: unsubscribed by one click, opens granted on the page under
// notice 2026-03, nothing recorded for clicks.
//
// Lookup is one round trip: the marker and one HMGET a person in one pipeline. Apply checks the
// marker and then runs one script a change in one pipeline, so that gateways that write at the
// same time lose nothing. Every way in checks the marker: a store of another key file is refused
// with consent.ErrForeign, and one whose marker went away while this process used it has lost
// its data and counts as unreachable, since otherwise everybody would count as subscribed.
//
// How durable an Apply is when it returns is for the server's configuration to say (appendfsync).
package redisstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const (
	marker = "consentgate"
	layout = "1"

	// maxPipeline bounds how many changes go in one round trip, so that a large import neither
	// keeps other gateways waiting nor runs into the read timeout.
	maxPipeline = 100
)

// Store is a consent.Store in Redis. Use Open.
type Store struct {
	rdb    *redis.Client
	lookup []byte // HMAC key for people
	mark   string // what the marker must hold
	seen   atomic.Bool
}

var _ consent.Store = (*Store)(nil)

// Open returns the store at url: redis://[user:password@]host:port/db, rediss:// for TLS, or
// redis+unix:///path?db=0. It does not fail where Redis does not answer now, since a gateway
// starts all the same and says so by Ping; it does where Redis answers and holds the records of
// another key file (consent.ErrForeign) or of another layout.
func Open(url string, ring *keyring.Ring) (*Store, error) {
	opts, err := options(url)
	if err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	s := &Store{rdb: redis.NewClient(opts), lookup: ring.Lookup(), mark: layout + " " + ring.Fingerprint()}
	if err := s.Ping(context.Background()); err != nil && !errors.Is(err, consent.ErrUnreachable) {
		s.rdb.Close()
		return nil, err
	}
	return s, nil
}

// Lookup asks for everybody in one pipeline.
func (s *Store) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	results := make([]consent.Result, len(people))
	pipe := s.rdb.Pipeline()
	mark := pipe.Get(ctx, marker)
	replies := make([]*redis.SliceCmd, len(people))
	k := s.keys()
	for i, who := range people {
		if who.IsZero() {
			results[i].Err = consent.ErrAddress
			continue
		}
		if scope == consent.AnyScope {
			replies[i] = pipe.HMGet(ctx, k.person(who), string(consent.AnyScope))
		} else {
			replies[i] = pipe.HMGet(ctx, k.person(who), string(scope), string(consent.AnyScope))
		}
	}
	pipe.Exec(ctx) // each reply has its own error
	if err := s.checkMarker(ctx, mark); err != nil {
		return fail(results, err)
	}
	for i, reply := range replies {
		if reply == nil {
			continue
		}
		values, err := reply.Result()
		if err != nil {
			results[i].Err = wrap(err)
			continue
		}
		results[i] = result(scope, values[0], values[len(values)-1])
	}
	return results, nil
}

// result reads the two values of a reply, nil or "" for a record that is not there.
func result(scope consent.Scope, own, any any) consent.Result {
	text := func(v interface{}) string { s, _ := v.(string); return s }
	var r consent.Result
	if r.Scope, r.Err = consent.ParseRecord(scope, text(own)); r.Err != nil {
		return consent.Result{Err: r.Err}
	}
	if r.Any, r.Err = consent.ParseRecord(consent.AnyScope, text(any)); r.Err != nil {
		return consent.Result{Err: r.Err}
	}
	return r
}

// Ping says whether Redis answers and belongs to this gateway's key; it marks an empty store as
// this gateway's.
func (s *Store) Ping(ctx context.Context) error {
	return s.checkMarker(ctx, s.rdb.Get(ctx, marker))
}

// Close closes the connections. Later calls fail.
func (s *Store) Close() error { return s.rdb.Close() }

// checkMarker judges the reply to a GET of the marker. Where there is none yet, it sets it.
func (s *Store) checkMarker(ctx context.Context, reply *redis.StringCmd) error {
	got, err := reply.Result()
	if errors.Is(err, redis.Nil) {
		if s.seen.Load() {
			return fmt.Errorf("%w: its marker (key %q) is gone, so it has lost its data or was exchanged; bring the data back, or start the gateway again to begin anew", consent.ErrUnreachable, marker)
		}
		pipe := s.rdb.Pipeline()
		pipe.SetNX(ctx, marker, s.mark, 0)
		reply = pipe.Get(ctx, marker) // another gateway may have been faster
		pipe.Exec(ctx)
		got, err = reply.Result()
	}
	if err != nil {
		return wrap(err)
	}
	if got != s.mark {
		if l, _, _ := strings.Cut(got, " "); l != layout {
			return fmt.Errorf("the consent store has layout %q, this program knows %q: use the version that wrote it, or a newer one", l, layout)
		}
		return consent.ErrForeign
	}
	s.seen.Store(true)
	return nil
}

// keys makes the keys of people.
type keys struct {
	mac hash.Hash
	sum []byte
	buf []byte
}

func (s *Store) keys() *keys {
	return &keys{mac: hmac.New(sha256.New, s.lookup), sum: make([]byte, 0, sha256.Size), buf: make([]byte, 0, 64)}
}

func (k *keys) person(who consent.Address) string {
	k.mac.Reset()
	k.mac.Write([]byte(who.String()))
	k.sum = k.mac.Sum(k.sum[:0])
	k.buf = append(k.buf[:0], "consent:{"...)
	k.buf = base64.RawURLEncoding.AppendEncode(k.buf, k.sum)
	k.buf = append(k.buf, '}')
	return string(k.buf)
}

// fail puts err into every result that has none.
func fail(results []consent.Result, err error) ([]consent.Result, error) {
	for i := range results {
		if results[i].Err == nil {
			results[i] = consent.Result{Err: err}
		}
	}
	return results, err
}

// wrap says in the words of package consent what went wrong: a cancelled context is itself, a
// person's key that holds something else is a record that cannot be read, and everything else
// (no connection, a timeout, LOADING, READONLY, NOAUTH …) means that the store does not answer.
func wrap(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case redis.HasErrorPrefix(err, "WRONGTYPE"), redis.HasErrorPrefix(err, garbage):
		return fmt.Errorf("the consent store holds a record that cannot be read: %w", err)
	}
	return fmt.Errorf("%w: %w", consent.ErrUnreachable, err)
}
