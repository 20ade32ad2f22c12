// Package storetest is the one suite of tests that every consent.Store passes. It checks the
// contract in consent.Store's comments, and nothing about how a store keeps what it keeps.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// Open opens the store of one place with a key ring. What was applied through one Store is there
// in the next one of the same place.
type Open func(ring *keyring.Ring) (consent.Store, error)

// Run runs the suite. place returns a way to open a new and empty place, each time another.
func Run(t *testing.T, place func(t *testing.T) Open) {
	fresh := func(t *testing.T) consent.Store {
		t.Helper()
		return open(t, place(t), keyring.Ephemeral())
	}
	t.Run("never seen", func(t *testing.T) { testNeverSeen(t, fresh(t)) })
	t.Run("apply, then lookup", func(t *testing.T) { testApplyThenLookup(t, fresh(t)) })
	t.Run("every state and source", func(t *testing.T) { testEveryStateAndSource(t, fresh(t)) })
	t.Run("scopes", func(t *testing.T) { testScopes(t, fresh(t)) })
	t.Run("odd scope names", func(t *testing.T) { testOddScopeNames(t, fresh(t)) })
	t.Run("spellings", func(t *testing.T) { testSpellings(t, fresh(t)) })
	t.Run("partial change", func(t *testing.T) { testPartialChange(t, fresh(t)) })
	t.Run("idempotent", func(t *testing.T) { testIdempotent(t, fresh(t)) })
	t.Run("many changes in one call", func(t *testing.T) { testManyChanges(t, fresh(t)) })
	t.Run("invalid changes", func(t *testing.T) { testInvalidChanges(t, fresh(t)) })
	t.Run("nothing to do", func(t *testing.T) { testNothingToDo(t, fresh(t)) })
	t.Run("1000 people", func(t *testing.T) { testThousand(t, fresh(t)) })
	t.Run("duplicate people", func(t *testing.T) { testDuplicates(t, fresh(t)) })
	t.Run("concurrent writers", func(t *testing.T) { testConcurrentWriters(t, fresh(t)) })
	t.Run("times", func(t *testing.T) { testTimes(t, fresh(t)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, fresh(t)) })
	t.Run("closed", func(t *testing.T) { testClosed(t, fresh(t)) })
	t.Run("reopen", func(t *testing.T) { testReopen(t, place(t)) })
	t.Run("foreign key", func(t *testing.T) { testForeign(t, place(t)) })
	runRights(t, place)
	t.Run("like the model", func(t *testing.T) { testModel(t, fresh(t)) })
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, o Open, ring *keyring.Ring) consent.Store {
	t.Helper()
	s, err := o(ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func who(t testing.TB, mailbox string) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// lookup returns the one result of one person, without an error.
func lookup(t testing.TB, s consent.Store, scope consent.Scope, a consent.Address) consent.Result {
	t.Helper()
	rs, err := s.Lookup(t.Context(), scope, []consent.Address{a})
	if err != nil || len(rs) != 1 || rs[0].Err != nil {
		t.Fatalf("Lookup = %+v, %v", rs, err)
	}
	return rs[0]
}

// apply applies changes without any error.
func apply(t testing.TB, s consent.Store, changes ...consent.Change) []consent.Result {
	t.Helper()
	rs, err := s.Apply(t.Context(), changes)
	if err != nil || len(rs) != len(changes) {
		t.Fatalf("Apply = %+v, %v", rs, err)
	}
	for i, r := range rs {
		if r.Err != nil {
			t.Fatalf("change %d: %v", i, r.Err)
		}
	}
	return rs
}

func same(t testing.TB, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, append(opts, cmp.AllowUnexported(consent.Address{}))...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func testNeverSeen(t *testing.T, s consent.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "never seen", lookup(t, s, "news", who(t, "nobody@example.org")),
		consent.Result{Scope: consent.Record{Scope: "news"}, Any: consent.Record{Scope: consent.AnyScope}})
	same(t, "never seen in *", lookup(t, s, consent.AnyScope, who(t, "nobody@example.org")),
		consent.Result{Scope: consent.Record{Scope: consent.AnyScope}, Any: consent.Record{Scope: consent.AnyScope}})
}

func testApplyThenLookup(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	notice := strings.Repeat("x", consent.MaxNotice-8) + ` ~!"\%;|`
	rs := apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Denied,
		Source: consent.FromPage, Notice: notice, Time: noon})
	entry := func(s consent.State) consent.Entry {
		return consent.Entry{State: s, Time: noon, Source: consent.FromPage, Notice: notice}
	}
	want := consent.Result{
		Scope: consent.Record{Scope: "news", Mail: entry(consent.Subscribed), Open: entry(consent.Granted), Click: entry(consent.Denied), Version: 1},
		Any:   consent.Record{Scope: consent.AnyScope},
	}
	same(t, "result of Apply", rs[0], want)
	same(t, "Lookup", lookup(t, s, "news", a), want)
}

