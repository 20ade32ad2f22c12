package relay

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
)

// queue delivers what waits in the spool. An attempt is for all of a message's recipients that are
// still owed a copy. In memory is only when each message's next attempt is due, by a clock that
// nobody sets: a wall clock that jumps neither expires mail nor lets it all go at once.
type queue struct {
	server *Server
	spool  *spool.Spool
	poke   [2]chan struct{} // something may be due earlier than it was; for who takes only of due[0], and for who takes of both

	turns [2]chan struct{} // hold one element for each that works on a copy, in the order of due, see turn

	// The constants, but in tests.
	maxFresh int
	maxYield time.Duration

	mu        sync.Mutex
	items     map[string]*item
	due       [2]dueHeap    // of those without an attempt under way: of class transactional, which go first, and the others
	recovered time.Time     // when outages were last seen to be over
	took      time.Time     // when the smarthost last took a copy
	silent    bool          // the store did not answer when it was last asked
	answered  time.Time     // when it was last seen to be back
	hold      time.Time     // until then it is not asked, since it did not answer just now
	fresh     int           // messages before their first attempt
	taken     time.Time     // when a message that is not urgent last came in
	late      bool          // mail waited too long for its attempts, and still does so
	eased     chan struct{} // closed when fresh is no more than maxFresh; nil = nobody waits for that
}

// item is a message that waits.
type item struct {
	id     string
	urgent bool // of class transactional and no report: a password must not wait behind a newsletter
	due    time.Time
	since  time.Time // up to when the records in the spool count the waiting
	loaded bool      // it was there when this process began: before since, the wall clock says how long it waited
	outage bool      // it waits for the smarthost to come back, which works may tell
	woken  bool      // works made it due, before its time
	asks   bool      // it waits for the store to come back, which asked may tell
	fresh  bool      // it counts in queue.fresh
	at     int       // place in the heap; -1 = an attempt is under way
	now    bool      // then: the next is to follow at once

	// What could not be written down. Until it is there is no other attempt.
	unsaved []spool.Change
	reports []spool.New
}

func newQueue(s *Server, sp *spool.Spool) *queue {
	q := &queue{server: s, spool: sp, maxFresh: maxFresh, maxYield: maxYield, items: map[string]*item{}}
	for i := range q.due {
		q.turns[i] = make(chan struct{}, runtime.GOMAXPROCS(0))
		q.poke[i] = make(chan struct{}, 1)
	}
	for _, m := range sp.All() {
		it := &item{id: m.ID, loaded: true}
		if it.fresh = !slices.ContainsFunc(m.Recipients, func(r spool.Recipient) bool { return r.Attempts > 0 }); it.fresh {
			q.fresh++
		}
		q.push(it, m)
	}
	return q
}

// add takes up a message that was just put into the spool.
func (q *queue) add(m spool.Message) { q.push(&item{id: m.ID}, m) }

func (q *queue) push(it *item, m spool.Message) {
	it.urgent = isUrgent(consent.Class(m.Envelope.Class), m.Envelope.Machine)
	it.since = q.server.cfg.Now()
	it.due = it.since.Add(wait(m, it.since))
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.fresh && !it.urgent {
		q.taken = it.since
	}
	q.items[it.id] = it
	heap.Push(q.line(it), it)
	q.wake()
}

// line is the heap in which an item waits.
func (q *queue) line(it *item) *dueHeap {
	if it.urgent {
		return &q.due[0]
	}
	return &q.due[1]
}

// wait is how long the first of m's recipients still waits. Where the wall clock was set meanwhile,
// that is no longer than the delay that was meant.
func wait(m spool.Message, now time.Time) time.Duration {
	first := maxDelay
	for _, r := range m.Recipients {
		first = min(first, min(max(r.Due.Sub(now), 0), r.Delay))
	}
	return first
}

func (q *queue) wake() {
	for _, poke := range q.poke {
		select {
		case poke <- struct{}{}:
		default:
		}
	}
}

// urgentDeliveries is how many messages of class transactional are on their way at once beside all the others,
// each of which may be one to thousands.
const urgentDeliveries = 2

