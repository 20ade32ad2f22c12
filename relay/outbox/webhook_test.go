package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

func TestChangesAreTold(t *testing.T) {
	b := newBench(t)
	b.run()
	anna := b.change("Anna@Example.org", consent.Granted)
	anna.Origin = "shop"
	b.apply(anna)
	b.apply(anna) // holds already
	b.told(1)     // what is told of one person keeps its order, and of several not
	b.apply(b.change("ben@example.org", consent.Denied), b.change("ben@example.org", consent.Granted))
	b.told(3)
	held := must1(b.begin(t.Context(), []consent.Address{who(t, "carl@example.org")}))(t)
	imported := b.change("carl@example.org", consent.Granted)
	imported.Source = consent.FromImport
	_, err := b.held.Apply(t.Context(), []consent.Change{imported})
	must(t, err)
	b.ended(held, true)
	must(t, b.store.Rename(t.Context(), who(t, "anna@example.org"), who(t, "ann@example.org"), consent.FromCLI, b.clock.now()))

	got := b.told(6)
	first := got[0]
	if first.method != "POST" || first.path != "/hook" || first.contentType != "application/json" || first.userAgent != "consentgate/test" || first.kind != "consent.change" {
		t.Errorf("%+v", first)
	}
	want := map[string]any{
		"person": b.held.Key(anna.Who).String(), "address": "anna@example.org", "number": 1.0, "kind": "change", "scope": "news",
		"source": "page", "origin": "shop", "notice": "2026-03", "new": map[string]any{"open": "granted"},
	}
	if !reflect.DeepEqual(first.data, want) {
		t.Errorf("%v\nwant %v", first.data, want)
	}
	ids := map[string]bool{}
	last := map[any]float64{}
	for _, c := range got {
		if !signed(t, c, Secret(b.ring.Webhook()[0])) {
			t.Errorf("not signed: %+v", c)
		}
		if at, err := strconv.ParseInt(c.at, 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("time %q", c.at)
		}
		if ids[c.id] || c.id == "" {
			t.Errorf("ID %q comes twice", c.id)
		}
		ids[c.id] = true
		if n := c.data["number"].(float64); n <= last[c.data["person"]] {
			t.Errorf("number %v behind %v", n, last[c.data["person"]])
		} else {
			last[c.data["person"]] = n
		}
		if c.data["address"] == "carl@example.org" {
			t.Error("an import is told")
		}
	}
	if k := []string{got[1].kind, got[2].kind}; k[0] != "consent.change" || k[1] != "consent.change" {
		t.Error(k)
	}
	kinds := map[string]int{}
	for _, c := range got[3:] {
		kinds[c.kind]++
	}
	if !reflect.DeepEqual(kinds, map[string]int{"consent.renamed-from": 1, "consent.renamed-to": 1, "consent.change": 1}) {
		t.Error(kinds)
	}
	if strings.Contains(b.log.String(), "example.org") {
		t.Errorf("an address in the log:\n%s", b.log.String())
	}
}

// TestStoreDown: nothing is changed of which it would not be known from where on to tell.
func TestStoreDown(t *testing.T) {
	b := newBench(t)
	must(t, b.held.Close())
	rs, err := b.store.Apply(t.Context(), []consent.Change{b.change("anna@example.org", consent.Granted)})
	if !errors.Is(err, consent.ErrUnreachable) || len(rs) != 1 || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
		t.Error(rs, err)
	}
	err = b.store.Rename(t.Context(), who(t, "anna@example.org"), who(t, "ann@example.org"), consent.FromCLI, b.clock.now())
	if !errors.Is(err, consent.ErrUnreachable) || len(b.jobs()) != 0 {
		t.Error(err)
	}
}

// TestNothingToTell: what holds already is asked of the store and written nowhere.
func TestNothingToTell(t *testing.T) {
	b := newBench(t)
	c := b.change("anna@example.org", consent.Granted)
	b.apply(c)
	b.apply(c)
	if n := len(b.jobs()); n != 1 {
		t.Errorf("%d jobs", n)
	}
	c.IfVersion = 7
	if rs, err := b.store.Apply(t.Context(), []consent.Change{c}); err != nil || !errors.Is(rs[0].Err, consent.ErrConflict) {
		t.Errorf("%v, %v", rs, err)
	}
}

