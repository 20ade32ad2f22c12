// Package transfer moves what people agreed to in and out of a store as text, a line at a time and
// in bounded memory: NDJSON, one JSON object a line, or CSV (RFC 4180) with a header.
//
// Both hold the same members, each a string:
//
//	address  whose record it is
//	scope    the list, brand or stream, or *
//	mail     subscribed, unsubscribed
//	open     granted, denied, unset
//	click    granted, denied, unset
//	time     when this was decided: RFC 3339, or a day, which is its midnight in UTC
//	source   how it came about; import where it is missing. It is for records that move from one
//	         store to another: that they were imported stands in the history
//	notice   version of the text that was shown
//
// A line sets the purposes that it names, all of one time, source and notice. A record whose
// purposes were decided at different times is several lines, so that what Writer wrote and
// Import reads again gives the same record. In an export without addresses the member person, what
// the store calls somebody, stands in the place of the address; such lines cannot be imported.
//
// It is not for one record at a time, which is the Store itself.
package transfer

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/consentgate/consentgate/consent"
)

// Format is how the lines are written.
type Format string

const (
	NDJSON Format = "ndjson"
	CSV    Format = "csv"
)

// MaxLine is the longest line in bytes, its end aside; in CSV the longest record, with the line
// ends inside its quotes.
const MaxLine = 64 << 10

// Row is one line: what it sets, in which record.
type Row struct {
	Address           consent.Address
	Scope             consent.Scope
	Mail, Open, Click consent.State // "" where the line does not name the purpose
	Time              time.Time     // zero where the line has none
	Source            consent.Source
	Notice            string
}

// members are the names of a line's members, in the order of a CSV file's columns. What a
// member person names cannot be imported.
var members = []string{"address", "person", "scope", "mail", "open", "click", "time", "source", "notice"}

// settable are those that an import takes, for messages.
const settable = "address, scope, mail, open, click, time, source and notice"

// LineError says what is wrong with one line. It never repeats an address.
type LineError struct {
	Line  int    // from 1; of a CSV record, that of its first line
	Field string // the member, "" where it is the line as a whole
	Wrong string
}

func (e *LineError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("line %d: %s: %s", e.Line, e.Field, e.Wrong)
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Wrong)
}

// set gives the member of that name its value, which is not empty.
func (r *Row) set(name, value string) (err error) {
	switch name {
	case "address":
		r.Address, err = consent.ParseAddress(value)
	case "person":
		err = fmt.Errorf("this was exported without addresses, so nobody knows whose it is: export it with them")
	case "scope":
		r.Scope, err = consent.ParseScope(value)
	case "mail":
		r.Mail, err = consent.ParseState(consent.Mail, value)
	case "open":
		r.Open, err = consent.ParseState(consent.Open, value)
	case "click":
		r.Click, err = consent.ParseState(consent.Click, value)
	case "time":
		r.Time, err = ParseTime(value)
	case "source":
		switch s := consent.Source(value); s {
		case consent.FromImport, consent.FromAPI, consent.FromPage, consent.FromOneClick, consent.FromMailto, consent.FromCLI:
			r.Source = s
		default:
			err = fmt.Errorf("a source is import, api, page, one-click, mailto or cli, not %.64q", value)
		}
	case "notice":
		err = consent.CheckNotice(value)
		r.Notice = value
	default:
		err = fmt.Errorf("there is no such member: a line has %s", settable)
	}
	return err
}

// ParseTime reads a time as RFC 3339 has it, or a day, which is its midnight in UTC.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse(time.DateOnly, s)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("a time is such as 2026-03-01T09:30:00Z or 2026-03-01, not %.64q", s)
	}
	if t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("the time is before 1970")
	}
	return t.UTC(), nil
}

// complete says what the row lacks.
func (r *Row) complete() (field, wrong string) {
	switch {
	case r.Address.IsZero():
		return "address", "is missing"
	case r.Scope == "":
		return "scope", "is missing, and no default was given"
	case r.Mail == "" && r.Open == "" && r.Click == "":
		return "", "it names nothing to set: mail, open or click"
	}
	return "", ""
}

// shorten keeps what a file holds from filling a message, or from steering a terminal.
func shorten(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
