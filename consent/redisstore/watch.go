package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// A subscription that is half dead looks like one in which nothing happens. So each watcher speaks
// through the channel itself, a beat every beatEvery, in a Cluster through each master, since
// each tells the others of its own changes, in their order: once a beat is heard, all that was confirmed
// through that master before it was sent is told. Where one cannot be sent within beatTime, or does not
// arrive for beatLate, the subscription is over.
const (
	beatEvery = 40 * time.Millisecond
	beatTime  = 200 * time.Millisecond
	beatLate  = 500 * time.Millisecond
	patience  = 10 * time.Second // instead of both, and on top of what an answer may take, for who moves people: it may be late

	confirmTime = 1500 * time.Millisecond // to subscribe

	watchBuffer = 4096
)

// channel is where changes are told. Channels know no databases, so it has the key file's name.
func (s *Store) channel() string { return marker + ":" + s.print }

// Watch subscribes. It returns once the subscription holds, so what is read afterwards and changes
// is told.
func (s *Store) Watch(ctx context.Context) (<-chan consent.Told, error) {
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
	w := &watch{store: s, sub: sub, name: rand.Text(), began: time.Now(), masters: map[string]*beats{}, told: make(chan consent.Told, watchBuffer)}
	w.ctx, w.end = context.WithCancel(ctx)
	if !s.task(w.beat) || !s.task(w.listen) {
		w.end()
		sub.Close()
		return nil, wrap(redis.ErrClosed)
	}
	return w.told, nil
}

// watch is one subscription.
type watch struct {
	store *Store
	sub   *redis.PubSub
	name  string
	began time.Time
	told  chan consent.Told
	ctx   context.Context
	end   context.CancelFunc

	mu      sync.Mutex
	masters map[string]*beats // by address
}

// beats are those through one master.
type beats struct {
	heard time.Time // when one was last heard, or first waited for
	sent  time.Time // when that one was sent; zero = none was heard
}

// listen passes keys on until something is not as it should be.
func (w *watch) listen() {
	defer close(w.told)
	defer w.end()
	defer w.sub.Close()
	for {
		// A beat is due several times meanwhile. The first error of any kind is the end: go-redis would
		// subscribe again, and what was told in between would be lost.
		message, err := w.sub.ReceiveTimeout(w.ctx, w.store.late)
		if err != nil || w.ctx.Err() != nil {
			return
		}
		var told consent.Told
		m, ok := message.(*redis.Message)
		if !ok {
			return // subscribed again, or no more
		}
		if beat, ok := strings.CutPrefix(m.Payload, "."); ok {
			name, rest, _ := strings.Cut(beat, " ")
			if name != w.name {
				continue
			}
			upTo, ok := w.hear(rest)
			if !ok {
				return
			}
			told.UpTo = upTo
		} else if told.Key, err = consent.ParseKey(m.Payload); err != nil {
			return // whoever says this here says nothing that can be relied on
		}
		select {
		case w.told <- told:
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
	ctx, cancel := context.WithTimeout(w.ctx, w.store.beat)
	defer cancel()
	say := func(ctx context.Context, client redis.Cmdable, master string) error {
		now := time.Now()
		w.mu.Lock()
		if w.masters[master] == nil {
			w.masters[master] = &beats{heard: now}
		}
		w.mu.Unlock()
		return client.Publish(ctx, w.store.channel(), fmt.Sprintf(".%s %d %s", w.name, now.Sub(w.began), master)).Err()
	}
	c, ok := w.store.rdb.(*redis.ClusterClient)
	if !ok {
		return say(ctx, w.store.rdb, "")
	}
	return c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
		return say(ctx, client, client.Options().Addr)
	})
}

// hear takes in a beat of its own, and returns up to when all changes are told: that of the master from which
// the least is known.
func (w *watch) hear(beat string) (upTo time.Time, ok bool) {
	sent, master, _ := strings.Cut(beat, " ")
	after, err := strconv.ParseInt(sent, 10, 64)
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.masters[master]
	if err != nil || b == nil {
		return time.Time{}, false
	}
	b.heard, b.sent = time.Now(), w.began.Add(time.Duration(after))
	upTo = b.sent
	for _, b := range w.masters {
		if b.sent.Before(upTo) {
			upTo = b.sent
		}
	}
	return upTo, true
}

func (w *watch) late(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.masters {
		if now.Sub(b.heard) > w.store.late {
			return true
		}
	}
	return false
}
