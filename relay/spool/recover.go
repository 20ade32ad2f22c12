package spool

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Open opens the spool in dir, or makes it. It reads all of the log, so it takes about a second
// a gigabyte. Damaged places are set aside in bad/ and named in the log, and do not keep the rest
// from being used. Errors wrap ErrLocked or ErrNewer where that is the cause; after them nothing
// was changed.
func Open(dir string, opts Options) (*Spool, error) {
	opts = opts.withDefaults()
	s := &Spool{
		dir: dir, opts: opts, fs: opts.files, log: opts.Log,
		messages: map[string]*entry{}, done: map[string]*entry{}, adding: map[string]bool{}, big: map[string]int64{},
		stopped: make(chan struct{}),
	}
	s.wake = sync.NewCond(&s.mu)
	if err := s.fs.Mkdir(dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := s.fs.Lock(s.path("LOCK"))
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	s.lock = lock
	if err := s.recover(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	go s.write()
	return s, nil
}

// read is a segment as it was found.
type read struct {
	*segment
	scanned
	unreadable bool
	newest     bool
}

// recover reads what is there, and only when all of it was understood changes something.
func (s *Spool) recover() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	var found []*read
	for _, name := range names {
		if number, m, ok := parseSegmentName(name); ok {
			found = append(found, &read{segment: &segment{number: number, mark: m, name: s.path(name)}})
			s.last = max(s.last, number)
		} else if strings.HasSuffix(name, segmentTail) {
			s.log.Warn("a file in the spool has a name that no segment has; it is left alone", "file", s.path(name))
		}
	}
	slices.SortFunc(found, func(a, b *read) int { return cmp.Compare(a.number, b.number) })
	for i, r := range found {
		r.newest = i == len(found)-1
		if err := s.readSegment(r); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(r.name), err)
		}
		s.segments = append(s.segments, r.segment)
	}

	for _, name := range []string{"big", "bad"} {
		if err := s.fs.Mkdir(s.path(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{s.dir, filepath.Dir(s.dir)} {
		if err := s.fs.SyncDir(name); err != nil {
			return err
		}
	}
	damaged := false
	for _, r := range found {
		s.mend(r)
		damaged = damaged || r.damaged
	}
	if err := s.sortBig(damaged); err != nil {
		return err
	}
	s.trash = nil // sortBig has seen to it
	return s.findReserve(names)
}

// readSegment reads a segment and takes over what its records say.
func (s *Spool) readSegment(r *read) error {
	data, err := s.slurp(r)
	if err != nil {
		return err
	}
	if r.scanned, err = scan(data, r.mark); err != nil {
		return err
	}
	r.used, r.size = r.end, int64(len(data))
	for i := range r.records {
		f := &r.records[i]
		f.at.seg = r.segment
		if f.entry = cmp.Or(s.messages[f.id], s.done[f.id]); f.entry == nil {
			if !f.kind.whole() {
				continue // of a message that no segment holds any more
			}
			f.entry = &entry{id: f.id}
		}
		s.apply(&f.record, f.at)
	}
	r.records = nil // they refer to data
	r.damaged = len(r.bad) > 0 || r.unreadable
	return nil
}

// slurp reads a whole segment. What the disk cannot read comes as zeros.
func (s *Spool) slurp(r *read) ([]byte, error) {
	f, err := s.fs.Open(r.name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err == nil || err == io.EOF {
		return data, nil
	}
	const sector = 4096
	for off := int64(0); off < size; off += sector {
		part := data[off:min(off+sector, size)]
		if _, err := f.ReadAt(part, off); err != nil && err != io.EOF {
			clear(part)
			r.unreadable = true
		}
	}
	return data, nil
}

// mend makes a segment one that was ended as it should: what is damaged is set aside, and a batch
// at its end that never became whole is cut off. Where that cannot be done, the segment is kept
// as it is.
func (s *Spool) mend(r *read) {
	if r.unreadable {
		r.keep = true
		s.log.Error("a segment cannot be read in full; it is kept", "file", r.name)
	}
	if r.tail > r.end && !r.sealed && !r.newest && !r.unreadable {
		r.bad = append(r.bad, span{r.end, r.tail})
	}
	for _, b := range r.bad {
		name := s.path("bad", fmt.Sprintf("%s.%d-%d", filepath.Base(r.name), b.from, b.to))
		err := s.copyRange(r, b, name)
		s.log.Error("a segment is damaged; what is whole in it is used", "file", r.name, "from", b.from, "to", b.to, "set_aside", name, "error", err)
		r.keep = r.keep || err != nil
	}
	if r.sealed || r.keep {
		return
	}
	if r.tail > r.end {
		s.log.Warn("the last write before the end was not finished, nobody was told that it was; it is cut off", "file", r.name, "bytes", r.tail-r.end)
	}
	f, err := s.fs.Open(r.name, os.O_RDWR)
	if err == nil {
		r.file = f
		err = s.seal(r.segment)
	}
	if err != nil {
		s.log.Error("the end of a segment could not be mended", "file", r.name, "error", err)
	}
}

func (s *Spool) copyRange(r *read, b span, name string) error {
	f, err := s.fs.Open(r.name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, b.to-b.from)
	if _, err := f.ReadAt(data, b.from); err != nil && err != io.EOF {
		return err
	}
	return s.setAside(name, data)
}

// sortBig deletes the big bodies that no message has: they were on their way in or out at the
// end. Where the log is damaged, they may belong to what is lost and are set aside.
func (s *Spool) sortBig(damaged bool) error {
	names, err := s.fs.List(s.path("big"))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".eml")
		if e := s.messages[id]; ok && e != nil && e.big {
			there[id] = true
			s.big[id] = e.msg.Size
			continue
		}
		if damaged {
			err = s.fs.Rename(s.path("big", name), s.path("bad", name))
			s.log.Error("a body without its message is set aside", "file", s.path("bad", name), "error", err)
		} else if err = s.fs.Remove(s.path("big", name)); err != nil {
			s.log.Warn("a body could not be deleted", "file", s.path("big", name), "error", err)
		}
	}
	for id, e := range s.messages {
		if e.big && !there[id] && !e.damaged {
			e.damaged = true
			s.log.Error("the body of a message is gone, it cannot be delivered", "id", id)
		}
	}
	return nil
}
