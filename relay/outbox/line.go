package outbox

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/consentgate/consentgate/relay/spool"
)

// Jobs stand in lines, of which only the first is worked on; lines belong to a target, the server
// that they call.

// item is a job that waits. Outbox.mu guards it.
type item struct {
	id       string
	queue    string
	line     *line
	payload  []byte // only where there is no spool
	attempts int
	waited   time.Duration // up to since
	since    time.Time
	held     bool      // a change is being made, of which it is to tell
	from     time.Time // it is not to be done before
	finished bool      // it is only to be removed
}

type line struct {
	name   string
	target *target
	items  []*item
	due    time.Time
	at     int    // place in the target's heap; -1 = not in it, a job is being worked on
	told   uint64 // of a person's history, the last number that was told since the line was begun
	outage bool   // it waits for the target to come back
	woken  bool   // it was made due, before its time, since the target did
}

// target is a server.
type target struct {
	name     string
	lines    lineHeap // that are not worked on
	active   int
	failures int       // in a row that were outages
	hold     time.Time // until then it is left alone
	woke     time.Time // when those that waited for it were last made due
}

const (
	maxCalls     = 16 // at once
	webhookCalls = 8  // of them to the webhook
	chainCalls   = 2  // of them to one host

	firstHold   = time.Second // how long a server is left alone that did not answer
	lastHold    = time.Minute
	wakeEvery   = 10 * time.Second // bounds how often a success makes those due that waited for it
	expireEvery = 10 * time.Minute

	webhookTarget = "webhook"
	nothingToDo   = time.Hour
	farAway       = 1 << 20 * time.Hour // when a held job is due
)

// restored is a job of the spool, as it was left.
func restored(m spool.Message, now time.Time) *item {
	r := m.Recipients[0]
	it := &item{id: m.ID, attempts: r.Attempts, waited: r.Waited, since: now}
	if r.Attempts > 0 {
		it.waited += min(max(now.Round(0).Sub(r.Due.Add(-r.Delay)), 0), r.Delay)
	}
	return it
}

// about is the key of the person that the line is about.
func (l *line) about() string {
	_, name, _ := strings.Cut(l.name, " ")
	key, _, _ := strings.Cut(name, "/")
	return key
}

// put puts a job at the end of its line. Changes and copies share a person's line, so that all that the
// webhook is told of somebody keeps its order.
func (o *Outbox) put(it *item, j spool.Job, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name, host := webhookTarget, webhookTarget
	if strings.HasPrefix(j.Queue, chainQueue) {
		name, host = "chain", j.Queue
	}
	name += " " + j.Line
	l := o.lines[name]
	if l == nil {
		t := o.targets[host]
		if t == nil {
			t = &target{name: host}
			o.targets[host] = t
		}
		l = &line{name: name, target: t, at: -1}
		o.lines[name] = l
	}
	it.line, it.queue = l, j.Queue
	l.items = append(l.items, it)
	o.waiting++
	o.kinds[kindOfQueue(j.Queue)]++
	if len(l.items) == 1 && l.at < 0 {
		l.due = it.dueFrom(now)
		heap.Push(&l.target.lines, l)
	}
}

func (it *item) dueFrom(at time.Time) time.Time {
	if it.held {
		return at.Add(farAway)
	}
	if it.from.After(at) {
		return it.from
	}
	return at
}

// release lets held jobs be done, from a time on.
func (o *Outbox) release(items []*item, from time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		it.held, it.from = false, from
		if l := it.line; l.at >= 0 && l.items[0] == it {
			l.due = from
			heap.Fix(&l.target.lines, l.at)
		}
	}
	o.wake()
}

