package spool

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// request is what one caller waits for.
type request struct {
	records   []record
	essential bool // an outcome: it may use the reserve, and has time to wait for others
	room      room // asked for, where there are no records; none: only an answer is
	done      chan error
}

// room is what a message takes.
type room struct {
	bytes  int64
	people int
}

// doubt is the error of a batch that may be on the disk all the same, as its sync failed.
type doubt struct{ error }

func (d doubt) Unwrap() error { return d.error }

// submit has r written and waits for it.
func (s *Spool) submit(r *request) error {
	if len(r.records) == 0 && r.room == (room{}) {
		return nil
	}
	if err := s.enqueue(r); err != nil {
		return err
	}
	return <-r.done
}

// enqueue leaves r to the writer.
func (s *Spool) enqueue(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.pending = append(s.pending, r)
	s.wake.Signal()
	return nil
}

// Alive waits until the writer has dealt with all that was asked of it before, and writes nothing. Its
// error is that of ctx where the writer does not get there, or ErrClosed.
func (s *Spool) Alive(ctx context.Context) error {
	r := &request{done: make(chan error, 1)}
	if err := s.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the goroutine that writes.
func (s *Spool) write() {
	defer close(s.stopped)
	for {
		requests, last := s.next()
		if last {
			break
		}
		if len(requests) > 0 {
			s.commit(requests)
			s.stuck = false
		}
		s.reclaim()
	}
	if s.head != nil {
		s.ending = s.seal(s.head)
		s.head = nil
	}
}

// next waits for something to do: requests, or none where there is something to reclaim. It says
// when there is nothing more to come.
func (s *Spool) next() (requests []*request, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) == 0 {
		if s.closed {
			return nil, true
		}
		if s.cleaning != nil || !s.stuck && s.victim() != nil {
			return nil, false
		}
		s.wake.Wait()
	}
	if s.crowded && s.hasTime() {
		s.waitForMore()
	}
	var size int64
	n := 0
	for n < len(s.pending) && (n == 0 || size < s.opts.BatchSize) {
		size += batchLength(s.pending[n].records)
		n++
	}
	requests = slices.Clone(s.pending[:n])
	s.pending = slices.Delete(s.pending, 0, n)
	s.crowded = n > 1
	return requests, false
}

// waitForMore waits until something comes that has no time, no longer than an outcome waits for others to be synced
// with: a sync costs as much for one as for all. It holds no sender's answer back. s.mu is held.
func (s *Spool) waitForMore() {
	over := false
	limit := time.AfterFunc(s.opts.patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.wake.Signal()
	})
	defer limit.Stop()
	for !over && s.hasTime() {
		s.wake.Wait()
	}
}

// hasTime reports whether all that is asked for are outcomes. s.mu is held.
func (s *Spool) hasTime() bool {
	return !s.closed && !slices.ContainsFunc(s.pending, func(r *request) bool { return !r.essential })
}

// commit writes what requests hold as one batch and answers them. Where that fails, outcomes are
// tried once more in another segment, with the reserve if need be; new messages are not, since
// their sender still has them.
func (s *Spool) commit(requests []*request) {
	requests = slices.DeleteFunc(requests, func(r *request) bool {
		if len(r.records) > 0 {
			return false
		}
		var err error
		if r.room != (room{}) {
			if _, err = s.room(r.room.bytes, false, r.room.people); err != nil {
				err = s.failed("room in the spool", err)
			}
		}
		r.done <- err
		return true
	})
	if len(requests) == 0 {
		return
	}
	essential := !slices.ContainsFunc(requests, func(r *request) bool { return !r.essential })
	err := s.append(collect(requests), essential)
	if err == nil {
		s.answer(requests, nil)
		return
	}
	var again []*request
	for _, r := range requests {
		if r.essential {
			again = append(again, r)
		} else {
			r.done <- err
		}
	}
	if len(again) > 0 {
		s.answer(again, s.append(collect(again), true))
	}
}

func collect(requests []*request) []record {
	var recs []record
	for _, r := range requests {
		recs = append(recs, r.records...)
	}
	return recs
}

