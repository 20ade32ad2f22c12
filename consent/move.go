package consent

import "errors"

// Moving says what part a store has while people move from one to another. It stands in the store itself, so
// that no gateway, of whatever version, works with a store that is not whole yet or no longer written to.
type Moving string

const (
	Settled Moving = ""        // a store to work with
	Filling Moving = "filling" // people are brought there: a gateway has to wait
	Moved   Moving = "moved"   // they are in another store now: a gateway would write where nobody reads
)

var (
	// ErrFilling is wrapped, beside ErrUnreachable, by errors of a store that people are still brought to.
	ErrFilling = errors.New("the consent store is being filled by consentgate consent migrate: wait until that says that gateways may use it")
	// ErrMoved is wrapped, beside ErrUnreachable, by errors of a store whose people are in another one.
	ErrMoved = errors.New("what this consent store held was moved to another: set consent.store to that one, and start the gateway again")
)

// MovingState says how far a store is.
type MovingState struct {
	Moving Moving
	Epoch  string // the random name of its data
	Was    string // the name of the data that it stands in for, "" = none
}

// Page is what Pages yields: people with all that is held of them.
type Page []*Held
