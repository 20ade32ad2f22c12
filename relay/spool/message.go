package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

// Envelope is what is known of a message beside its body and its recipients.
type Envelope struct {
	From       string         `json:"from"` // reverse-path; "" is the null sender
	UTF8       bool           `json:"utf8,omitempty"`
	Return     smtp.DSNReturn `json:"ret,omitempty"`
	EnvelopeID string         `json:"envid,omitempty"`
	Header8Bit bool           `json:"header8bit,omitempty"`

	// As decided when the message was accepted.
	Scope    string `json:"scope,omitempty"`
	Class    string `json:"class,omitempty"`
	Language string `json:"language,omitempty"`
	Machine  bool   `json:"machine,omitempty"`

	// For the Received field.
	Helo string `json:"helo,omitempty"`
	Peer string `json:"peer,omitempty"`
	With string `json:"with,omitempty"`
}

// Recipient is one who is still owed a message.
type Recipient struct {
	Index int    `json:"index"` // names the recipient as long as the message lives
	To    string `json:"to"`

	// RFC 3461
	Notify       []smtp.DSNNotify    `json:"notify,omitempty"`
	OriginalType smtp.DSNAddressType `json:"orcpt_type,omitempty"`
	Original     string              `json:"orcpt,omitempty"`

	Attempts int           `json:"attempts,omitempty"`
	Due      time.Time     `json:"due,omitzero"`      // wall clock: when the next attempt is to be
	Delay    time.Duration `json:"delay,omitempty"`   // that Due was made of
	Waited   time.Duration `json:"waited,omitempty"`  // sum of the delays so far, which no clock that jumps can change
	Delayed  bool          `json:"delayed,omitempty"` // the sender was told of the delay
	Reply    string        `json:"reply,omitempty"`   // the last answer
}

// Job says that what waits is no mail but other work, for which the body is all that is to be known: a call
// to be made to a web server. Who does it reads Jobs. It goes to nobody, so its one Recipient has no
// address and only counts the attempts.
type Job struct {
	Queue string `json:"queue"` // what kind of work
	Line  string `json:"line"`  // jobs that have to keep their order
}

// Message is a message with those who are still owed it.
type Message struct {
	ID      string    `json:"id"` // letters, digits, '-' and '_', at most 64
	Arrived time.Time `json:"arrived"`
	Job     *Job      `json:"job,omitempty"` // nil for mail; never changed
	Envelope
	Recipients []Recipient `json:"recipients"`
	Size       int64       `json:"size"` // of the body, in bytes
}

// New is a message to be added. Body holds Size bytes and is read before Add or Update returns. Where it has a
// method Bytes that returns all of it, these are kept and must not be changed any more.
type New struct {
	Message
	Body io.ReaderAt
}

// Change is what became of a recipient: either it is done, or this is its new state, which
// replaces the old one as a whole. A Change of a recipient who is done already does nothing.
type Change struct {
	Index int  `json:"index"`
	Done  bool `json:"done,omitempty"`

	// As in Recipient.
	Attempts int           `json:"attempts,omitempty"`
	Due      time.Time     `json:"due,omitzero"`
	Delay    time.Duration `json:"delay,omitempty"`
	Waited   time.Duration `json:"waited,omitempty"`
	Delayed  bool          `json:"delayed,omitempty"`
	Reply    string        `json:"reply,omitempty"`
}

// maxReply bounds what is kept of an answer; RFC 5321 §4.5.3.1.5 allows 512 a line.
const maxReply = 1024

func (m *Message) clone() Message {
	c := *m
	c.Recipients = slices.Clone(m.Recipients)
	return c
}

// check says what keeps m from being written down. JSON holds UTF-8 only, and an address that
// comes back as another one would be a lost message.
func (m *Message) check() error {
	if !isID(m.ID) {
		return fmt.Errorf("message %q: this is not an ID", m.ID)
	}
	if len(m.Recipients) == 0 {
		return fmt.Errorf("message %s has no recipients", m.ID)
	}
	if m.Size < 0 {
		return fmt.Errorf("message %s: size %d", m.ID, m.Size)
	}
	valid := utf8.ValidString(m.From) && utf8.ValidString(m.EnvelopeID)
	if m.Job != nil {
		valid = valid && utf8.ValidString(m.Job.Queue) && utf8.ValidString(m.Job.Line)
	}
	for _, r := range m.Recipients {
		valid = valid && utf8.ValidString(r.To) && utf8.ValidString(r.Original)
	}
	if !valid {
		return fmt.Errorf("message %s: its envelope is not UTF-8", m.ID)
	}
	return nil
}

// isID says whether id can be a file's name on every system.
func isID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// normal returns m as it will be read from the disk.
func (m *Message) normal() *Message {
	c := m.clone()
	c.Arrived = wall(c.Arrived)
	for i := range c.Recipients {
		r := &c.Recipients[i]
		r.Index, r.Due, r.Reply = i, wall(r.Due), short(r.Reply)
	}
	return &c
}

func wall(t time.Time) time.Time { return t.Round(0).UTC() }

func short(reply string) string {
	if len(reply) > maxReply {
		reply = reply[:maxReply]
	}
	return strings.ToValidUTF8(reply, "\uFFFD")
}

