package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

// fake is a store in which the Version of all records of a person counts its changes.
type fake struct {
	consent.Store // nil: what is not faked is not called

	// before and after are called in Lookup, before and after it reads; committed in Apply, between
	// the change and the return. Each may be nil.
	before, after, committed func()

	mu       sync.Mutex
	versions map[consent.Address]uint64
	changes  []changed
	asked    [][]consent.Address // by Lookup
	down     error               // of all calls
	broken   consent.Address     // whose record cannot be read
	short    bool                // Lookup returns a result too few
	mute     bool                // Watch fails
	unsure   bool                // Watch does not say up to when all is told
	watched  int                 // calls of Watch
	keys     chan consent.Told   // of the last subscription, nil once it was cut
	watching context.Context     // that of the last subscription
	closed   bool
}

type changed struct {
	who     consent.Address
	version uint64
	at      time.Time
}

func newFake() *fake { return &fake{versions: make(map[consent.Address]uint64)} }

func (f *fake) Key(who consent.Address) consent.Key { return sha256.Sum256([]byte(who.String())) }

func (f *fake) Lookup(_ context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	call(f.before)
	defer call(f.after)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, slices.Clone(people))
	if f.down != nil {
		return failed(len(people), f.down), f.down
	}
	rs := make([]consent.Result, len(people))
	for i, who := range people {
		if who == f.broken {
			rs[i].Err = errDown
			continue
		}
		v := f.versions[who]
		rs[i] = consent.Result{Scope: consent.Record{Scope: scope, Version: v}, Any: consent.Record{Scope: consent.AnyScope, Version: v}}
	}
	if f.short {
		rs = rs[1:]
	}
	return rs, nil
}

func (f *fake) Apply(_ context.Context, changes []consent.Change) ([]consent.Result, error) {
	rs := make([]consent.Result, len(changes))
	for i, c := range changes {
		rs[i].Scope.Version = f.change(c.Who)
	}
	call(f.committed)
	return rs, f.down
}

func (f *fake) Rename(_ context.Context, old, new consent.Address, _ consent.Source, _ time.Time) error {
	f.change(old)
	f.change(new)
	return f.down
}

func (f *fake) Erase(_ context.Context, who consent.Address) error {
	f.change(who)
	return f.down
}

func (f *fake) AcceptStore(context.Context) error { return f.down }

func (f *fake) Watch(ctx context.Context) (<-chan consent.Told, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched++
	if f.mute {
		return nil, errDown
	}
	f.keys, f.watching = make(chan consent.Told, 1), ctx
	if !f.unsure {
		f.keys <- consent.Told{UpTo: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	return f.keys, nil
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

// change is one through another gateway, not yet told. It returns the new version.
func (f *fake) change(who consent.Address) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.versions[who]++
	f.changes = append(f.changes, changed{who, f.versions[who], time.Now()})
	return f.versions[who]
}

func (f *fake) version(who consent.Address) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.versions[who]
}

// tell says that who was changed and returns once that was taken in.
func (f *fake) tell(who consent.Address) {
	f.keys <- consent.Told{Key: f.Key(who)}
	synctest.Wait()
}

// cut ends the subscription and returns once that was taken in.
func (f *fake) cut() {
	f.mu.Lock()
	close(f.keys)
	f.keys = nil
	f.mu.Unlock()
	synctest.Wait()
}

// setMute lets Watch fail, or succeed again.
func (f *fake) setMute(mute bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = mute
}

func (f *fake) watches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watched
}

// asks returns what Lookup was asked since the last call.
func (f *fake) asks() [][]consent.Address {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.asked
	f.asked = nil
	return all
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func who(t testing.TB, mailbox string) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
