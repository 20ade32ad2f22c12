package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/rewrite"
)

var update = flag.Bool("update", false, "write the table in METRICS.md")

// everything is a set of metrics with all sources.
func everything() *Metrics {
	m := New()
	m.Ask(Sources{
		Now: func() time.Time { return time.Unix(1000, 0) },
		Spool: func() SpoolState {
			return SpoolState{Messages: 2, Recipients: 3, Bytes: 4, Oldest: time.Unix(400, 0), Writable: true}
		},
		Calls: func() (int, int, int) { return 1, 2, 3 },
		SMTP:  func() (int, int) { return 5, 1000 },
		Smarthost: func() SmarthostState {
			return SmarthostState{InUse: 6, Limit: 20, Hops: map[string]bool{"a:25": true, "b:25": false}}
		},
		Cache:        func() (uint64, uint64) { return 7, 8 },
		Certificates: map[string]func() (time.Time, bool){"smtp": func() (time.Time, bool) { return time.Unix(9000, 0), true }, "unsubscribe": func() (time.Time, bool) { return time.Time{}, false }},
		Version:      "v1", Commit: "c", GoVersion: "go", Mode: "spool",
	})
	return m
}

func (m *Metrics) all(t *testing.T) string {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, s := range f.GetMetric() {
			b.WriteString(f.GetName())
			for _, l := range s.GetLabel() {
				fmt.Fprintf(&b, " %s=%s", l.GetName(), l.GetValue())
			}
			fmt.Fprintf(&b, " %v\n", s.GetCounter().GetValue()+s.GetGauge().GetValue()+float64(s.GetHistogram().GetSampleCount()))
		}
	}
	return b.String()
}

func (m *Metrics) has(t *testing.T, lines ...string) {
	t.Helper()
	all := m.all(t)
	for _, l := range lines {
		if !strings.Contains(all, "consentgate_"+l+"\n") {
			name, _, _ := strings.Cut(l, " ")
			t.Errorf("no line %q; there are\n%s", l, strings.Join(regexp.MustCompile(`(?m)^consentgate_`+name+`.*$`).FindAllString(all, -1), "\n"))
		}
	}
}

// Names and types are as Prometheus wants them, and every help says what to do.
func TestConventions(t *testing.T) {
	m := everything()
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p != (promlint.Problem{}) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	seen := map[string]bool{}
	for _, d := range m.Describe() {
		if seen[d.Name] {
			t.Errorf("%s is described twice", d.Name)
		}
		seen[d.Name] = true
		if !strings.Contains(d.Help, "When ") && !strings.HasSuffix(d.Name, "_limit") && !strings.HasSuffix(d.Name, "build_info") && !strings.HasSuffix(d.Help, "means.") {
			t.Errorf("%s: the help does not say what to do: %s", d.Name, d.Help)
		}
	}
	for line := range strings.Lines(m.all(t)) {
		name, _, _ := strings.Cut(line, " ")
		if !seen[name] {
			t.Errorf("%s is not described", name)
		}
	}
}

func TestSources(t *testing.T) {
	everything().has(t, "spool_messages 2", "spool_recipients 3", "spool_bytes 4", "spool_oldest_age_seconds 600", "spool_writable 1",
		"calls_waiting queue=change 1", "calls_waiting queue=copy 2", "calls_waiting queue=chain 3", "smtp_connections 5", "smtp_connections_limit 1000",
		"smarthost_connections 6", "smarthost_up smarthost=a:25 1", "smarthost_up smarthost=b:25 0", "cache_lookups_total result=hit 7", "cache_lookups_total result=miss 8",
		"certificate_expiry_timestamp_seconds listener=smtp 9000", "build_info commit=c goversion=go mode=spool version=v1 1")
	if all := everything().all(t); strings.Contains(all, "listener=unsubscribe") {
		t.Error("a certificate that is not there ends")
	}
}