// run makes attempts, several at once, until ctx is done; then no copy is begun any more. It returns when
// none is under way. What an attempt still waits for is given up when sending ends.
func (q *queue) run(ctx, sending context.Context) {
	var both sync.WaitGroup
	both.Go(func() { q.attempts(ctx, sending, 1, urgentDeliveries) })
	both.Go(func() { q.attempts(ctx, sending, len(q.due), q.server.cfg.MaxDeliveries) })
	both.Wait()
}

// attempts makes those of the first lines of q.due, so many at once. Who makes them goes on to the next: a stack that
// has grown once for reading and signing need not do so for each message.
func (q *queue) attempts(ctx, sending context.Context, lines, most int) {
	var taking sync.Mutex
	take := func() *item {
		taking.Lock()
		defer taking.Unlock()
		return q.next(ctx, lines)
	}
	var underWay sync.WaitGroup
	for range most {
		underWay.Go(func() {
			for it := take(); it != nil; it = take() {
				q.deliver(ctx, sending, it)
			}
		})
	}
	underWay.Wait()
}

// next waits for a message of the first lines of q.due that is due and takes it out of the heap; nil when ctx is done.
func (q *queue) next(ctx context.Context, lines int) *item {
	for {
		q.mu.Lock()
		pause := time.Hour
		now := q.server.cfg.Now()
		for i := range lines {
			line := &q.due[i]
			if len(*line) == 0 {
				continue
			}
			first := max((*line)[0].due.Sub(now), q.hold.Sub(now))
			if first <= 0 && ctx.Err() == nil {
				it := heap.Pop(line).(*item)
				q.mu.Unlock()
				return it
			}
			pause = min(pause, first)
		}
		q.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-q.poke[lines-1]:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// deliver makes an attempt for a message, and puts it back or forgets it.
func (q *queue) deliver(ctx, sending context.Context, it *item) {
	q.begin(it)
	defer q.back(it)
	if !q.save(it, nil, nil) {
		return
	}
	stored, ok := q.spool.Get(it.id)
	if !ok {
		return
	}
	m, err := q.load(stored, it.urgent)
	if err != nil {
		q.unreadable(it, stored, err)
		return
	}
	defer m.body.Close()

	all := make(chan numbered, len(m.env.rcpts))
	attempt := func() {
		defer close(all)
		q.server.attempt(sending, ctx, m, func(i int, o *outcome) { all <- numbered{i, o} })
	}
	if len(m.env.rcpts) == 1 {
		attempt() // there is nothing to follow meanwhile
	} else {
		go attempt()
	}
	q.settle(it, m, q.follow(it, m, all))
}

// follow returns the outcomes of an attempt once all are there. What has left is written down as it
// comes, all that there is at a time: after a crash it would leave once more. Where a report is due as
// well, the two are written together, later.
func (q *queue) follow(it *item, m *message, all <-chan numbered) []*outcome {
	outcomes := make([]*outcome, len(m.env.rcpts))
	for t := range all {
		var changes []spool.Change
		for more := true; more; {
			outcomes[t.i] = t.outcome
			if r := m.env.rcpts[t.i]; t.fate() == done && !m.wantsRelayed(r, t.outcome) {
				changes = append(changes, spool.Change{Index: r.index, Done: true})
			}
			select {
			case t, more = <-all:
			default:
				more = false
			}
		}
		if len(changes) > 0 && len(outcomes) > 1 {
			q.save(it, changes, nil)
		}
	}
	return outcomes
}

func (q *queue) load(stored spool.Message, urgent bool) (m *message, err error) {
	defer q.server.caught(stored.ID, &err)
	text, err := q.spool.Body(stored.ID)
	if err != nil {
		return nil, err
	}
	defer func() {
		if m == nil { // for a panic, too
			text.Close()
		}
	}()
	defer q.turn(urgent)()
	if m, err = q.server.restore(stored, &body{ReaderAt: text, size: text.Size(), spooled: text}); err != nil {
		return nil, err
	}
	m.queued = true
	return m, nil
}

// settle writes down what became of the recipients of m that have an outcome.
func (q *queue) settle(it *item, m *message, outcomes []*outcome) {
	s := q.server
	stored, ok := q.spool.Get(it.id)
	if !ok {
		return
	}
	now := s.cfg.Now()
	var changes []spool.Change
	var told news
	delay := maxDelay
	it.outage, it.asks = false, false
	for i, o := range outcomes {
		r := m.env.rcpts[i]
		k := slices.IndexFunc(stored.Recipients, func(w spool.Recipient) bool { return w.Index == r.index })
		if o == nil || k < 0 || slices.ContainsFunc(it.unsaved, func(c spool.Change) bool { return c.Index == r.index }) {
			continue
		}
		w := stored.Recipients[k]
		w.Waited += it.waited(w, now)
		c := spool.Change{Index: r.index, Done: true}
		switch fate := o.fate(); {
		case fate != later:
			told.note(m, r, o)
		case w.Waited >= m.retryFor():
			told.expired(m, r, o)
			s.cfg.Metrics.Bounced(m.countedAs(), metrics.BouncedExpired)
			s.copied(m, r, o, "expired")
			s.log.expired(m, r)
		default:
			w = m.again(w, o, now)
			w.Delayed = told.delayed(m, r, w, o, min(noticeAfter, m.retryFor()/2)) || w.Delayed
			m.retryUntil = now.Add(m.retryFor() - w.Waited)
			c = state(w)
			delay = min(delay, w.Delay)
			if o.decision.Mail == consent.Defer {
				it.asks = true
			} else if o.outage() {
				it.outage = true
			}
		}
		changes = append(changes, c)
	}
	waiting := 0
	for i := range changes { // one attempt for all, when the first is due
		if c := &changes[i]; !c.Done {
			c.Delay, c.Due = delay, now.Add(delay)
			waiting++
		}
	}
	if waiting > 0 {
		s.log.waits(m, waiting, delay)
	}
	// What fails again though all seemed well has a reason of its own, and keeps to its time.
	it.outage, it.woken = it.outage && !it.woken, false
	it.since, it.loaded = now, false
	q.save(it, changes, s.reports(m, told, now))
}

// waited is how long w waited since its record in the spool was written.
func (it *item) waited(w spool.Recipient, now time.Time) time.Duration {
	d := max(now.Sub(it.since), 0)
	if it.loaded && w.Attempts > 0 {
		d += min(max(it.since.Round(0).Sub(w.Due.Add(-w.Delay)), 0), w.Delay)
	}
	return d
}

// save writes changes and reports down, with what could not be before, in one step.
func (q *queue) save(it *item, changes []spool.Change, reports []spool.New) bool {
	it.unsaved = append(it.unsaved, changes...)
	it.reports = append(it.reports, reports...)
	if len(it.unsaved) == 0 {
		return true
	}
	err := q.spool.Update(it.id, it.unsaved, it.reports...)
	if errors.Is(err, spool.ErrNotFound) { // an operator removed it meanwhile
		it.unsaved, it.reports = nil, nil
		return false
	}
	if err != nil {
		q.server.log.Error("the spool does not take down what became of a message; it is tried again, and until then there is no other attempt", "id", it.id, "err", err)
		return false
	}
	for _, n := range it.reports {
		q.add(n.Message)
	}
	it.unsaved, it.reports = nil, nil
	return true
}

// saveAgain is the pause before what could not be written down is tried again.
const saveAgain = 10 * time.Second

// back puts an item into the heap behind an attempt, or forgets it where nothing is owed any more.
func (q *queue) back(it *item) {
	now := q.server.cfg.Now()
	m, waits := q.spool.Get(it.id)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(it.unsaved) > 0:
		it.due = now.Add(saveAgain)
	case !waits:
		delete(q.items, it.id)
		return
	case it.now, it.asks && !q.silent: // the store came back while that attempt was under way
		it.due = now
	default:
		it.due = now.Add(wait(m, now))
	}
	it.now = false
	heap.Push(q.line(it), it)
	q.wake()
}

// adopt takes up a message whose attempt began before it was put into the spool: late brings the
// outcomes of those that are in it.
func (q *queue) adopt(m *message, late <-chan numbered) {
	it := &item{id: m.id, urgent: isUrgent(m.class, m.machine), at: -1, since: q.server.cfg.Now()}
	q.mu.Lock()
	q.items[it.id] = it
	q.mu.Unlock()
	q.settle(it, m, q.follow(it, m, late))
	q.back(it)
}

// unreadable deals with a message that the spool cannot give back.
func (q *queue) unreadable(it *item, stored spool.Message, err error) {
	q.server.log.Error("a message in the spool cannot be read", "id", it.id, "err", err)
	var e *Error
	switch {
	case errors.Is(err, spool.ErrDamaged):
		err = refuse(554, "5.3.0", "the message was damaged on the relay's disk and could not be sent", err)
	case !errors.As(err, &e):
		err = internal(err)
	}
	m, bad := q.server.envelopeOf(stored)
	if bad != nil { // of another version, or of other hands: it stays for somebody to look at
		q.server.log.Error("a message in the spool has no recipients that can be read", "id", it.id, "err", bad)
		q.putOff(it, stored)
		return
	}
	outcomes := make([]*outcome, len(m.env.rcpts))
	for i := range outcomes {
		outcomes[i] = &outcome{err: err}
	}
	q.settle(it, m, outcomes)
}

// putOff lets a message wait as long as any does.
func (q *queue) putOff(it *item, stored spool.Message) {
	changes := make([]spool.Change, len(stored.Recipients))
	for i, r := range stored.Recipients {
		r.Delay, r.Due = maxDelay, q.server.cfg.Now().Add(maxDelay)
		changes[i] = state(r)
	}
	q.save(it, changes, nil)
}

// wakeEvery bounds how often a success makes those try again that wait for an outage to end.
const wakeEvery = 10 * time.Second

// probeEvery is how long the smarthost is left alone after it did not answer, where nobody saw it work
// lately. Without that each of all that wait would try to connect, and to log in.
const probeEvery = 5 * time.Second

// fails is told of each attempt that did not reach the smarthost.
func (q *queue) fails() {
	now := q.server.cfg.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.took) >= wakeEvery {
		q.hold = now.Add(min(probeEvery, q.server.settings().FirstRetry))
	}
}

