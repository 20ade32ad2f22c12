package consent

import "time"

// EventKind says what an Event is about.
type EventKind string

const (
	Changed     EventKind = "change"
	RenamedFrom EventKind = "renamed-from" // these records came from another address of this person
	RenamedTo   EventKind = "renamed-to"   // they went to one
	Checkpoint  EventKind = "checkpoint"   // events up to here were deleted, since they prove nothing in force
)

// Event is one entry of a person's history. Old and New hold the state, time, source and notice of
// what the event changed, and the zero Entry for the purposes that it did not.
type Event struct {
	Number uint64 // in the person's history, from 1, without a hole
	Kind   EventKind
	Time   time.Time // the caller's clock, to the second, UTC; it may go backwards, Number does not
	Scope  Scope     // "" where Kind is not Changed
	Source Source
	Origin string
	Notice string
	Old    States
	New    States
	// Broken says what does not fit in the chain, "" where all does.
	Broken string
}

// States are the states of the three purposes; "" where one is not meant.
type States struct {
	Mail, Open, Click State
}
