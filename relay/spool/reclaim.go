package spool

import (
	"errors"
	"slices"
)

// cleaning is a segment that is being cleared out, a step at a time, so that callers never wait for
// more than one step.
type cleaning struct {
	seg  *segment
	next int // in seg.entries
}

// victim returns the segment to clear out, or nil. s.mu is held, by the writer.
func (s *Spool) victim() *segment {
	var total, live int64
	for _, seg := range s.segments {
		if seg != s.head && !seg.keep {
			total += seg.size
			live += seg.live
		}
	}
	var best *segment
	for _, seg := range s.segments {
		switch {
		case seg == s.head, seg.keep:
		case seg.live == 0:
			return seg // the oldest of them
		case s.tight && seg.live > min(seg.size, s.left())/2:
			// Writing it again would take more than it is worth now.
		case seg.damaged:
			return seg
		case !s.tight && total <= 2*live+2*s.opts.SegmentSize:
		case best == nil || float64(seg.live)/float64(seg.size) < float64(best.live)/float64(best.size):
			best = seg
		}
	}
	return best
}

// left is the room that can be written to on a full disk.
func (s *Spool) left() int64 {
	room := int64(s.reserves) * s.opts.ReserveSize
	if s.head != nil {
		room += s.head.size - s.head.used
	}
	return room
}

// reclaim does one step, if there is one to do.
func (s *Spool) reclaim() {
	if s.stuck {
		return
	}
	if s.cleaning == nil {
		s.mu.Lock()
		seg := s.victim()
		s.mu.Unlock()
		if seg == nil {
			return
		}
		s.cleaning = &cleaning{seg: seg}
	}
	c := s.cleaning
	recs, err := s.carry(c)
	if err == nil && len(recs) > 0 {
		err = s.append(recs, s.tight)
	}
	if err == nil && c.next < len(c.seg.entries) {
		return
	}
	s.cleaning = nil
	if err == nil {
		if err = s.drop(c.seg); err != nil {
			c.seg.keep = true // the folder is in doubt now
		}
	}
	if err != nil {
		s.stuck = true
		if !isFull(err) {
			s.log.Error("a segment could not be cleared out", "file", c.seg.name, "error", err)
		}
		return
	}
	if s.makeReserve(0) == nil {
		s.tight = false
		s.trimReserve()
	}
}

// carry returns what of the next of c's entries has to be written again, up to a quarter of a batch.
func (s *Spool) carry(c *cleaning) ([]record, error) {
	var recs []record
	taken := map[*entry]bool{}
	for size := int64(0); c.next < len(c.seg.entries) && size < s.opts.BatchSize/4; c.next++ {
		e := c.seg.entries[c.next]
		if taken[e] {
			continue
		}
		taken[e] = true
		r, needed, err := s.again(e, c.seg)
		if err != nil {
			return nil, err
		}
		if needed {
			recs = append(recs, r)
			size += r.length()
		}
	}
	return recs, nil
}

// again returns the record that makes those of e in seg superfluous, where one is needed. Only the
// writer changes entries, and this is the writer.
func (s *Spool) again(e *entry, seg *segment) (r record, needed bool, err error) {
	s.mu.Lock()
	stated := slices.ContainsFunc(e.states, func(st stateAt) bool { return st.seg == seg })
	here := slices.Contains(e.copies, seg)
	elsewhere := slices.ContainsFunc(e.copies, func(c *segment) bool { return c != seg })
	msg, at, damaged := e.msg, e.at, e.damaged
	s.mu.Unlock()
	switch {
	case msg != nil && at.seg == seg:
		m := msg.clone()
		var body []byte
		if !e.big && !damaged {
			body, err = s.readBody(make([]byte, m.Size), at, e.sum)
			if errors.Is(err, ErrDamaged) {
				s.damage(e, body)
				body, damaged, err = nil, true, nil
			}
			if err != nil {
				seg.keep = true
				return record{}, false, err
			}
		}
		r, err = record{kind: m.kind(), entry: e, message: &m, body: body, sum: e.sum, big: e.big, damaged: damaged}.written()
	case msg != nil && stated:
		r, err = stateRecord(kindState, e, msg.states())
	case msg == nil && elsewhere && (stated || here):
		// Also where the copy here goes alone: what became of the last recipients was said of it, and an
		// older copy holds more of them.
		r, err = removeRecord(e)
	default:
		return record{}, false, nil
	}
	return r, err == nil, err
}
