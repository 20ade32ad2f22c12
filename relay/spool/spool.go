// Package spool keeps on disk what the relay has accepted and not yet delivered. What Add and
// Update have answered with nil survives a crash at any instruction, a loss of power and a full
// disk; a damaged file costs what stands at the damaged place and nothing else.
//
// It knows no clock and no network: when a recipient is due is the relay's to say, and to ask for.
//
// The folder, mode 0700, all files 0600:
//
//	LOCK                       held by the one process that has the spool open
//	00000017-MARK.seg          segments of the log, see format.go
//	big/ID.eml                 bodies too large for the log
//	bad/                       copies of what was found damaged, for a person to look at; delete at will
//	reserve-1 …                room that is used where the disk is full, so that the spool still drains
//
// One goroutine writes. It takes what all callers wait for, writes it as one batch, syncs once
// and wakes them. A segment is a file written from its beginning to its end; a batch stands in
// one segment. What a message's later records say counts more than what earlier ones say.
//
// A segment is deleted as soon as nothing in it is needed, or, where the disk holds more than
// twice of what is needed, after what is needed was written again at the head of the log. A record
// that says that a message is done is needed as long as any segment holds that message.
package spool

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	// ErrFull says that there is no room on the disk. Nothing was added, and what is owed stays owed.
	ErrFull = errors.New("no room in the spool")
	// ErrNotFound says that no message has this ID, any more or at all.
	ErrNotFound = errors.New("no such message in the spool")
	// ErrDamaged says that a message's body was damaged on disk. Its envelope is known, so its
	// sender can be told; then it is to be removed.
	ErrDamaged = errors.New("the message was damaged on disk")
	// ErrLocked says that another process has the spool open.
	ErrLocked = errors.New("the spool is held by another process: a gateway is running; speak to it, or stop it first")
	// ErrNewer says that a newer version of this program wrote the spool.
	ErrNewer = errors.New("the spool was written by a newer version of this program: use that one, or a newer one")
	// ErrClosed says that the spool was closed before the call could do anything.
	ErrClosed = errors.New("the spool is closed")
)

// Options are the sizes of a spool, in bytes. Zero values stand for the defaults.
type Options struct {
	Log *slog.Logger // default: none. No address is ever written to it

	SegmentSize int64 // of a segment of the log; default 64 MiB
	ReserveSize int64 // kept for outcomes where the disk is full, or several times of it where many wait; default 8 MiB
	BatchSize   int64 // up to which what callers wait for is written at once; default 4 MiB
	BigBody     int64 // a larger body is a file of its own; default 1 MiB

	Rand io.Reader // for the segments' marks; default crypto/rand.Reader

	files    files         // default: the real ones
	patience time.Duration // of an outcome, where several came at a time before; default 2 ms
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.files == nil {
		o.files = osFiles{}
	}
	o.patience = cmp.Or(o.patience, 2*time.Millisecond)
	o.SegmentSize = cmp.Or(o.SegmentSize, 64<<20)
	o.ReserveSize = cmp.Or(o.ReserveSize, 8<<20)
	o.BatchSize = cmp.Or(o.BatchSize, 4<<20)
	o.BigBody = cmp.Or(o.BigBody, 1<<20)
	return o
}

// Spool is an open spool. Its methods may be called from many goroutines. Use Open.
type Spool struct {
	dir  string
	opts Options
	fs   files
	log  *slog.Logger
	lock io.Closer

	tries atomic.Uint64 // of tryBig

	mu       sync.Mutex
	wake     *sync.Cond // something for the writer to do
	pending  []*request
	crowded  bool // the last batch answered several callers
	closed   bool
	messages map[string]*entry
	owed     int               // recipients in messages
	done     map[string]*entry // those that are done, as long as a segment holds them
	adding   map[string]bool   // IDs of Adds under way
	big      map[string]int64  // bytes of big bodies, by ID
	segments []*segment        // in the order of their numbers
	trash    []string          // big bodies that nothing needs any more

	// The writer's own; nobody else looks at them.
	head     *segment // what is written to; nil before the first batch
	last     uint64   // highest number of a segment so far
	reserves int      // files of the reserve
	tight    bool     // the last try to begin a segment found no room
	cleaning *cleaning
	stuck    bool // reclaiming failed; not tried again before the next commit
	buf      []byte

	stopped chan struct{} // closed when the writer has ended
	ending  error         // of the writer; read after stopped
}

