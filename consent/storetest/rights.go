package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

func runRights(t *testing.T, place func(t *testing.T) Open) {
	fresh := func(t *testing.T) consent.Store {
		t.Helper()
		return open(t, place(t), keyring.Ephemeral())
	}
	t.Run("history", func(t *testing.T) { testHistory(t, fresh(t)) })
	t.Run("note", func(t *testing.T) { testNote(t, fresh(t)) })
	t.Run("history of many changes in one call", func(t *testing.T) { testHistoryOfMany(t, fresh(t)) })
	t.Run("if version", func(t *testing.T) { testIfVersion(t, fresh(t)) })
	t.Run("fifty writers", func(t *testing.T) { testFiftyWriters(t, place(t)) })
	t.Run("person", func(t *testing.T) { testPerson(t, fresh(t)) })
	t.Run("scan", func(t *testing.T) { testScan(t, fresh(t)) })
	t.Run("erase", func(t *testing.T) { testErase(t, fresh(t)) })
	t.Run("erase loses no opt-out", func(t *testing.T) { testEraseRace(t, fresh(t)) })
	t.Run("rename", func(t *testing.T) { testRename(t, fresh(t)) })
	t.Run("rename into a person", func(t *testing.T) { testRenameInto(t, fresh(t)) })
	t.Run("rename there and back", func(t *testing.T) { testRenameBack(t, fresh(t)) })
	t.Run("purge", func(t *testing.T) { testPurge(t, fresh(t)) })
	t.Run("purge of many", func(t *testing.T) { testPurgeMany(t, fresh(t)) })
	t.Run("watch", func(t *testing.T) { testWatch(t, fresh(t)) })
	t.Run("rights of a closed store", func(t *testing.T) { testClosedRights(t, fresh(t)) })
	t.Run("accept", func(t *testing.T) { testAccept(t, fresh(t)) })
}

// history returns a person's events, of which none may be broken; their numbers have no hole.
func history(t testing.TB, s consent.Store, a consent.Address) []consent.Event {
	t.Helper()
	var all []consent.Event
	before := uint64(0)
	for e, err := range s.History(t.Context(), a) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Broken != "" {
			t.Errorf("event %d is broken: %s", e.Number, e.Broken)
		}
		if e.Kind == consent.Checkpoint && e.Number > before || e.Number == before+1 {
			before = e.Number
		} else {
			t.Errorf("number %d behind %d", e.Number, before)
		}
		all = append(all, e)
	}
	return all
}

func testHistory(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	if h := history(t, s, a); len(h) != 0 {
		t.Errorf("of a person never seen: %+v", h)
	}
	grant := consent.Change{Who: a, Scope: "news", Open: consent.Granted, Click: consent.Denied, Source: consent.FromPage,
		Notice: "2026-03", Origin: "net 192.0.2.0/24", Time: noon}
	apply(t, s, grant)
	apply(t, s, grant) // holds already
	earlier := noon.Add(-48 * time.Hour)
	apply(t, s, consent.Change{Who: a, Scope: consent.AnyScope, Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: earlier})
	half := grant // clicks hold already, under that notice
	half.Open, half.Time = consent.Unset, noon.Add(time.Hour)
	apply(t, s, half)
	want := []consent.Event{
		{Number: 1, Kind: consent.Changed, Time: noon, Scope: "news", Source: consent.FromPage, Origin: "net 192.0.2.0/24", Notice: "2026-03",
			New: consent.States{Open: consent.Granted, Click: consent.Denied}},
		{Number: 2, Kind: consent.Changed, Time: earlier, Scope: consent.AnyScope, Source: consent.FromOneClick,
			New: consent.States{Mail: consent.Unsubscribed}},
		{Number: 3, Kind: consent.Changed, Time: half.Time, Scope: "news", Source: consent.FromPage, Origin: "net 192.0.2.0/24", Notice: "2026-03",
			Old: consent.States{Open: consent.Granted}, New: consent.States{Open: consent.Unset}},
	}
	same(t, "history", history(t, s, a), want)
	n := 0
	for range s.History(t.Context(), a) {
		n++
		break // no more is wanted
	}
	if n != 1 {
		t.Errorf("%d events after break", n)
	}
	if h := history(t, s, who(t, "bert@example.org")); len(h) != 0 {
		t.Errorf("of another: %+v", h)
	}
}

