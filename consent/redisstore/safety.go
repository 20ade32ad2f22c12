package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// An empty Redis and one that was emptied look the same, and in both everybody counts as subscribed.
// So the first gateway puts a marker there with a random name for this data, its epoch, and each
// gateway remembers the epoch that it worked with, in its memory and in the file Options.Known. Where
// the marker is gone, or of another epoch, the data is not that of before: consent.ErrLost, until
// AcceptStore. The marker then says which epoch was given up, so that the other gateways
// need not be told one by one.

// lookEvery is how often the settings of the server are looked at.
const lookEvery = 10 * time.Second

// known is what a gateway remembers of the store.
type known struct {
	file consent.Known
	mark atomic.Pointer[string] // the marker as it was last judged good, nil before

	mu      sync.Mutex
	epoch   string // "" = none yet
	evicted bool   // the operator accepted that Redis may drop records
}

// load reads the file.
func (k *known) load(path, print string) (err error) {
	k.file = consent.Known{Path: path, Print: print}
	k.epoch, k.evicted, err = k.file.Load()
	return err
}

// save replaces it. k.mu is held.
func (k *known) save() error { return k.file.Save(k.epoch, k.evicted) }

// yes reports whether this process found the store as it should be before.
func (k *known) yes() bool { return k.mark.Load() != nil }

// judge judges the reply to a GET of the marker, sets one where Redis is new, and says whether what
// it holds is safe there.
func (s *Store) judge(ctx context.Context, reply *redis.StringCmd) error {
	got, err := reply.Result()
	if errors.Is(err, redis.Nil) {
		got, err = s.begin(ctx)
	}
	if errors.Is(err, ErrNothing) {
		return err
	} else if err != nil {
		return wrap(err)
	}
	if good := s.known.mark.Load(); good == nil || *good != got {
		if err := s.recognise(got); err != nil {
			return err
		}
	}
	if danger := s.danger.Load(); danger != nil {
		return *danger
	}
	return nil
}

// begin marks a Redis without a marker as this gateway's, if no data was known before, and returns
// the marker.
func (s *Store) begin(ctx context.Context) (string, error) {
	s.known.mu.Lock()
	epoch := s.known.epoch
	s.known.mu.Unlock()
	if epoch != "" {
		return "", fmt.Errorf("%w: %w: its marker (key %q) is gone, so it was emptied or exchanged; bring the data back, or run: consentgate consent accept-store", consent.ErrUnreachable, consent.ErrLost, marker)
	}
	if s.role == From || s.role == Look {
		return "", ErrNothing
	}
	return s.mark(ctx, "")
}

// ErrNothing is returned where people are to be taken out of a Redis that no gateway ever used.
var ErrNothing = errors.New("it holds no consent store, so there is nothing to move: is the address right?")

// mark sets a marker of a new epoch where there is none, and returns the one that is there.
func (s *Store) mark(ctx context.Context, lost string) (string, error) {
	first := layout
	if s.role == To {
		first += "-" + string(consent.Filling)
	}
	text := strings.TrimSpace(fmt.Sprintf("%s %s %s %s", first, s.print, rand.Text(), lost))
	if s.cluster { // first, since they are missed once the marker is there
		pipe := s.rdb.Pipeline()
		for i := range spread {
			pipe.Set(ctx, spreadMarker(i), layout+" "+s.print, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return "", err
		}
	}
	if err := s.rdb.SetNX(ctx, marker, text, 0).Err(); err != nil {
		return "", err
	}
	return s.rdb.Get(ctx, marker).Result() // another gateway may have been faster
}

// recognise says whether a marker is of this gateway's key and of the data that it knew.
func (s *Store) recognise(text string) error {
	words := strings.Fields(text)
	if len(words) > 0 {
		l, state, _ := strings.Cut(words[0], "-")
		switch {
		case state == "":
		case s.role == From || s.role == To:
			words[0] = l
		case state == string(consent.Filling):
			return fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrFilling)
		case state == string(consent.Moved):
			return fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrMoved)
		}
	}
	if len(words) == 0 || words[0] != layout {
		l, _, _ := strings.Cut(text, " ")
		return fmt.Errorf("the consent store has layout %q, this program knows %q: use the version that wrote it, or a newer one", l, layout)
	}
	if len(words) < 3 || words[1] != s.print {
		return consent.ErrForeign
	}
	k := &s.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if epoch := words[2]; k.epoch != epoch {
		if k.epoch != "" && (len(words) < 4 || words[3] != k.epoch) {
			return fmt.Errorf("%w: %w: it was begun anew since this gateway saw it last; bring the data back, or run: consentgate consent accept-store", consent.ErrUnreachable, consent.ErrLost)
		}
		k.epoch = epoch
		if s.role == Look {
			// What the gateway knows is the gateway's to write.
		} else if err := k.save(); err != nil {
			s.log.Error("the consent store's loss would not be noticed after a restart", "err", err)
		}
	}
	k.mark.Store(&text)
	return nil
}

// AcceptStore takes the store as it is now for what this gateway knows, with a Redis that may drop
// records as well. The other gateways follow where the data of the same epoch was lost.
func (s *Store) AcceptStore(ctx context.Context) error {
	k := &s.known
	k.mu.Lock()
	lost := k.epoch
	k.mu.Unlock()
	text, err := s.mark(ctx, lost)
	if err != nil {
		return wrap(err)
	}
	k.mu.Lock()
	k.epoch = ""
	k.mu.Unlock()
	if err := s.recognise(text); err != nil {
		k.mu.Lock()
		k.epoch = lost
		k.mu.Unlock()
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	k.mu.Lock()
	k.evicted = k.evicted || s.danger.Load() != nil
	err = k.save()
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("the store is accepted until the gateway ends: %w", err)
	}
	return s.Ping(ctx)
}

