package consent

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxNotice is the longest Notice in bytes.
const MaxNotice = 64

// MaxOrigin is the longest Origin in bytes.
const MaxOrigin = 64

// maxTime is the last second of the year 9999, behind which RFC 3339 has no name for a time.
const maxTime = 253402300799

// Check says what is wrong with a change, before any store sees it: an address or a scope that
// was not parsed, a state that the purpose does not have, an unknown source, a notice that is
// too long or not printable ASCII, an origin that is so or holds an @, or a missing time. A change that names no purpose is valid
// and changes nothing.
func (c Change) Check() error {
	if c.Who.IsZero() {
		return errors.New("a change needs an address")
	}
	if s, err := ParseScope(string(c.Scope)); err != nil {
		return err
	} else if s != c.Scope {
		return fmt.Errorf("the scope %q is not in lower case", c.Scope)
	}
	for _, p := range [...]struct {
		purpose Purpose
		state   State
	}{{Mail, c.Mail}, {Open, c.Open}, {Click, c.Click}} {
		if p.state == "" {
			continue
		}
		if _, err := ParseState(p.purpose, string(p.state)); err != nil {
			return err
		}
	}
	if _, ok := sourceCodes[c.Source]; !ok {
		return fmt.Errorf("unknown source %q", c.Source)
	}
	if err := CheckNotice(c.Notice); err != nil {
		return err
	}
	if err := checkOrigin(c.Origin); err != nil {
		return err
	}
	if t := c.Time.Unix(); t <= 0 || t > maxTime {
		return errNoTime
	}
	return nil
}

var errNoTime = errors.New("a change needs the time at which it was made")

// CheckNotice says what is wrong with the version of a notice: over MaxNotice bytes, or not
// printable ASCII.
func CheckNotice(notice string) error {
	if len(notice) > MaxNotice {
		return fmt.Errorf("a notice has at most %d bytes, this one has %d", MaxNotice, len(notice))
	}
	if !printable(notice) {
		return errors.New("a notice is made of printable ASCII")
	}
	return nil
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func checkOrigin(origin string) error {
	if len(origin) > MaxOrigin || !printable(origin) {
		return fmt.Errorf("an origin is made of at most %d characters of printable ASCII", MaxOrigin)
	}
	if strings.Contains(origin, "@") {
		return errors.New("an origin is no address: it would outlive the sealing of addresses")
	}
	return nil
}

// Merge returns r with c applied and whether that changed anything. A purpose changes where its
// state or its notice becomes another; applying what already holds leaves its time and source
// as they are. Each Merge that changes something counts the Version up by one.
func (r Record) Merge(c Change) (Record, bool) {
	changed := false
	set := func(e *Entry, s State) {
		if s == "" || (e.State == s && e.Notice == c.Notice) {
			return
		}
		*e = c.Entry(s)
		changed = true
	}
	r.Scope = c.Scope
	set(&r.Mail, c.Mail)
	set(&r.Open, c.Open)
	set(&r.Click, c.Click)
	if changed {
		r.Version++
	}
	return r, changed
}

// Entry returns what the change records for a purpose that it sets to s, the zero Entry for "".
func (c Change) Entry(s State) Entry {
	if s == "" {
		return Entry{}
	}
	return Entry{State: s, Time: c.Time.UTC().Truncate(time.Second), Source: c.Source, Notice: c.Notice}
}
