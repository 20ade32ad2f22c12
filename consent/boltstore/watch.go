package boltstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/consentgate/consentgate/consent"
)

// watchBuffer is how many changes a watcher may be behind before its channel is closed.
const watchBuffer = 4096

// always is after every change.
var always = time.Now().AddDate(100, 0, 0)

// watchers are told of changes.
type watchers struct {
	mu     sync.Mutex
	all    map[chan consent.Told]func() bool // with what stops waiting for the end of its context
	closed bool
}

func (w *watchers) add(ctx context.Context) (<-chan consent.Told, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, fmt.Errorf("%w: %w", consent.ErrUnreachable, bolterrors.ErrDatabaseNotOpen)
	}
	ch := make(chan consent.Told, watchBuffer)
	ch <- consent.Told{UpTo: always} // a change is told before it is confirmed
	if w.all == nil {
		w.all = map[chan consent.Told]func() bool{}
	}
	w.all[ch] = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.drop(ch)
	})
	return ch, nil
}

// drop closes a channel, once.
func (w *watchers) drop(ch chan consent.Told) {
	if stop, ok := w.all[ch]; ok {
		stop()
		delete(w.all, ch)
		close(ch)
	}
}

// tell passes keys on. Who is too far behind to be told everything is told so.
func (w *watchers) tell(keys []consent.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		for _, k := range keys {
			select {
			case ch <- consent.Told{Key: k}:
				continue
			default:
			}
			w.drop(ch)
			break
		}
	}
}

func (w *watchers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for ch := range w.all {
		w.drop(ch)
	}
}