// Ping says whether Redis answers, belongs to this gateway's key, and keeps what it holds; it marks
// an empty store as this gateway's.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.check(ctx); err != nil && !errors.Is(err, consent.ErrLost) {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	return s.check(ctx)
}

// written is the key that Writable writes; in a Cluster those of the spread markers are written, since they lie with
// each of its servers.
const written = marker + ":written"

// Writable writes one small key to each server that takes writes, and waits for as many replicas as a change does.
func (s *Store) Writable(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	keys := []string{written}
	if s.cluster {
		keys = keys[:0]
		for i := range spread {
			keys = append(keys, spreadMarker(i))
		}
	}
	byNode := map[pipeliner]redis.Pipeliner{}
	for _, key := range keys {
		node, err := s.node(ctx, key)
		if err != nil {
			return wrap(err)
		}
		pipe := byNode[node]
		if pipe == nil {
			pipe = node.Pipeline()
			byNode[node] = pipe
		}
		if s.cluster { // one that is gone stays gone: that is how a loss is noticed
			pipe.SetXX(ctx, key, layout+" "+s.print, 0)
		} else {
			pipe.Set(ctx, key, time.Now().UTC().Format(time.RFC3339), 0)
		}
	}
	for _, pipe := range byNode {
		if s.wait > 0 {
			pipe.Do(ctx, "wait", s.wait, waitTime.Milliseconds())
		}
		said, _ := pipe.Exec(ctx) // each reply has its own error
		for _, reply := range said {
			switch err := reply.Err(); {
			case err == nil, errors.Is(err, redis.Nil):
			case isReply(err):
				return fmt.Errorf("%w: %w", consent.ErrUnwritable, err)
			default:
				return wrap(err)
			}
		}
		if s.wait > 0 {
			if n, err := said[len(said)-1].(*redis.Cmd).Int(); err != nil || n < s.wait {
				return fmt.Errorf("%w: %w: %d of %d replicas have it", consent.ErrUnwritable, consent.ErrNotDurable, n, s.wait)
			}
		}
	}
	return nil
}

// check looks at the marker alone.
func (s *Store) check(ctx context.Context) error {
	return s.judge(ctx, s.rdb.Get(ctx, marker))
}

// keepLooking looks at the servers' settings until the store is closed.
func (s *Store) keepLooking() {
	for s.pause(s.life, lookEvery) == nil {
		s.look(s.life) // one that does not answer is not asked for its settings
	}
}

// look finds out whether Redis may drop records (a maxmemory with a policy of allkeys-…; the
// volatile-… ones drop only what expires, which nothing here does), or, in a Cluster, whether one of its
// parts was emptied, and sets s.danger. A server that does not say is warned of, once.
func (s *Store) look(ctx context.Context) error {
	policy := ""
	see := func(ctx context.Context, client redis.Cmdable) error {
		info, err := client.Info(ctx, "memory", "persistence").Result()
		if isReply(err) || err == nil && !strings.Contains(info, "maxmemory_policy:") {
			s.mute.Do(func() {
				s.log.Warn("the consent store does not say whether it may drop records: see that its maxmemory-policy is noeviction", "answer", err)
			})
			return nil
		} else if err != nil {
			return wrap(err)
		}
		if infoValue(info, "aof_enabled") == "0" && s.wait == 0 {
			s.forgets.Do(func() {
				s.log.Warn("the consent store has no append-only file: after a crash, opt-outs since its last snapshot are lost though they were confirmed; switch it on while Redis runs (redis-cli CONFIG SET appendonly yes, CONFIG SET appendfsync always, CONFIG REWRITE), since a Redis started with appendonly yes in its file alone begins empty; or set consent.wait_replicas")
			})
		}
		if p := infoValue(info, "maxmemory_policy"); strings.HasPrefix(p, "allkeys-") && infoValue(info, "maxmemory") != "0" {
			policy = p
		}
		return nil
	}
	var err error
	emptied := false
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		err = c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return see(ctx, client)
		})
		if err == nil && s.known.yes() {
			emptied, err = s.emptied(ctx)
		}
	} else {
		err = see(ctx, s.rdb)
	}
	if err != nil {
		return wrap(err)
	}
	var danger error
	s.known.mu.Lock()
	accepted := s.known.evicted
	s.known.mu.Unlock()
	switch {
	case emptied:
		danger = fmt.Errorf("%w: %w: a part of the cluster was emptied; bring the data back, or run: consentgate consent accept-store", consent.ErrUnreachable, consent.ErrLost)
	case policy != "" && !accepted:
		danger = fmt.Errorf("%w: %w: its maxmemory-policy %s drops opt-outs when memory is short: set noeviction, or run: consentgate consent accept-store", consent.ErrUnreachable, consent.ErrLost, policy)
	}
	if danger != nil {
		s.danger.Store(&danger)
	} else {
		s.danger.Store(nil)
	}
	return nil
}

// In a Cluster further markers lie in slots all over, so that the loss of a part shows.
const spread = 32

func spreadMarker(i int) string { return fmt.Sprintf("%s:{%d}", marker, i) }

// emptied reports whether one of the spread markers is gone.
func (s *Store) emptied(ctx context.Context) (bool, error) {
	pipe := s.rdb.Pipeline()
	for i := range spread {
		pipe.Exists(ctx, spreadMarker(i))
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range cmds {
		if c.(*redis.IntCmd).Val() == 0 {
			return true, nil
		}
	}
	return false, nil
}
