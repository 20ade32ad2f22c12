package relay

import (
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// In mode spool two things want the processor: taking mail in, and making and signing the copies of what was taken.
// The first is several times cheaper, and somebody waits for it, so where mail comes in faster than it leaves it
// goes first: each time that a message was read or a copy signed, a rest follows that is restRatio times as long,
// maxRest at most, in which others have the processor. That ends where mail waits for its attempt longer than
// maxLag, until there is hardly a lag any more, and where what was accepted is ahead of what was tried by maxFresh
// messages. From there on an answer waits for the attempts to catch up, maxYield at most: accepting gets slower, and
// never ends. It waits only while the processors are what is short. Where the smarthost is, or max_per_second, the
// spool is there for that.
const (
	restRatio = 8
	maxRest   = 10 * time.Millisecond
	maxLag    = 5 * time.Second
	maxFresh  = 10_000
	maxYield  = time.Second
)

// isUrgent reports whether mail of that class must not wait behind a newsletter: a password, say, but no report, which
// is machine's.
func isUrgent(class consent.Class, machine bool) bool {
	return class == consent.Transactional && !machine
}

// turn waits until one of the processors is free of other work on copies of what waits, and returns what is to be
// called when that work is done. Without it a command that comes in would stand in line behind as many signatures
// as copies may be under way at once, and a sender that waits for each answer would get nowhere. Mail that is urgent
// has a line of its own, and no rests.
func (q *queue) turn(urgent bool) (end func()) {
	turns := q.turns[1]
	if urgent {
		turns = q.turns[0]
	}
	turns <- struct{}{}
	began := time.Now()
	return func() {
		if urgent || !q.rests() {
			<-turns
			return
		}
		time.AfterFunc(min(restRatio*time.Since(began), maxRest), func() { <-turns })
	}
}

// rests reports whether the processors are to be left to mail that comes in.
func (q *queue) rests() bool { return q.comesIn() && processorsAreShort() }

// comesIn reports whether a message came in just now, and nothing waits too long for its attempt.
func (q *queue) comesIn() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.server.cfg.Now()
	var lag time.Duration
	if line := q.due[1]; len(line) > 0 {
		lag = now.Sub(line[0].due)
	}
	q.late = lag > maxLag || q.late && lag > maxLag/100
	return !q.late && q.fresh <= q.maxFresh && now.Sub(q.taken) < maxRest
}

// processorsAreShort reports whether there waits as much for a processor as there are processors. Where mail comes in at
// a rate at which it can leave, that is rare.
func processorsAreShort() bool {
	waiting := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}
	metrics.Read(waiting)
	return waiting[0].Value.Uint64() >= uint64(runtime.GOMAXPROCS(0))
}

// take takes up a message that was just put into the spool, and is to be tried for the first time.
func (q *queue) take(stored spool.Message) {
	q.mu.Lock()
	q.fresh++
	q.mu.Unlock()
	q.push(&item{id: stored.ID, fresh: true}, stored)
}

// begin notes that an attempt for it begins.
func (q *queue) begin(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.fresh {
		it.fresh = false
		q.fresh--
	}
	if q.eased != nil && q.fresh <= q.maxFresh {
		close(q.eased)
		q.eased = nil
	}
}

// yield lets delivery catch up where it is far behind, before the next message is accepted.
func (q *queue) yield() {
	q.mu.Lock()
	if q.fresh <= q.maxFresh || len(q.turns[0])+len(q.turns[1]) < cap(q.turns[1]) || q.server.cfg.Now().Sub(q.took) >= wakeEvery {
		q.mu.Unlock()
		return
	}
	if q.eased == nil {
		q.eased = make(chan struct{})
	}
	eased := q.eased
	q.mu.Unlock()
	limit := time.NewTimer(q.maxYield)
	defer limit.Stop()
	select {
	case <-eased:
	case <-limit.C:
	case <-q.server.sending.Done():
	}
}