func testEveryStateAndSource(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	version := uint64(0)
	for _, src := range []consent.Source{consent.FromImport, consent.FromAPI, consent.FromPage, consent.FromOneClick, consent.FromMailto, consent.FromCLI} {
		for i, st := range []consent.State{consent.Granted, consent.Denied, consent.Unset} {
			mail := []consent.State{consent.Subscribed, consent.Unsubscribed, consent.Subscribed}[i]
			version++
			rs := apply(t, s, consent.Change{Who: a, Scope: "news", Mail: mail, Open: st, Click: st, Source: src, Notice: fmt.Sprint(version), Time: noon})
			e := func(s consent.State) consent.Entry {
				return consent.Entry{State: s, Time: noon, Source: src, Notice: fmt.Sprint(version)}
			}
			want := consent.Record{Scope: "news", Mail: e(mail), Open: e(st), Click: e(st), Version: version}
			same(t, "Apply", rs[0].Scope, want)
			same(t, "Lookup", lookup(t, s, "news", a).Scope, want)
		}
	}
}

func testScopes(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	rs := apply(t, s,
		consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: noon},
		consent.Change{Who: a, Scope: consent.AnyScope, Open: consent.Denied, Source: consent.FromCLI, Time: noon},
		consent.Change{Who: a, Scope: "news", Click: consent.Granted, Source: consent.FromAPI, Time: noon},
	)
	if rs[0].Any.Version != 0 || rs[1].Scope.Open.State != consent.Denied {
		t.Errorf("results of Apply: %+v", rs)
	}
	same(t, "* twice where * was changed", rs[1].Any, rs[1].Scope)
	same(t, "* beside the scope", rs[2].Any, rs[1].Scope)
	r := lookup(t, s, "news", a)
	if r.Scope.Open.State != consent.Granted || r.Any.Open.State != consent.Denied {
		t.Errorf("a scope and * got mixed: %+v", r)
	}
	if d := consent.Decide(r, consent.Marketing, consent.Policy{}); !d.Open || d.OpenReason != consent.ByScope {
		t.Errorf("the scope did not beat *: %+v", d)
	}
	r = lookup(t, s, "orders", a)
	if r.Scope.Version != 0 || r.Any.Open.State != consent.Denied {
		t.Errorf("another scope: %+v", r)
	}
	r = lookup(t, s, consent.AnyScope, a)
	if r.Scope.Scope != consent.AnyScope || r.Scope.Open.State != consent.Denied {
		t.Errorf("*: %+v", r)
	}
	same(t, "* twice where * was asked for", r.Any, r.Scope)
	same(t, "another person", lookup(t, s, "news", who(t, "bert@example.org")).Any, consent.Record{Scope: consent.AnyScope})
}

func testOddScopeNames(t *testing.T, s consent.Store) {
	names := []consent.Scope{"a", "0", "-", "_", ".", "..", "a.b", "a-b", "a_b", "news", "new", "newsletter",
		"-1", "1e3", "nan", "nil", "__proto__", consent.Scope(strings.Repeat("s", 128))}
	a, b := who(t, "a@example.org"), who(t, "aa@example.org")
	for i, n := range names {
		apply(t, s, consent.Change{Who: a, Scope: n, Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon})
	}
	for i, n := range names {
		r := lookup(t, s, n, a).Scope
		if r.Scope != n || r.Open.Notice != fmt.Sprint(i) || r.Version != 1 {
			t.Errorf("scope %q: %+v", n, r)
		}
		if r := lookup(t, s, n, b); r.Scope.Version != 0 {
			t.Errorf("scope %q of another: %+v", n, r)
		}
	}
}

