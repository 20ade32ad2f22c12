package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// A subscription that is half dead looks like one in which nothing happens. So each watcher speaks
// through the channel itself, a beat every beatEvery, in a Cluster through each master, since
// each tells the others of its own changes; where one cannot be sent within beatTime, or does not arrive for
// beatLate, it is over. Until then a cache may be behind what another gateway wrote through servers that are
// well, so these are short.
const (
	beatEvery = 100 * time.Millisecond
	beatTime  = 200 * time.Millisecond
	beatLate  = 500 * time.Millisecond

	confirmTime = 1500 * time.Millisecond // to subscribe

	watchBuffer = 4096
)

// channel is where changes are told. Channels know no databases, so it has the key file's name.
func (s *Store) channel() string { return marker + ":" + s.print }

// Watch subscribes. It returns once the subscription holds, so what is read afterwards and changes
// is told.
func (s *Store) Watch(ctx context.Context) (<-chan consent.Key, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	sub := s.rdb.Subscribe(ctx, s.channel())
	confirm, cancel := context.WithTimeout(ctx, confirmTime)
	_, err := sub.Receive(confirm)
	cancel()
	if err != nil {
		sub.Close()
		return nil, wrap(err)
	}
	w := &watch{store: s, sub: sub, name: rand.Text(), heard: map[string]time.Time{}, keys: make(chan consent.Key, watchBuffer)}
	w.ctx, w.end = context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		w.end()
		sub.Close()
		return nil, wrap(redis.ErrClosed)
	}
	s.tasks.Go(w.beat)
	s.tasks.Go(w.listen)
	return w.keys, nil
}

// watch is one subscription.
type watch struct {
	store *Store
	sub   *redis.PubSub
	name  string
	keys  chan consent.Key
	ctx   context.Context
	end   context.CancelFunc

	mu    sync.Mutex
	heard map[string]time.Time // when a beat through that master was last heard, or first waited for
}

// listen passes keys on until something is not as it should be.
func (w *watch) listen() {
	defer close(w.keys)
	defer w.end()
	defer w.sub.Close()
	for {
		// A beat is due several times meanwhile. The first error of any kind is the end: go-redis would
		// subscribe again, and what was told in between would be lost.
		message, err := w.sub.ReceiveTimeout(w.ctx, beatLate)
		if err != nil || w.ctx.Err() != nil {
			return
		}
		m, ok := message.(*redis.Message)
		if !ok {
			return // subscribed again, or no more
		}
		if beat, ok := strings.CutPrefix(m.Payload, "."); ok {
			if name, master, _ := strings.Cut(beat, " "); name == w.name {
				w.mu.Lock()
				w.heard[master] = time.Now()
				w.mu.Unlock()
			}
			continue
		}
		k, err := consent.ParseKey(m.Payload)
		if err != nil {
			return // whoever says this here says nothing that can be relied on
		}
		select {
		case w.keys <- k:
		default:
			return // too far behind
		}
	}
}

// beat speaks through each master and ends the watch where one is not heard.
func (w *watch) beat() {
	defer w.end()
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	stop := context.AfterFunc(w.store.life, w.end)
	defer stop()
	defer w.sub.Close() // wakes listen
	for {
		if w.say() != nil || w.late(time.Now()) {
			return
		}
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *watch) say() error {
	ctx, cancel := context.WithTimeout(w.ctx, beatTime)
	defer cancel()
	say := func(ctx context.Context, client redis.Cmdable, master string) error {
		w.mu.Lock()
		if _, ok := w.heard[master]; !ok {
			w.heard[master] = time.Now()
		}
		w.mu.Unlock()
		return client.Publish(ctx, w.store.channel(), fmt.Sprintf(".%s %s", w.name, master)).Err()
	}
	c, ok := w.store.rdb.(*redis.ClusterClient)
	if !ok {
		return say(ctx, w.store.rdb, "")
	}
	return c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
		return say(ctx, client, client.Options().Addr)
	})
}

func (w *watch) late(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, last := range w.heard {
		if now.Sub(last) > beatLate {
			return true
		}
	}
	return false
}
