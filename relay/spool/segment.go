package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// segment is one file of the log.
type segment struct {
	number uint64
	mark   mark
	name   string // with the folder

	file      file // open where it is the head
	emergency bool // made of the last room there is: takes outcomes, no new messages
	size      int64
	used      int64    // end of the last batch
	live      int64    // bytes of the records that are still needed
	entries   []*entry // that have a record here, in the order of the records
	damaged   bool     // to be cleared out
	keep      bool     // never to be deleted: what is in it could not all be read
}

func (s *Spool) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// room returns the head of the log with room for size bytes and a seal. What is not essential is
// refused unless the reserve is whole with people more to answer for.
func (s *Spool) room(size int64, essential bool, people int) (*segment, error) {
	if !essential {
		if err := s.makeReserve(people); err != nil {
			s.tight = s.tight || isFull(err)
			return nil, err
		}
	}
	h := s.head
	if h != nil && h.used+size+sealLen <= h.size && (essential || !h.emergency) {
		return h, nil
	}
	seg, err := s.newSegment(max(s.opts.SegmentSize, size+sealLen))
	s.tight = isFull(err)
	if s.tight && essential && size+sealLen <= s.opts.ReserveSize {
		if s.reserves > 0 {
			seg, err = s.useReserve()
		} else if seg, err = s.newSegment(s.opts.ReserveSize); err == nil {
			seg.emergency = true
		}
	}
	if err != nil {
		return nil, err
	}
	if h != nil {
		if err := s.seal(h); err != nil {
			s.log.Error("the end of a segment could not be marked", "file", h.name, "error", err)
		}
	}
	s.head = seg
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	return seg, nil
}

// nameSegment gives the next segment its number and mark.
func (s *Spool) nameSegment() (*segment, error) {
	seg := &segment{number: s.last + 1}
	if _, err := io.ReadFull(s.opts.Rand, seg.mark[:]); err != nil {
		return nil, fmt.Errorf("mark of a segment: %w", err)
	}
	s.last++
	seg.name = s.path(segmentName(seg.number, seg.mark))
	return seg, nil
}

// newSegment makes a segment with its room, whose name is durable.
func (s *Spool) newSegment(size int64) (*segment, error) {
	seg, err := s.nameSegment()
	if err != nil {
		return nil, err
	}
	seg.size = size
	if seg.file, err = s.fs.Open(seg.name, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, err
	}
	if err = seg.file.Allocate(size); err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		seg.file.Close()
		s.fs.Remove(seg.name)
		return nil, err
	}
	return seg, nil
}

// seal ends a segment: nothing is written to it any more, and its unused room is given back.
func (s *Spool) seal(seg *segment) error {
	batch, _ := appendBatch(nil, seg.mark, seg.used, []record{{kind: kindSeal}})
	_, err := seg.file.WriteAt(batch, seg.used)
	if err == nil {
		err = seg.file.Truncate(seg.used + sealLen)
	}
	if err == nil {
		err = seg.file.Sync()
	}
	err = errors.Join(err, seg.file.Close())
	seg.file = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		seg.used += sealLen
		seg.size = seg.used
	}
	return err
}

// abandon ends the head after a failed write or sync, which must not be tried again on the same
// file: the kernel may have dropped what it could not write and then report success.
func (s *Spool) abandon(seg *segment) {
	s.log.Error("a segment could not be written, another one is begun", "file", seg.name)
	err := seg.file.Truncate(seg.used)
	seg.file.Close()
	seg.file = nil
	s.head = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		seg.size = seg.used
	}
}

// drop deletes a segment that holds nothing that is needed.
func (s *Spool) drop(seg *segment) error {
	if err := s.fs.Remove(seg.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	for _, e := range seg.entries {
		e.copies = slices.DeleteFunc(e.copies, func(c *segment) bool { return c == seg })
		if e.msg == nil && len(e.copies) == 0 {
			e.settle()
			delete(s.done, e.id)
		}
	}
	return nil
}