func TestTally(t *testing.T) {
	m := New()
	found := func(kind rewrite.Kind, action rewrite.Action, vector, rule, destination string) rewrite.Outcome {
		return rewrite.Outcome{Finding: &rewrite.Finding{Kind: kind, Vector: vector, Rule: rule, Destination: destination}, Action: action}
	}
	some := []rewrite.Outcome{
		found(rewrite.OpenTracker, rewrite.Removed, "img src", "size", ""),
		found(rewrite.OpenTracker, rewrite.Removed, "IMG src", "hidden", ""),
		found(rewrite.OpenTracker, rewrite.Removed, "x-anything-at-all style url()", "size", ""),
		found(rewrite.OpenTracker, rewrite.Kept, "img src", "", ""), // an ordinary picture
		found(rewrite.ClickTracker, rewrite.Undone, "a href", "list", "https://www.example.org/"),
		found(rewrite.ClickTracker, rewrite.Kept, "a href", "unread", ""),
		found(rewrite.ClickTracker, rewrite.Unlinked, "text link", "unread", ""),
		found(rewrite.Unsubscribe, rewrite.Inserted, "footer", "", ""),
	}
	tally := m.Tally(some, false, false, false)
	for range 3 {
		tally.Count()
	}
	m.has(t, "trackers_removed_total kind=open vector=img 6", "trackers_removed_total kind=open vector=style 3", "trackers_removed_total kind=click vector=a 3", "trackers_removed_total kind=click vector=text link 3",
		"rule_hits_total rule=size 6", "rule_hits_total rule=list 3", "links_undone_total 3", "links_opaque_total action=kept 3", "links_opaque_total action=unlinked 3")

	// With consent a link that nobody can read is none that counts against it.
	m = New()
	m.Tally([]rewrite.Outcome{found(rewrite.ClickTracker, rewrite.Kept, "a href", "unread", ""), found(rewrite.OpenTracker, rewrite.Guarded, "img src", "size", "")}, true, true, false).Count()
	m.has(t, "trackers_kept_total how=kept kind=click 1", "trackers_kept_total how=guarded kind=open 1", "links_opaque_total action=kept 0")

	// What has to stay is told apart: a signed body.
	m = New()
	m.Tally([]rewrite.Outcome{found(rewrite.ClickTracker, rewrite.Kept, "a href", "list", "https://www.example.org/"), found(rewrite.OpenTracker, rewrite.Kept, "img src", "size", "")}, false, true, false).Count()
	m.has(t, "trackers_kept_total how=without_consent kind=open 1", "trackers_kept_total how=kept kind=click 1")

	m = New()
	m.Tally(some, false, false, true).Count()
	m.has(t, "trackers_observed_total kind=open vector=img 2", "links_undone_total 0")
}

// Whatever a sender writes, a label has one of a fixed set of values.
func TestVectorIsBounded(t *testing.T) {
	values := map[string]bool{}
	for _, v := range vectors {
		values[v] = true
	}
	for _, v := range []string{"other", "style", "srcset", "background", "ping"} {
		values[v] = true
	}
	for text, want := range map[string]string{"img src": "img", "img srcset": "srcset", "td background": "background", "a href": "a", "text link": "text link", "link icon": "link",
		"v:fill src": "v:fill", "iframe srcdoc img src": "iframe", "Disposition-Notification-To": "disposition-notification-to", "JSON-LD url": "json-ld", "somebody@example.org href": "other",
		"x-1234567 src": "other", "": "other", "\xff\x00": "other", "p style url()": "style", "AMP part": "amp part", "message/external-body": "external body", "a ping": "ping"} {
		got := Vector(text)
		if !strings.EqualFold(got, want) || !values[got] {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	if len(values) > 80 {
		t.Errorf("%d values", len(values))
	}
}

func TestDecided(t *testing.T) {
	m := New()
	for _, d := range []consent.Decision{
		{Mail: consent.Send, MailReason: consent.ByDefault, Open: true, OpenReason: consent.ByScope, ClickReason: consent.ByAnyScope},
		{Mail: consent.Suppress, MailReason: consent.ByAnyScope, OpenReason: consent.ByDefault, ClickReason: consent.ByDefault},
		{Mail: consent.Defer, MailReason: consent.ByUnreachable, OpenReason: consent.ByUnreachable, ClickReason: consent.ByUnreachable},
		{Mail: consent.Send, MailReason: consent.ByClass, OpenReason: consent.ByUnreachable, ClickReason: consent.ByUnreachable},
	} {
		m.Decided(d)
	}
	m.has(t, "decisions_total decision=send purpose=mail reason=default 1", "decisions_total decision=suppress purpose=mail reason=any_scope 1", "decisions_total decision=defer purpose=mail reason=unreachable 1",
		"decisions_total decision=send purpose=mail reason=transactional 1", "decisions_total decision=granted purpose=open reason=scope 1", "decisions_total decision=denied purpose=click reason=any_scope 1",
		"decisions_total decision=denied purpose=open reason=unreachable 1", "decisions_total decision=denied purpose=open reason=default 0")
}

// shaky is a store that answers what it is told to.
type shaky struct {
	consent.Store
	mu   sync.Mutex
	err  error
	full bool

	ofAll error // of requests that as a whole failed
}

func (s *shaky) say(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shaky) said() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *shaky) Ping(context.Context) error { return s.said() }
func (s *shaky) Writable(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return consent.ErrUnwritable
	}
	return s.err
}
func (s *shaky) Lookup(_ context.Context, _ consent.Scope, people []consent.Address) ([]consent.Result, error) {
	rs := make([]consent.Result, len(people))
	rs[len(rs)-1].Err = s.said()
	return rs, s.ofAll
}
func (s *shaky) Apply(_ context.Context, changes []consent.Change) ([]consent.Result, error) {
	rs := make([]consent.Result, len(changes))
	rs[0].Err = s.said()
	return rs, s.ofAll
}

