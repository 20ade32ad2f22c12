package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/consentgate/consentgate/relay/buffer"
)

// Body is a message's body. It stays readable until it is closed, whatever becomes of the message.
type Body struct {
	io.ReaderAt
	size int64
	text []byte // nil where the body is in a file of its own
	file file   // nil where it is not
}

// Bytes returns the body where it is in memory, else nil. It must not be changed, nor used once b is closed.
func (b *Body) Bytes() []byte { return b.text }

// Size is the body's length in bytes.
func (b *Body) Size() int64 { return b.size }

// Close lets go of the body.
func (b *Body) Close() error {
	if b.file != nil {
		return b.file.Close()
	}
	buffer.Put(b.text)
	b.text, b.ReaderAt = nil, buffer.Closed{}
	return nil
}

// Body opens a message's body, of which every byte was checked. The error wraps ErrNotFound, or
// ErrDamaged; then what is left of the body was set aside.
func (s *Spool) Body(id string) (*Body, error) {
	for {
		s.mu.Lock()
		e := s.messages[id]
		if e == nil {
			s.mu.Unlock()
			return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
		}
		at, size, sum, big, damaged := e.at, e.msg.Size, e.sum, e.big, e.damaged
		s.mu.Unlock()

		var f file
		var body []byte
		var err error
		switch {
		case damaged:
			return nil, fmt.Errorf("%w: %s", ErrDamaged, id)
		case big:
			f, err = s.openBig(id, size, sum)
		default:
			body, err = s.readBody(buffer.Get(int(size))[:size], at, sum)
		}
		switch {
		case err == nil && big:
			return &Body{ReaderAt: f, size: size, file: f}, nil
		case err == nil:
			return &Body{ReaderAt: bytes.NewReader(body), size: size, text: body}, nil
		case s.moved(id, e, at):
			continue // what was read was on its way out
		case errors.Is(err, ErrDamaged):
			s.damage(e, body)
		}
		return nil, fmt.Errorf("body of %s: %w", id, err)
	}
}

// moved says whether the message is no more where it was.
func (s *Spool) moved(id string, e *entry, at place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages[id] != e || e.at != at
}

// readBody fills body from its segment. With ErrDamaged it returns what it read.
func (s *Spool) readBody(body []byte, at place, sum uint32) ([]byte, error) {
	f, err := s.fs.Open(at.seg.name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if n, err := f.ReadAt(body, at.body); err == io.EOF && n < len(body) {
		return body[:n], fmt.Errorf("%w: it is cut off", ErrDamaged)
	} else if err != nil && err != io.EOF {
		return nil, err
	}
	if crc(body) != sum {
		return body, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	return body, nil
}

func (s *Spool) bigPath(id string) string { return s.path("big", id+".eml") }

func (s *Spool) openBig(id string, size int64, sum uint32) (file, error) {
	f, err := s.fs.Open(s.bigPath(id), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: its file is gone", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	length, err := f.Size()
	h := crc32.New(castagnoli)
	if err == nil {
		_, err = io.Copy(h, io.NewSectionReader(f, 0, length))
	}
	if err == nil && (length != size || h.Sum32() != sum) {
		err = fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeBig makes a body durable in a file of its own and returns its CRC32C.
func (s *Spool) writeBig(id string, body io.ReaderAt, size int64) (sum uint32, err error) {
	f, err := s.fs.Open(s.bigPath(id), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return 0, err
	}
	h := crc32.New(castagnoli)
	to := io.MultiWriter(io.NewOffsetWriter(f, 0), h)
	n, err := io.CopyBuffer(to, io.NewSectionReader(body, 0, size), make([]byte, 256<<10))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.fs.SyncDir(s.path("big"))
	}
	s.mu.Lock()
	s.big[id] = size
	s.mu.Unlock()
	if err != nil {
		s.removeBig(id)
		return 0, err
	}
	return h.Sum32(), nil
}

// tryBig sees whether there is room for a big body.
func (s *Spool) tryBig(size int64) error {
	name := s.path("big", fmt.Sprintf("room-%d", s.tries.Add(1)))
	f, err := s.fs.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	return errors.Join(f.Allocate(size), f.Close(), s.fs.Remove(name))
}

func (s *Spool) removeBig(id string) {
	err := s.fs.Remove(s.bigPath(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("a body could not be deleted; the next start does it", "id", id, "error", err)
		return
	}
	s.mu.Lock()
	delete(s.big, id)
	s.mu.Unlock()
}

// damage notes that e's body is damaged, and sets aside what is left of it.
func (s *Spool) damage(e *entry, body []byte) {
	s.mu.Lock()
	known := e.damaged
	e.damaged = true
	big := e.big
	s.mu.Unlock()
	if known {
		return
	}
	name := s.path("bad", e.id+".eml")
	var err error
	if big {
		err = s.fs.Rename(s.bigPath(e.id), name)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	} else {
		err = s.setAside(name, body)
	}
	s.log.Error("a message was damaged on disk and cannot be delivered", "id", e.id, "set_aside", name, "error", err)
}

// setAside writes data to a new file in bad/.
func (s *Spool) setAside(name string, data []byte) error {
	f, err := s.fs.Open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.fs.SyncDir(s.path("bad"))
	}
	return err
}
