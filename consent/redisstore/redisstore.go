// Package redisstore keeps consent in Redis (7.0 or newer): one server, a master that Sentinels
// watch, or a Cluster, for any number of gateways.
//
// Layout of the keys, version 2:
//
//	consentgate              string: "2 FINGERPRINT EPOCH [EPOCH]", the layout's version, the fingerprint of the lookup key, a
//	                         random name for this data, and the name of data whose loss was accepted, or that it
//	                         stands in for. While people move from store to store "2-filling" or "2-moved" stands
//	                         there, which gateways refuse (moving.go)
//	consent:{KEY}            hash: one field a scope ("newsletter", "*"), its value the record of that person in that
//	                         scope, as the text that consent.RecordText describes;
//	                         "@" the sealed address; "#" the number and the proof of the last event
//	consent:{KEY}:history    list: the events, oldest first, as the text that consent's eventtext.go describes
//	consentgate:synced       while people move: when both stores were the same last, in seconds
//	consentgate:written      the time of the last write that was made to see whether Redis takes any; not in a Cluster
//	consentgate:{0} …        in a Cluster only, 32 strings "2 FINGERPRINT", so that the loss of a part shows
//	consentgate:FINGERPRINT  channel: the KEY of each person whose record changes, and beats (watch.go)
//
// KEY is the HMAC-SHA-256 of the normalised address under the lookup key, in base64url; it stands
// in braces so that all keys of a person lie in one slot of a cluster. No address stands in Redis but
// sealed by AES-256-GCM. To look:
//
//	$ redis-cli GET consentgate
//	"2 ADwyt6sAeSHZQm6DuZn0sA QWXM2KJ5S3TZB7NCEY4UGVHD6R"
//	$ redis-cli --scan --pattern 'consent:{*}' | head -1
//	consent:{mE9x…}
//	$ redis-cli HGETALL 'consent:{mE9x…}'
//	1) "newsletter"
//	2) "3\tu1763900000o\tg1763800000p2026-03\td="
//	3) "@"
//	4) "\x8f\x01…"
//	5) "#"
//	6) "3 b0vX…"
//	$ redis-cli LRANGE 'consent:{mE9x…}:history' 0 -1
//
// which is the third state of a record: unsubscribed by one click; before that, on the page under notice
// 2026-03, opens granted and clicks denied.
//
// Lookup is one round trip: the marker and one HMGET a person in one pipeline, which lookups that come while others
// are on their way share. A change is worked
// out here from what was read, since Redis cannot make an HMAC, and written by one script that
// does so only if the person is still as read; so an Apply is two round trips for up to
// maxPipeline changes, and gateways that write at the same time lose nothing.
//
// Every way in checks the marker: a store of another key file is refused with consent.ErrForeign,
// and one that lost its data, or may drop it, with consent.ErrLost (safety.go).
//
// How durable an Apply is when it returns is for the server's configuration to say (appendfsync),
// and for Options.WaitReplicas. What is erased is gone from Redis at once, and from its files with the next
// snapshot and the next rewrite of the append-only file: BGSAVE and BGREWRITEAOF hasten that. Backups
// still hold it.
//
// An ACL user needs these rights and no others (none of them empties the store, or reads its settings):
//
//	user consentgate on >PASSWORD ~consentgate* ~consent:* &consentgate:* +hello +auth +ping +select +info
//		+get +set +setnx +exists +scan +hget +hmget +hgetall +hlen +hset +hdel +llen +lrange +rpush +del
//		+eval +evalsha +multi +exec +publish +subscribe +wait +cluster|slots +cluster|info +asking +command
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const (
	marker = "consentgate"
	layout = "2"

	// maxPipeline bounds how many people's changes go in one round trip, so that a large import
	// neither keeps other gateways waiting nor runs into the read timeout.
	maxPipeline = 100
)

