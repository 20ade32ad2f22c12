package consent

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Join says what becomes of a person whom two stores of one key file hold, while people move from one
// store to the other and changes are made in both. It returns a or b where that one holds all that the
// other does, and else a new Held of both.
//
// Who is ahead is read from the histories, which begin alike: a history that ends where the other goes
// on is behind, whatever the clocks say. Where both went on, the events behind their common beginning
// are put in the order of their times, each side's own kept, and chained anew; what a purpose is
// then, is what its last event says: an opt-out or a denial wins over what was decided before it, a
// consent never over a later withdrawal, and of two of one second the tighter counts. No opt-out is
// ever left out.
//
// Somebody without a history was erased: where the opt-out that stayed was made by an event of the other
// side's history, that one is erased too. Of two of whom one is empty nothing can be told, so the other is
// returned: whether the person is new or was erased is for the caller to say.
//
// The error wraps ErrBroken where a history does not hold, so that a new chain would hide that.
func (l *Ledger) Join(a, b *Held) (*Held, error) {
	switch {
	case b.Empty() || a.Same(b):
		return a, nil
	case a.Empty():
		return b, nil
	case a.erased():
		return l.joinErased(a, b)
	case b.erased():
		return l.joinErased(b, a)
	}
	as, bs := l.check(a), l.check(b)
	brokenA, brokenB := broken(as), broken(bs)
	as, bs = stored(as), stored(bs)
	i, j := common(as, bs)
	switch {
	case i == len(as)-1 && j == len(bs)-1: // one was purged, tampered with, or has an address that was sealed anew
		if brokenA == nil && (brokenB != nil || changes(as) <= changes(bs)) {
			return a, nil
		}
		return b, nil
	case i == len(as)-1:
		if brokenB != nil && brokenA == nil { // what goes on is not to replace what holds
			return nil, brokenB
		}
		return b, nil
	case j == len(bs)-1:
		if brokenA != nil && brokenB == nil {
			return nil, brokenA
		}
		return a, nil
	}
	for _, err := range [...]error{brokenA, brokenB} {
		if err != nil {
			return nil, err
		}
	}
	// What was joined before and written to one side only is there twice now, under two chains.
	restA, restB := without(as[i+1:], bs[j+1:]), without(bs[j+1:], as[i+1:])
	switch {
	case len(restA) == 0 && outlasts(bs[j+1:], as[i+1:]):
		return b, nil
	case len(restB) == 0 && outlasts(as[i+1:], bs[j+1:]):
		return a, nil
	}
	return l.interleave(a, b, as, bs, i+1, j+1, restB)
}

// without returns the events of lines that are not among others, whatever their numbers.
func without(lines, others []line) (rest []line) {
	said := map[string]int{}
	text := func(l line) string {
		_, text, _ := strings.Cut(l.body, "\t")
		if l.Kind == Checkpoint { // chained anew it has another end
			text, _, _ = strings.Cut(text, "\t")
		}
		return text
	}
	for _, l := range others {
		said[text(l)]++
	}
	for _, l := range lines {
		if said[text(l)]--; said[text(l)] < 0 {
			rest = append(rest, l)
		}
	}
	return rest
}

// Empty reports whether nothing is held.
func (h *Held) Empty() bool { return len(h.Fields) == 0 && len(h.Events) == 0 }

// Same reports whether two are held alike, byte for byte.
func (h *Held) Same(o *Held) bool {
	return maps.Equal(h.Fields, o.Fields) && slices.Equal(h.Events, o.Events)
}

// Until returns the update that makes now of h.
func (h *Held) Until(now *Held) Update {
	u := Update{Fields: map[string]string{}}
	for name, text := range now.Fields {
		if h.Fields[name] != text {
			u.Fields[name] = text
		}
	}
	for name := range h.Fields {
		if _, stays := now.Fields[name]; !stays {
			u.Fields[name] = ""
		}
	}
	n := len(h.Events)
	if n > len(now.Events) || !slices.Equal(h.Events, now.Events[:n]) {
		u.Replace, n = true, 0
	}
	u.Events = now.Events[n:]
	return u
}

