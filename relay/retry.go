package relay

import (
	"math/rand/v2"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

const (
	maxDelay = 4 * time.Hour // between two attempts
	// maxOutageDelay is the same where it is the smarthost or the store that is away, and not the
	// recipient: mail should flow soon when it is back, also where nothing new comes in that shows it.
	maxOutageDelay = 5 * time.Minute
	untriedDelay   = 5 * time.Second // where the copy was not offered to the smarthost
	noticeAfter    = 4 * time.Hour   // when a sender that asked for it hears of a delay
)

// retryFor is how long an attempt is followed by another. A report is transactional mail, and of use for
// as long as any: nothing else tells of what was lost.
func (m *message) retryFor() time.Duration {
	if m.class == consent.Transactional && !m.machine {
		return m.set.RetryForTransactional
	}
	return m.set.RetryFor
}

// again says when the copy for r is tried next. r.Waited is up to date, and below retryFor.
func (m *message) again(r spool.Recipient, o *outcome, now time.Time) spool.Recipient {
	if o.untried() {
		r.Delay = spread(untriedDelay)
	} else {
		r.Attempts++
		limit := maxDelay
		if o.outage() {
			limit = maxOutageDelay
		}
		r.Delay = backoff(m.set.FirstRetry, limit, r.Attempts)
	}
	// The last attempt comes at the very end, and not a delay before it.
	if left := m.retryFor() - r.Waited; r.Delay > left {
		r.Delay = left
	}
	r.Due = now.Add(r.Delay)
	r.Reply = o.lastWord().String()
	return r
}

// state is w as a change of what the spool knows of it.
func state(w spool.Recipient) spool.Change {
	return spool.Change{Index: w.Index, Attempts: w.Attempts, Due: w.Due, Delay: w.Delay, Waited: w.Waited, Delayed: w.Delayed, Reply: w.Reply}
}

// backoff doubles first with each attempt up to limit, and spreads it.
func backoff(first, limit time.Duration, attempts int) time.Duration {
	d := min(first, limit)
	for i := 1; i < attempts && d < limit; i++ {
		d = min(2*d, limit)
	}
	return spread(d)
}

// spread keeps what failed together from coming back together: up to a fifth more or less.
func spread(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d/5)*2+1))
}