// Store is a consent.Store in Redis. Use Open.
type Store struct {
	rdb     redis.UniversalClient
	writer  redis.UniversalClient // rdb, or one that waits for replicas
	cluster bool
	ledger  *consent.Ledger
	print   string // fingerprint of the lookup key
	wait    int
	role    Role
	beat    time.Duration // see watch.go
	late    time.Duration
	log     *slog.Logger
	known   known
	danger  atomic.Pointer[error] // why what is there may not be all, nil where it is
	mute    sync.Once             // a warning is given once
	forgets sync.Once             // another
	lookups lookups

	life  context.Context // ends with Close
	end   context.CancelFunc
	mu    sync.Mutex // held to begin a task, and to end life, so that no task is begun after it
	tasks sync.WaitGroup
}

var _ consent.Store = (*Store)(nil)

// Open returns the store at url:
//
//	redis://[user:password@]host:port/db            rediss:// for TLS
//	redis+unix:///path?db=0
//	redis+sentinel://[user:password@]host:port[,host:port]/MASTER?db=0[&sentinel_username=…&sentinel_password=…]
//	redis+cluster://[user:password@]host:port[,host:port]
//
// and rediss+… for TLS; ?tls_ca=FILE names a PEM file of authorities other than the system's. It does
// not fail where Redis does not answer now or has lost its data, since a gateway starts all the same and
// says so by Ping; it does where Redis answers and holds the records of another key file
// (consent.ErrForeign) or of another layout.
func Open(url string, ring *keyring.Ring, opts Options) (*Store, error) {
	slow := time.Duration(0)
	if opts.Moving == From || opts.Moving == To {
		slow = patience
	}
	ready := 0
	if opts.Ahead {
		ready = readyConns
	}
	rdb, err := client(url, slow, ready)
	if err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	s := &Store{rdb: rdb, writer: rdb, ledger: consent.NewLedger(ring), print: ring.Fingerprint(), wait: opts.WaitReplicas, role: opts.Moving, log: opts.Log}
	s.beat, s.late = max(beatTime, slow), max(beatLate, slow)
	_, s.cluster = rdb.(*redis.ClusterClient)
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.wait > 0 {
		if s.writer, err = client(url, waitTime, 0); err != nil {
			rdb.Close()
			return nil, err
		}
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.guard(s.rdb)
	if s.writer != s.rdb {
		s.guard(s.writer)
	}
	if err = s.known.load(opts.Known, s.print); err == nil {
		if err = s.Ping(s.life); errors.Is(err, consent.ErrUnreachable) {
			err = nil
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.task(s.keepLooking)
	return s, nil
}

// Close closes the connections. Later calls fail.
func (s *Store) Close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	err := s.rdb.Close()
	if s.writer != s.rdb {
		err = errors.Join(err, s.writer.Close())
	}
	s.tasks.Wait()
	return err
}

// task has f run in the background, where Close waits for it; false where the store is closed.
func (s *Store) task(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return false
	}
	s.tasks.Go(f)
	return true
}

// Key returns the person's key.
func (s *Store) Key(who consent.Address) consent.Key { return s.ledger.Key(who) }

// hashKey and listKey name a person's two keys in Redis.
func hashKey(k consent.Key) string { return string(appendHashKey(make([]byte, 0, hashKeySize), k)) }
func listKey(k consent.Key) string { return hashKey(k) + ":history" }

const hashKeySize = len("consent:{") + 43 + len("}")

func appendHashKey(b []byte, k consent.Key) []byte {
	return append(k.AppendText(append(b, "consent:{"...)), '}')
}

// wrap says in the words of package consent what went wrong: a cancelled context is itself, a
// person's key that holds something else is a record that cannot be read, and everything else
// (no connection, a timeout, LOADING, READONLY, NOAUTH …) means that the store does not answer.
func wrap(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, consent.ErrUnreachable):
		return err
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("the consent store holds a record that cannot be read: %w", err)
	}
	return fmt.Errorf("%w: %w", consent.ErrUnreachable, err)
}

// pause waits, unless ctx or the store ends before.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return wrap(redis.ErrClosed)
	}
}
