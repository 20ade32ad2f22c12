package consent

import (
	"cmp"
	"maps"
	"slices"
)

// place is one purpose in one scope.
type place struct {
	scope   Scope
	purpose Purpose
}

// turns calls f with each purpose that an event changed, and what it became.
func (e Event) turns(f func(place, Entry)) {
	if e.Kind != Changed {
		return
	}
	for _, p := range [...]struct {
		purpose Purpose
		state   State
	}{{Mail, e.New.Mail}, {Open, e.New.Open}, {Click, e.New.Click}} {
		if p.state != "" {
			f(place{e.Scope, p.purpose}, Entry{p.state, e.Time, e.Source, e.Notice})
		}
	}
}

// entry returns the entry of a purpose.
func (r *Record) entry(p Purpose) *Entry {
	switch p {
	case Mail:
		return &r.Mail
	case Open:
		return &r.Open
	}
	return &r.Click
}

// outlasts reports whether what lines leave of each purpose stands before what others leave of it.
func outlasts(lines, others []line) bool {
	last := map[place]Entry{}
	for _, l := range lines {
		l.turns(func(at place, is Entry) { last[at] = is })
	}
	theirs := map[place]Entry{}
	for _, l := range others {
		l.turns(func(at place, is Entry) { theirs[at] = is })
	}
	for at, is := range theirs {
		if own := last[at]; later(own, is) != own {
			return false
		}
	}
	return true
}

// interleave joins two who are the same up to as[:i] and bs[:j] and differ behind it; rest is what of bs[j:]
// does not stand in as[i:].
func (l *Ledger) interleave(a, b *Held, as, bs []line, i, j int, rest []line) (*Held, error) {
	now := &Held{Key: a.Key, Fields: map[string]string{}, Events: slices.Clone(a.Events[:i])}
	var to link
	if i > 0 {
		to = as[i-1].end()
	}
	saidA, saidB := map[place]bool{}, map[place]bool{}
	for n, e := range as {
		e.turns(func(at place, _ Entry) { saidA[at] = saidA[at] || n >= i })
	}
	for n, e := range bs {
		e.turns(func(at place, _ Entry) { saidB[at] = saidB[at] || n >= j })
	}
	last := map[place]Entry{}
	renamed := false
	for _, e := range inOrder(as[i:], rest, to.number) {
		e.turns(func(at place, is Entry) { last[at] = is })
		renamed = renamed || e.Kind == RenamedFrom
		next := line{Event: e.Event, last: e.last}
		if e.Kind == Checkpoint { // an end of its own
			next.last, _ = l.sum(a.Key, to.mac, e.body)
			next.Number = to.number + e.covers
		}
		var text string
		text, to, now.Fields[HeadField] = l.add(a.Key, to, next)
		now.Events = append(now.Events, text)
	}

	records := map[Scope][2]Record{}
	for side, h := range [...]*Held{a, b} {
		all, err := h.records()
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			both := records[r.Scope]
			both[side] = r
			records[r.Scope] = both
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(records)) {
		both := records[scope]
		merged := Record{Scope: scope, Version: max(both[0].Version, both[1].Version)}
		for _, p := range [...]Purpose{Mail, Open, Click} {
			at := place{scope, p}
			own, others := *both[0].entry(p), *both[1].entry(p)
			tailA, tailB := saidA[at], saidB[at]
			_, anyB := saidB[at]
			is := own
			switch {
			case tailA && tailB && !renamed:
				is = last[at]
				if want := later(own, others); want != is {
					// Each side's order was kept, which need not be that of the times, nor within one second
					// have the tighter last.
					e := (&Record{Scope: scope}).with(at.purpose, is).event((&Record{Scope: scope}).with(at.purpose, want),
						Change{Scope: scope, Source: want.Source, Origin: joined, Notice: want.Notice, Time: want.Time})
					var text string
					text, to, now.Fields[HeadField] = l.add(a.Key, to, line{Event: e})
					now.Events = append(now.Events, text)
					is = want
				}
			case tailA && tailB: // what came from another address is not in the order of time
				is = later(own, others)
			case tailB:
				is = others
			case own.State == "" && !anyB: // an opt-out without an event
				is = others
			}
			*merged.entry(p) = is
		}
		for _, r := range both {
			if r.Scope = scope; r.Version == merged.Version && r != merged {
				merged.Version++
				break
			}
		}
		if merged.Mail.State != "" || merged.Open.State != "" || merged.Click.State != "" {
			now.Fields[string(scope)] = RecordText(merged)
		}
	}
	if now.Fields[AddressField] = cmp.Or(a.Fields[AddressField], b.Fields[AddressField]); now.Fields[AddressField] == "" {
		delete(now.Fields, AddressField)
	}
	return now, nil
}

// with returns r with that entry.
func (r *Record) with(p Purpose, e Entry) Record {
	*r.entry(p) = e
	return *r
}

// later returns the entry that was made later, of two of one second the tighter.
func later(a, b Entry) Entry {
	switch {
	case a.State == "" || b.State != "" && b.Time.After(a.Time):
		return b
	case b.State != "" && b.Time.Equal(a.Time) && tightness[b.State] > tightness[a.State]:
		return b
	}
	return a
}

// tightness orders the states of a purpose by what they forbid.
var tightness = map[State]int{Subscribed: 0, Unsubscribed: 1, Granted: 0, Unset: 1, Denied: 2}

// tail is an event behind the common beginning.
type tail struct {
	line
	at     int64  // seconds: its time, or that of an event before it on its side, if that is later
	tight  int    // how much it forbids
	covers uint64 // how many numbers a checkpoint stands for
}

// inOrder puts the ends of two histories in one order, by time; each keeps its own. number is that of
// the last event before both.
func inOrder(as, bs []line, number uint64) []tail {
	tails := func(lines []line) (all []tail) {
		at, before := int64(0), number
		for _, l := range lines {
			if l.Kind != Checkpoint { // whose time is that of the deleting
				at = max(at, l.Time.Unix())
			}
			t := tail{line: l, at: at, covers: l.Number - min(before, l.Number-1)}
			before = l.Number
			l.turns(func(_ place, is Entry) { t.tight = max(t.tight, tightness[is.State]) })
			all = append(all, t)
		}
		return all
	}
	x, y := tails(as), tails(bs)
	all := make([]tail, 0, len(x)+len(y))
	for len(x) > 0 && len(y) > 0 {
		if x[0].at < y[0].at || x[0].at == y[0].at && x[0].tight <= y[0].tight {
			all, x = append(all, x[0]), x[1:]
		} else {
			all, y = append(all, y[0]), y[1:]
		}
	}
	return append(append(all, x...), y...)
}
