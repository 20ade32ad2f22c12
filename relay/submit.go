package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// Mode says when a sender gets its answer.
type Mode string

const (
	// Cutthrough offers each copy to the smarthost at once; what is refused for now is in the spool,
	// on disk, before the 250.
	Cutthrough Mode = "cutthrough"
	// Spooled answers as soon as the message is in the spool.
	Spooled Mode = "spool"
	// Stateless has no spool: one recipient a transaction, the smarthost's answer is the answer.
	Stateless Mode = "stateless"
)

// settleTime is how long the copies of a transaction may take before its sender is answered.
const settleTime = 30 * time.Second

// submit does what the mode asks for and says of each recipient what became of it. each says that
// the sender gets an answer a recipient (LMTP), and not one for all. Where kept is set, m's body
// is still in use, and is closed here later on. The error is an *Error: nobody was taken over.
func (s *Server) submit(m *message, each bool) (outcomes []*outcome, kept bool, err error) {
	switch s.cfg.Mode {
	case Cutthrough:
		return s.cutthrough(m, each)
	case Spooled:
		outcomes, err = s.spoolFirst(m, each)
		return outcomes, false, err
	}
	outcomes = make([]*outcome, len(m.env.rcpts))
	s.attempt(s.sending, context.Background(), m, func(i int, o *outcome) { outcomes[i] = o })
	s.reportNow(m, outcomes)
	return outcomes, false, nil
}

// verdict is what a sender is told of one recipient.
type verdict int

const (
	tell     verdict = iota // what became of the copy
	keep                    // 250, and the copy goes into the spool
	reported                // 250, and a report says why there is no copy
)

// verdicts says what the sender is told of each recipient of a transaction in mode cutthrough, by
// its outcome; that of a copy still on its way is nil.
func verdicts(outcomes []*outcome, each bool) []verdict {
	all := make([]verdict, len(outcomes))
	left := false // something has left, or has to be kept, so that the sender must not try all again
	for i, o := range outcomes {
		switch {
		case o == nil || o.fate() == later && o.decision.Mail != consent.Defer:
			all[i], left = keep, true
		case o.fate() == done:
			left = true
		}
	}
	if each || !left {
		return all
	}
	for i, o := range outcomes {
		switch {
		case o == nil:
		case o.fate() == refused:
			all[i] = reported
		case o.fate() == later:
			all[i] = keep
		}
	}
	return all
}

// cutthrough offers each copy to the smarthost, and keeps what did not get through. What is still on
// its way when settleTime is over goes on behind the sender's back.
func (s *Server) cutthrough(m *message, each bool) (outcomes []*outcome, kept bool, err error) {
	if len(m.env.rcpts) > 1 && !each {
		// Where one copy leaves and another cannot be kept, the sender has to try all again, and the one
		// leaves each time. So a full disk is met before that.
		if err := s.spool.Room(m.body.size, len(m.env.rcpts)); err != nil {
			s.log.unkept(m, err)
			return nil, false, spoolError(err)
		}
	}
	outcomes, late, giveUp := s.settle(m)
	say := verdicts(outcomes, each)

	now := s.cfg.Now()
	var owed []spool.Recipient
	var whose []int // for each of owed
	var told news
	for i, o := range outcomes {
		r := m.env.rcpts[i]
		if say[i] == keep {
			waiting := r.owed(now)
			if o != nil {
				waiting = m.again(waiting, o, now)
			}
			owed, whose = append(owed, waiting), append(whose, i)
		}
		if o != nil && (say[i] == reported || o.fate() == done) {
			told.note(m, r, o)
		}
	}
	var add []spool.New
	if len(owed) > 0 {
		add = append(add, m.waiting(owed))
	}
	reports := s.reports(m, told, now)
	if add = append(add, reports...); len(add) > 0 {
		if err := s.spool.Add(add...); err != nil {
			s.log.unkept(m, err)
			giveUp()
			kept = s.behind(m, late, func() {
				for range late {
				}
			})
			err = spoolError(err)
			if !each && slices.ContainsFunc(say, func(v verdict) bool { return v != tell }) {
				// What has left may leave once more, since the sender will try again: better than not at all.
				return nil, kept, err
			}
			// Else those are told who need the spool. A report of success that does is lost.
			for i := range outcomes {
				if say[i] != tell {
					outcomes[i] = &outcome{err: err}
				}
			}
			return outcomes, kept, nil
		}
	}
	for i := range outcomes {
		if say[i] != tell {
			outcomes[i] = &outcome{spooled: true}
		}
	}
	for _, n := range reports {
		s.queue.add(n.Message)
	}
	if len(owed) == 0 {
		return outcomes, false, nil
	}
	s.log.spooled(m, len(owed))
	if late == nil {
		s.queue.add(add[0].Message)
		return outcomes, false, nil
	}
	return outcomes, s.behind(m, late, func() { s.queue.adopt(m.spooled(whose), late) }), nil
}