func testNote(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	note := consent.Event{Kind: consent.Chained, Time: noon.Add(time.Minute), Scope: "news", Source: consent.FromOneClick, Origin: "200 from lists.example.org"}
	if err := s.Note(t.Context(), a, note); err != nil || len(history(t, s, a)) != 0 {
		t.Errorf("of a person never seen: %v, %v", err, history(t, s, a))
	}
	apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon})
	record := lookup(t, s, "news", a)
	for range 2 { // said twice, it is there twice
		if err := s.Note(t.Context(), a, note); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Source: consent.FromPage, Time: noon})
	h := history(t, s, a)
	note.Number = 2
	if len(h) != 4 {
		t.Fatalf("%+v", h)
	}
	same(t, "the note", h[1], note)
	if record.Scope.Version != 1 || lookup(t, s, "news", a).Scope.Version != 2 {
		t.Errorf("a note counted as a change: %+v", lookup(t, s, "news", a))
	}
	for what, change := range map[string]func(*consent.Event){
		"kind":    func(e *consent.Event) { e.Kind = consent.Changed },
		"source":  func(e *consent.Event) { e.Source = "" },
		"scope":   func(e *consent.Event) { e.Scope = "" },
		"time":    func(e *consent.Event) { e.Time = time.Time{} },
		"address": func(e *consent.Event) { e.Origin = "from anna@example.org" },
		"TAB":     func(e *consent.Event) { e.Origin = "200\t" },
	} {
		bad := note
		change(&bad)
		if err := s.Note(t.Context(), a, bad); err == nil || errors.Is(err, consent.ErrUnreachable) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	if err := s.Erase(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(t.Context(), a, note); err != nil || len(history(t, s, a)) != 0 {
		t.Errorf("of a person erased: %v, %v", err, history(t, s, a))
	}
}

func testHistoryOfMany(t *testing.T, s consent.Store) {
	a, b := who(t, "anna@example.org"), who(t, "bert@example.org")
	var changes []consent.Change
	for i := range 250 {
		c := consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromImport, Notice: fmt.Sprint(i), Time: noon}
		if i%5 == 0 {
			c.Who = b
		}
		changes = append(changes, c)
	}
	apply(t, s, changes...)
	h := history(t, s, a)
	if len(h) != 200 || len(history(t, s, b)) != 50 {
		t.Fatalf("%d and %d events", len(h), len(history(t, s, b)))
	}
	for i, e := range h {
		if want := fmt.Sprint(i/4*5 + i%4 + 1); e.Notice != want {
			t.Fatalf("event %d: notice %s, want %s", i, e.Notice, want)
		}
	}
}

