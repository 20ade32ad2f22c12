// Package buffer lends memory for the texts of messages. Each is needed while the message passes, and would be garbage
// then: most of what is allocated for a message.
package buffer

import (
	"os"
	"sync"
)

// Max is the size in bytes of the largest buffer that is lent again.
const Max = 256 << 10

// least is the size of the smallest.
const least = 32 << 10

var pool sync.Pool // of *[]byte

// Get returns an empty slice with room for n bytes or more.
func Get(n int) []byte {
	if b, _ := pool.Get().(*[]byte); b != nil && cap(*b) >= n {
		return (*b)[:0]
	}
	size := least
	for size < n && size < Max {
		size *= 2
	}
	return make([]byte, 0, max(size, n))
}

// Put gives b back. Neither it nor any part of it may be used any more, nor a string that shares its memory. nil
// does nothing.
func Put(b []byte) {
	if cap(b) < least || cap(b) > Max {
		return
	}
	if Spoils {
		b = b[:cap(b)]
		for i := range b {
			b[i] = 0xAA
		}
	}
	pool.Put(&b)
}

// Closed is an io.ReaderAt in place of a text that was given back.
type Closed struct{}

// ReadAt fails with os.ErrClosed.
func (Closed) ReadAt([]byte, int64) (int, error) { return 0, os.ErrClosed }
