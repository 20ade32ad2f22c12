package relay

import (
	"sync/atomic"

	"github.com/consentgate/consentgate/consent"
)

// Stats is how many messages, counted for each recipient, came to what since the start, and what else
// is counted. Of Forwarded to NotSigned, one that is tried several times counts each time.
type Stats struct {
	Accepted   uint64 // answered 250, discarded ones included
	Forwarded  uint64 // taken by the smarthost
	Refused    uint64 // answered 4yz or 5yz for another reason than the next two
	Suppressed uint64 // the person had unsubscribed; refused or discarded
	Deferred   uint64 // the consent store did not answer
	NotSigned  uint64 // there is a key, and it was not for the message's From

	Unchained uint64 // copies whose sender's one-click address is too long for a token

	Unsubscribed uint64 // by mail
	FailedLogins uint64
}

type counters struct {
	accepted, forwarded, refused, suppressed, deferred, notSigned, unchained, unsubscribed, failedLogins atomic.Uint64
}

// Stats returns the numbers of now.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Accepted: c.accepted.Load(), Forwarded: c.forwarded.Load(), Refused: c.refused.Load(),
		Suppressed: c.suppressed.Load(), Deferred: c.deferred.Load(), NotSigned: c.notSigned.Load(),
		Unchained: c.unchained.Load(), Unsubscribed: c.unsubscribed.Load(), FailedLogins: c.failedLogins.Load(),
	}
}

func (c *counters) count(o *outcome) {
	switch {
	case o.decision.Mail == consent.Suppress:
		c.suppressed.Add(1)
	case o.decision.Mail == consent.Defer:
		c.deferred.Add(1)
	case o.err == nil:
		c.forwarded.Add(1)
	default:
		c.refused.Add(1)
	}
	if o.unchained {
		c.unchained.Add(1)
	}
	if o.unsigned != "" {
		c.notSigned.Add(1)
	}
}