func testIfVersion(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	c := consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon, IfVersion: 1}
	conflict := func(what string, c consent.Change, version uint64) {
		t.Helper()
		rs, err := s.Apply(t.Context(), []consent.Change{c})
		if err != nil || !errors.Is(rs[0].Err, consent.ErrConflict) || rs[0].Scope.Version != version {
			t.Errorf("%s: %+v, %v", what, rs, err)
		}
	}
	conflict("version 1 of a record that is not there", c, 0)
	c.IfVersion = consent.NeverSeen
	apply(t, s, c)
	conflict("never seen, of a record that is there", c, 1)
	c.IfVersion, c.Mail = 1, consent.Subscribed
	apply(t, s, c)
	conflict("an older version", c, 2)
	c.IfVersion = 2
	if r := apply(t, s, c)[0]; r.Scope.Version != 2 {
		t.Errorf("what holds already: %+v", r)
	}
	// Two in one call: the second sees the first.
	first, second := c, c
	first.Open, second.Click = consent.Granted, consent.Granted
	rs, err := s.Apply(t.Context(), []consent.Change{first, second})
	if err != nil || rs[0].Err != nil || !errors.Is(rs[1].Err, consent.ErrConflict) || rs[1].Scope.Version != 3 {
		t.Errorf("two in one call: %+v, %v", rs, err)
	}
	if r := lookup(t, s, "news", a).Scope; r.Version != 3 || r.Click.State != "" {
		t.Errorf("after conflicts: %+v", r)
	}
	if n := len(history(t, s, a)); n != 3 {
		t.Errorf("%d events", n)
	}
	// Of many who change the same version, one gets through.
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 10 {
		wg.Go(func() {
			c := consent.Change{Who: a, Scope: "news", Open: consent.Denied, Notice: fmt.Sprint(i), Source: consent.FromAPI, Time: noon, IfVersion: 3}
			rs, err := s.Apply(t.Context(), []consent.Change{c})
			mu.Lock()
			defer mu.Unlock()
			if err == nil && rs[0].Err == nil {
				made++
			} else if err != nil || !errors.Is(rs[0].Err, consent.ErrConflict) {
				t.Errorf("%+v, %v", rs, err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d of 10 changed version 3", made)
	}
}

// Fifty at once, through several Stores where the place allows more than one, all get through.
func testFiftyWriters(t *testing.T, o Open) {
	const writers, rounds = 50, 4
	ring := keyring.Ephemeral()
	stores := []consent.Store{open(t, o, ring)}
	for range 2 {
		s, err := o(ring)
		if err != nil {
			break
		}
		t.Cleanup(func() { s.Close() })
		stores = append(stores, s)
	}
	a := who(t, "anna@example.org")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				c := consent.Change{Who: a, Scope: consent.Scope(fmt.Sprintf("s%d", w%7)), Open: consent.Granted, Source: consent.FromAPI,
					Notice: fmt.Sprintf("%d.%d", w, i), Time: noon}
				rs, err := stores[w%len(stores)].Apply(t.Context(), []consent.Change{c})
				if err != nil || rs[0].Err != nil {
					t.Errorf("Apply: %+v, %v", rs, err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, e := range history(t, stores[0], a) {
		seen[e.Notice] = true
	}
	if len(seen) != writers*rounds {
		t.Errorf("%d of %d changes are in the history", len(seen), writers*rounds)
	}
	total := uint64(0)
	p, err := stores[0].Person(t.Context(), a)
	for _, r := range p.Records {
		total += r.Version
	}
	if total != writers*rounds || err != nil {
		t.Errorf("versions add up to %d, %v", total, err)
	}
}

func testPerson(t *testing.T, s consent.Store) {
	a := who(t, "Anna@example.org")
	p, err := s.Person(t.Context(), a)
	if err != nil || len(p.Records) != 0 || !p.Address.IsZero() {
		t.Errorf("never seen: %+v, %v", p, err)
	}
	rs := apply(t, s,
		consent.Change{Who: a, Scope: "orders", Open: consent.Granted, Source: consent.FromAPI, Time: noon},
		consent.Change{Who: a, Scope: consent.AnyScope, Click: consent.Denied, Source: consent.FromAPI, Time: noon},
		consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Source: consent.FromAPI, Time: noon})
	p, err = s.Person(t.Context(), a)
	if err != nil || p.Address != a || p.Key != s.Key(a) {
		t.Errorf("%+v, %v", p, err)
	}
	same(t, "records", p.Records, []consent.Record{rs[1].Scope, rs[2].Scope, rs[0].Scope})
	if s.Key(a) == s.Key(who(t, "bert@example.org")) || s.Key(a) == (consent.Key{}) {
		t.Error("two people have one key")
	}
	if _, err := s.Person(t.Context(), consent.Address{}); err == nil {
		t.Error("the zero address is a person")
	}
}

func testScan(t *testing.T, s consent.Store) {
	for p, err := range s.Scan(t.Context(), "") {
		t.Fatalf("of nobody: %+v, %v", p, err)
	}
	const n = 700
	want := map[string]bool{}
	var changes []consent.Change
	for i := range n {
		a := who(t, fmt.Sprintf("person%d@example.org", i))
		want[a.String()] = true
		changes = append(changes,
			consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromImport, Notice: fmt.Sprint(i), Time: noon},
			consent.Change{Who: a, Scope: consent.AnyScope, Click: consent.Denied, Source: consent.FromImport, Notice: fmt.Sprint(i), Time: noon})
	}
	apply(t, s, changes...)
	seen := map[string]bool{}
	look := func(p consent.Person) {
		t.Helper()
		if len(p.Records) != 2 || p.Records[0].Click.Notice != p.Records[1].Open.Notice ||
			p.Address.String() != "person"+p.Records[0].Click.Notice+"@example.org" || p.Key != s.Key(p.Address) || p.Next == "" {
			t.Fatalf("%+v", p)
		}
		seen[p.Address.String()] = true
	}
	for p, err := range s.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		look(p)
	}
	same(t, "people", seen, want)

	// Stopped again and again, and begun again behind the last one.
	seen = map[string]bool{}
	var from consent.Cursor
	for rounds, more := 0, true; more; rounds++ {
		if rounds > 4*n {
			t.Fatalf("no end; %d people seen", len(seen))
		}
		more = false
		i := 0
		for p, err := range s.Scan(t.Context(), from) {
			if err != nil {
				t.Fatal(err)
			}
			look(p)
			if i++; i == 300 || p.Next != from && i > 1 && rounds%2 == 1 {
				more, from = true, p.Next
				break
			}
		}
	}
	same(t, "people, begun again", seen, want)

	bad := false
	for _, err := range s.Scan(t.Context(), "nonsense") {
		bad = bad || err != nil
	}
	if !bad {
		t.Error("a cursor of nonsense is taken")
	}
}

func testErase(t *testing.T, s consent.Store) {
	gone, out := who(t, "gone@example.org"), who(t, "out@example.org")
	if err := s.Erase(t.Context(), gone); err != nil {
		t.Errorf("of a person never seen: %v", err)
	}
	for _, a := range []consent.Address{gone, out} {
		apply(t, s,
			consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Open: consent.Granted, Source: consent.FromPage, Notice: "v1", Time: noon},
			consent.Change{Who: a, Scope: consent.AnyScope, Click: consent.Denied, Source: consent.FromPage, Notice: "v1", Time: noon})
	}
	optOut := consent.Change{Who: out, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Notice: "v1", Time: noon}
	apply(t, s, optOut)
	for range 2 { // twice is the same as once
		for _, a := range []consent.Address{gone, out} {
			if err := s.Erase(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		p, err := s.Person(t.Context(), gone)
		if err != nil || len(p.Records) != 0 || !p.Address.IsZero() || len(history(t, s, gone)) != 0 || lookup(t, s, "news", gone).Scope.Version != 0 {
			t.Errorf("of the subscribed stays %+v, %v", p, err)
		}
		p, err = s.Person(t.Context(), out)
		if err != nil || len(p.Records) != 1 || !p.Address.IsZero() || len(history(t, s, out)) != 0 {
			t.Fatalf("of the unsubscribed stays %+v, %v", p, err)
		}
		r := p.Records[0]
		same(t, "what stays", r, consent.Record{Scope: "news", Version: 3,
			Mail: consent.Entry{State: consent.Unsubscribed, Time: noon, Source: consent.FromOneClick}})
		same(t, "Lookup", lookup(t, s, "news", out).Scope, r)
		n := 0
		for p, err := range s.Scan(t.Context(), "") {
			if n++; err != nil || p.Key != s.Key(out) || !p.Address.IsZero() {
				t.Errorf("Scan: %+v, %v", p, err)
			}
		}
		if n != 1 {
			t.Errorf("Scan yields %d people", n)
		}
	}
	// A fresh person begins at 1; the opt-out holds until it says otherwise.
	apply(t, s, consent.Change{Who: out, Scope: "orders", Open: consent.Granted, Source: consent.FromPage, Time: noon})
	if r := lookup(t, s, "news", out).Scope; r.Mail.State != consent.Unsubscribed {
		t.Errorf("after a change in another scope: %+v", r)
	}
	r := apply(t, s, consent.Change{Who: out, Scope: "news", Mail: consent.Subscribed, Source: consent.FromPage, Time: noon})[0].Scope
	if r.Version != 4 || r.Mail.State != consent.Subscribed {
		t.Errorf("subscribed again: %+v", r)
	}
	if h := history(t, s, out); len(h) != 2 || h[1].Old.Mail != consent.Unsubscribed {
		t.Errorf("its history: %+v", h)
	}
	if p, err := s.Person(t.Context(), out); err != nil || p.Address != out {
		t.Errorf("%+v, %v", p, err)
	}
}

// An opt-out that comes while its person is erased holds afterwards, however they meet.
func testEraseRace(t *testing.T, s consent.Store) {
	for i := range 20 {
		a := who(t, fmt.Sprintf("p%d@example.org", i))
		apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromPage, Time: noon})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Erase(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
		apply(t, s, consent.Change{Who: a, Scope: "orders", Mail: consent.Unsubscribed, Source: consent.FromPage, Time: noon})
		wg.Wait()
		if r := lookup(t, s, "orders", a).Scope; r.Mail.State != consent.Unsubscribed {
			t.Fatalf("the opt-out is lost: %+v", r)
		}
		history(t, s, a)
	}
}

func rename(t *testing.T, s consent.Store, from, to consent.Address, at time.Time) {
	t.Helper()
	for range 2 { // twice is the same as once
		if err := s.Rename(t.Context(), from, to, consent.FromAPI, at); err != nil {
			t.Fatal(err)
		}
	}
}

var nearly = cmpopts.IgnoreFields(consent.Event{}, "Number")

func testRename(t *testing.T, s consent.Store) {
	old, now := who(t, "anna@exmaple.org"), who(t, "anna@example.org")
	rename(t, s, old, now, noon)
	if p, err := s.Person(t.Context(), now); err != nil || len(p.Records) != 0 || len(history(t, s, now)) != 0 {
		t.Errorf("of a person never seen: %+v, %v", p, err)
	}
	apply(t, s,
		consent.Change{Who: old, Scope: "news", Open: consent.Granted, Source: consent.FromPage, Notice: "v1", Time: noon},
		consent.Change{Who: old, Scope: "orders", Mail: consent.Unsubscribed, Source: consent.FromPage, Notice: "v1", Time: noon},
		consent.Change{Who: old, Scope: "news", Click: consent.Denied, Source: consent.FromCLI, Time: noon})
	before, had := history(t, s, old), lookup(t, s, "news", old).Scope
	rename(t, s, old, old, noon)
	same(t, "renamed to itself", history(t, s, old), before)
	later := noon.Add(time.Hour)
	rename(t, s, old, now, later)

	p, err := s.Person(t.Context(), now)
	if err != nil || p.Address != now || len(p.Records) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	same(t, "the record", p.Records[0], had, cmpopts.IgnoreFields(consent.Record{}, "Version"))
	if r := p.Records[1]; r.Mail.State != consent.Unsubscribed || r.Mail.Notice != "v1" {
		t.Errorf("the opt-out: %+v", r)
	}
	h := history(t, s, now)
	same(t, "the history", h, append([]consent.Event{{Kind: consent.RenamedFrom, Time: later, Source: consent.FromAPI, Origin: s.Key(old).String()}}, before...), nearly)

	p, err = s.Person(t.Context(), old)
	if err != nil || !p.Address.IsZero() || len(p.Records) != 1 || p.Records[0].Mail.State != consent.Unsubscribed || p.Records[0].Mail.Notice != "" {
		t.Errorf("at the old address: %+v, %v", p, err)
	}
	same(t, "its history", history(t, s, old), []consent.Event{{Number: 3, Kind: consent.Checkpoint, Time: later},
		{Number: 4, Kind: consent.RenamedTo, Time: later, Source: consent.FromAPI, Origin: s.Key(now).String()}})

	// Who comes to the old address later is renamed with what is new there.
	apply(t, s, consent.Change{Who: old, Scope: "offers", Open: consent.Denied, Source: consent.FromPage, Time: later})
	rename(t, s, old, now, later)
	if h = history(t, s, now); len(h) != 6 || h[4].Kind != consent.RenamedFrom || h[5].Scope != "offers" {
		t.Errorf("a second time: %+v", h)
	}
	if err := s.Rename(t.Context(), now, old, "elsewhere", noon); err == nil {
		t.Error("an unknown source is taken")
	}
	if err := s.Rename(t.Context(), now, consent.Address{}, consent.FromAPI, noon); err == nil {
		t.Error("the zero address is taken")
	}
}

func testRenameInto(t *testing.T, s consent.Store) {
	old, now := who(t, "anna@old.example"), who(t, "anna@example.org")
	at := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	apply(t, s,
		// the later entry counts, whose ever it is
		consent.Change{Who: old, Scope: "news", Open: consent.Granted, Source: consent.FromPage, Time: at(1)},
		consent.Change{Who: now, Scope: "news", Open: consent.Denied, Source: consent.FromPage, Time: at(2)},
		consent.Change{Who: old, Scope: "news", Click: consent.Granted, Source: consent.FromPage, Time: at(4)},
		consent.Change{Who: now, Scope: "news", Click: consent.Denied, Source: consent.FromPage, Time: at(3)},
		// an opt-out of either stays
		consent.Change{Who: old, Scope: "a", Mail: consent.Unsubscribed, Source: consent.FromPage, Time: at(1)},
		consent.Change{Who: now, Scope: "a", Mail: consent.Subscribed, Source: consent.FromPage, Time: at(2)},
		consent.Change{Who: old, Scope: "b", Mail: consent.Subscribed, Source: consent.FromPage, Time: at(2)},
		consent.Change{Who: now, Scope: "b", Mail: consent.Unsubscribed, Source: consent.FromPage, Time: at(1)},
		consent.Change{Who: old, Scope: "c", Mail: consent.Unsubscribed, Source: consent.FromPage, Time: at(2)},
	)
	was := lookup(t, s, "b", now).Scope
	rename(t, s, old, now, at(5))
	r := lookup(t, s, "news", now).Scope
	if r.Open.State != consent.Denied || r.Click.State != consent.Granted || !r.Click.Time.Equal(at(4)) {
		t.Errorf("news: %+v", r)
	}
	for _, scope := range []consent.Scope{"a", "b", "c"} {
		if r := lookup(t, s, scope, now).Scope; r.Mail.State != consent.Unsubscribed {
			t.Errorf("%s: the opt-out is lost: %+v", scope, r)
		}
	}
	same(t, "what did not change", lookup(t, s, "b", now).Scope, was)
	if h := history(t, s, now); len(h) != 4+1+5 {
		t.Errorf("%d events", len(h))
	}
	// Retention keeps what set the merged records, though the latest events are others.
	if _, err := s.Purge(t.Context(), at(100)); err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, e := range history(t, s, now) {
		if e.Kind == consent.Changed {
			kept[fmt.Sprintf("%s %s%s%s %v", e.Scope, e.New.Mail, e.New.Open, e.New.Click, e.Time.Sub(noon).Hours())] = true
		}
	}
	same(t, "kept", kept, map[string]bool{"news denied 2": true, "news granted 4": true, "a unsubscribed 1": true, "b unsubscribed 1": true, "c unsubscribed 2": true})
}

func testRenameBack(t *testing.T, s consent.Store) {
	a, b := who(t, "anna@example.org"), who(t, "bert@example.org")
	apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromPage, Time: noon})
	for range 3 {
		rename(t, s, a, b, noon)
		rename(t, s, b, a, noon)
	}
	if r := lookup(t, s, "news", a).Scope; r.Open.State != consent.Granted {
		t.Errorf("%+v", r)
	}
	if p, err := s.Person(t.Context(), b); err != nil || len(p.Records) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	history(t, s, a)
	history(t, s, b)
}

