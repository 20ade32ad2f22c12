package consent

import "time"

// EventKind says what an Event is about.
type EventKind string

const (
	Changed     EventKind = "change"
	RenamedFrom EventKind = "renamed-from" // these records came from another address of this person
	RenamedTo   EventKind = "renamed-to"   // they went to one
	Chained     EventKind = "chained"      // the sender's own list was told of an unsubscribe; Origin says what it answered
	Checkpoint  EventKind = "checkpoint"   // the events up to this number were deleted, since they prove nothing in force
	Missing     EventKind = "missing"      // stands for events up to this number that are gone from the end, or that would explain a record; never stored
)

// Event is one entry of a person's history. Old and New hold the states of what the event changed,
// and "" for the purposes that it did not; Old is "" too where nothing was recorded before.
type Event struct {
	Number uint64 // in the person's history, from 1, without a hole but for what a Checkpoint stands for
	Kind   EventKind
	Time   time.Time // the caller's clock, to the second, UTC; it may go backwards, Number does not
	Scope  Scope     // "" where Kind is neither Changed nor Chained
	Source Source    // "" where Kind is Checkpoint or Missing
	Origin string    // of a rename, the Key of the other address
	Notice string
	Old    States
	New    States
	// Broken says what does not fit in the chain, "" where all does.
	Broken string
}

// States are the states of the three purposes, in JSON too; "" where one is not meant.
type States struct {
	Mail  State `json:"mail,omitempty"`
	Open  State `json:"open,omitempty"`
	Click State `json:"click,omitempty"`
}

// event returns the entry that a history gets when c makes after of r.
func (r Record) event(after Record, c Change) Event {
	e := Event{Kind: Changed, Time: c.Time.UTC().Truncate(time.Second), Scope: c.Scope, Source: c.Source, Origin: c.Origin, Notice: c.Notice}
	note := func(before, after Entry, old, new *State) {
		if before != after {
			*old, *new = before.State, after.State
		}
	}
	note(r.Mail, after.Mail, &e.Old.Mail, &e.New.Mail)
	note(r.Open, after.Open, &e.Old.Open, &e.New.Open)
	note(r.Click, after.Click, &e.Old.Click, &e.New.Click)
	return e
}
