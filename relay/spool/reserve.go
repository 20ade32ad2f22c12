package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// The reserve is a number of files of Options.ReserveSize each, so many that what becomes of
// everybody who is owed a message can be written down on a full disk. A new message is taken only
// where the reserve is whole.

// outcomeRoom is what is set apart for one recipient: an outcome in a batch of its own is some
// 110 bytes long, a retry with an answer some 250, of which one replaces another.
const outcomeRoom = 192

const reservePrefix = "reserve-"

func (s *Spool) reserveName(n int) string { return s.path(fmt.Sprint(reservePrefix, n)) }

// reservesFor returns how many files are needed with people more who are owed a message.
func (s *Spool) reservesFor(people int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + int(int64(s.owed+people)*outcomeRoom/s.opts.ReserveSize)
}

// makeReserve makes what the reserve lacks for those who are owed a message and people more.
func (s *Spool) makeReserve(people int) error {
	for need := s.reservesFor(people); s.reserves < need; {
		if err := s.addReserve(s.reserveName(s.reserves + 1)); err != nil {
			return fmt.Errorf("reserve: %w", err)
		}
		s.reserves++
	}
	return nil
}

func (s *Spool) addReserve(name string) error {
	temporary := name + ".new"
	f, err := s.fs.Open(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	err = f.Allocate(s.opts.ReserveSize)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.fs.Rename(temporary, name)
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		s.fs.Remove(temporary)
	}
	return err
}

// trimReserve gives back what is needed no more.
func (s *Spool) trimReserve() {
	for need := s.reservesFor(0); s.reserves > need+1; s.reserves-- {
		if err := s.fs.Remove(s.reserveName(s.reserves)); err != nil {
			s.log.Warn("a file of the reserve could not be deleted", "error", err)
			return
		}
	}
}

// useReserve makes a file of the reserve the next segment. That takes no room from the disk, so nobody
// else can take it first.
func (s *Spool) useReserve() (*segment, error) {
	seg, err := s.nameSegment()
	if err != nil {
		return nil, err
	}
	seg.size, seg.emergency = s.opts.ReserveSize, true
	name := s.reserveName(s.reserves)
	s.reserves-- // whatever happens now
	if err := s.fs.Rename(name, seg.name); err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	if seg.file, err = s.fs.Open(seg.name, os.O_RDWR); err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	s.log.Warn("the disk is full: the spool uses its reserve for outcomes and takes no messages", "file", seg.name)
	return seg, nil
}

// findReserve sees what is there of the reserve, and makes what it lacks. A full disk is no
// error here.
func (s *Spool) findReserve(names []string) error {
	there := map[string]bool{}
	for _, name := range names {
		if !strings.HasPrefix(name, reservePrefix) {
			continue
		}
		f, err := s.fs.Open(s.path(name), os.O_RDONLY)
		if err != nil {
			return err
		}
		size, err := f.Size()
		f.Close()
		if err != nil {
			return err
		}
		there[s.path(name)] = size == s.opts.ReserveSize
	}
	for there[s.reserveName(s.reserves+1)] {
		s.reserves++
		delete(there, s.reserveName(s.reserves))
	}
	for name := range there {
		if err := s.fs.Remove(name); err != nil {
			return err
		}
	}
	if err := s.makeReserve(0); err != nil {
		s.tight = isFull(err)
		s.log.Warn("there is no room for the spool's reserve, so it takes no messages", "error", err)
	}
	return nil
}
