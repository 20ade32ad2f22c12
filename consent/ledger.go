package consent

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/consentgate/consentgate/consent/keyring"
)

// Ledger works out what a store has to keep: it makes keys of addresses, seals addresses, merges
// changes and chains the events. It asks nobody and keeps nothing, so both stores mean the same.
// It is safe for concurrent use.
type Ledger struct {
	history []byte
	seals   []cipher.AEAD // current first
	macs    sync.Pool     // of *lookupMAC
}

// NewLedger returns the ledger of a key file.
func NewLedger(ring *keyring.Ring) *Ledger {
	lookup := ring.Lookup()
	l := &Ledger{history: ring.History()}
	l.macs.New = func() any { return &lookupMAC{Hash: hmac.New(sha256.New, lookup)} }
	for _, key := range ring.Seal() {
		block, err := aes.NewCipher(key)
		if err != nil {
			panic("consent: " + err.Error()) // the keys of a ring have 32 bytes
		}
		seal, err := cipher.NewGCM(block)
		if err != nil {
			panic("consent: " + err.Error())
		}
		l.seals = append(l.seals, seal)
	}
	return l
}

// Held is all that a store keeps of one person, as it keeps it.
type Held struct {
	Key    Key
	Fields map[string]string // by scope the text of the record, and the two below; nothing where there is nothing
	Events []string          // oldest first; the last two are enough for Apply
}

// The fields that are no scope's.
const (
	AddressField = "@" // the sealed address
	HeadField    = "#" // number and proof of the last event
)

// Update is what a store writes in one step, if the person is still as Held said.
type Update struct {
	Fields  map[string]string // "" removes one
	Events  []string          // to append
	Replace bool              // Events stand in place of all that were there
}

// Empty reports whether there is nothing to write.
func (u Update) Empty() bool { return len(u.Fields) == 0 && len(u.Events) == 0 && !u.Replace }

// Update changes h as a store does.
func (h *Held) Update(u Update) {
	for name, text := range u.Fields {
		if text == "" {
			delete(h.Fields, name)
		} else {
			h.Fields[name] = text
		}
	}
	if u.Replace {
		h.Events = nil
	}
	h.Events = append(h.Events, u.Events...)
}

// Key returns the key of a person: the HMAC-SHA-256 of the normalised address.
func (l *Ledger) Key(who Address) (k Key) {
	h := l.macs.Get().(*lookupMAC)
	h.Reset()
	h.in = append(h.in[:0], who.mailbox...)
	h.Write(h.in)
	h.out = h.Sum(h.out[:0])
	copy(k[:], h.out)
	l.macs.Put(h)
	return k
}

// lookupMAC is an HMAC under the lookup key with what goes in and comes out, to be used again.
type lookupMAC struct {
	hash.Hash
	in, out []byte
}

// String returns the key in base64url, 43 characters.
func (k Key) String() string { return string(k.AppendText(nil)) }

// AppendText appends what String returns.
func (k Key) AppendText(b []byte) []byte { return base64.RawURLEncoding.AppendEncode(b, k[:]) }

// ParseKey reads what Key.String wrote.
func ParseKey(text string) (k Key, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(k) || len(text) != base64.RawURLEncoding.EncodedLen(len(k)) { // the decoder passes over line breaks
		return k, errors.New("this names no person in a store: 43 characters of base64url do")
	}
	return Key(b), nil
}

// seal encrypts an address for the record of key k, by AES-256-GCM with k as additional data. The
// nonce is the beginning of k: a key belongs to one address only, so no nonce ever seals two texts,
// what is sealed twice is the same, and it is shorter by the nonce.
func (l *Ledger) seal(k Key, who Address) string {
	s := l.seals[0]
	return string(s.Seal(nil, k[:s.NonceSize()], []byte(who.mailbox), k[:]))
}

// open opens what seal sealed, under any secret of the ring.
func (l *Ledger) open(k Key, sealed string) (Address, error) {
	for _, s := range l.seals {
		if text, err := s.Open(nil, k[:s.NonceSize()], []byte(sealed), k[:]); err == nil {
			return Address{string(text)}, nil
		}
	}
	return Address{}, errors.New("the consent store holds an address that no secret of the key file opens: was an old one removed?")
}

// result returns the records of scope and of AnyScope.
func (h *Held) result(scope Scope) (r Result) {
	r.Parse(scope, h.Fields[string(scope)], h.Fields[string(AnyScope)])
	return r
}