// entry is what is known of one message. It is kept after the message is done for as long as a
// segment holds a record of it.
type entry struct {
	id      string
	msg     *Message // nil when done
	at      place
	big     bool // the body is big/ID.eml
	damaged bool
	sum     uint32     // CRC32C of the body
	copies  []*segment // all that hold the message, or may
	states  []stateAt  // the records that say what became of it since
}

// place is where a message's record is.
type place struct {
	seg    *segment
	body   int64 // offset of the body in the segment
	length int64 // of the whole record
}

type stateAt struct {
	seg    *segment
	length int64
}

// Add takes messages over: on nil all of them are durable, in one step. An error that wraps
// ErrFull says that there is no room now; where no room is left for outcomes either, messages
// are refused before that. After another error it is not known what a crash would leave, so the
// messages may turn up after it.
//
// The recipients' Index is set here, to their place in the list.
func (s *Spool) Add(messages ...New) error {
	recs, release, err := s.prepare(messages)
	if err != nil {
		return err
	}
	r := &request{records: recs, done: make(chan error, 1)}
	return release(s.submit(r))
}

// Room says whether a message of that size to so many people would be taken now: nil, or the error
// that Add would return. Nothing is set apart for it, so others may be faster.
func (s *Spool) Room(size int64, people int) error {
	if size > s.opts.BigBody {
		if err := s.tryBig(size); err != nil {
			return s.failed("room for a body", err)
		}
		size = 0
	}
	size += batchHead + batchTail + recordHead + int64(people)*recipientRoom
	return s.submit(&request{room: room{size, people}, done: make(chan error, 1)})
}

// recipientRoom is what the record of a message takes for a recipient, if not a very long one.
const recipientRoom = 512

// Update writes down what became of some of a message's recipients, and adds messages (reports to
// its sender) in the same step. A message whose last recipient is done is gone. It is not refused
// for a full disk, unless the reserve is used up too, or an added message has a big body: then the
// error wraps ErrFull, and nothing was written down.
func (s *Spool) Update(id string, changes []Change, add ...New) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	recs, release, err := s.prepare(add)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		rec, err := updateRecord(e, changes)
		if err != nil {
			return release(err)
		}
		recs = append(recs, rec)
	}
	r := &request{records: recs, essential: true, done: make(chan error, 1)}
	return release(s.submit(r))
}

// Remove forgets a message, whoever is still owed it.
func (s *Spool) Remove(id string) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	rec, err := removeRecord(e)
	if err != nil {
		return err
	}
	return s.submit(&request{records: []record{rec}, essential: true, done: make(chan error, 1)})
}

func (s *Spool) find(id string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.messages[id]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
}

// Get returns a message, mail or a job, with the recipients that are still owed it.
func (s *Spool) Get(id string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.messages[id]
	if e == nil {
		return Message{}, false
	}
	return e.msg.clone(), true
}

// All returns all mail, by the time of its arrival.
func (s *Spool) All() []Message { return s.list(func(m *Message) bool { return m.Job == nil }) }

// Jobs returns all that is no mail, by the time when it was added.
func (s *Spool) Jobs() []Message { return s.list(func(m *Message) bool { return m.Job != nil }) }

func (s *Spool) list(wanted func(*Message) bool) []Message {
	s.mu.Lock()
	var all []Message
	for _, e := range s.messages {
		if wanted(e.msg) {
			all = append(all, e.msg.clone())
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b Message) int {
		return cmp.Or(a.Arrived.Compare(b.Arrived), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Stats says how full a spool is.
type Stats struct {
	Messages, Recipients int       // of mail
	Jobs                 int       // that are no mail
	Bytes                int64     // on disk: of the log, with the room set apart for it, and of big bodies
	Oldest               time.Time // the earliest arrival of mail; zero where there is none
}

// Stats counts.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st Stats
	for _, e := range s.messages {
		if e.msg.Job != nil {
			st.Jobs++
			continue
		}
		st.Messages++
		st.Recipients += len(e.msg.Recipients)
		if st.Oldest.IsZero() || e.msg.Arrived.Before(st.Oldest) {
			st.Oldest = e.msg.Arrived
		}
	}
	for _, seg := range s.segments {
		st.Bytes += seg.size
	}
	for _, size := range s.big {
		st.Bytes += size
	}
	return st
}

// Close ends the spool after what callers wait for is written. A second Close does nothing.
func (s *Spool) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.stopped
	if !first {
		return nil
	}
	return errors.Join(s.ending, s.lock.Close())
}

// isFull says whether err means that the disk has no room.
func isFull(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