func TestStore(t *testing.T) {
	m := New()
	inner := &shaky{}
	s := m.Store(inner)
	ctx := context.Background()
	s.Lookup(ctx, "news", make([]consent.Address, 2))
	m.has(t, "store_up 1", "store_request_duration_seconds operation=lookup result=answered 1", "store_errors_total operation=lookup 0")

	inner.say(fmt.Errorf("%w: one node", consent.ErrUnreachable)) // of one of two people
	s.Lookup(ctx, "news", make([]consent.Address, 2))
	m.has(t, "store_up 0", "store_errors_total operation=lookup 1", "store_request_duration_seconds operation=lookup result=answered 1", "store_request_duration_seconds operation=lookup result=failed 1")

	// What fails at once, since nobody was asked, is an error that took no time.
	inner.say(fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrUnasked))
	s.Ping(ctx)
	m.has(t, "store_errors_total operation=ping 1", "store_request_duration_seconds operation=ping result=failed 0")
	inner.say(nil)
	s.Ping(ctx)
	m.has(t, "store_up 1")

	// Who gives up says nothing of the store, and a record that cannot be read neither.
	inner.say(context.Canceled)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	s.Ping(gone)
	inner.say(errors.New("a record cannot be read"))
	s.Lookup(ctx, "news", make([]consent.Address, 1))
	m.has(t, "store_up 1", "store_errors_total operation=ping 1", "store_errors_total operation=lookup 1")

	inner.say(consent.ErrConflict)
	s.Apply(ctx, []consent.Change{
		{Mail: consent.Unsubscribed, Source: consent.FromPage}, // refused
		{Mail: consent.Unsubscribed, Source: consent.FromOneClick},
		{Open: consent.Granted, Click: consent.Denied, Source: consent.FromAPI},
	})
	m.has(t, "consent_changes_total purpose=mail source=one-click state=unsubscribed 1", "consent_changes_total purpose=open source=api state=granted 1", "consent_changes_total purpose=click source=api state=denied 1", "store_up 1")
	m.has(t, "consent_changes_total purpose=mail source=page state=unsubscribed 0") // it was not made

	// A store that a newer program has begun anew gives no answers, though it can be reached.
	newer := errors.New(`the consent store has layout "3", this program knows "2"`)
	for name, ask := range map[string]func(){
		"lookup": func() { s.Lookup(ctx, "news", make([]consent.Address, 1)) },
		"apply":  func() { s.Apply(ctx, make([]consent.Change, 1)) },
		"ping":   func() { s.Ping(ctx) },
	} {
		inner.ofAll = nil
		inner.say(nil)
		s.Ping(ctx)
		m.has(t, "store_up 1")
		inner.ofAll = newer
		if name == "ping" {
			inner.say(newer)
		}
		if ask(); !t.Run(name, func(t *testing.T) { m.has(t, "store_up 0") }) {
			break
		}
	}
}

// The table in METRICS.md is that of the program. go test ./relay/metrics -update writes it.
func TestPage(t *testing.T) {
	const file, begin, end = "METRICS.md", "<!-- metrics:start -->\n", "<!-- metrics:end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| `consentgate_…` | labels | what it is, and what to do |\n|---|---|---|\n")
	for _, d := range everything().Describe() {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", strings.TrimPrefix(d.Name, prefix), strings.Join(d.Labels, ", "), d.Help)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("METRICS.md has no place for the metrics")
	}
	if old == table.String() {
		return
	}
	if !*update {
		t.Fatal("the table in METRICS.md is another one: go test ./relay/metrics -update")
	}
	if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What counting costs for one copy: run with -benchmem.