func testPurge(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	change := func(n int, scope consent.Scope, open, click consent.State) consent.Change {
		return consent.Change{Who: a, Scope: scope, Open: open, Click: click, Source: consent.FromPage, Time: day(n), Notice: fmt.Sprint(n)}
	}
	apply(t, s,
		change(1, "news", consent.Granted, ""),
		change(2, "news", "", consent.Denied), // 2 is in force to the end
		change(3, "news", consent.Denied, ""),
		change(4, "news", consent.Granted, ""),
		change(5, "orders", consent.Granted, ""), // 5 too
		change(6, "news", consent.Denied, ""),
		change(7, "news", consent.Granted, ""),
		change(8, "news", consent.Denied, ""))
	before := lookup(t, s, "news", a)
	all := history(t, s, a)
	purge := func(d, want int) []consent.Event {
		t.Helper()
		n, err := s.Purge(t.Context(), day(d))
		if err != nil || n != want {
			t.Errorf("Purge before day %d: %d deleted, %v; want %d", d, n, err, want)
		}
		return history(t, s, a)
	}
	if h := purge(1, 0); len(h) != 8 {
		t.Errorf("%d events", len(h))
	}
	checkpoint := func(number uint64, d int) consent.Event {
		return consent.Event{Number: number, Kind: consent.Checkpoint, Time: day(d)}
	}
	want := []consent.Event{checkpoint(1, 5), all[1], checkpoint(4, 5), all[4], all[5], all[6], all[7]}
	same(t, "before day 5", purge(5, 3), want)
	same(t, "again", purge(5, 0), want)
	apply(t, s, change(9, "news", "", consent.Granted)) // now 2 is not in force any more
	want = []consent.Event{checkpoint(4, 10), all[4], checkpoint(7, 10), all[7], history(t, s, a)[7]}
	same(t, "before day 10", purge(10, 3), want)
	if r := lookup(t, s, "news", a); r.Scope.Open != before.Scope.Open {
		t.Errorf("the record: %+v", r)
	}
	apply(t, s, change(11, "news", consent.Granted, ""))
	if h := history(t, s, a); h[len(h)-1].Number != 10 {
		t.Errorf("numbers go on at %d", h[len(h)-1].Number)
	}
}