// records returns all records, by scope.
func (h *Held) records() ([]Record, error) {
	var all []Record
	for name, text := range h.Fields {
		if name == AddressField || name == HeadField {
			continue
		}
		r, err := ParseRecord(Scope(name), text)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(string(a.Scope), string(b.Scope)) })
	return all, nil
}

// Person reads all that is held, the history aside.
func (l *Ledger) Person(h *Held) (Person, error) {
	p := Person{Key: h.Key}
	var err error
	if p.Records, err = h.records(); err != nil {
		return Person{}, err
	}
	if sealed := h.Fields[AddressField]; sealed != "" {
		p.Address, err = l.open(h.Key, sealed)
	}
	return p, err
}

// History reads and checks a history.
func (l *Ledger) History(h *Held) []Event {
	lines := l.check(h)
	events := make([]Event, len(lines))
	for i, l := range lines {
		events[i] = l.Event
	}
	return events
}

// Apply works out what becomes of a person by changes, one after the other. They must have
// passed Change.Check and be this person's. The results are those of Store.Apply; h is left as it is.
func (l *Ledger) Apply(h *Held, changes []Change) ([]Result, Update) {
	now := Held{Key: h.Key, Fields: make(map[string]string, len(h.Fields)+len(changes))}
	for name, text := range h.Fields {
		now.Fields[name] = text
	}
	to := l.end(h)
	u := Update{Fields: map[string]string{}}
	results := make([]Result, len(changes))
	for i, c := range changes {
		r := now.result(c.Scope)
		if results[i] = r; r.Err != nil {
			continue
		}
		if v := c.IfVersion; v != 0 && v != r.Scope.Version && !(v == NeverSeen && r.Scope.Version == 0) {
			results[i].Err = ErrConflict
			continue
		}
		after, changed := r.Scope.Merge(c)
		if !changed {
			continue
		}
		var text string
		text, to, u.Fields[HeadField] = l.add(h.Key, to, line{Event: r.Scope.event(after, c)})
		u.Events = append(u.Events, text)
		u.Fields[string(c.Scope)] = RecordText(after)
		now.Fields[string(c.Scope)] = u.Fields[string(c.Scope)]
		if sealed := l.seal(h.Key, c.Who); sealed != h.Fields[AddressField] {
			u.Fields[AddressField] = sealed
		}
		results[i] = now.result(c.Scope)
	}
	return results, u
}

// Note works out the entry that e, whose Kind is Chained, becomes. Of somebody without a history there
// is nothing to write: the person was erased meanwhile.
func (l *Ledger) Note(h *Held, e Event) (Update, error) {
	if _, ok := sourceCodes[e.Source]; !ok || e.Kind != Chained {
		return Update{}, fmt.Errorf("an entry of kind %q by %q cannot be noted", e.Kind, e.Source)
	}
	if s, err := ParseScope(string(e.Scope)); err != nil || s != e.Scope {
		return Update{}, errors.New("an entry needs a scope")
	}
	if err := checkOrigin(e.Origin); err != nil {
		return Update{}, err
	}
	if t := e.Time.Unix(); t <= 0 || t > maxTime {
		return Update{}, errNoTime
	}
	if h.Fields[HeadField] == "" {
		return Update{}, nil
	}
	text, _, head := l.add(h.Key, l.end(h), line{Event: e})
	return Update{Fields: map[string]string{HeadField: head}, Events: []string{text}}, nil
}

// Erase works out what stays of an erased person: of each record in which mail is unsubscribed
// that entry without its notice, and nothing else.
func (l *Ledger) Erase(h *Held) (Update, error) {
	records, err := h.records()
	if err != nil {
		return Update{}, fmt.Errorf("nothing was erased, since it may be an opt-out: %w", err)
	}
	u := Update{Fields: map[string]string{}, Replace: len(h.Events) > 0}
	for _, r := range records {
		text := h.Fields[string(r.Scope)]
		if kept := RecordText(r.erased()); kept == text {
			continue
		}
		if r.erased() != (Record{Scope: r.Scope, Version: r.Version}) {
			r.Version++
			u.Fields[string(r.Scope)] = RecordText(r.erased())
		} else {
			u.Fields[string(r.Scope)] = ""
		}
	}
	for _, name := range [...]string{AddressField, HeadField} {
		if h.Fields[name] != "" {
			u.Fields[name] = ""
		}
	}
	return u, nil
}

// erased returns what of a record outlives its person.
func (r Record) erased() Record {
	kept := Record{Scope: r.Scope, Version: r.Version}
	if r.Mail.State == Unsubscribed {
		kept.Mail = Entry{State: Unsubscribed, Time: r.Mail.Time, Source: r.Mail.Source}
	}
	return kept
}