func testSpellings(t *testing.T, s consent.Store) {
	apply(t, s, consent.Change{Who: who(t, "Anna.B+x@EXAMPLE.org"), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon})
	for _, spelling := range []string{"anna.b+x@example.org", "ANNA.B+X@Example.Org", `"Anna.B+x"@example.org`, "anna.b+x@example.org."} {
		if r := lookup(t, s, "news", who(t, spelling)); r.Scope.Mail.State != consent.Unsubscribed {
			t.Errorf("%s: %+v", spelling, r)
		}
	}
	apply(t, s, consent.Change{Who: who(t, "x@bücher.example"), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon})
	if r := lookup(t, s, "news", who(t, "x@XN--BCHER-KVA.example")); r.Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("IDNA: %+v", r)
	}
	for _, other := range []string{"anna.b@example.org", "annab+x@example.org", "anna.b+x@sub.example.org"} {
		if r := lookup(t, s, "news", who(t, other)); r.Scope.Version != 0 {
			t.Errorf("%s is another person: %+v", other, r)
		}
	}
}

func testPartialChange(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Granted, Source: consent.FromImport, Notice: "v1", Time: noon})
	before := lookup(t, s, "news", a).Scope
	later := noon.Add(time.Hour)
	after := apply(t, s, consent.Change{Who: a, Scope: "news", Click: consent.Denied, Source: consent.FromPage, Notice: "v2", Time: later})[0].Scope
	want := before
	want.Click = consent.Entry{State: consent.Denied, Time: later, Source: consent.FromPage, Notice: "v2"}
	want.Version = 2
	same(t, "only clicks", after, want)
	same(t, "Lookup", lookup(t, s, "news", a).Scope, want)
}

func testIdempotent(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	c := consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Open: consent.Denied, Source: consent.FromOneClick, Notice: "v1", Time: noon}
	first := apply(t, s, c)[0]
	again := c
	again.Time, again.Source = noon.Add(time.Hour), consent.FromPage
	same(t, "applied again", apply(t, s, again)[0], first)
	again.Notice = "v2"
	r := apply(t, s, again)[0].Scope
	want := consent.Entry{State: consent.Denied, Time: again.Time, Source: consent.FromPage, Notice: "v2"}
	if r.Version != 2 {
		t.Errorf("version %d after another notice", r.Version)
	}
	same(t, "under another notice", r.Open, want)
	// One purpose is new, the other is not.
	third := again
	third.Time, third.Open = noon.Add(2*time.Hour), consent.Granted
	r = apply(t, s, third)[0].Scope
	if r.Version != 3 || !r.Mail.Time.Equal(again.Time) || !r.Open.Time.Equal(third.Time) {
		t.Errorf("half new: %+v", r)
	}
	// Unset is recorded, unlike never seen.
	r = apply(t, s, consent.Change{Who: a, Scope: "news", Click: consent.Unset, Source: consent.FromCLI, Time: noon})[0].Scope
	if r.Version != 4 || r.Click.State != consent.Unset || r.Click.Source != consent.FromCLI {
		t.Errorf("unset: %+v", r)
	}
}

func testManyChanges(t *testing.T, s consent.Store) {
	const people = 1200 // more than one round trip of any store
	var changes []consent.Change
	for i := range people {
		changes = append(changes, consent.Change{Who: who(t, fmt.Sprintf("p%d@example.org", i)), Scope: "news",
			Open: consent.Granted, Source: consent.FromImport, Notice: fmt.Sprint(i), Time: noon})
	}
	first := changes[0].Who
	changes = append(changes,
		consent.Change{Who: first, Scope: "news", Open: consent.Denied, Source: consent.FromImport, Time: noon},
		consent.Change{Who: first, Scope: "news", Open: consent.Granted, Click: consent.Granted, Source: consent.FromImport, Time: noon},
		consent.Change{Who: first, Scope: "orders", Open: consent.Denied, Source: consent.FromImport, Time: noon})
	rs := apply(t, s, changes...)
	for i, r := range rs[:people] {
		if r.Scope.Open.Notice != fmt.Sprint(i) || r.Scope.Version != 1 {
			t.Fatalf("result %d is of another change: %+v", i, r)
		}
	}
	if rs[people].Scope.Open.State != consent.Denied || rs[people].Scope.Version != 2 {
		t.Errorf("second change to one person: %+v", rs[people])
	}
	if rs[people+1].Scope.Open.State != consent.Granted || rs[people+1].Scope.Version != 3 {
		t.Errorf("third change to one person: %+v", rs[people+1])
	}
	if rs[people+2].Scope.Scope != "orders" || rs[people+2].Scope.Version != 1 {
		t.Errorf("another scope of one person: %+v", rs[people+2])
	}
	same(t, "Lookup", lookup(t, s, "news", first), rs[people+1])
}

