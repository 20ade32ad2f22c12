package web

import (
	"sync"
	"time"
)

// limit counts what may happen only so often for each key. Its memory is bounded: where it holds
// maxKeys that are in use, a part of them is forgotten for a new one.
type limit[K comparable] struct {
	times []allowance // all of them hold
	mu    sync.Mutex
	past  map[K][]time.Time // the latest, oldest first; as many as the largest allowance
}

// allowance is how often something may happen within a time.
type allowance struct {
	most int
	per  time.Duration
}

const maxKeys = 20_000

func newLimit[K comparable](times ...allowance) *limit[K] {
	return &limit[K]{times: times, past: map[K][]time.Time{}}
}

// take counts one more, unless there were too many: then it returns after what time there is room.
func (l *limit[K]) take(key K, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	past := l.past[key]
	most := 0
	for _, a := range l.times {
		most = max(most, a.most)
		if n := len(past) - a.most; n >= 0 {
			wait = max(wait, past[n].Add(a.per).Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	if past == nil && len(l.past) >= maxKeys {
		l.forget(now)
	}
	if len(past) == most {
		past = append(past[:0], past[1:]...)
	}
	l.past[key] = append(past, now)
	return 0
}

// giveBack takes the latest one of key out of the count.
func (l *limit[K]) giveBack(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if past := l.past[key]; len(past) > 1 {
		l.past[key] = past[:len(past)-1]
	} else {
		delete(l.past, key)
	}
}

// forget drops all keys whose time is over, and a quarter at least, so that it is seldom called.
func (l *limit[K]) forget(now time.Time) {
	longest := time.Duration(0)
	for _, a := range l.times {
		longest = max(longest, a.per)
	}
	for key, past := range l.past {
		if now.Sub(past[len(past)-1]) >= longest {
			delete(l.past, key)
		}
	}
	for key := range l.past {
		if len(l.past) <= maxKeys*3/4 {
			return
		}
		delete(l.past, key)
	}
}