// Erased returns what Erase leaves of h.
func (l *Ledger) Erased(h *Held) (*Held, error) {
	u, err := l.Erase(h)
	if err != nil {
		return nil, err
	}
	left := &Held{Key: h.Key, Fields: maps.Clone(h.Fields), Events: h.Events}
	left.Update(u)
	return left, nil
}

// First returns the oldest event that is held; false where there is none that can be read.
func (h *Held) First() (Event, bool) {
	if len(h.Events) == 0 {
		return Event{}, false
	}
	first, err := parseLine(h.Events[0])
	return first.Event, err == nil
}

// Torn reports whether the head is not that of the last event, which is so too where somebody wrote between the
// reading of the one and of the other.
func (h *Held) Torn() bool {
	n := len(h.Events)
	if n == 0 {
		return h.Fields[HeadField] != ""
	}
	last, err := parseLine(h.Events[n-1])
	number, _, _ := strings.Cut(h.Fields[HeadField], " ")
	return err != nil || number != strconv.FormatUint(last.Number, 10)
}

// erased reports whether there is no history.
func (h *Held) erased() bool { return h.Fields[HeadField] == "" && len(h.Events) == 0 }

// stored leaves out the lines that stand for no text.
func stored(lines []line) []line {
	return slices.DeleteFunc(lines, func(l line) bool { return l.Kind == Missing })
}

// changes counts what is no checkpoint.
func changes(lines []line) (n int) {
	for _, l := range lines {
		if l.Kind != Checkpoint {
			n++
		}
	}
	return n
}

// common returns the last place at which two histories are the same, -1 where there is none: the
// indexes of the events there. A checkpoint stands where the last event that it replaces stood.
func common(as, bs []line) (i, j int) {
	at := make(map[link]int, len(bs))
	for j, l := range bs {
		at[l.end()] = j
	}
	for i := len(as) - 1; i >= 0; i-- {
		if j, ok := at[as[i].end()]; ok {
			return i, j
		}
	}
	return -1, -1
}

// joined is the Origin of an event that says what was known in another store without one.
const joined = "another store"

// joinErased joins somebody without a history, of whom an opt-out stayed, with one who may have one.
func (l *Ledger) joinErased(gone, h *Held) (*Held, error) {
	outs, err := gone.records()
	if err != nil {
		return nil, err
	}
	came := false // the opt-out of an event of h
	for _, e := range stored(l.check(h)) {
		for _, r := range outs {
			came = came || e.Kind == Changed && e.Origin != joined && e.Scope == r.Scope && e.New.Mail == Unsubscribed &&
				r.Mail == (Entry{State: Unsubscribed, Time: e.Time, Source: e.Source})
		}
	}
	now := &Held{Key: h.Key, Fields: maps.Clone(h.Fields), Events: h.Events}
	if came {
		if now, err = l.Erased(h); err != nil {
			return nil, err
		}
	}
	to := l.end(now)
	for _, r := range outs {
		own, err := ParseRecord(r.Scope, now.Fields[string(r.Scope)])
		if err != nil {
			return nil, err
		}
		if own.Mail.State != "" && !r.Mail.Time.After(own.Mail.Time) && !(r.Mail.Time.Equal(own.Mail.Time) && own.Mail.State == Subscribed) {
			continue
		}
		after := own
		after.Mail = r.Mail
		after.Version = max(own.Version, r.Version)
		if !now.erased() { // whose history has to say so
			var text string
			e := own.event(after, Change{Scope: r.Scope, Source: r.Mail.Source, Origin: joined, Time: r.Mail.Time})
			text, to, now.Fields[HeadField] = l.add(h.Key, to, line{Event: e})
			now.Events = append(slices.Clip(now.Events), text)
			after.Version = own.Version + 1
		}
		now.Fields[string(r.Scope)] = RecordText(after)
	}
	return now, nil
}

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
