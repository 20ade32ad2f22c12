package consent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/consentgate/consentgate/consent/keyring"
)

// twins are one person in two stores.
func twins(t *testing.T) (a, b *book) {
	t.Helper()
	a = newBook(t, keyring.Ephemeral(), "anna@example.org")
	a.apply(t, Change{Scope: "news", Mail: Subscribed, Open: Granted, Click: Granted, Source: FromImport, Notice: "2026-03", Time: day0})
	b = a.clone()
	return a, b
}

// join joins two, and sees that both sides get the same from it and that it stays so.
func join(t interface{ Fatalf(string, ...any) }, l *Ledger, a, b *Held) *Held {
	now, err := l.Join(a, b)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	for _, e := range l.History(now) {
		if e.Broken != "" {
			t.Fatalf("after joining, number %d: %s\n%q", e.Number, e.Broken, now)
		}
	}
	for _, side := range [...]*Held{a, b} {
		for _, again := range [...][2]*Held{{side, now}, {now, side}} {
			if side.Empty() {
				continue
			}
			if then, err := l.Join(again[0], again[1]); err != nil || !then.Same(now) {
				t.Fatalf("written to one side only and joined once more, it becomes another: %v\n%q\n%q", err, now, then)
			}
		}
	}
	return now
}

func (b *book) record(t *testing.T, scope Scope) Record {
	t.Helper()
	r, err := ParseRecord(scope, b.Fields[string(scope)])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJoin(t *testing.T) {
	at := func(s int) time.Time { return day0.Add(time.Duration(s) * time.Second) }
	out := func(s int) Change {
		return Change{Scope: "news", Mail: Unsubscribed, Source: FromOneClick, Time: at(s)}
	}
	in := func(s int) Change { return Change{Scope: "news", Mail: Subscribed, Source: FromPage, Time: at(s)} }
	deny := func(s int) Change { return Change{Scope: "news", Open: Denied, Source: FromPage, Time: at(s)} }
	grant := func(s int) Change {
		return Change{Scope: "news", Open: Granted, Notice: "2026-04", Source: FromPage, Time: at(s)}
	}
	for _, c := range []struct {
		name       string
		a, b       []Change
		mail, open State
	}{
		{"one side goes on", []Change{out(10)}, nil, Unsubscribed, Granted},
		{"each another purpose", []Change{out(10)}, []Change{deny(5)}, Unsubscribed, Denied},
		{"the opt-out is later", []Change{out(5), in(10)}, []Change{out(20)}, Unsubscribed, Granted},
		{"the subscription is later", []Change{out(10)}, []Change{out(5), in(20)}, Subscribed, Granted},
		{"the withdrawal is later", []Change{grant(10)}, []Change{deny(20)}, Subscribed, Denied},
		{"the consent is later", []Change{grant(20)}, []Change{deny(10)}, Subscribed, Granted},
		{"in one second the tighter", []Change{grant(10)}, []Change{deny(10)}, Subscribed, Denied},
		{"in one second the tighter, the other way", []Change{deny(10)}, []Change{grant(10)}, Subscribed, Denied},
		{"the same on both sides", []Change{out(10)}, []Change{out(10)}, Unsubscribed, Granted},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := twins(t)
			a.apply(t, c.a...)
			b.apply(t, c.b...)
			now := &book{Ledger: a.Ledger, Held: *join(t, a.Ledger, &a.Held, &b.Held)}
			other := join(t, a.Ledger, &b.Held, &a.Held)
			r, o := now.record(t, "news"), (&book{Held: *other}).record(t, "news")
			if r.Mail.State != c.mail || r.Open.State != c.open {
				t.Errorf("mail %s, open %s, not %s and %s", r.Mail.State, r.Open.State, c.mail, c.open)
			}
			if r != o {
				t.Errorf("the other way round it is %v, not %v", o, r)
			}
		})
	}
}

