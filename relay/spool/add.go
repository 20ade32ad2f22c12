package spool

import (
	"errors"
	"fmt"
	"io"
)

// prepare makes the records of messages that are to be added; big bodies are on disk then. settle
// is to be called with what became of the records, and returns that.
func (s *Spool) prepare(messages []New) (recs []record, settle func(error) error, err error) {
	settle = func(err error) error {
		for _, r := range recs {
			if err != nil && r.big && !errors.As(err, new(doubt)) {
				s.removeBig(r.entry.id)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range recs {
			delete(s.adding, r.entry.id)
		}
		return err
	}
	var inline int64
	for _, n := range messages {
		r, err := s.admit(n)
		if err == nil {
			recs = append(recs, r)
			last := &recs[len(recs)-1]
			// A batch is to stay of a fair size, so many small bodies make a big one.
			last.big = n.Size > s.opts.BigBody || inline+n.Size > s.opts.BatchSize
			if !last.big {
				inline += n.Size
			}
			*last, err = s.load(*last, n.Body)
		}
		if err != nil {
			return nil, nil, settle(err)
		}
	}
	return recs, settle, nil
}

// admit checks a message and takes its ID for it.
func (s *Spool) admit(n New) (record, error) {
	if err := n.check(); err != nil {
		return record{}, err
	}
	m := n.normal()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages[m.ID] != nil || s.adding[m.ID] {
		return record{}, fmt.Errorf("message %s is in the spool already", m.ID)
	}
	s.adding[m.ID] = true
	e := s.done[m.ID]
	if e == nil {
		e = &entry{id: m.ID}
	}
	return record{kind: m.kind(), entry: e, message: m}, nil
}

// load reads the body of r, or writes it to a file of its own.
func (s *Spool) load(r record, body io.ReaderAt) (record, error) {
	m := r.message
	var err error
	if r.big {
		r.sum, err = s.writeBig(m.ID, body, m.Size)
	} else {
		r.body, err = allOf(body, m.Size)
		r.sum = crc(r.body)
	}
	if err != nil {
		return r, s.failed("body of "+m.ID, err)
	}
	return r.written()
}

// allOf returns the size bytes of a body.
func allOf(body io.ReaderAt, size int64) ([]byte, error) {
	if b, ok := body.(interface{ Bytes() []byte }); ok {
		if all := b.Bytes(); int64(len(all)) == size && size > 0 {
			return all, nil
		}
	}
	all := make([]byte, size)
	_, err := io.ReadFull(io.NewSectionReader(body, 0, size), all)
	return all, err
}
