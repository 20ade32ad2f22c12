package token

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// Purpose is what a slip is good for, and nothing else.
type Purpose string

const (
	Confirm Purpose = "confirm" // a consent that was asked for on the page, confirmed from a mail
	Undo    Purpose = "undo"    // what held before the page changed it
)

// UndoTime is how long what was done on the page can be undone there.
const UndoTime = 30 * time.Minute

// lives is how long a slip is good for.
var lives = map[Purpose]time.Duration{Confirm: 7 * 24 * time.Hour, Undo: UndoTime}

// Slip is what may be done to one record, by whoever brings it back in time. It is sealed like a
// token, under the keys of its purpose: it opens neither as an unsubscribe link nor as a slip of
// another purpose.
type Slip struct {
	Who      consent.Address
	Language string         // of the page it was made on
	Record   consent.Record // what is to hold in its scope; purposes without a state stay as they are. Version is not 0
	Made     time.Time      // to the second
}

// ErrExpired is the error of a slip that was good once.
var ErrExpired = errors.New("this is too long ago")

// Slips makes and opens the slips of one purpose. It is safe for concurrent use.
type Slips struct {
	keys []*key
	life time.Duration
}

// NewSlips returns what makes slips under the ring's current secret and opens those of all.
func NewSlips(ring *keyring.Ring, purpose Purpose) *Slips {
	return &Slips{newKeys(ring, string(purpose)+" "), lives[purpose]}
}

// Seal returns the text of s: characters of A-Z, a-z, 0-9, - and _.
func (s *Slips) Seal(slip Slip) string {
	k := s.keys[0]
	w := k.scratch.Get().(*scratch)
	defer k.scratch.Put(w)
	w.plain = w.plain[:0]
	for _, field := range []string{string(slip.Record.Scope), slip.Language, slip.Who.String()} {
		w.plain = append(binary.AppendUvarint(w.plain, uint64(len(field))), field...)
	}
	w.plain = binary.AppendVarint(w.plain, slip.Made.Unix())
	w.plain = append(w.plain, consent.RecordText(slip.Record)...)
	return k.seal(w)
}

// Open returns a slip that is still good at now. One that is not any more comes with ErrExpired;
// every other text gets ErrInvalid, after the same steps.
func (s *Slips) Open(text string, now time.Time) (Slip, error) {
	slip, err := open(s.keys, text, parseSlip)
	if err != nil {
		return Slip{}, err
	}
	if !now.Before(slip.Made.Add(s.life)) {
		return slip, ErrExpired
	}
	return slip, nil
}

func parseSlip(plain string) (Slip, error) {
	fields, rest, err := cutFields(plain, 3)
	if err != nil {
		return Slip{}, err
	}
	made, n := binary.Varint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
	if n <= 0 {
		return Slip{}, ErrInvalid
	}
	slip := Slip{Language: fields[1], Made: time.Unix(made, 0).UTC()}
	scope, err := consent.ParseScope(fields[0])
	if err != nil {
		return Slip{}, ErrInvalid
	}
	if slip.Who, err = consent.ParseAddress(fields[2]); err != nil {
		return Slip{}, ErrInvalid
	}
	if slip.Record, err = consent.ParseRecord(scope, rest[n:]); err != nil || slip.Record.Version == 0 {
		return Slip{}, ErrInvalid
	}
	return slip, nil
}
