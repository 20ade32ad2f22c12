package rewrite

import (
	"encoding/binary"
	"io"
)

// Bytes is a message in memory: an io.ReaderAt that Parse and Copy read without copying.
type Bytes []byte

// ReadAt implements io.ReaderAt.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

const windowSize = 128 << 10

// window reads a source in pieces, so that an attachment is never in memory as a whole.
type window struct {
	src  io.ReaderAt
	size int64
	off  int64  // of buf[0]
	buf  []byte // all of it where the source is Bytes
	err  error  // the first read error; what follows reads as the end
}

func newWindow(src io.ReaderAt, size int64) *window {
	if b, ok := src.(Bytes); ok {
		return &window{src: src, size: size, buf: b[:size]}
	}
	return &window{src: src, size: size}
}

// at returns the n bytes at off, fewer at the end of the source. They are valid until the next
// call.
func (w *window) at(off int64, n int) []byte {
	if off >= w.size || w.err != nil {
		return nil
	}
	n = int(min(int64(n), w.size-off))
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		want := int(min(int64(max(2*n, windowSize)), w.size-off)) // twice, so that many long reads stay linear
		if cap(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.off = w.buf[:want], off
		if got, err := w.src.ReadAt(w.buf, off); got < want {
			if w.err = err; err == nil || err == io.EOF {
				w.err = io.ErrUnexpectedEOF
			}
			w.buf = w.buf[:0]
			return nil
		}
	}
	return w.buf[off-w.off:][:n]
}

// more returns what is at hand from off on, reading on where that is less than least bytes.
func (w *window) more(off int64, least int) []byte {
	if end := w.off + int64(len(w.buf)); off >= w.off && (off+int64(least) <= end || end >= w.size) && off < end {
		return w.buf[off-w.off:]
	}
	return w.at(off, windowSize)
}

// read returns the bytes of a span; they stay valid and must not be changed.
func (w *window) read(s span) []byte {
	if b, ok := w.src.(Bytes); ok {
		return b[s.start:s.end]
	}
	return append([]byte(nil), w.at(s.start, int(s.len()))...)
}

// eightBit reports whether any byte of the source is over 127.
func (w *window) eightBit() bool {
	for off := int64(0); off < w.size; {
		b := w.at(off, windowSize)
		if len(b) == 0 {
			return true // unreadable; Parse fails with w.err
		}
		if hasEightBit(b) {
			return true
		}
		off += int64(len(b))
	}
	return false
}

func hasEightBit(b []byte) bool {
	for ; len(b) >= 32; b = b[32:] {
		le := binary.LittleEndian
		if (le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:]))&0x8080808080808080 != 0 {
			return true
		}
	}
	var or byte
	for _, c := range b {
		or |= c
	}
	return or >= 0x80
}

// span is a range of the source.
type span struct{ start, end int64 }

func (s span) len() int64 { return s.end - s.start }
