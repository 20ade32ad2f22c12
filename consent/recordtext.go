package consent

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// The text that both stores keep for one record, short and readable with the store's own tools:
//
//	record = version TAB mail TAB open TAB click
//	entry  = "" | state seconds source notice | state "="
//	state  = "s" subscribed, "u" unsubscribed | "g" granted, "d" denied, "n" unset
//	source = "i" import, "a" api, "p" page, "o" one-click, "m" mailto, "c" cli
//
// where seconds are those since 1970 in UTC, and a notice runs to the end of the entry: it is
// printable ASCII and so holds no TAB. "=" stands for the time, source and notice of the entry before it:
// who fills in a form decides all at once, and a value of over 64 bytes makes Redis keep the person in
// another way that takes twice the memory. An entry in full is read there as well. For example
//
//	3 TAB u1763900000o TAB g1763800000p2026-03 TAB d=
//
// is the third state of a record: unsubscribed by one click, opens granted and clicks denied at an
// earlier time on the page under notice 2026-03.

var (
	stateCodes  = map[State]byte{Subscribed: 's', Unsubscribed: 'u', Granted: 'g', Denied: 'd', Unset: 'n'}
	sourceCodes = map[Source]byte{FromImport: 'i', FromAPI: 'a', FromPage: 'p', FromOneClick: 'o', FromMailto: 'm', FromCLI: 'c'}
)

var errRecordText = errors.New("the consent store holds a record that cannot be read")

// appendText appends the text that a store keeps for e behind the entry before: nothing for the zero
// Entry.
func (e Entry) appendText(b []byte, before Entry) []byte {
	if e.State == "" {
		return b
	}
	b = append(b, stateCodes[e.State])
	if before.State = e.State; before == e {
		return append(b, '=')
	}
	b = strconv.AppendInt(b, e.Time.Unix(), 10)
	b = append(b, sourceCodes[e.Source])
	return append(b, e.Notice...)
}

// RecordText returns the text that a store keeps for r, without the scope, which is part of the
// key; "" for the record of a person never seen. The entries must have passed Change.Check.
func RecordText(r Record) string {
	if r.Version == 0 {
		return ""
	}
	b := make([]byte, 0, 64)
	b = strconv.AppendUint(b, r.Version, 10)
	var before Entry
	for _, e := range [...]Entry{r.Mail, r.Open, r.Click} {
		b = e.appendText(append(b, '\t'), before)
		if e.State != "" {
			before = e
		}
	}
	return string(b)
}

// ParseRecord reads what RecordText wrote. The empty text is the record of a person never seen.
// Anything else that RecordText would not write, but an entry in full, is an error, never a guess.
func ParseRecord(scope Scope, text string) (Record, error) {
	var r Record
	if !r.parse(scope, text) {
		return Record{}, errRecordText
	}
	return r, nil
}

// Parse makes r, which is zero, the result of a lookup in scope, of the texts of the record there and
// of that of AnyScope. Where one of them cannot be read, r.Err is set and both records are zero.
func (r *Result) Parse(scope Scope, own, all string) {
	if !r.Scope.parse(scope, own) || !r.Any.parse(AnyScope, all) {
		*r = Result{Err: errRecordText}
	}
}

// parse fills r, which is zero, as ParseRecord does, and reports whether text is a record's.
func (r *Record) parse(scope Scope, text string) bool {
	r.Scope = scope
	if text == "" {
		return true
	}
	version, rest, ok1 := strings.Cut(text, "\t")
	mail, rest, ok2 := strings.Cut(rest, "\t")
	open, click, ok3 := strings.Cut(rest, "\t")
	if !ok1 || !ok2 || !ok3 {
		return false
	}
	var err error
	if r.Version, err = strconv.ParseUint(version, 10, 64); err != nil || r.Version == 0 || version[0] == '0' || version[0] == '+' {
		return false
	}
	before := &r.Open
	if open == "" {
		before = &r.Mail
	}
	return r.Mail.parse(Mail, mail, &Entry{}) && r.Open.parse(Open, open, &r.Mail) && r.Click.parse(Click, click, before)
}

// parse fills e, which is zero, and reports whether text is an entry's, behind the entry before.
func (e *Entry) parse(p Purpose, text string, before *Entry) bool {
	if text == "" {
		return true
	}
	switch {
	case text[0] == 's' && p == Mail:
		e.State = Subscribed
	case text[0] == 'u' && p == Mail:
		e.State = Unsubscribed
	case text[0] == 'g' && p != Mail:
		e.State = Granted
	case text[0] == 'd' && p != Mail:
		e.State = Denied
	case text[0] == 'n' && p != Mail:
		e.State = Unset
	default:
		return false
	}
	if text[1:] == "=" {
		e.Time, e.Source, e.Notice = before.Time, before.Source, before.Notice
		return before.State != ""
	}
	n, seconds := 1, int64(0)
	for ; n < len(text) && '0' <= text[n] && text[n] <= '9' && seconds <= maxTime; n++ {
		seconds = 10*seconds + int64(text[n]-'0')
	}
	if n == 1 || n == len(text) || text[1] == '0' || seconds > maxTime {
		return false
	}
	e.Time = time.Unix(seconds, 0).UTC()
	switch text[n] {
	case 'i':
		e.Source = FromImport
	case 'a':
		e.Source = FromAPI
	case 'p':
		e.Source = FromPage
	case 'o':
		e.Source = FromOneClick
	case 'm':
		e.Source = FromMailto
	case 'c':
		e.Source = FromCLI
	default:
		return false
	}
	e.Notice = text[n+1:]
	return len(e.Notice) <= MaxNotice && printable(e.Notice)
}