func BenchmarkCopy(b *testing.B) {
	m := New()
	var found []rewrite.Outcome
	for i := range 40 {
		found = append(found, rewrite.Outcome{Finding: &rewrite.Finding{Kind: rewrite.ClickTracker, Vector: "a href", Rule: fmt.Sprint("rule", i%3), Destination: "https://www.example.org/"}, Action: rewrite.Undone})
	}
	d := consent.Decision{Mail: consent.Send, MailReason: consent.ByDefault, OpenReason: consent.ByScope, ClickReason: consent.ByAnyScope}
	b.Run("message", func(b *testing.B) { // once a message and kind of copy
		for b.Loop() {
			m.Tally(found, false, false, false)
		}
	})
	tally := m.Tally(found, false, false, false)
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			m.Decided(d)
			m.Forwarded(consent.Marketing)
			m.Signature(Signed)
			m.SmarthostTook("127.0.0.1:25", 250, 3*time.Millisecond)
			tally.Count()
			m.Accepted(consent.Marketing)
		}
	})
}

// That a store goes and comes back is logged once each, though nobody sends mail.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New()
		inner := &shaky{}
		var b strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Probe(ctx, m.Store(inner), slog.New(slog.NewTextHandler(&b, nil)))
		}()
		pass := func(d time.Duration) {
			time.Sleep(d) // of the bubble
			synctest.Wait()
		}
		pass(time.Second)
		m.has(t, "store_request_duration_seconds operation=ping result=answered 1", "store_up 1")
		inner.say(fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrLost))
		pass(time.Minute)
		m.has(t, "store_up 0", "store_errors_total operation=ping 6")
		inner.say(nil)
		pass(time.Minute)
		m.has(t, "store_up 1", "store_writable 1")
		fill := func(full bool) {
			inner.mu.Lock()
			inner.full = full
			inner.mu.Unlock()
			pass(time.Minute)
		}
		fill(true)
		m.has(t, "store_up 1", "store_writable 0")
		if err := m.StoreWritable(); !errors.Is(err, consent.ErrUnwritable) {
			t.Error(err)
		}
		fill(false)
		m.has(t, "store_up 1", "store_writable 1")
		if err := m.StoreWritable(); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
		if got := b.String(); strings.Count(got, "is down") != 1 || strings.Count(got, "whoever unsubscribes") != 1 || strings.Count(got, "is up again") != 2 || strings.Count(got, "\n") != 4 {
			t.Errorf("the log:\n%s", got)
		}
	})
}

// What can be foreseen is there from the start, so that a rate sees the first step, and all of it together stays little.
func TestSeriesFromTheStart(t *testing.T) {
	m := everything()
	m.Smarthost("a:25")
	m.Rules([]string{"size"})
	m.has(t, "refused_total command=RCPT reason=recipients 0", "refused_total command=other reason=unknown 0", "refused_total command=DATA reason=store 0",
		"consent_changes_total purpose=click source=import state=unset 0", "trackers_removed_total kind=open vector=img 0", "trackers_observed_total kind=click vector=other 0",
		"rule_hits_total rule=size 0", "smtp_connections_total protocol=lmtp 0", "reports_total about=relayed 0", "guard_hits_total answer=asked 0", "page_requests_total result=bad what=bad_link 0",
		"smarthost_request_duration_seconds result=accepted smarthost=a:25 0", "store_request_duration_seconds operation=apply result=failed 0",
		"forwarded_total class=report 0", "mailto_total result=down 0", "queue_removed_total 0", "config_restart_needed 0")
	for _, name := range []string{"accepted_total", "suppressed_total"} {
		if strings.Contains(m.all(t), "consentgate_"+name+" class=report") {
			t.Errorf("%s has a class that is never sent in", name)
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		for _, s := range f.GetMetric() {
			series++
			if h := s.GetHistogram(); h != nil {
				series += len(h.GetBucket()) + 2 // le="+Inf" and the sum
			}
		}
	}
	if series > 1000 { // beside them there is one for each rule
		t.Errorf("%d series", series)
	}
	t.Log(series)
}