func testInvalidChanges(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	good := consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon}
	bad := map[string]func(*consent.Change){
		"no address":      func(c *consent.Change) { c.Who = consent.Address{} },
		"no scope":        func(c *consent.Change) { c.Scope = "" },
		"upper case":      func(c *consent.Change) { c.Scope = "News" },
		"scope":           func(c *consent.Change) { c.Scope = "a b" },
		"mail state":      func(c *consent.Change) { c.Mail = consent.Granted },
		"open state":      func(c *consent.Change) { c.Open = consent.Subscribed },
		"click state":     func(c *consent.Change) { c.Click = "yes" },
		"no source":       func(c *consent.Change) { c.Source = "" },
		"source":          func(c *consent.Change) { c.Source = "elsewhere" },
		"long notice":     func(c *consent.Change) { c.Notice = strings.Repeat("x", consent.MaxNotice+1) },
		"notice with tab": func(c *consent.Change) { c.Notice = "a\tb" },
		"notice not ASCII": func(c *consent.Change) {
			c.Notice = "März"
		},
		"long origin":    func(c *consent.Change) { c.Origin = strings.Repeat("x", 65) },
		"address":        func(c *consent.Change) { c.Origin = "anna@example.org" },
		"origin newline": func(c *consent.Change) { c.Origin = "a\nb" },
		"no time":        func(c *consent.Change) { c.Time = time.Time{} },
		"year 9999":      func(c *consent.Change) { c.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	for name, spoil := range bad {
		c := good
		spoil(&c)
		ok := good
		ok.Who = who(t, strings.ReplaceAll(name, " ", "")+"@example.org")
		rs, err := s.Apply(t.Context(), []consent.Change{c, ok})
		if err != nil || len(rs) != 2 {
			t.Fatalf("%s: %+v, %v", name, rs, err)
		}
		if rs[0].Err == nil || errors.Is(rs[0].Err, consent.ErrUnreachable) || rs[0].Scope.Version != 0 {
			t.Errorf("%s: %+v", name, rs[0])
		}
		if rs[1].Err != nil || rs[1].Scope.Mail.State != consent.Unsubscribed {
			t.Errorf("%s: the good change beside it: %+v", name, rs[1])
		}
	}
	if r := lookup(t, s, "news", a); r.Scope.Version != 0 {
		t.Errorf("an invalid change was made: %+v", r)
	}
	rs, err := s.Lookup(t.Context(), "news", []consent.Address{{}, a})
	if err != nil || len(rs) != 2 || rs[0].Err == nil || rs[1].Err != nil {
		t.Errorf("Lookup of the zero address: %+v, %v", rs, err)
	}
}

func testNothingToDo(t *testing.T, s consent.Store) {
	if rs, err := s.Lookup(t.Context(), "news", nil); err != nil || len(rs) != 0 {
		t.Errorf("Lookup of nobody: %v, %v", rs, err)
	}
	if rs, err := s.Apply(t.Context(), nil); err != nil || len(rs) != 0 {
		t.Errorf("Apply of nothing: %v, %v", rs, err)
	}
	a := who(t, "anna@example.org")
	want := lookup(t, s, "news", a)
	same(t, "a change that names no purpose", apply(t, s, consent.Change{Who: a, Scope: "news", Source: consent.FromAPI, Time: noon})[0], want)
}

func testThousand(t *testing.T, s consent.Store) {
	const n = 1000
	people := make([]consent.Address, n)
	var changes []consent.Change
	for i := range people {
		people[i] = who(t, fmt.Sprintf("person%d@example.org", i))
		if i%3 == 0 {
			changes = append(changes, consent.Change{Who: people[i], Scope: "news", Open: consent.Granted, Source: consent.FromImport, Notice: fmt.Sprint(i), Time: noon})
		}
	}
	apply(t, s, changes...)
	slices.Reverse(people)
	rs, err := s.Lookup(t.Context(), "news", people)
	if err != nil || len(rs) != n {
		t.Fatalf("%d results, %v", len(rs), err)
	}
	for j, r := range rs {
		i := n - 1 - j
		if r.Err != nil || (i%3 == 0) != (r.Scope.Open.State == consent.Granted) || (i%3 == 0 && r.Scope.Open.Notice != fmt.Sprint(i)) {
			t.Fatalf("person %d: %+v", i, r)
		}
	}
}

func testDuplicates(t *testing.T, s consent.Store) {
	a, b := who(t, "anna@example.org"), who(t, "bert@example.org")
	apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: noon})
	rs, err := s.Lookup(t.Context(), "news", []consent.Address{a, b, a, a, b})
	if err != nil || len(rs) != 5 {
		t.Fatal(rs, err)
	}
	for i, granted := range []bool{true, false, true, true, false} {
		if (rs[i].Scope.Open.State == consent.Granted) != granted {
			t.Errorf("result %d: %+v", i, rs[i])
		}
	}
}

