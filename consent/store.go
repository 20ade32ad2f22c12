package consent

import (
	"context"
	"errors"
	"iter"
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
	// Origin says in the history who or what made the change beyond its Source: a login, a job, the
	// prefix of a network. Never an address. At most 64 bytes of printable ASCII; "" = not known.
	Origin string
	// IfVersion, where not 0, lets the change be made only while the record of Scope has that
	// version; else the result's Err is ErrConflict and the records are those of now. NeverSeen
	// stands for a record that is not there.
	IfVersion uint64
}

// NeverSeen is the IfVersion of a record that is not there yet.
const NeverSeen = ^uint64(0)

var (
	// ErrUnreachable is wrapped by errors of a store that does not answer, now.
	ErrUnreachable = errors.New("the consent store does not answer")
	// ErrForeign is returned by a store that holds the fingerprint of another lookup key.
	ErrForeign = errors.New("the consent store belongs to another key file: give key_file the one that it was begun with, or consent.store another database or file")
	// ErrConflict is the error of a change whose IfVersion is not the record's.
	ErrConflict = errors.New("the record was changed meanwhile")
	// ErrUnasked is wrapped, beside ErrUnreachable, where a store was not asked, since it did not answer just before.
	ErrUnasked = errors.New("it is not asked until it does again")

	// ErrLost is wrapped, beside ErrUnreachable, where a store has lost what it held, or may drop it:
	// it answers again once AcceptStore was called.
	ErrLost = errors.New("the consent store has lost its records, or may drop them")
	// ErrNotDurable is wrapped, beside ErrUnreachable, where a change was made and the replicas that
	// must have it did not say so in time: it is not to be confirmed to anybody.
	ErrNotDurable = errors.New("the change is not known to be durable")
	// ErrUnwritable is wrapped where a store answers what is asked of it and takes no change: its disk or its memory is
	// full, it is a replica, or has lost its own.
	ErrUnwritable = errors.New("the consent store takes no changes")
)

// Key names a person in a store without saying who it is: what the HMAC of the address yields.
type Key [32]byte

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
	// them (one a node in a cluster), which begins after the call; people must not change any more, also where ctx ended
	// it before. The results are in the order of people; the error of one
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

	// Key returns the key that a person has in this store. It asks nobody.
	Key(who Address) Key

	// History yields a person's events, the oldest first, each checked against the one before: an
	// Event whose Broken is set says that something before or in it was changed or is missing. What is
	// missing at the end, and a record that is not what the history says, is told by one more Event of
	// the kind Missing each. An error ends it. Of a person
	// never seen or erased there are none.
	History(ctx context.Context, who Address) iter.Seq2[Event, error]

	// Note appends to a person's history what is no change of a record, an Event of kind Chained: its
	// Time, Scope, Source and Origin, under the next Number. Of a person without a history nothing is
	// noted, so that it never brings back somebody who was erased.
	Note(ctx context.Context, who Address, e Event) error

	// Scan yields all people with their records in all scopes, in no order, from a Cursor on; "" is the
	// beginning. A person who is there all the while is yielded at least once. Each Person has the
	// Cursor to go on behind it, which may yield some people before it again. An error ends it.
	Scan(ctx context.Context, from Cursor) iter.Seq2[Person, error]

	// Person returns all that is held of one person; Records is empty for one never seen.
	Person(ctx context.Context, who Address) (Person, error)

	// Rename gives the records and the history of old to new, whose own records are merged with them:
	// the later entry of a purpose counts, an opt-out of either stays. Both histories say so. At old stay
	// its opt-outs, as after Erase. Where old was never seen there is nothing to do, and where its history
	// does not hold the error wraps ErrBroken, since a new one would hide that.
	Rename(ctx context.Context, old, new Address, source Source, at time.Time) error

	// Erase removes all that is held of a person, the history too. What stays is, of somebody who
	// unsubscribed somewhere, the keyed hash with these opt-outs and nothing else.
	Erase(ctx context.Context, who Address) error

	// Purge deletes the events of before that prove nothing that is in force any more, and returns how
	// many; a checkpoint that is part of the chain stands in their place. Histories that do not hold are
	// left alone; the error, which wraps ErrBroken, comes when all others are done.
	Purge(ctx context.Context, before time.Time) (int, error)

	// Watch tells of people whose records are changed, through whatever gateway, until ctx ends. The
	// channel is closed when it is no longer certain that every change is told.
	Watch(ctx context.Context) (<-chan Told, error)

	// AcceptStore makes a store that lost its records (ErrLost) one to work with, as it is now.
	AcceptStore(ctx context.Context) error

	// Ping says whether the store answers, belongs to this gateway's key, and holds what it held.
	Ping(ctx context.Context) error

	// Writable says whether a change would be taken now, and be durable (else ErrUnwritable), by writing something that
	// means nothing.
	Writable(ctx context.Context) error

	Close() error
}

// Told is what Watch tells: whose records were changed, or where UpTo is not zero, that all changes that
// were confirmed to anybody before that time, by this process's clock, are told by now.
type Told struct {
	Key  Key
	UpTo time.Time
}

// Cursor is a place in a Scan.
type Cursor string

// Person is all that a store holds of one person, the history aside.
type Person struct {
	Key     Key
	Address Address  // the zero Address of somebody erased
	Records []Record // by Scope
	Next    Cursor
}