func (o *Outbox) wake() {
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// next takes a line out whose first job is due, or returns how long there is none.
func (o *Outbox) next() (*line, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls >= maxCalls {
		return nil, nothingToDo
	}
	now := o.cfg.Now()
	pause := nothingToDo
	for _, t := range o.targets {
		if len(t.lines) == 0 || t.active >= t.limit() {
			continue
		}
		wait := max(t.lines[0].due.Sub(now), t.hold.Sub(now))
		if wait <= 0 {
			l := heap.Pop(&t.lines).(*line)
			t.active++
			o.calls++
			return l, 0
		}
		pause = min(pause, wait)
	}
	return nil, pause
}

// limit is how many calls to t there may be at once: one, while it is to be found out whether it answers.
func (t *target) limit() int {
	switch {
	case t.failures > 0:
		return 1
	case t.name == webhookTarget:
		return webhookCalls
	}
	return chainCalls
}

// head returns the first job of a line that is worked on, and whether it is only to be removed.
func (o *Outbox) head(l *line) (it *item, finished bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(l.items) == 0 {
		return nil, false
	}
	return l.items[0], l.items[0].finished
}

// back ends the work on a line, whose first job is due at that time. A line without jobs is forgotten.
func (o *Outbox) back(l *line, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := l.target
	t.active--
	o.calls--
	if len(l.items) > 0 {
		l.due = l.items[0].dueFrom(due)
		heap.Push(&t.lines, l)
	} else {
		o.forgetLine(l)
	}
	o.wake()
}

// forgetLine: o.mu is held. What is known of a target that does not answer is kept while others wait for it.
func (o *Outbox) forgetLine(l *line) {
	if o.lines[l.name] == l {
		delete(o.lines, l.name)
	}
	if t := l.target; len(t.lines) == 0 && t.active == 0 {
		delete(o.targets, t.name)
	}
}

// drop takes a job out of its line, wherever it stands.
func (o *Outbox) drop(it *item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := it.line
	i := slices.Index(l.items, it)
	if i < 0 {
		return
	}
	l.items = slices.Delete(l.items, i, i+1)
	o.waiting--
	o.kinds[kindOfQueue(it.queue)]--
	switch {
	case l.at < 0: // back goes on with it
	case len(l.items) == 0:
		heap.Remove(&l.target.lines, l.at)
		o.forgetLine(l)
	case i == 0:
		l.due = l.items[0].dueFrom(o.cfg.Now())
		heap.Fix(&l.target.lines, l.at)
	}
}

// waited is how long a job has waited, not counting when no gateway ran.
func (o *Outbox) waited(it *item) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return it.waitedAt(o.cfg.Now())
}

func (it *item) waitedAt(now time.Time) time.Duration { return it.waited + max(now.Sub(it.since), 0) }

// judge learns from an answer whether the target of l works. Where it does again, those that waited for that
// need not wait any longer; what then fails once more has a reason of its own, and keeps to its time.
func (o *Outbox) judge(l *line, a answer, now time.Time) {
	if a.local || a.err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	t := l.target
	if a.outage {
		l.outage, l.woken = !l.woken, false
		t.failures++
		t.hold = now.Add(max(backoff(firstHold, lastHold, t.failures), a.after))
		return
	}
	l.outage, l.woken = false, false
	t.failures, t.hold = 0, time.Time{}
	if now.Sub(t.woke) < wakeEvery {
		return
	}
	t.woke = now
	for _, other := range t.lines {
		if it := other.items[0]; other.outage && other.due.After(now) && !it.held {
			other.due, other.outage, other.woken = it.dueFrom(now), false, true
		}
	}
	heap.Init(&t.lines)
}

// expire gives up what waited for a day behind servers that do not answer, where nothing else tries it.
func (o *Outbox) expire() {
	now := o.cfg.Now()
	o.mu.Lock()
	var over []*line
	for _, t := range o.targets {
		if t.failures == 0 {
			continue
		}
		for _, l := range slices.Clone(t.lines) {
			if it := l.items[0]; !it.held && it.waitedAt(now) >= retryFor {
				heap.Remove(&t.lines, l.at)
				t.active++
				o.calls++
				over = append(over, l)
			}
		}
	}
	o.mu.Unlock()
	for _, l := range over {
		it, _ := o.head(l)
		o.settle(l, it, answer{said: "it did not answer", local: true})
	}
}

// backoff doubles first with each attempt up to limit, and spreads it by a fifth.
func backoff(first, limit time.Duration, attempts int) time.Duration {
	d := min(first, limit)
	for i := 1; i < attempts && d < limit; i++ {
		d = min(2*d, limit)
	}
	return d - d/5 + rand.N(d/5*2+1)
}

// lineHeap orders lines by when they are due, for container/heap.
type lineHeap []*line

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h lineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *lineHeap) Push(x any) {
	l := x.(*line)
	l.at = len(*h)
	*h = append(*h, l)
}
func (h *lineHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	*h = old[:len(old)-1]
	l.at = -1
	return l
}