// answer wakes those who wait. What they may do next must not meet what is still in the trash.
func (s *Spool) answer(requests []*request, err error) {
	s.emptyTrash()
	for _, r := range requests {
		r.done <- err
	}
}

// append writes recs as one batch at the head of the log and syncs it. On nil they are durable,
// and hold in memory too. The error wraps ErrFull where there is no room.
func (s *Spool) append(recs []record, essential bool) error {
	size := batchLength(recs)
	if size > maxUint32 {
		return fmt.Errorf("spool: %d bytes at once are too many", size)
	}
	people := 0
	for i := range recs {
		if recs[i].entry.msg == nil && recs[i].kind.whole() {
			people += len(recs[i].message.Recipients)
		}
	}
	head, err := s.room(size, essential, people)
	if err != nil {
		return s.failed("write to the spool", err)
	}
	batch, places := appendBatch(s.buf[:0], head.mark, head.used, recs)
	if s.buf = batch; int64(cap(batch)) > 4*s.opts.BatchSize {
		s.buf = nil
	}
	if _, err := head.file.WriteAt(batch, head.used); err != nil {
		s.abandon(head)
		return s.failed("write to the spool", err)
	}
	if err := head.file.Sync(); err != nil {
		s.abandon(head)
		s.mu.Lock()
		for i := range recs {
			if recs[i].kind.whole() { // it may come to light again
				e := recs[i].entry
				e.copies = append(e.copies, head)
				head.entries = append(head.entries, e)
				if e.msg == nil {
					s.done[e.id] = e
				}
			}
		}
		s.mu.Unlock()
		return doubt{s.failed("sync the spool", err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	head.used += size
	for i := range recs {
		places[i].seg = head
		s.apply(&recs[i], places[i])
	}
	return nil
}

// failed gives an error its context, and ErrFull where that is what it means.
func (s *Spool) failed(what string, err error) error {
	if isFull(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// apply makes r, which is durable at p, hold in memory. s.mu is held. The log is read with it too.
func (s *Spool) apply(r *record, p place) {
	e := r.entry
	s.owed -= e.owed()
	defer func() { s.owed += e.owed() }()
	p.seg.entries = append(p.seg.entries, e)
	if r.kind.whole() {
		if e.msg != nil {
			e.at.seg.live -= e.at.length
		}
		e.settle()
		e.at, e.msg, e.sum, e.big, e.damaged = p, r.message, r.sum, r.big, r.damaged
		e.copies = append(e.copies, p.seg)
		p.seg.live += p.length
		s.messages[e.id] = e
		delete(s.done, e.id)
		return
	}

	if e.msg == nil && len(e.copies) == 0 {
		return // it was done before, and nothing is left that could come back
	}
	if r.kind != kindUpdate {
		e.settle() // what stood there before says nothing any more
	}
	e.states = append(e.states, stateAt{p.seg, p.length})
	p.seg.live += p.length
	if e.msg == nil {
		return
	}
	owed := false
	switch r.kind {
	case kindUpdate:
		owed = e.msg.apply(r.changes)
	case kindState:
		owed = e.msg.only(r.changes)
	}
	if !owed {
		s.finish(e)
	}
}

func (e *entry) owed() int {
	if e.msg == nil {
		return 0
	}
	return len(e.msg.Recipients)
}

// settle makes the records of what became of e not needed any more.
func (e *entry) settle() {
	for _, st := range e.states {
		st.seg.live -= st.length
	}
	e.states = nil
}

// finish makes e done. The records that say so stay needed while a copy of it is there.
func (s *Spool) finish(e *entry) {
	e.at.seg.live -= e.at.length
	e.msg, e.at = nil, place{}
	if e.big {
		s.trash = append(s.trash, e.id)
	}
	delete(s.messages, e.id)
	s.done[e.id] = e
}

// emptyTrash deletes the big bodies of messages that are done. Where that fails, the next Open does it.
func (s *Spool) emptyTrash() {
	s.mu.Lock()
	trash := s.trash
	s.trash = nil
	s.mu.Unlock()
	for _, id := range trash {
		s.removeBig(id)
	}
}
