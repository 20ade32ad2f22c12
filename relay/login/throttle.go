package login

import (
	"hash/maphash"
	"sync"
	"time"
)

// throttle makes those wait who failed. It holds a fixed number of places, so that strangers can
// neither fill the memory nor push each other out; keys that share a place wait for each other.
type throttle struct {
	seed maphash.Seed

	mu    sync.Mutex
	slots [4096]slot
}

type slot struct {
	failures int
	last     time.Time // the last failure
	free     time.Time // when the next may come
}

const (
	firstDelay = 250 * time.Millisecond
	lastDelay  = 30 * time.Second
	forgetting = 15 * time.Minute // without a failure
)

func newThrottle() *throttle { return &throttle{seed: maphash.MakeSeed()} }

func (t *throttle) bucket(key string) int {
	return int(maphash.String(t.seed, key) % uint64(len(t.slots)))
}

// delay doubles with each failure.
func (s *slot) delay(now time.Time) time.Duration {
	if now.Sub(s.last) > forgetting {
		s.failures = 0
	}
	if s.failures == 0 {
		return 0
	}
	return min(firstDelay<<min(s.failures-1, 20), lastDelay)
}

// reserve takes the next turn of key and returns how long it is until then. Where that is longer
// than patience, no turn is taken.
func (t *throttle) reserve(key string, now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[t.bucket(key)]
	wait := max(s.free.Sub(now), 0)
	if wait > patience {
		return 0, false
	}
	s.free = now.Add(wait + s.delay(now))
	return wait, true
}

// clean reports whether key has not failed lately.
func (t *throttle) clean(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slots[t.bucket(key)].delay(now) == 0
}

// failed notes a failure.
func (t *throttle) failed(key string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[t.bucket(key)]
	s.delay(now) // forgets old ones
	s.failures++
	s.last = now
	if free := now.Add(s.delay(now)); free.After(s.free) {
		s.free = free
	}
}