// numbered is an outcome, and whose it is.
type numbered struct {
	i int
	*outcome
}

// settle begins an attempt and waits for the outcomes, settleTime at most. What comes later comes
// from late, which is nil where all are there. giveUp ends what is still on its way.
func (s *Server) settle(m *message) (outcomes []*outcome, late <-chan numbered, giveUp func()) {
	ctx, giveUp := context.WithCancel(s.sending)
	n := len(m.env.rcpts)
	all := make(chan numbered, n) // an attempt never waits for who listens
	s.underWay.Add(1)             // while the caller's own still counts
	go func() {
		defer s.underWay.Done()
		defer close(all)
		defer giveUp()
		s.attempt(ctx, context.Background(), m, func(i int, o *outcome) { all <- numbered{i, o} })
	}()
	limit := time.NewTimer(s.settleTime)
	defer limit.Stop()
	outcomes = make([]*outcome, n)
	for range n {
		select {
		case t := <-all:
			outcomes[t.i] = t.outcome
		case <-limit.C:
			return outcomes, all, giveUp
		}
	}
	return outcomes, nil, giveUp
}

// behind runs f in the background, which takes all that comes from late, and closes m's body then.
// Where nothing is on its way, it does nothing and returns false.
func (s *Server) behind(m *message, late <-chan numbered, f func()) bool {
	if late == nil {
		return false
	}
	s.underWay.Add(1)
	go func() {
		defer s.underWay.Done()
		defer m.body.Close()
		f()
	}()
	return true
}

// spoolFirst takes the message on disk. Who has unsubscribed is refused at once where that can be
// said: to a sender that gets an answer each, and where nobody else is to have the mail. For the
// others consent is looked up when their copies are made.
func (s *Server) spoolFirst(m *message, each bool) ([]*outcome, error) {
	outcomes := make([]*outcome, len(m.env.rcpts))
	suppress := 0
	for i, r := range s.lookup(s.sending, m) {
		outcomes[i] = &outcome{decision: consent.Decide(r, m.class, m.set.Policy)}
		if outcomes[i].decision.Mail == consent.Suppress && !m.set.Discard {
			outcomes[i].err = suppressed()
			suppress++
		}
	}
	now := s.cfg.Now()
	var owed []spool.Recipient
	for i, o := range outcomes {
		r := m.env.rcpts[i]
		if o.err != nil && (each || suppress == len(outcomes)) {
			s.became(m, r, o)
			continue
		}
		outcomes[i] = &outcome{spooled: true}
		owed = append(owed, r.owed(now))
	}
	if len(owed) == 0 {
		return outcomes, nil
	}
	n := m.waiting(owed)
	if err := s.spool.Add(n); err != nil {
		s.log.unkept(m, err)
		return nil, spoolError(err)
	}
	s.log.spooled(m, len(owed))
	s.queue.take(n.Message)
	s.queue.yield()
	return outcomes, nil
}

// spoolError answers where the message could not be made durable.
func spoolError(err error) error {
	if errors.Is(err, spool.ErrFull) {
		return refuse(452, "4.3.1", "no room for the message now, try again later", err)
	}
	return internal(err)
}
