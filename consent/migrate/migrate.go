// Package migrate moves all people from one consent store to another while gateways work with both.
//
// First everybody is copied, while the new store is marked as one that is being filled, which gateways
// refuse. Then both stores are kept the same: whoever changes in one is joined (consent.Ledger.Join) and written
// to the other, so gateways may be switched one after the other and each knows at once of what was decided through
// any other. At the end all people of both are compared, every history is checked, and the old store is marked as moved,
// which a gateway that was forgotten refuses: it would confirm opt-outs that nobody reads any more.
//
// People are copied byte for byte, with their histories: the keys that chain them are those of the key
// file, which is the same for both stores. Where both sides changed somebody at once, the events are chained anew.
//
// It is not for lists, which package transfer reads and writes, nor for a change of the key file.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// Store is what both stores offer beyond consent.Store.
type Store interface {
	consent.Store

	// Moving says how far the store is, SetMoving writes it.
	Moving(ctx context.Context) (consent.MovingState, error)
	SetMoving(ctx context.Context, state consent.Moving, was string) error
	// Synced is when this store and the other were the same last.
	Synced(ctx context.Context) (time.Time, error)
	SetSynced(ctx context.Context, at time.Time) error

	// Count returns about how many people there are.
	Count(ctx context.Context) (int64, error)
	// Pages yields everybody who is there all the while at least once.
	Pages(ctx context.Context) iter.Seq2[consent.Page, error]
	// Read returns people as they are held, each as of one moment.
	Read(ctx context.Context, keys []consent.Key) ([]*consent.Held, error)
	// Edit makes of each what work says, as long as nobody else changed them meanwhile, in which case work is
	// asked again. The errors are those of work.
	Edit(ctx context.Context, keys []consent.Key, work func(int, *consent.Held) (consent.Update, error)) ([]error, error)
}

// Options are how people are moved.
type Options struct {
	Ledger *consent.Ledger // of the key file of both stores
	Merge  bool            // the new store holds people already, who stay
	// Missing says what became of people who are in one store alone and must have been in both: they were erased
	// in the other, or that lost them. Without it Begin fails where there are any.
	Missing Missing
	Now     func() time.Time

	// Progress is told how many of about how many people were looked at in this pass.
	Progress func(pass string, done, total int64)
	// Say is told what an operator should know, a line each.
	Say func(string)
}

// Missing is what became of people who are missing.
type Missing string

const (
	Erased Missing = "erased" // they are erased in the store that has them
	Keep   Missing = "keep"   // they stay, and are written to the store that has them no more
)

// Result is what Finish found.
type Result struct {
	People int // in both stores, alike
	Events int // in their histories, each checked
	Broken int // people whose history does not hold, in both stores alike
}

// Mover moves people from old to new. Its methods are for one caller, in the order Begin, Follow, Finish.
type Mover struct {
	Options
	old, new Store

	first  bool      // everybody in new alone was erased in old, since no gateway uses new
	synced time.Time // when both were the same last

	watch   []*watcher
	refused map[consent.Key]error // who could not be joined
}

// New returns a Mover.
func New(old, new Store, o Options) *Mover {
	return &Mover{Options: o, old: old, new: new, refused: map[consent.Key]error{}}
}

// Closed is said once the old store is marked as moved.
const Closed = "The old store is closed: a gateway that still uses it must take the new consent.store."

// Errors that say what to do.
var (
	ErrNotEmpty = errors.New("the new store holds people already who did not come from this one: name another, or say --merge to keep them")
	ErrDone     = errors.New("all was moved there already, and the old store is marked as moved: there is nothing left to do")
	ErrMissing  = errors.New("say --missing keep where that lost them, and they stay, with their histories; or --missing erased where they were erased there. Who had unsubscribed stays in any case: an erasure leaves that")
	errUnready  = errors.New("the store to move from is being filled itself: finish that first")
)

// skew is how far apart the clocks of gateways may be, and the second that an event's time has.
const skew = 3 * time.Second