// Each of several writers changes its own notice on one purpose of one person; none of the
// changes may get lost, and every version is given out once.
func testConcurrentWriters(t *testing.T, s consent.Store) {
	const rounds = 20
	a := who(t, "anna@example.org")
	scopes := []consent.Scope{"news", "orders", consent.AnyScope}
	var mu sync.Mutex
	versions := map[consent.Scope][]uint64{}
	var wg sync.WaitGroup
	for _, scope := range scopes {
		for p := range 3 {
			wg.Go(func() {
				for i := range rounds {
					c := consent.Change{Who: a, Scope: scope, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon}
					switch p {
					case 0:
						c.Mail = consent.Subscribed
					case 1:
						c.Open = consent.Granted
					case 2:
						c.Click = consent.Denied
					}
					rs, err := s.Apply(t.Context(), []consent.Change{c})
					if err != nil || rs[0].Err != nil {
						t.Errorf("Apply: %+v, %v", rs, err)
						return
					}
					mu.Lock()
					versions[scope] = append(versions[scope], rs[0].Scope.Version)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for _, scope := range scopes {
		r := lookup(t, s, scope, a).Scope
		last := fmt.Sprint(rounds - 1)
		if r.Version != 3*rounds || r.Mail.Notice != last || r.Open.Notice != last || r.Click.Notice != last {
			t.Errorf("scope %s lost an update: %+v", scope, r)
		}
		slices.Sort(versions[scope])
		for i, v := range versions[scope] {
			if v != uint64(i+1) {
				t.Fatalf("scope %s: versions %v", scope, versions[scope])
			}
		}
	}
}

func testTimes(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	in := time.Date(2026, 3, 1, 23, 59, 59, 987654321, time.FixedZone("", 3600))
	want := time.Date(2026, 3, 1, 22, 59, 59, 0, time.UTC)
	r := apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: in})[0]
	for name, got := range map[string]time.Time{"Apply": r.Scope.Open.Time, "Lookup": lookup(t, s, "news", a).Scope.Open.Time} {
		if got != want { // not Equal: the location counts too
			t.Errorf("%s: time %v, want %v", name, got, want)
		}
	}
	for i, at := range []time.Time{time.Unix(1, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		apply(t, s, consent.Change{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: at})
		if got := lookup(t, s, "news", a).Scope.Open.Time; !got.Equal(at) {
			t.Errorf("time %v, want %v", got, at)
		}
	}
}

func testCancelled(t *testing.T, s consent.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := who(t, "anna@example.org")
	rs, err := s.Lookup(ctx, "news", []consent.Address{a, a})
	failed(t, "Lookup", 2, rs, err, context.Canceled)
	rs, err = s.Apply(ctx, []consent.Change{{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: noon}})
	failed(t, "Apply", 1, rs, err, context.Canceled)
	if err := s.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v", err)
	}
	if err := s.Writable(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Writable: %v", err)
	}
	if r := lookup(t, s, "news", a); r.Scope.Version != 0 {
		t.Errorf("a cancelled change was made: %+v", r)
	}
}

func testClosed(t *testing.T, s consent.Store) {
	a := who(t, "anna@example.org")
	lookup(t, s, "news", a)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Lookup(t.Context(), "news", []consent.Address{a, a})
	failed(t, "Lookup", 2, rs, err, consent.ErrUnreachable)
	rs, err = s.Apply(t.Context(), []consent.Change{{Who: a, Scope: "news", Open: consent.Granted, Source: consent.FromAPI, Time: noon}})
	failed(t, "Apply", 1, rs, err, consent.ErrUnreachable)
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrUnreachable) {
		t.Errorf("Ping: %v", err)
	}
	if err := s.Writable(t.Context()); !errors.Is(err, consent.ErrUnreachable) {
		t.Errorf("Writable: %v", err)
	}
}

// failed checks what a call returns that could not ask at all.
func failed(t *testing.T, call string, n int, rs []consent.Result, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || len(rs) != n {
		t.Errorf("%s: %d results, error %v; want %d and %v", call, len(rs), err, n, want)
	}
	for _, r := range rs {
		if !errors.Is(r.Err, want) || r.Scope != (consent.Record{}) || r.Any != (consent.Record{}) {
			t.Errorf("%s: %+v", call, r)
		}
	}
}

func testReopen(t *testing.T, o Open) {
	ring := keyring.Ephemeral()
	a := who(t, "anna@example.org")
	s := open(t, o, ring)
	want := apply(t, s, consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Notice: "v1", Time: noon})[0]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o, ring)
	if err := errors.Join(s.Ping(t.Context()), s.Writable(t.Context())); err != nil {
		t.Error(err)
	}
	same(t, "after reopening", lookup(t, s, "news", a), want)
}