func testPurgeMany(t *testing.T, s consent.Store) {
	const n = 450
	for i := range 3 {
		var changes []consent.Change
		for p := range n {
			changes = append(changes, consent.Change{Who: who(t, fmt.Sprintf("p%d@example.org", p)), Scope: "news", Open: consent.Granted,
				Notice: fmt.Sprint(i), Source: consent.FromImport, Time: noon})
		}
		apply(t, s, changes...)
	}
	if d, err := s.Purge(t.Context(), noon.Add(time.Hour)); err != nil || d != 2*n {
		t.Errorf("%d deleted, %v", d, err)
	}
	if h := history(t, s, who(t, "p17@example.org")); len(h) != 2 || h[0].Kind != consent.Checkpoint {
		t.Errorf("%+v", h)
	}
}

func testWatch(t *testing.T, s consent.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	keys, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := who(t, "anna@example.org"), who(t, "bert@example.org"), who(t, "carl@example.org")
	told := func(what string, want ...consent.Address) {
		t.Helper()
		missing := map[consent.Key]bool{}
		for _, a := range want {
			missing[s.Key(a)] = true
		}
		late := time.After(10 * time.Second)
		for len(missing) > 0 {
			select {
			case k, ok := <-keys:
				if !ok {
					t.Fatalf("%s: the channel is closed", what)
				}
				delete(missing, k.Key)
			case <-late:
				t.Fatalf("%s: %d of %d were not told", what, len(missing), len(want))
			}
		}
	}
	change := consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon}
	other := change
	other.Who = b
	apply(t, s, change, other)
	told("Apply", a, b)
	rename(t, s, b, c, noon)
	told("Rename", b, c)
	if err := s.Erase(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	told("Erase", a)
	cancel()
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-keys:
			if !ok {
				return
			}
		case <-late:
			t.Fatal("the channel stays open though the context ended")
		}
	}
}