// TestRetried: the same ID each time, another time, and the same body.
func TestRetried(t *testing.T) {
	b := newBench(t)
	b.to.answers(always(http.StatusServiceUnavailable))
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.wait("a call", func() bool { return len(b.to.got()) == 1 })
	b.wait("a note of it", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 1 })
	b.to.answers(always(http.StatusInternalServerError))
	b.pass(10 * time.Second)
	b.wait("another call", func() bool { return len(b.to.got()) == 2 })
	b.wait("a note of it", func() bool { return b.jobs()[0].Recipients[0].Attempts == 2 })
	b.restart()
	b.to.answers(nil)
	b.run()
	got := b.told(3)
	for _, c := range got[1:] {
		if c.id != got[0].id || c.body != got[0].body {
			t.Errorf("%+v\nis not %+v", c, got[0])
		}
		if !signed(t, c, Secret(b.ring.Webhook()[0])) {
			t.Errorf("not signed: %+v", c)
		}
	}
	if got[1].at == got[0].at {
		t.Error("the time of the first attempt")
	}
}

// TestKilledBeforeApply and behind it: the job is there before the change is, and finds out what became of it.
func TestKilledAroundApply(t *testing.T) {
	for name, applied := range map[string]bool{"before": false, "behind": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.run()
			b.apply(b.change("anna@example.org", consent.Granted))
			b.told(1)
			held := must1(b.begin(t.Context(), []consent.Address{who(t, "anna@example.org")}))(t)
			if len(held) != 1 || len(b.jobs()) != 1 {
				t.Fatal(held)
			}
			b.wake()
			if applied {
				_, err := b.held.Apply(t.Context(), []consent.Change{b.change("anna@example.org", consent.Denied)})
				must(t, err)
			}
			b.stop()
			if len(b.to.got()) != 1 || len(b.jobs()) != 1 {
				t.Fatal("it was told before the change was made")
			}
			b.restart()
			b.run()
			want := 1
			if applied {
				want = 2
			}
			got := b.told(want)
			if c := got[want-1]; applied && c.data["number"] != 2.0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestUnsureChange: a change that may still be made, since the store did not say that it was, is waited for, also
// behind another job of the same person.
func TestUnsureChange(t *testing.T) {
	b := newBench(t)
	anna := who(t, "anna@example.org")
	b.Copy(Copy{Message: "M1", Who: anna, Scope: "news", Class: consent.Marketing, Fate: "accepted", Code: 250, Text: "ok", Time: b.clock.now()})
	l, _ := b.next()
	b.ended(must1(b.begin(t.Context(), []consent.Address{anna}))(t), false)
	b.settle(l, l.items[0], answer{done: true, said: "204"})
	if early, _ := b.next(); early != nil {
		t.Fatal("it looks for the change at once")
	}
	_, err := b.held.Apply(t.Context(), []consent.Change{b.change("anna@example.org", consent.Granted)})
	must(t, err)
	b.pass(unsureTime)
	b.run()
	b.told(1)
}

// TestTwoGateways: what both tell has the same ID.
func TestTwoGateways(t *testing.T) {
	b := newBench(t)
	a := who(t, "anna@example.org")
	first := must1(b.begin(t.Context(), []consent.Address{a}))(t)
	b.apply(b.change("anna@example.org", consent.Granted))
	b.ended(first, true)
	b.run()
	b.told(1) // one outbox knows what it has told
	b.stop()
	other := New(b.cfg)
	if r := other.tellChanges(t.Context(), &line{}, &item{}, change{a.String(), 0}); !r.done {
		t.Error(r)
	}
	other.webhook.CloseIdleConnections()
	if got := b.to.got(); len(got) != 2 || got[0].id != got[1].id {
		t.Errorf("%+v", got)
	}
}

// TestEraseBeginsNumbersAnew: another change under the same number is another event.
func TestEraseBeginsNumbersAnew(t *testing.T) {
	b := newBench(t)
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.told(1)
	must(t, b.Forget(who(t, "anna@example.org")))
	must(t, b.store.Erase(t.Context(), who(t, "anna@example.org")))
	b.pass(time.Hour)
	b.apply(b.change("anna@example.org", consent.Granted))
	if got := b.told(2); got[0].id == got[1].id || got[1].data["number"] != 1.0 {
		t.Errorf("%+v", got)
	}
}

func TestForget(t *testing.T) {
	b := newBench(t)
	b.to.answers(always(http.StatusServiceUnavailable))
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.apply(b.change("anna@example.org", consent.Denied))
	b.apply(b.change("ben@example.org", consent.Denied))
	b.Copy(Copy{Message: "M1", Who: who(t, "anna@example.org"), Scope: "news", Class: consent.Marketing, Fate: "accepted", Time: b.clock.now()})
	b.wait("a failed call", func() bool { return len(b.to.got()) > 0 })
	must(t, b.Forget(who(t, "anna@example.org")))
	b.wait("the rest", func() bool { return len(b.jobs()) == 1 })
	var c change
	must(t, b.payload(b.lines["webhook "+b.jobs()[0].Job.Line].items[0], &c))
	if c.Who != "ben@example.org" {
		t.Error(c)
	}
	before := len(b.to.got())
	b.to.answers(nil)
	for len(b.jobs()) > 0 {
		b.pass(time.Minute)
		time.Sleep(5 * time.Millisecond)
	}
	for _, c := range b.to.got()[before:] {
		if c.data["address"] != "ben@example.org" {
			t.Errorf("told of who was forgotten: %+v", c)
		}
	}
}

// TestOrder: of one person nothing is told before what came before it is; others do not wait for that.
func TestOrder(t *testing.T) {
	b := newBench(t)
	b.to.answers(func(c call) int {
		if c.data["address"] == "anna@example.org" && c.data["number"] == 1.0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.apply(b.change("anna@example.org", consent.Denied))
	b.Copy(Copy{Message: "M1", Who: who(t, "anna@example.org"), Scope: "news", Class: consent.Marketing, Fate: "accepted", Code: 250, Text: "2.0.0 ok", Time: b.clock.now()})
	b.apply(b.change("ben@example.org", consent.Denied))
	b.wait("the other's call", func() bool {
		for _, c := range b.to.got() {
			if c.data["address"] == "ben@example.org" {
				return true
			}
		}
		return false
	})
	b.to.answers(nil)
	b.pass(time.Minute)
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	var order []string
	for _, c := range b.to.got() {
		if c.data["address"] == "anna@example.org" {
			if s := fmt.Sprint(c.kind, c.data["number"]); len(order) == 0 || order[len(order)-1] != s {
				order = append(order, s)
			}
		}
	}
	if want := []string{"consent.change1", "consent.change2", "copy.accepted<nil>"}; !reflect.DeepEqual(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// TestProgress: a job of which a part was told has not failed for the rest yet.
func TestProgress(t *testing.T) {
	b := newBench(t)
	b.to.answers(func(c call) int {
		if c.data["number"] == 2.0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	held := must1(b.begin(t.Context(), []consent.Address{who(t, "anna@example.org")}))(t)
	for _, s := range []consent.State{consent.Granted, consent.Denied, consent.Unset} {
		_, err := b.held.Apply(t.Context(), []consent.Change{b.change("anna@example.org", s)})
		must(t, err)
	}
	held[0].attempts, held[0].waited = 9, 25*time.Hour
	b.ended(held, true)
	b.run()
	b.wait("a failed call", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts > 0 })
	if r := b.jobs()[0].Recipients[0]; r.Attempts != 1 || r.Waited != 0 {
		t.Errorf("%+v", r)
	}
	b.to.answers(nil)
	b.pass(time.Minute)
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	var numbers []any
	for _, c := range b.to.got() {
		numbers = append(numbers, c.data["number"])
	}
	if !reflect.DeepEqual(numbers, []any{1.0, 2.0, 2.0, 3.0}) {
		t.Error(numbers)
	}
}

// BenchmarkWaiting reports the memory of a change that waits.
func BenchmarkWaiting(b *testing.B) {
	sp, err := spool.Open(b.TempDir(), spool.Options{})
	must(b, err)
	defer sp.Close()
	o := New(Config{Spool: sp, WebhookURL: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	n := 0
	for b.Loop() {
		if n+100 > maxWaiting {
			continue // there is no room for more
		}
		var jobs []job
		for range 100 {
			n++
			jobs = append(jobs, job{Job: spool.Job{Queue: changeQueue, Line: fmt.Sprintf("%043d", n)}, payload: change{fmt.Sprintf("p%d@example.org", n), 0}})
		}
		_, err := o.add(true, jobs...)
		must(b, err)
	}
	b.ReportMetric(float64(heap()-before)/float64(n), "B/job")
	runtime.KeepAlive(o)
}

func TestGivenUp(t *testing.T) {
	b := newBench(t)
	b.to.answers(func(c call) int {
		if c.data["number"] == 1.0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.wait("a failed call", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 1 })
	b.pass(25 * time.Hour)
	b.wait("the end", func() bool { return len(b.jobs()) == 0 })
	if !strings.Contains(b.log.String(), "given up") {
		t.Error(b.log.String())
	}
	b.apply(b.change("anna@example.org", consent.Denied))
	b.wait("the next", func() bool { return len(b.jobs()) == 0 })
	if got := b.to.got(); got[len(got)-1].data["number"] != 2.0 {
		t.Errorf("%+v", got)
	}
}

// TestOutage: while nobody answers, one call at a time finds out, and all that waited is made at once when
// somebody does; what is over its time goes without a call.
func TestOutage(t *testing.T) {
	b := newBench(t)
	b.to.answers(always(http.StatusBadGateway))
	b.run()
	for i := range 100 {
		b.apply(b.change(fmt.Sprintf("p%d@example.org", i), consent.Granted))
	}
	b.wait("a failed call", func() bool { return len(b.to.got()) > 0 })
	if n := len(b.to.got()); n > 20 { // those that were under way when the first failed, and the probes
		t.Errorf("%d calls to a server that does not answer", n)
	}
	b.to.answers(nil)
	b.pass(2 * time.Minute)
	b.wait("all", func() bool { return len(b.jobs()) == 0 })

	b.to.answers(always(http.StatusBadGateway))
	for i := range 20 {
		b.apply(b.change(fmt.Sprintf("p%d@example.org", i), consent.Denied))
	}
	before := len(b.to.got())
	b.wait("a failed call", func() bool { return len(b.to.got()) > before })
	b.clock.mu.Lock()
	b.clock.ahead += 25 * time.Hour
	b.clock.mu.Unlock()
	b.wait("an outage", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.targets[webhookTarget].failures > 0 })
	b.expire()
	b.wait("the end", func() bool { b.wake(); return len(b.jobs()) == 0 })
	if b.waiting != 0 || len(b.lines) != 0 || len(b.targets) != 0 {
		t.Errorf("%d, %v, %v", b.waiting, b.lines, b.targets)
	}
}

func TestRetryAfter(t *testing.T) {
	b := newBench(t)
	b.to.header.Set("Retry-After", "900")
	b.to.answers(always(http.StatusTooManyRequests))
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.wait("a failed call", func() bool { j := b.jobs(); return len(j) == 1 && j[0].Recipients[0].Attempts == 1 })
	if d := b.jobs()[0].Recipients[0].Delay; d != 15*time.Minute {
		t.Errorf("tried again after %v", d)
	}
}

func TestRotatedSecrets(t *testing.T) {
	b := newBench(t)
	old, newer := b.ring.Webhook()[0], []byte("another secret of thirty-two byte")
	b.cfg.Secrets = [][]byte{newer, old}
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	c := b.told(1)[0]
	if !signed(t, c, Secret(old)) || !signed(t, c, Secret(newer)) || signed(t, c, Secret([]byte("x"))) {
		t.Errorf("%q", c.signature)
	}
	if !strings.HasPrefix(c.signature, b.sign(c.id, c.at, []byte(c.body))[:10]) {
		t.Error("the current one is not first")
	}
}

// TestFull: consent is changed though the webhook cannot be told.
func TestFull(t *testing.T) {
	b := newBench(t)
	b.mu.Lock()
	b.waiting = maxWaiting / 2
	b.mu.Unlock()
	b.Copy(Copy{Message: "M1", Who: who(t, "anna@example.org"), Fate: "accepted", Time: b.clock.now()})
	if len(b.jobs()) != 0 {
		t.Error("copies take all the room")
	}
	b.apply(b.change("anna@example.org", consent.Granted))
	if len(b.jobs()) != 1 {
		t.Error("a change has no room")
	}
	b.mu.Lock()
	b.waiting = maxWaiting
	b.mu.Unlock()
	b.apply(b.change("anna@example.org", consent.Denied))
	if len(b.jobs()) != 1 {
		t.Error("no bound")
	}
	if r, err := b.held.Lookup(t.Context(), "news", []consent.Address{who(t, "anna@example.org")}); err != nil || r[0].Scope.Open.State != consent.Denied {
		t.Error(r, err)
	}
	if n := strings.Count(b.log.String(), "could not be kept"); n != 1 { // once a minute
		t.Errorf("%d times in the log:\n%s", n, b.log.String())
	}
}

// TestNoSpool: from memory.
func TestNoSpool(t *testing.T) {
	b := newBench(t)
	must(t, b.spool.Close())
	sp := b.spool
	b.cfg.Spool, b.spool = nil, nil
	defer func() { b.spool = sp }()
	b.to.answers(always(http.StatusInternalServerError))
	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	b.wait2("a call", func() bool { return len(b.to.got()) == 1 })
	b.to.answers(nil)
	b.wait2("the end", func() bool {
		b.pass(time.Second)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.waiting == 0
	})
	if got := b.to.got(); got[0].id != got[len(got)-1].id {
		t.Errorf("%+v", got)
	}
}

func (b *bench) wait2(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal(what)
		}
	}
}

// TestDamagedJob: what cannot be read is set aside, and the next one is done.
func TestDamagedJob(t *testing.T) {
	b := newBench(t)
	key := b.held.Key(who(t, "anna@example.org")).String()
	for _, body := range []string{"no JSON", `{"who":"nobody"}`} {
		must(t, b.spool.Add(spool.New{
			Message: spool.Message{ID: "J" + strconv.Itoa(len(body)), Arrived: time.Now().Add(-time.Hour), Size: int64(len(body)),
				Job: &spool.Job{Queue: changeQueue, Line: key}, Recipients: []spool.Recipient{{}}},
			Body: strings.NewReader(body),
		}))
	}
	b.apply(b.change("anna@example.org", consent.Granted))
	b.restart()
	b.run()
	b.told(1)
}

// TestNobodysJobs: jobs of a webhook that is no more, and of a kind that is not known.
func TestNobodysJobs(t *testing.T) {
	b := newBench(t)
	b.apply(b.change("anna@example.org", consent.Granted))
	b.cfg.WebhookURL = ""
	if o := New(b.cfg); len(o.lines) != 0 || len(b.jobs()) != 0 {
		t.Errorf("%v", o.lines)
	}
	if s := New(b.cfg).Told(); s != consent.Store(b.held) {
		t.Error("a store between without a webhook")
	}
}

func TestEventsAreJSON(t *testing.T) {
	b := newBench(t)
	b.run()
	b.Copy(Copy{Message: "M1", Who: who(t, `"a\"b"@example.org`), Scope: "news", Class: consent.Transactional, Fate: "refused", Code: 550,
		Text: "5.1.1 no \xff such <user>", Time: time.Date(2026, 3, 1, 13, 0, 0, 5, time.FixedZone("x", 3600))})
	c := b.told(1)[0]
	var e struct {
		Type      string
		Timestamp string
		Data      struct {
			Address, Message, Scope, Class, Text, Person string
			Code                                         int
		}
	}
	must(t, json.Unmarshal([]byte(c.body), &e))
	if e.Type != "copy.refused" || e.Timestamp != "2026-03-01T12:00:00Z" || e.Data.Code != 550 || e.Data.Message != "M1" || e.Data.Class != "transactional" ||
		e.Data.Address != `"a\"b"@example.org` || e.Data.Text != "5.1.1 no \uFFFD such <user>" {
		t.Errorf("%+v", e)
	}
}