// Whatever is done on two sides: nothing of it is missing, and the later decision holds.
func TestJoinKeepsAll(t *testing.T) {
	ring := keyring.Ephemeral()
	rapid.Check(t, func(rt *rapid.T) {
		base := newBook(t, ring, "anna@example.org")
		now := day0
		some := func(b *book, side string, from, to int) {
			for range rapid.IntRange(from, to).Draw(rt, side) {
				now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "s")) * time.Second)
				b.apply(t, Change{
					Scope:  rapid.SampledFrom([]Scope{"news", "*"}).Draw(rt, "scope"),
					Mail:   rapid.SampledFrom([]State{"", Subscribed, Unsubscribed}).Draw(rt, "mail"),
					Open:   rapid.SampledFrom([]State{"", Granted, Denied, Unset}).Draw(rt, "open"),
					Source: rapid.SampledFrom([]Source{FromPage, FromAPI}).Draw(rt, "source"),
					Time:   now,
				})
			}
		}
		some(base, "before", 0, 4)
		a, b := base.clone(), base.clone()
		now = now.Add(time.Second)
		start := now
		some(a, "a", 0, 5)
		if rapid.Bool().Draw(rt, "at the same time") {
			now = start
		}
		some(b, "b", 0, 5)
		// What both were told alike in the same second is their common beginning, too.
		agreed := map[place]Entry{}
		for i, e := range base.History(&a.Held) {
			if i == len(b.Held.Events) || a.Held.Events[i] != b.Held.Events[i] {
				break
			}
			e.turns(func(at place, is Entry) { agreed[at] = is })
		}
		if rapid.Bool().Draw(rt, "purged") {
			if u, _, err := a.Purge(&a.Held, start); err == nil {
				a.Update(u)
			}
		}
		j := join(rt, base.Ledger, &a.Held, &b.Held)
		joined := &book{Ledger: base.Ledger, Held: *j}
		said := map[string]bool{}
		for _, e := range base.History(j) {
			e.Number = 0
			said[fmt.Sprint(e)] = true
		}
		for _, side := range [...]*book{a, b} {
			for _, e := range base.History(&side.Held) {
				if e.Number = 0; e.Kind == Changed && !said[fmt.Sprint(e)] && !slices.ContainsFunc(base.History(j), func(e Event) bool { return e.Kind == Checkpoint }) {
					rt.Fatalf("%v is missing", e)
				}
			}
		}
		for _, scope := range [...]Scope{"news", "*"} {
			x, y, z := a.record(t, scope), b.record(t, scope), joined.record(t, scope)
			for _, p := range [...]Purpose{Mail, Open} {
				want, was := later(*x.entry(p), *y.entry(p)), agreed[place{scope, p}]
				if *x.entry(p) == was {
					want = *y.entry(p)
				} else if *y.entry(p) == was {
					want = *x.entry(p)
				}
				got := *z.entry(p)
				if got.State != want.State || !got.Time.Equal(want.Time) {
					rt.Fatalf("%s in %s is %v; %v on one side, %v on the other, %v before", p, scope, got, *x.entry(p), *y.entry(p), was)
				}
			}
		}
	})
}

func TestJoinErased(t *testing.T) {
	erase := func(b *book) *book {
		left, err := b.Erased(&b.Held)
		if err != nil {
			t.Fatal(err)
		}
		return &book{Ledger: b.Ledger, who: b.who, Held: *left}
	}
	out := Change{Scope: "news", Mail: Unsubscribed, Source: FromOneClick, Time: day0.Add(time.Hour)}

	a, b := twins(t)
	a.apply(t, out)
	b.apply(t, out)
	gone := erase(a)
	if now := join(t, a.Ledger, &gone.Held, &b.Held); len(now.Events) > 0 || !now.Same(&gone.Held) {
		t.Errorf("the history of somebody erased on the other side comes back: %q", now)
	}

	// Erased before anything was moved, and back since: that is no erasure.
	back := &book{Ledger: gone.Ledger, who: gone.who, Held: Held{Key: gone.Held.Key, Fields: maps.Clone(gone.Fields)}}
	back.apply(t, Change{Scope: "news", Mail: Subscribed, Source: FromPage, Time: day0.Add(2 * time.Hour)})
	if now := join(t, a.Ledger, &gone.Held, &back.Held); !now.Same(&back.Held) {
		t.Errorf("who came back after an erasure is gone again: %q", now)
	}

	// An opt-out that only the erased side knows is never left out.
	a, b = twins(t)
	other := a.clone()
	other.apply(t, out)
	other = erase(other)
	now := &book{Held: *join(t, a.Ledger, &other.Held, &b.Held)}
	if s := now.record(t, "news").Mail.State; s != Unsubscribed {
		t.Errorf("mail is %q", s)
	}
}

func TestJoinRefusesBroken(t *testing.T) {
	a, b := twins(t)
	a.apply(t, Change{Scope: "news", Open: Denied, Source: FromPage, Time: day0.Add(time.Hour)})
	b.apply(t, Change{Scope: "news", Click: Denied, Source: FromPage, Time: day0.Add(time.Hour)})
	b.Events[1] = a.Events[1]
	if _, err := a.Join(&a.Held, &b.Held); err != nil {
		t.Fatalf("its head alone is another's: %v", err) // what holds is there
	}
	a, b = twins(t)
	b.apply(t, Change{Scope: "news", Open: Denied, Source: FromPage, Time: day0.Add(time.Hour)})
	b.Fields["news"] = a.Fields["news"]
	if _, err := a.Join(&a.Held, &b.Held); !errors.Is(err, ErrBroken) {
		t.Errorf("what goes on and does not hold: %v", err)
	}
}
