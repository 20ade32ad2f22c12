package rewrite

import (
	"sync"

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
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// mostScratch is how many elements a slice may have to be kept.
const mostScratch = 1024

// release gives s to the next parse, without anything of the message in it.
func (s *scratch) release() {
	s.findings, s.edits, s.stack, s.shown, s.several = cleared(s.findings), cleared(s.edits), cleared(s.stack), cleared(s.shown), cleared(s.several)
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
