package consent

import (
	"context"
	"errors"
	"time"
)

// Source says through what a state came about.
type Source string

const (
	FromImport   Source = "import"
	FromAPI      Source = "api"
	FromPage     Source = "page"
	FromOneClick Source = "one-click"
	FromMailto   Source = "mailto"
	FromCLI      Source = "cli"
)

// Entry is what is recorded for one purpose. The zero Entry means that nothing was recorded.
type Entry struct {
	State  State
	Time   time.Time // when the state was set, to the second, UTC
	Source Source
	Notice string // version of the text that was shown, "" if none; at most 64 bytes, printable ASCII
}

// Record is what is recorded for one person in one scope. A person never seen has the zero
// entries, which count as subscribed and unset.
type Record struct {
	Scope             Scope
	Mail, Open, Click Entry
	Version           uint64 // number of changes so far; 0 = never seen
}

// Result is what a lookup yields for one person: the record of the scope asked for, and that
// of AnyScope (the same record twice where AnyScope was asked for). Err is set where this
// person's record could not be read, since one shard may be down and the others not; then the
// records are zero.
type Result struct {
	Scope, Any Record
	Err        error
}

// Change sets the states that are not empty and leaves the others as they are.
type Change struct {
	Who               Address
	Scope             Scope
	Mail, Open, Click State
	Source            Source
	Notice            string    // recorded with each purpose that the change names
	Time              time.Time // recorded to the second; the caller's clock
}

var (
	// ErrUnreachable is wrapped by errors of a store that does not answer, now.
	ErrUnreachable = errors.New("the consent store does not answer")
	// ErrForeign is returned by a store that holds the fingerprint of another lookup key.
	ErrForeign = errors.New("the consent store belongs to another key file")
)

// Store keeps records. It is safe for concurrent use. Two implementations pass the suite in
// storetest: redisstore and boltstore.
//
// No address stands in a key: keys hold an HMAC-SHA-256 of the normalised address.
//
// Errors wrap ErrUnreachable where the store does not answer (also when it is closed), ErrForeign
// where it belongs to another key, and context.Canceled where the caller gave up. An error of one
// person that wraps none of these is a record that cannot be read.
type Store interface {
	// Lookup reads the records of people in scope and in AnyScope, in one round trip for all of
	// them (one a node in a cluster). The results are in the order of people; the error of one
	// person is in Result.Err. The returned error is set only where nothing could be asked at
	// all, and then every Result has it too, so that len(results) == len(people) always.
	Lookup(ctx context.Context, scope Scope, people []Address) ([]Result, error)

	// Apply makes each change in one atomic step and returns the records after it, in the order
	// of changes, with AnyScope's record beside each. When it returns without an error for a
	// change, that change is durable as the store is configured; Result.Err says otherwise, also
	// for a change that Change.Check refuses; the others are made all the same. The returned error
	// is set only where nothing was changed at all, and then every Result has it too.
	// Applying what already holds, under the same notice, is no error and changes nothing.
	Apply(ctx context.Context, changes []Change) ([]Result, error)

	// Ping says whether the store answers and belongs to this gateway's key.
	Ping(ctx context.Context) error

	Close() error
}