// Begin sees that people can be moved and copies them. It goes on where an earlier Mover was stopped.
// When it returns without an error gateways may use the new store.
func (m *Mover) Begin(ctx context.Context) error {
	from, err := m.old.Moving(ctx)
	if err != nil {
		return fmt.Errorf("the store to move from: %w", err)
	}
	to, err := m.new.Moving(ctx)
	if err != nil {
		return fmt.Errorf("the store to move to: %w", err)
	}
	ours := to.Was == from.Epoch && from.Epoch != ""
	back := from.Was == to.Epoch && to.Epoch != "" // people came from there: a move is given up, or was not for good
	switch {
	case from.Epoch == to.Epoch:
		return errors.New("both are the same store")
	case from.Moving == consent.Filling:
		return errUnready
	case from.Moving == consent.Moved && !ours:
		return fmt.Errorf("the store to move from: %w", consent.ErrMoved)
	case to.Moving == consent.Moved && !back:
		return fmt.Errorf("the store to move to holds what was moved elsewhere before: name another, or a new file: %w", consent.ErrMoved)
	}
	if ours && to.Moving == consent.Settled {
		if m.synced, err = m.new.Synced(ctx); err != nil {
			return err
		}
	}
	if back {
		was, err := m.old.Synced(ctx)
		if err != nil {
			return err
		}
		if was.After(m.synced) {
			m.synced = was
		}
	}
	goesOn := !m.synced.IsZero()
	closed := to.Moving == consent.Moved && !goesOn // since all was moved, so who is there alone was erased or lost since
	m.first = closed || to.Moving == consent.Filling
	if err := m.look(ctx); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if closed {
		if err := m.new.SetMoving(ctx, consent.Filling, ""); err != nil {
			return err
		}
		to.Moving = consent.Filling
	}
	if from.Moving == consent.Moved {
		m.Say(Closed)
	}
	if from.Moving == consent.Moved && to.Moving == consent.Settled && !goesOn {
		return ErrDone
	}
	if to.Moving == consent.Settled && !goesOn && !m.Merge {
		for page, err := range m.new.Pages(ctx) {
			if err != nil {
				return err
			}
			if len(page) > 0 {
				return ErrNotEmpty
			}
		}
		if err := m.new.SetMoving(ctx, consent.Filling, ""); err != nil {
			return err
		}
		to.Moving = consent.Filling
	}
	m.first = to.Moving == consent.Filling
	if err := m.again(ctx, func() error { return m.pass(ctx, "copied", nil) }); err != nil {
		m.unwatch()
		return err
	}
	// Noted first: a store that is settled and says nothing of when it was the same is one that is done. Then
	// gateways that know the old data by its name take the new for it.
	err = m.mark(ctx, m.Now())
	if err == nil {
		err = m.new.SetMoving(ctx, consent.Settled, from.Epoch)
	}
	if err == nil && back {
		err = m.old.SetSynced(ctx, time.Time{}) // from now on it is the other that knows
	}
	if err != nil {
		m.unwatch()
	}
	m.first = false
	m.Missing = "" // it was said of those whom Begin found
	return err
}

// pass subscribes to both stores and then makes all people of both the same, so that what changes
// meanwhile is told. look is called with each as they are at the end.
func (m *Mover) pass(ctx context.Context, name string, look func(*consent.Held)) error {
	m.unwatch()
	for _, s := range []Store{m.old, m.new} {
		w, err := watch(ctx, s)
		if err != nil {
			return err
		}
		m.watch = append(m.watch, w)
	}
	var total, done int64
	said := ""
	seen := func(page consent.Page) error {
		keys := make([]consent.Key, 0, len(page))
		for _, h := range page {
			keys = append(keys, h.Key)
		}
		if err := m.same(ctx, keys, nil, look); err != nil {
			return err
		}
		done += int64(len(page))
		m.Progress(said, done, max(total, done))
		_, err := m.catchUp(ctx) // so that nobody has to wait for the end of this
		return err
	}
	for i, s := range []Store{m.old, m.new} {
		var err error
		if total, err = s.Count(ctx); err != nil {
			return err
		}
		done, said = 0, name
		if i == 1 { // most are in both
			said = "of the new store compared"
		}
		for page, err := range s.Pages(ctx) {
			if err == nil {
				err = seen(page)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// mark notes that both stores were the same at that time.
func (m *Mover) mark(ctx context.Context, at time.Time) error {
	m.synced = at
	return m.new.SetSynced(ctx, at)
}

// unwatch ends both subscriptions.
func (m *Mover) unwatch() {
	for _, w := range m.watch {
		w.close()
	}
	m.watch = nil
}

// Close ends what Begin and Follow began.
func (m *Mover) Close() { m.unwatch() }

// watcher collects who changed in a store.
type watcher struct {
	mu     sync.Mutex
	told   map[consent.Key]bool
	upTo   time.Time
	lost   bool
	wake   chan struct{} // holds one
	cancel context.CancelFunc
	ended  chan struct{}
}

func watch(ctx context.Context, s Store) (*watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	told, err := s.Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watcher{told: map[consent.Key]bool{}, wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for t := range told {
			w.mu.Lock()
			if t.UpTo.IsZero() {
				w.told[t.Key] = true
			} else {
				w.upTo = t.UpTo
			}
			w.mu.Unlock()
			w.ring()
		}
		w.mu.Lock()
		w.lost = true
		w.mu.Unlock()
		w.ring()
	}()
	return w, nil
}

func (w *watcher) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns who was told of, and up to when all is told with that.
func (w *watcher) take() (keys map[consent.Key]bool, upTo time.Time, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys, w.told = w.told, map[consent.Key]bool{}
	return keys, w.upTo, w.lost
}

// close ends it; what was told before is there to take.
func (w *watcher) close() {
	w.cancel()
	<-w.ended
}
