package boltstore

import (
	"bytes"
	"fmt"
	"os"

	"github.com/consentgate/consentgate/consent"
)

// scrub overwrites every page that bbolt has marked as free with zeros, so that nothing deleted
// stays in the file. It keeps everybody else out meanwhile: a page that a transaction under way
// still reads counts as free too. The costs are one look at each free page of the file.
//
// bbolt itself may write to these pages at any time, so a crash in the middle does no harm.
func (s *Store) scrub() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return guard(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := s.here(); err != nil {
			return err
		}
		size := s.db.Info().PageSize
		page, zero := make([]byte, size), make([]byte, size)
		wrote := false
		for id := range int(tx.Size()) / size {
			info, err := tx.Page(id)
			if err != nil {
				return err
			}
			if info == nil || info.Type != "free" {
				continue
			}
			at := int64(id) * int64(size)
			if _, err := f.ReadAt(page, at); err != nil {
				return err
			}
			if bytes.Equal(page, zero) {
				continue
			}
			if _, err := f.WriteAt(zero, at); err != nil {
				return err
			}
			wrote = true
		}
		if !wrote {
			return nil
		}
		return f.Sync()
	})
}

// here says whether the file at the store's path is the one that is open.
func (s *Store) here() error {
	found, err := os.Stat(s.path)
	if err == nil && os.SameFile(found, s.file) {
		return nil
	}
	return fmt.Errorf("%w: %s was deleted or exchanged while it was open: put it back and start the gateway again, or accept what is there", consent.ErrLost, s.path)
}
