package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/migrate"
	"github.com/consentgate/consentgate/consent/redisstore"
)

// A file is held by one process, so it is the gateway that moves people out of it, asked over the control socket.
// When the gateway stops, all that was decided through it is in the new store before the process ends: the next
// one, which is started with the new store, knows it.

// moveRequest asks for that.
type moveRequest struct {
	From  string `json:"from"` // what the gateway's store has to be
	To    string `json:"to"`
	Merge bool   `json:"merge"`

	Missing migrate.Missing `json:"missing,omitempty"`
}

// mover is the gateway's part in moving people.
type mover struct {
	from  string // consent.store
	store consent.Store
	ring  *keyring.Ring
	now   func() time.Time

	stopping chan struct{} // closed when the gateway has nothing more to tell
	busy     sync.Mutex    // held while people are moved
}

// handOverTime is how long the gateway's end may wait for the new store.
const handOverTime = 10 * time.Second

// handOver waits until all that was decided is in the new store, where people are moved.
func (m *mover) handOver() {
	close(m.stopping)
	m.busy.Lock() // for good: nobody moves people any more
}

// ServeHTTP moves people until the gateway stops, or who asked for it is gone. The answer is a line of
// JSON for each step.
func (m *mover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q moveRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&q); err != nil {
		http.Error(w, "no request to move people", http.StatusBadRequest)
		return
	}
	old, ok := m.store.(migrate.Store)
	if !ok || q.From != m.from {
		http.Error(w, errOtherStore.Error(), http.StatusConflict)
		return
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{})
	control.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	tell := func(s step) {
		out.Encode(s)
		control.Flush()
	}
	if !m.busy.TryLock() {
		tell(step{Error: "people are being moved already: end that first"})
		return
	}
	defer m.busy.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := make(chan struct{})
	go func() {
		select {
		case <-m.stopping:
			time.AfterFunc(handOverTime, cancel)
			close(stop)
		case <-ctx.Done():
		}
	}()
	if err := m.move(ctx, old, q, stop, tell); err != nil {
		tell(step{Error: err.Error()})
		return
	}
	tell(step{Handed: true})
}

func (m *mover) move(ctx context.Context, old migrate.Store, q moveRequest, stop <-chan struct{}, tell func(step)) error {
	next, err := openMoving(q.To, m.ring, redisstore.To)
	if err != nil {
		return err
	}
	defer next.Close()
	said := time.Time{}
	move := migrate.New(old, next, migrate.Options{
		Ledger: consent.NewLedger(m.ring), Merge: q.Merge, Missing: q.Missing, Now: m.now,
		Progress: func(pass string, done, total int64) {
			if now := m.now(); now.Sub(said) > 100*time.Millisecond {
				said = now
				tell(step{Pass: pass, Done: done, Total: total})
			}
		},
		Say: func(text string) { tell(step{Say: text}) },
	})
	defer move.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	copied := make(chan struct{})
	go func() {
		select {
		case <-stop: // what is not copied yet cannot be handed over
			cancel()
		case <-copied:
		case <-ctx.Done():
		}
	}()
	err = move.Begin(ctx)
	if errors.Is(err, context.Canceled) {
		return errors.New("the gateway stops before all are copied; the same command goes on once it is back")
	} else if err != nil {
		return err
	}
	close(copied)
	tell(step{Ready: true})
	return move.Follow(ctx, stop)
}
