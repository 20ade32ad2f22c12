package cache

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// memory is what one subscription keeps.
//
// People are dropped by counting up the epoch of their shard, without a look at what is kept: an
// entry is good only while its shard has the epoch that was read before the store was asked. So an
// answer that was under way when its person was dropped is never good, and dropping waits for
// nobody. A shard is a 65,536th of all people, so few others are dropped along.
type memory struct {
	ttl    time.Duration
	max    int
	upTo   atomic.Int64 // all changes are told up to then, in time since the Store was begun
	epochs [1 << 16]atomic.Uint32

	mu      sync.RWMutex
	entries map[slot]*entry
	// queue has all entries in the order in which they were kept, which is near enough the one in
	// which they end; also those whose slot another one has taken since. Its length is what max bounds.
	queue []*entry
}

type slot struct {
	who   consent.Address
	scope consent.Scope
}

// entry keeps an answer as text, which takes a third of the memory and is read in a fraction of a
// microsecond.
type entry struct {
	slot
	mark
	asked    time.Duration
	own, any string // what consent.RecordText makes of the two records
}

// mark is the epoch of a person's shard at a moment.
type mark struct {
	epoch uint32
	shard uint16
}

func newMemory(ttl time.Duration, max int) *memory {
	m := &memory{ttl: ttl, max: max, entries: make(map[slot]*entry)}
	m.upTo.Store(math.MinInt64 / 2) // nothing is told yet
	return m
}

// shard takes a part of the key, which is an HMAC and so spreads people evenly.
func shard(key consent.Key) uint16 { return binary.BigEndian.Uint16(key[:]) }

// mark is taken before the store is asked.
func (m *memory) mark(key consent.Key) mark {
	n := shard(key)
	return mark{epoch: m.epochs[n].Load(), shard: n}
}

func (m *memory) drop(key consent.Key) { m.epochs[shard(key)].Add(1) }

func (m *memory) dropAll() {
	for i := range m.epochs {
		m.epochs[i].Add(1)
	}
}

// holds says whether nobody of the mark's shard was dropped since.
func (m *memory) holds(k mark) bool { return m.epochs[k.shard].Load() == k.epoch }

// ended says whether e has lived out its time.
func (m *memory) ended(e *entry, now time.Duration) bool { return now-e.asked >= m.ttl }

// find returns a result for each of people, the zero one for those at the indexes in missing.
func (m *memory) find(now time.Duration, scope consent.Scope, people []consent.Address) (results []consent.Result, missing []int) {
	results = make([]consent.Result, len(people))
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, who := range people {
		// One from the future is of a clock that was set back.
		if e := m.entries[slot{who, scope}]; e != nil && m.holds(e.mark) && !m.ended(e, now) && e.asked <= now {
			if results[i].Parse(scope, e.own, e.any); results[i].Err == nil {
				continue
			}
			results[i] = consent.Result{}
		}
		if missing == nil {
			missing = make([]int, 0, len(people)-i)
		}
		missing = append(missing, i)
	}
	return results, missing
}

// keep takes in answers that were asked for at the time asked, those aside that are errors or
// whose person was dropped since the mark.
func (m *memory) keep(asked time.Duration, scope consent.Scope, people []consent.Address, answers []consent.Result, marks []mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, who := range people {
		if answers[i].Err != nil || !m.holds(marks[i]) {
			continue
		}
		for len(m.queue) > 0 && (len(m.queue) >= m.max || m.ended(m.queue[0], asked)) {
			m.pop()
		}
		e := &entry{slot: slot{who, scope}, mark: marks[i], asked: asked,
			own: consent.RecordText(answers[i].Scope), any: consent.RecordText(answers[i].Any)}
		m.entries[e.slot] = e
		m.queue = append(m.queue, e)
	}
}

// sweep frees what has ended, so that no record stays in memory for long once nobody asks.
func (m *memory) sweep(now time.Duration) {
	for m.sweepSome(now) {
	}
}

// sweepSome frees a part, so that lookups need not wait for all of it, and says whether there may be more.
func (m *memory) sweepSome(now time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range 1000 {
		if len(m.queue) == 0 || !m.ended(m.queue[0], now) {
			return false
		}
		m.pop()
	}
	return true
}

// pop frees the entry at the head of the queue.
func (m *memory) pop() {
	e := m.queue[0]
	m.queue[0] = nil // the array lives on
	m.queue = m.queue[1:]
	if m.entries[e.slot] == e {
		delete(m.entries, e.slot)
	}
}