// down returns what becomes of a copy while the smarthost is left alone; nil where it is not.
func (q *queue) down() *outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.server.cfg.Now().Before(q.hold) {
		return nil
	}
	return &outcome{err: sendError(fmt.Errorf("%w: %w", smarthost.ErrUnreachable, errHeld))}
}

// errHeld is about a copy that was not offered to anybody.
var errHeld = errors.New("it did not answer just now")

// asked is told of each lookup whether the store answered: what waits for it need not wait any longer
// once it is back.
func (q *queue) asked(answered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !answered {
		q.silent = true
		return
	}
	now := q.server.cfg.Now()
	if !q.silent || now.Sub(q.answered) < wakeEvery {
		return
	}
	q.silent, q.answered = false, now
	for _, it := range q.items {
		if it.at >= 0 && it.asks {
			it.due = now
			heap.Fix(q.line(it), it.at)
		}
	}
	q.wake()
}

// works is told of each copy that the smarthost took: what waits for it to come back need not wait any
// longer.
func (q *queue) works() {
	now := q.server.cfg.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.took = now; !q.hold.IsZero() {
		q.hold = time.Time{}
		q.wake()
	}
	if now.Sub(q.recovered) < wakeEvery {
		return
	}
	q.recovered = now
	for _, it := range q.items {
		if it.at >= 0 && it.outage { // in this order: it is an attempt's while one is under way
			it.due, it.woken = now, true
			heap.Fix(q.line(it), it.at)
		}
	}
	q.wake()
}

// retry makes a message due at once; false where there is none.
func (q *queue) retry(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[id]
	q.hold = time.Time{}
	switch {
	case it == nil:
		return false
	case it.at < 0:
		it.now = true
	default:
		it.due = q.server.cfg.Now()
		heap.Fix(q.line(it), it.at)
		q.wake()
	}
	return true
}

// dueHeap orders items by when they are due, for container/heap.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *dueHeap) Push(x any) {
	it := x.(*item)
	it.at = len(*h)
	*h = append(*h, it)
}
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	*h = old[:len(old)-1]
	it.at = -1
	return it
}
