package rewrite

import (
	"strings"
	"sync"
	"unsafe"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// scratch is memory that a parse needs for a while and leaves to the next one. A Message waits while its
// copies are sent, so nothing of this may live on in it: what stays is copied out.
type scratch struct {
	findings []Finding
	edits    []edit
	stack    []element
	shown    []shownAddress
	several  []string
	jumps    []jump
	bytes    []byte // what is lent by room
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// mostScratch is how many elements a slice may have to be kept.
const mostScratch = 1024

// scratchBytes is how many bytes a parse may borrow. Longer texts have their own memory.
const scratchBytes = 128 << 10

// room returns an empty slice with room for n bytes, which may be used until release. s may be nil.
func (s *scratch) room(n int) []byte {
	if s == nil || n > scratchBytes-len(s.bytes) {
		return make([]byte, 0, n)
	}
	if s.bytes == nil {
		s.bytes = make([]byte, 0, scratchBytes)
	}
	from := len(s.bytes)
	s.bytes = s.bytes[:from+n]
	return s.bytes[from:from:len(s.bytes)]
}

// lends reports whether a string is part of what room gave.
func (s *scratch) lends(part string) bool {
	return uintptr(unsafe.Pointer(unsafe.StringData(part)))-uintptr(unsafe.Pointer(unsafe.SliceData(s.bytes))) < uintptr(cap(s.bytes))
}

// keep copies those of the strings that are part of what room gave. each calls a function with all of them,
// as often as it is called.
func (s *scratch) keep(each func(func(*string))) {
	n := 0
	each(func(part *string) {
		if s.lends(*part) {
			n += len(*part)
		}
	})
	if n == 0 {
		return
	}
	var b strings.Builder
	b.Grow(n)
	each(func(part *string) {
		if s.lends(*part) {
			from := b.Len()
			b.WriteString(*part)
			*part = b.String()[from:]
		}
	})
}

// mostJumps is the same for jumps.
const mostJumps = 16 << 10

// release gives s to the next parse. Nothing in it keeps the message alive, and what room gave must not be
// used any more.
func (s *scratch) release() {
	s.findings, s.edits, s.stack, s.shown, s.several = cleared(s.findings), cleared(s.edits), cleared(s.stack), cleared(s.shown), cleared(s.several)
	s.bytes = s.bytes[:0]
	if cap(s.jumps) > mostJumps {
		s.jumps = nil
	}
	scratches.Put(s)
}

func cleared[T any](list []T) []T {
	list = list[:cap(list)]
	if len(list) > mostScratch {
		return nil
	}
	clear(list)
	return list[:0]
}

var tokenizers = sync.Pool{New: func() any { return htmltoken.New(nil) }}

// tokenizer returns one for src, to be put away with putAway.
func tokenizer(src []byte) *htmltoken.Tokenizer {
	z := tokenizers.Get().(*htmltoken.Tokenizer)
	z.Reset(src)
	return z
}

// putAway is for a tokenizer whose tokens are not asked any more.
func putAway(z *htmltoken.Tokenizer) {
	z.Reset(nil)
	tokenizers.Put(z)
}