// apply changes m and says whether anybody is still owed it.
func (m *Message) apply(changes []Change) bool {
	for _, c := range changes {
		i, ok := slices.BinarySearchFunc(m.Recipients, c.Index, func(r Recipient, index int) int { return r.Index - index })
		if !ok {
			continue
		}
		if c.Done {
			m.Recipients = slices.Delete(m.Recipients, i, i+1)
			continue
		}
		m.Recipients[i].set(c)
	}
	return len(m.Recipients) > 0
}

func (r *Recipient) set(c Change) {
	r.Attempts, r.Due, r.Delay, r.Waited, r.Delayed, r.Reply = c.Attempts, c.Due, c.Delay, c.Waited, c.Delayed, c.Reply
}

// only makes the recipients that states names the ones who are owed m, each in the state it has
// there, and says whether there are any.
func (m *Message) only(states []Change) bool {
	state := make(map[int]Change, len(states))
	for _, c := range states {
		state[c.Index] = c
	}
	owed := m.Recipients[:0]
	for _, r := range m.Recipients {
		if c, ok := state[r.Index]; ok {
			r.set(c)
			owed = append(owed, r)
		}
	}
	m.Recipients = owed
	return len(owed) > 0
}

func (m *Message) states() []Change {
	states := make([]Change, len(m.Recipients))
	for i, r := range m.Recipients {
		states[i] = Change{Index: r.Index, Attempts: r.Attempts, Due: r.Due, Delay: r.Delay, Waited: r.Waited, Delayed: r.Delayed, Reply: r.Reply}
	}
	return states
}

// record is one entry of the log.
type record struct {
	kind    kind
	entry   *entry // whom it is about; nil in a seal
	message *Message
	changes []Change
	meta    []byte // JSON
	body    []byte
	sum     uint32 // CRC32C of the message's body, here or in big/
	big     bool
	damaged bool
}

type kind byte

const (
	kindMessage kind = 1 // a message and all that is owed; what earlier records say of it counts no more
	kindUpdate  kind = 2 // what became of some recipients
	kindState   kind = 3 // the recipients who are owed a message; what earlier updates say counts no more
	kindRemove  kind = 4 // a message is done
	kindSeal    kind = 5 // the last record of a segment
	kindJob     kind = 6 // the same as kindMessage of what is no mail, so that no older version takes it for that
)

// whole says whether a record of that kind holds all of a message.
func (k kind) whole() bool { return k == kindMessage || k == kindJob }

// kind is that of m's record.
func (m *Message) kind() kind {
	if m.Job != nil {
		return kindJob
	}
	return kindMessage
}

// messageMeta and stateMeta are what stands in a record as JSON.
type messageMeta struct {
	*Message
	Big     bool `json:"big,omitempty"`
	Damaged bool `json:"damaged,omitempty"` // and there is no body
}

type stateMeta struct {
	ID      string   `json:"id"`
	Changes []Change `json:"changes,omitempty"`
}

var errMeta = errors.New("a record that says nothing")

// written returns r, of a message, with its JSON. With an error it returns r as it was.
func (r record) written() (record, error) {
	var err error
	if r.meta, err = json.Marshal(messageMeta{r.message, r.big, r.damaged}); err != nil {
		return r, fmt.Errorf("message %s: %w", r.message.ID, err)
	}
	return r, nil
}

// updateRecord copies changes.
func updateRecord(e *entry, changes []Change) (record, error) {
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i].Due, changes[i].Reply = wall(changes[i].Due), short(changes[i].Reply)
		if changes[i].Done {
			changes[i] = Change{Index: changes[i].Index, Done: true}
		}
	}
	return stateRecord(kindUpdate, e, changes)
}

func removeRecord(e *entry) (record, error) { return stateRecord(kindRemove, e, nil) }

func stateRecord(k kind, e *entry, changes []Change) (record, error) {
	meta, err := json.Marshal(stateMeta{e.id, changes})
	if err != nil {
		return record{}, fmt.Errorf("message %s: %w", e.id, err)
	}
	return record{kind: k, entry: e, changes: changes, meta: meta}, nil
}

// decode reads the JSON of r; it returns the ID of the message that r is about.
func (r *record) decode() (string, error) {
	switch r.kind {
	case kindSeal:
		return "", nil
	case kindMessage, kindJob:
		m := messageMeta{Message: &Message{}}
		if err := json.Unmarshal(r.meta, &m); err != nil || m.Message == nil || !isID(m.ID) || len(m.Recipients) == 0 || m.Size < 0 || m.kind() != r.kind {
			return "", errMeta // the decoder's own error might quote an address
		}
		r.message, r.big, r.damaged = m.Message, m.Big, m.Damaged || r.damaged
		if !r.big && !r.damaged && m.Size != int64(len(r.body)) {
			return "", errMeta
		}
		return m.ID, nil
	case kindUpdate, kindState, kindRemove:
		var m stateMeta
		if err := json.Unmarshal(r.meta, &m); err != nil || m.ID == "" {
			return "", errMeta
		}
		r.changes = m.Changes
		return m.ID, nil
	}
	return "", fmt.Errorf("%w (record of kind %d)", ErrNewer, r.kind)
}