func testClosedRights(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: noon})
	keys, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-keys:
		case <-late:
			t.Fatal("a watch outlives its store")
		}
	}
	fails := map[string]error{
		"Erase":       s.Erase(t.Context(), a),
		"Rename":      s.Rename(t.Context(), a, who(t, "bert@example.org"), consent.FromAPI, noon),
		"AcceptStore": s.AcceptStore(t.Context()),
	}
	_, fails["Person"] = s.Person(t.Context(), a)
	_, fails["Purge"] = s.Purge(t.Context(), noon)
	_, fails["Watch"] = s.Watch(t.Context())
	for _, err := range s.History(t.Context(), a) {
		fails["History"] = err
	}
	for _, err := range s.Scan(t.Context(), "") {
		fails["Scan"] = err
	}
	for _, call := range []string{"Erase", "Rename", "AcceptStore", "Person", "Purge", "Watch", "History", "Scan"} {
		if !errors.Is(fails[call], consent.ErrUnreachable) {
			t.Errorf("%s: %v", call, fails[call])
		}
	}
}

func testAccept(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon})
	if err := s.AcceptStore(t.Context()); err != nil {
		t.Errorf("of a store that lost nothing: %v", err)
	}
	if r := lookup(t, s, "news", a).Scope; r.Mail.State != consent.Unsubscribed {
		t.Errorf("%+v", r)
	}
}
