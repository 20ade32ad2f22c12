package consent

import (
	"fmt"
	"time"
)

// Rename works out what becomes of two people when the records and the history of old go to new.
// The store writes of first and then of second; where it is stopped between the two, the
// next Rename goes on: it knows by the renamed-from event which events came along already.
//
// At old stay its opt-outs, so that nobody is mailed there again by mistake, and a history that says
// where the rest went. It holds the new address's key and no address.
func (l *Ledger) Rename(old, new *Held, to Address, source Source, at time.Time) (first, second Update, err error) {
	if old.Key == new.Key {
		return first, second, nil
	}
	if _, ok := sourceCodes[source]; !ok {
		return first, second, fmt.Errorf("unknown source %q", source)
	}
	if t := at.Unix(); t <= 0 || t > maxTime {
		return first, second, errNoTime
	}
	from, err := old.records()
	if err != nil {
		return first, second, err
	}
	if _, err := new.records(); err != nil {
		return first, second, err
	}
	events := l.check(old)
	if err := broken(events); err != nil {
		return first, second, err
	}
	if n := len(events); len(from) == 0 && n == 0 || n > 0 && events[n-1].Kind == RenamedTo && events[n-1].Origin == new.Key.String() {
		return first, second, nil // nobody, or gone there already
	}
	at = at.UTC().Truncate(time.Second)

	first.Fields = map[string]string{}
	for _, r := range from {
		own, err := ParseRecord(r.Scope, new.Fields[string(r.Scope)])
		if err != nil {
			return first, second, err
		}
		if merged := own.join(r); merged != own {
			merged.Version++
			first.Fields[string(r.Scope)] = RecordText(merged)
		}
	}
	rest := uncopied(events, new, old.Key)
	if len(rest) > 0 || len(first.Fields) > 0 {
		l.copy(new, old.Key, rest, source, at, &first)
		if sealed := l.seal(new.Key, to); sealed != new.Fields[AddressField] {
			first.Fields[AddressField] = sealed
		}
	}

	if second, err = l.Erase(old); err != nil {
		return first, second, err
	}
	second.Replace = true
	var end link
	if n := len(events); n > 0 {
		last := events[n-1].end()
		var text string
		text, end, _ = l.add(old.Key, link{}, line{Event: Event{Kind: Checkpoint, Number: last.number, Time: at}, last: last.mac})
		second.Events = append(second.Events, text)
	}
	text, _, head := l.add(old.Key, end, line{Event: Event{Kind: RenamedTo, Time: at, Source: source, Origin: new.Key.String()}})
	second.Events = append(second.Events, text)
	second.Fields[HeadField] = head
	return first, second, nil
}

// uncopied returns the events that did not come along in an earlier Rename from the key old. Among
// the events of new may be copies of still older renames, so the one that reaches farthest counts.
func uncopied(events []line, new *Held, old Key) []line {
	came := map[mac]bool{}
	for _, text := range new.Events {
		if l, err := parseLine(text); err == nil && l.Kind == RenamedFrom && l.Origin == old.String() {
			came[l.last] = true
		}
	}
	for i := len(events) - 1; i >= 0; i-- {
		if came[events[i].end().mac] {
			return events[i+1:]
		}
	}
	return events
}

// copy adds to u the event that says where others came from, and behind it these, under numbers
// and macs of their new place.
func (l *Ledger) copy(h *Held, from Key, events []line, source Source, at time.Time, u *Update) {
	to := l.end(h)
	add := func(next line) {
		var text string
		text, to, u.Fields[HeadField] = l.add(h.Key, to, next)
		u.Events = append(u.Events, text)
	}
	came := line{Event: Event{Kind: RenamedFrom, Time: at, Source: source, Origin: from.String()}}
	if n := len(events); n > 0 {
		came.last = events[n-1].end().mac
	}
	add(came)
	before := uint64(0)
	if len(events) > 0 {
		before = events[0].Number - 1
		if events[0].Kind == Checkpoint {
			before = 0
		}
	}
	for _, e := range events {
		if e.Kind == RenamedTo && e.Origin == h.Key.String() { // what came renamed-from says
			before = e.Number
			continue
		}
		next := line{Event: e.Event, last: e.last}
		if e.Kind == Checkpoint { // an end of its own, or the next Rename took it for one that came along
			next.last, _ = l.sum(h.Key, to.mac, e.body)
		}
		next.Number = to.number + e.Number - before
		before = e.Number
		add(next)
	}
}

// join merges the record of another address of this person into r: the later entry of a purpose
// counts, and an opt-out of either stays.
func (r Record) join(other Record) Record {
	later := func(a, b Entry) Entry {
		if b.State != "" && (a.State == "" || b.Time.After(a.Time)) {
			return b
		}
		return a
	}
	out := func(s State) bool { return s == Unsubscribed }
	switch mail := later(r.Mail, other.Mail); {
	case out(r.Mail.State) == out(other.Mail.State):
		r.Mail = mail
	case out(other.Mail.State):
		r.Mail = other.Mail
	}
	r.Open, r.Click = later(r.Open, other.Open), later(r.Click, other.Click)
	return r
}
