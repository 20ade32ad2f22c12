package consent

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent/keyring"
)

// book is a store of one person in memory.
type book struct {
	*Ledger
	Held
	who Address
}

var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newBook(t *testing.T, ring *keyring.Ring, mailbox string) *book {
	t.Helper()
	who, err := ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLedger(ring)
	return &book{Ledger: l, who: who, Held: Held{Key: l.Key(who), Fields: map[string]string{}}}
}

func (b *book) apply(t *testing.T, changes ...Change) {
	t.Helper()
	for i := range changes {
		changes[i].Who = b.who
		if err := changes[i].Check(); err != nil {
			t.Fatal(err)
		}
	}
	rs, u := b.Apply(&b.Held, changes)
	for _, r := range rs {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	b.Update(u)
}

func (b *book) purge(t *testing.T, before time.Time) {
	t.Helper()
	u, n, err := b.Purge(&b.Held, before)
	if err != nil || n == 0 {
		t.Fatalf("%d deleted, %v", n, err)
	}
	b.Update(u)
}

func (b *book) clone() *book {
	c := *b
	c.Fields, c.Events = maps.Clone(b.Fields), slices.Clone(b.Events)
	return &c
}

func (b *book) flaw() string {
	for _, e := range b.History(&b.Held) {
		if e.Broken != "" {
			return e.Broken
		}
	}
	return ""
}

// month grants, denies and grants again, once a day; clicks are asked for only at first.
func month(b *book, t *testing.T) {
	t.Helper()
	b.apply(t, Change{Scope: "news", Click: Denied, Source: FromPage, Time: day0})
	for i := 1; i <= 8; i++ {
		open := Granted
		if i%2 == 0 {
			open = Denied
		}
		b.apply(t, Change{Scope: "news", Open: open, Source: FromPage, Notice: "2026-03", Origin: "192.0.2.0/24", Time: day0.AddDate(0, 0, i)})
	}
}

// Whoever can write into the store, and knows all that ever stood there, but has no key, changes
// nothing unnoticed.
func TestTamperingShows(t *testing.T) {
	ring := keyring.Ephemeral()
	fresh := func() *book {
		b := newBook(t, ring, "anna@example.org")
		month(b, t)
		return b
	}
	purged := func() *book {
		b := fresh()
		b.purge(t, day0.AddDate(0, 0, 6))
		return b
	}
	if s := fresh().flaw(); s != "" {
		t.Fatal(s)
	}
	if s := purged().flaw(); s != "" {
		t.Fatal(s)
	}
	other := newBook(t, ring, "ben@example.org")
	month(other, t)
	// What stood there a day before the last change, and what stood there before retention.
	yesterday := newBook(t, ring, "anna@example.org")
	month(yesterday, t)
	before := fresh()
	yesterday.apply(t, Change{Scope: "news", Click: Granted, Source: FromPage, Time: day0.AddDate(0, 0, 9)})
	later := yesterday

	edit := func(i int, from, to string) func(*book) {
		return func(b *book) {
			was := b.Events[i]
			if b.Events[i] = strings.Replace(was, from, to, 1); b.Events[i] == was {
				t.Errorf("event %d has no %q: %q", i, from, was)
			}
		}
	}
	for _, c := range []struct {
		name string
		of   func() *book
		do   func(*book)
	}{
		{"a state edited", fresh, edit(2, "gd", "dg")},
		{"a time edited", fresh, edit(2, "c17", "c18")},
		{"a source edited", fresh, edit(2, "p\tnews", "a\tnews")},
		{"a notice edited", fresh, edit(2, "2026-03", "2026-04")},
		{"an origin edited", fresh, edit(2, "192.0.2.0", "192.0.3.0")},
		{"the last edited", fresh, edit(8, "gd", "dg")},
		{"a number edited", fresh, edit(4, "5\t", "6\t")},
		{"the first cut off", fresh, func(b *book) { b.Events = b.Events[1:] }},
		{"one cut out", fresh, func(b *book) { b.Events = slices.Delete(b.Events, 3, 4) }},
		{"the last cut off", fresh, func(b *book) { b.Events = b.Events[:8] }},
		{"the last cut off, and its number from the head", fresh, func(b *book) {
			b.Events = b.Events[:8]
			b.Fields[HeadField] = strings.Replace(b.Fields[HeadField], "9 ", "8 ", 1)
		}},
		{"two exchanged", fresh, func(b *book) { b.Events[2], b.Events[3] = b.Events[3], b.Events[2] }},
		{"one doubled", fresh, func(b *book) { b.Events = slices.Insert(b.Events, 3, b.Events[3]) }},
		{"the last doubled", fresh, func(b *book) { b.Events = append(b.Events, b.Events[8]) }},
		{"one of another person in its place", fresh, func(b *book) { b.Events[3] = other.Events[3] }},
		{"another person's whole history", fresh, func(b *book) { b.Events, b.Fields = other.Events, maps.Clone(other.Fields) }},
		{"all events gone", fresh, func(b *book) { b.Events = nil }},
		{"the head gone", fresh, func(b *book) { delete(b.Fields, HeadField) }},
		{"the history gone", fresh, func(b *book) { delete(b.Fields, HeadField); b.Events = nil }},
		{"an older head", func() *book { return later.clone() }, func(b *book) { b.Fields[HeadField] = before.Fields[HeadField] }},
		{"older events", func() *book { return later.clone() }, func(b *book) { b.Events = before.Events }},
		{"older events and head, the records of now", func() *book { return later.clone() }, func(b *book) {
			b.Events, b.Fields[HeadField] = before.Events, before.Fields[HeadField]
		}},
		{"a line of nonsense", fresh, func(b *book) { b.Events[3] = "nonsense" }},
		{"an event of one's own at the end", fresh, func(b *book) {
			b.Events = append(b.Events, strings.Replace(b.Events[8], "9\t", "10\t", 1))
		}},

		{"a denial made a consent", fresh, func(b *book) { b.Fields["news"] = strings.Replace(b.Fields["news"], "\td", "\tg", 1) }},
		{"a time in the record edited", fresh, func(b *book) { b.Fields["news"] = strings.Replace(b.Fields["news"], "\td17", "\td16", 1) }},
		{"an older record brought back", func() *book { return later.clone() }, func(b *book) { b.Fields["news"] = before.Fields["news"] }},
		{"the record gone", fresh, func(b *book) { delete(b.Fields, "news") }},
		{"a record added", fresh, func(b *book) { b.Fields["orders"] = "1\t\tg1772366400p\t" }},
		{"a record of nonsense", fresh, func(b *book) { b.Fields["orders"] = "nonsense" }},
		{"an opt-out taken back", func() *book {
			b := fresh()
			b.apply(t, Change{Scope: "news", Mail: Unsubscribed, Source: FromOneClick, Time: day0.AddDate(0, 0, 9)})
			return b
		}, func(b *book) { b.Fields["news"] = strings.Replace(b.Fields["news"], "\tu", "\ts", 1) }},

		{"a checkpoint taken out", purged, func(b *book) { b.Events = slices.Delete(b.Events, 1, 2) }},
		{"a checkpoint moved on", purged, edit(1, "6\tk", "7\tk")},
		{"a checkpoint of another time", purged, edit(1, "k17", "k18")},
		{"an event behind a checkpoint taken out, its number covered", purged, func(b *book) {
			b.Events = slices.Delete(b.Events, 2, 3)
			b.Events[1] = strings.Replace(b.Events[1], "6\tk", "7\tk", 1)
		}},
		{"a checkpoint in place of an event that stood", fresh, func(b *book) {
			forged := purged()
			b.Events = slices.Replace(b.Events, 1, 7, forged.Events[2])
		}},
		{"a checkpoint of a longer hole, made from an old one and what stood there", purged, func(b *book) {
			// The mac that a checkpoint carries is no secret: that of event 7 stood in the open.
			whole := fresh()
			last := whole.Events[6][strings.LastIndexByte(whole.Events[6], '\t')+1:]
			f := strings.Split(b.Events[1], "\t")
			f[0], f[2] = "7", last
			b.Events[1] = strings.Join(f, "\t")
			b.Events = slices.Delete(b.Events, 2, 3)
		}},
		{"a checkpoint at the end", fresh, func(b *book) {
			b.Events = append(b.Events[:8], strings.Replace(purged().Events[1], "6\tk", "9\tk", 1))
		}},
	} {
		b := c.of()
		if s := b.flaw(); s != "" {
			t.Errorf("%s: before: %s", c.name, s)
			continue
		}
		c.do(b)
		if b.flaw() == "" {
			t.Errorf("%s: unnoticed", c.name)
			continue
		}
		// Nothing new is made of what does not hold, since that would hide it.
		if _, n, err := b.Purge(&b.Held, day0.AddDate(1, 0, 0)); n != 0 || err == nil {
			t.Errorf("%s: Purge deletes %d, %v", c.name, n, err)
		}
		to := newBook(t, ring, "anna@example.com")
		if _, _, err := b.Rename(&b.Held, &to.Held, to.who, FromAPI, day0); err == nil {
			t.Errorf("%s: Rename takes it", c.name)
		}
		// Who is in the store with a broken history can still opt out, and the break still shows.
		if _, err := b.records(); err != nil || c.name == "another person's whole history" {
			continue
		}
		b.apply(t, Change{Scope: "other", Mail: Unsubscribed, Source: FromOneClick, Time: day0.AddDate(0, 0, 20)})
		if b.flaw() == "" {
			t.Errorf("%s: hidden by the next change", c.name)
		}
	}
}

// A broken chain is told apart from a store that does not answer.
func TestBrokenIsErrBroken(t *testing.T) {
	b := newBook(t, keyring.Ephemeral(), "anna@example.org")
	month(b, t)
	b.Events = b.Events[1:]
	if _, _, err := b.Purge(&b.Held, day0.AddDate(1, 0, 0)); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
}

// The clock of a gateway goes back by a year: numbers go on, the last to write counts, the chain
// holds, and retention deletes nothing that is in force.
func TestClockGoesBack(t *testing.T) {
	b := newBook(t, keyring.Ephemeral(), "anna@example.org")
	for i, at := range []time.Time{day0, day0.AddDate(-1, 0, 0), day0.AddDate(0, 0, 1), day0.AddDate(-2, 0, 0)} {
		state := Granted
		if i%2 == 1 {
			state = Denied
		}
		b.apply(t, Change{Scope: "news", Open: state, Source: FromPage, Time: at})
	}
	events := b.History(&b.Held)
	for i, e := range events {
		if e.Number != uint64(i+1) || e.Broken != "" {
			t.Errorf("%+v", e)
		}
	}
	r := b.Held.result("news")
	if r.Scope.Open.State != Denied || r.Scope.Version != 4 {
		t.Errorf("%+v", r.Scope)
	}
	b.purge(t, day0.AddDate(0, 0, 10))
	if s := b.flaw(); s != "" {
		t.Error(s)
	}
	events = b.History(&b.Held)
	if last := events[len(events)-1]; last.New.Open != Denied || last.Number != 4 {
		t.Errorf("what is in force was deleted: %+v", events)
	}
}

// A long life by chance, all kinds of it, looks at no moment as if it had been tampered with.
func TestUntouchedHoldsAlways(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		ring := keyring.Ephemeral()
		people := []*book{newBook(t, ring, "a@example.org"), newBook(t, ring, "b@example.org"), newBook(t, ring, "c@example.org")}
		pick := func(all ...State) State { return all[random.IntN(len(all))] }
		change := func(at time.Time) Change {
			return Change{Scope: []Scope{"*", "news", "orders"}[random.IntN(3)], Source: FromPage, Time: at, Notice: []string{"", "v1", "v2"}[random.IntN(3)],
				Mail: pick("", Subscribed, Unsubscribed), Open: pick("", Granted, Denied, Unset), Click: pick("", Granted, Denied, Unset)}
		}
		for step := range 120 {
			b := people[random.IntN(len(people))]
			at := day0.AddDate(0, 0, random.IntN(60)-30) // a clock that jumps
			what := "change"
			switch n := random.IntN(20); {
			case n == 0:
				what = "erase"
				u, err := b.Erase(&b.Held)
				if err != nil {
					t.Fatal(err)
				}
				b.Update(u)
			case n < 3:
				what = "purge"
				u, _, err := b.Purge(&b.Held, at)
				if err != nil {
					t.Fatal(err)
				}
				b.Update(u)
			case n < 6:
				what = "rename"
				to := people[random.IntN(len(people))]
				for done := false; !done; {
					first, second, err := b.Rename(&b.Held, &to.Held, to.who, FromAPI, at)
					if err != nil {
						t.Fatalf("seed %d, step %d: %v", seed, step, err)
					}
					to.Update(first)
					if done = random.IntN(4) > 0; done {
						b.Update(second)
					} else { // it is stopped between the two, and somebody writes before it is begun again
						[]*book{b, to}[random.IntN(2)].apply(t, change(at))
					}
				}
			default:
				b.apply(t, change(at))
			}
			for _, p := range people {
				if s := p.flaw(); s != "" {
					t.Fatalf("seed %d, step %d (%s): %s of %s\n%s", seed, step, what, s, p.who, fmt.Sprint(p.History(&p.Held)))
				}
			}
		}
	}
}
