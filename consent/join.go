package consent

import (
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