func testForeign(t *testing.T, o Open) {
	ring := keyring.Ephemeral()
	if err := open(t, o, ring).Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := o(keyring.Ephemeral()); !errors.Is(err, consent.ErrForeign) {
		t.Errorf("another key: %v", err)
		if err == nil {
			s.Close()
		}
	}
	if err := open(t, o, ring).Ping(t.Context()); err != nil {
		t.Errorf("the right key after a wrong one: %v", err)
	}
}

// Random changes in random groups leave what consent.Record.Merge says.
func testModel(t *testing.T, s consent.Store) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		model := map[string]consent.Record{}
		scopes := []consent.Scope{"news", "orders", consent.AnyScope}
		for range rapid.IntRange(1, 4).Draw(rt, "calls") {
			var changes []consent.Change
			var want []consent.Result
			for range rapid.IntRange(1, 6).Draw(rt, "changes") {
				tracking := rapid.SampledFrom([]consent.State{"", consent.Granted, consent.Denied, consent.Unset})
				person := fmt.Sprintf("run%d.%d@example.org", run, rapid.IntRange(0, 1).Draw(rt, "person"))
				c := consent.Change{
					Who:    who(t, person),
					Scope:  rapid.SampledFrom(scopes).Draw(rt, "scope"),
					Mail:   rapid.SampledFrom([]consent.State{"", consent.Subscribed, consent.Unsubscribed}).Draw(rt, "mail"),
					Open:   tracking.Draw(rt, "open"),
					Click:  tracking.Draw(rt, "click"),
					Source: rapid.SampledFrom([]consent.Source{consent.FromAPI, consent.FromPage}).Draw(rt, "source"),
					Notice: rapid.SampledFrom([]string{"", "v1", " "}).Draw(rt, "notice"),
					Time:   noon.Add(time.Duration(rapid.IntRange(0, 1000).Draw(rt, "time")) * time.Second),
				}
				key := person + " " + string(c.Scope)
				merged, _ := model[key].Merge(c)
				model[key] = merged
				any := model[person+" "+string(consent.AnyScope)]
				any.Scope = consent.AnyScope
				changes = append(changes, c)
				want = append(want, consent.Result{Scope: merged, Any: any})
			}
			got, err := s.Apply(t.Context(), changes)
			if err != nil {
				rt.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				rt.Fatalf("after %+v (-want +got):\n%s", changes, d)
			}
		}
	})
}
