package relay

import (
	"time"

	"github.com/consentgate/consentgate/relay/spool"
)

// In mode spool two things want the processor: taking mail in, and making and signing the copies of what was
// taken. The first is several times cheaper, so by itself it would win as long as a sender has more, and mail
// would get old in the spool. So what is accepted may be ahead of what was tried by maxFresh messages. From
// there on an answer waits for the attempts to catch up, maxYield at most: accepting gets slower, and never
// ends. It waits only while the processors are what is short. Where the smarthost is, or max_per_second, the
// spool is there for that.
const (
	maxFresh = 10_000
	maxYield = time.Second
)

// turn waits until one of the processors is free of other work on copies of what waits, and returns what is to be
// called when that work is done. Without it a command that comes in would stand in line behind as many signatures
// as copies may be under way at once, and a sender that waits for each answer would get nowhere.
func (q *queue) turn() (end func()) {
	q.turns <- struct{}{}
	return func() { <-q.turns }
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
	if q.fresh <= q.maxFresh || len(q.turns) < cap(q.turns) || q.server.cfg.Now().Sub(q.took) >= wakeEvery {
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
