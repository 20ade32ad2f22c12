package transfer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newStore(t testing.TB) consent.Store {
	t.Helper()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// importLines imports lines at noon and returns what was counted and reported.
func importLines(t *testing.T, store consent.Store, lines string, more ...func(*ImportOptions)) (Summary, []string) {
	t.Helper()
	r, err := NewReader(strings.NewReader(lines), ReadOptions{Format: NDJSON, Default: Row{Scope: "news"}})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	o := ImportOptions{Origin: "a job", Now: func() time.Time { return noon }, Report: func(n Note) error {
		said = append(said, fmt.Sprint(n.Line, n.Field, n.Kept))
		return nil
	}}
	for _, m := range more {
		m(&o)
	}
	sum, err := Import(t.Context(), store, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return sum, said
}

// recorded is the record of a person in news, shortly.
func recorded(t *testing.T, store consent.Store, address string) string {
	t.Helper()
	who, err := consent.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := store.Lookup(t.Context(), "news", []consent.Address{who})
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs[0].Err)
	}
	var b strings.Builder
	for _, e := range []consent.Entry{rs[0].Scope.Mail, rs[0].Scope.Open, rs[0].Scope.Click} {
		if e.State != "" {
			fmt.Fprintf(&b, "%s %s %s %s; ", e.State, e.Time.Format(time.DateOnly), e.Source, e.Notice)
		}
	}
	return strings.TrimSpace(b.String())
}

// The rules of the comment above Import's file, one by one: what was recorded, the line, and what holds
// after it.
func TestAnImportUndoesNothingLater(t *testing.T) {
	const line = `{"address":"a@example.org",%s}`
	for _, c := range []struct {
		name, before, after, want string
		sum                       Summary
	}{
		{"a new person", "", `"open":"granted"`, "granted 2026-03-01 import ;", Summary{Changed: 1}},
		{"a new person, of then", "", `"open":"granted","time":"2025-01-01","notice":"n","source":"page"`, "granted 2025-01-01 page n;", Summary{Changed: 1}},
		{"the same", `"open":"granted","time":"2026-01-01"`, `"open":"granted","time":"2026-01-01"`, "granted 2026-01-01 import ;", Summary{Unchanged: 1}},
		{"the same, later", `"open":"granted","time":"2026-01-01"`, `"open":"granted"`, "granted 2026-01-01 import ;", Summary{Unchanged: 1}},
		{"a new notice, later", `"open":"granted","time":"2026-01-01"`, `"open":"granted","notice":"n","time":"2026-02-01"`, "granted 2026-02-01 import n;", Summary{Changed: 1}},
		{"an old notice", `"open":"granted","time":"2026-01-01"`, `"open":"granted","notice":"n","time":"2025-02-01"`, "granted 2026-01-01 import ;", Summary{Unchanged: 1}},
		{"opt-out without a time", `"mail":"subscribed","time":"2026-01-01"`, `"mail":"unsubscribed"`, "unsubscribed 2026-03-01 import ;", Summary{Changed: 1}},
		{"opt-in without a time", `"mail":"unsubscribed","time":"2026-01-01"`, `"mail":"subscribed"`, "unsubscribed 2026-01-01 import ;", Summary{Kept: 1}},
		{"opt-in before", `"mail":"unsubscribed","time":"2026-01-01"`, `"mail":"subscribed","time":"2025-12-31"`, "unsubscribed 2026-01-01 import ;", Summary{Kept: 1}},
		{"opt-in at the same time", `"mail":"unsubscribed","time":"2026-01-01"`, `"mail":"subscribed","time":"2026-01-01"`, "unsubscribed 2026-01-01 import ;", Summary{Kept: 1}},
		{"opt-in after", `"mail":"unsubscribed","time":"2026-01-01"`, `"mail":"subscribed","time":"2026-01-02"`, "subscribed 2026-01-02 import ;", Summary{Changed: 1}},
		{"opt-out before", `"mail":"subscribed","time":"2026-01-01"`, `"mail":"unsubscribed","time":"2025-12-31"`, "subscribed 2026-01-01 import ;", Summary{Kept: 1}},
		{"opt-out at the same time", `"mail":"subscribed","time":"2026-01-01"`, `"mail":"unsubscribed","time":"2026-01-01"`, "unsubscribed 2026-01-01 import ;", Summary{Changed: 1}},
		{"unset is looser than denied", `"open":"denied","time":"2026-01-01"`, `"open":"unset"`, "denied 2026-01-01 import ;", Summary{Kept: 1}},
		{"unset is tighter than granted", `"open":"granted","time":"2026-01-01"`, `"open":"unset"`, "unset 2026-03-01 import ;", Summary{Changed: 1}},
		{"granted is looser than unset", `"click":"unset","time":"2026-01-01"`, `"click":"granted"`, "unset 2026-01-01 import ;", Summary{Kept: 1}},
		{"one taken, one kept", `"mail":"unsubscribed","time":"2026-01-01"`, `"mail":"subscribed","open":"denied"`, "unsubscribed 2026-01-01 import ; denied 2026-03-01 import ;", Summary{Changed: 1, Kept: 1}},
		{"in the future", "", `"open":"granted","time":"2026-03-03"`, "", Summary{Bad: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newStore(t)
			if c.before != "" {
				importLines(t, store, fmt.Sprintf(line, c.before))
			}
			c.sum.Lines = 1
			before := recorded(t, store, "a@example.org")
			sum, _ := importLines(t, store, fmt.Sprintf(line, c.after), func(o *ImportOptions) { o.DryRun = true })
			if sum != c.sum || recorded(t, store, "a@example.org") != before {
				t.Errorf("dry run: %+v, want %+v, and now %s", sum, c.sum, recorded(t, store, "a@example.org"))
			}
			sum, _ = importLines(t, store, fmt.Sprintf(line, c.after))
			if got := recorded(t, store, "a@example.org"); sum != c.sum || got != c.want {
				t.Errorf("%+v, %q; want %+v, %q", sum, got, c.sum, c.want)
			}
		})
	}
}

func TestImportReports(t *testing.T) {
	store := newStore(t)
	importLines(t, store, `{"address":"b@example.org","mail":"unsubscribed"}`)
	sum, said := importLines(t, store, `{"address":"a@example.org","open":"granted"}
nonsense
{"address":"b@example.org","mail":"subscribed","open":"granted"}
{"address":"a@example.org","open":"denied"}
{"address":"a@example.org","open":"granted"}
{"address":"c@example.org","open":"granted","time":"2027-01-01"}
{"address":"c@example.org","colour":"red"}
`)
	if want := (Summary{Lines: 7, Changed: 3, Kept: 2, Bad: 3}); sum != want {
		t.Errorf("%+v, want %+v", sum, want)
	}
	slices.Sort(said)
	if diff := cmp.Diff([]string{"2[]", "3[mail]", "5[open]", "6time[]", "7colour[]"}, said); diff != "" {
		t.Error(diff)
	}
	// Two lines of one person count one after the other; the last one could not loosen the one before.
	if got := recorded(t, store, "a@example.org"); got != "denied 2026-03-01 import ;" {
		t.Error(got)
	}
	who, _ := consent.ParseAddress("a@example.org")
	for e, err := range store.History(t.Context(), who) {
		if err != nil || e.Origin != "a job" || e.Source != consent.FromImport {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// conflicting changes a record behind the import's back, between its look and its change.
type conflicting struct {
	consent.Store
	times int
}

func (c *conflicting) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	if c.times > 0 {
		c.times--
		state := []consent.State{consent.Granted, consent.Denied}[c.times%2]
		other := consent.Change{Who: changes[0].Who, Scope: changes[0].Scope, Click: state, Source: consent.FromPage, Time: noon}
		if _, err := c.Store.Apply(ctx, []consent.Change{other}); err != nil {
			return nil, err
		}
	}
	return c.Store.Apply(ctx, changes)
}

func TestImportAmongOtherWriters(t *testing.T) {
	const lines = `{"address":"a@example.org","open":"granted"}
{"address":"b@example.org","open":"granted"}`
	store := &conflicting{newStore(t), 3}
	if sum, _ := importLines(t, store, lines); sum != (Summary{Lines: 2, Changed: 2}) {
		t.Errorf("%+v", sum)
	}
	if got := recorded(t, store, "a@example.org"); got != "granted 2026-03-01 import ; granted 2026-03-01 page ;" {
		t.Error(got)
	}
	store = &conflicting{newStore(t), 1000}
	if sum, _ := importLines(t, store, lines); sum != (Summary{Lines: 2, Changed: 1, Bad: 1}) {
		t.Errorf("%+v", sum)
	}
}

// down fails from some Apply on.
type down struct {
	consent.Store
	after int
}

func (d *down) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	if d.after--; d.after < 0 {
		return nil, fmt.Errorf("%w: gone", consent.ErrUnreachable)
	}
	return d.Store.Apply(ctx, changes)
}

func TestImportEndsWithTheStore(t *testing.T) {
	var lines strings.Builder
	for i := range 3 * batch {
		fmt.Fprintf(&lines, "{\"address\":\"p%d@example.org\",\"open\":\"granted\"}\n", i)
	}
	r, _ := NewReader(strings.NewReader(lines.String()), ReadOptions{Format: NDJSON, Default: Row{Scope: "news"}})
	sum, err := Import(t.Context(), &down{newStore(t), 2}, r, ImportOptions{Now: func() time.Time { return noon }, Report: func(Note) error { return nil }})
	if !errors.Is(err, consent.ErrUnreachable) || sum.Changed != 2*batch {
		t.Errorf("%+v, %v", sum, err)
	}
}

// export writes everybody.
func export(t testing.TB, store consent.Store, format Format, addresses bool) string {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, format, addresses, false)
	for p, err := range store.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// entries are all records without their versions, which count changes.
func entries(t *testing.T, store consent.Store, people []string) map[string][]consent.Record {
	t.Helper()
	all := map[string][]consent.Record{}
	for _, address := range people {
		who, err := consent.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		p, err := store.Person(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Records {
			r.Version = 0
			all[address] = append(all[address], r)
		}
	}
	return all
}

func TestExportEraseImport(t *testing.T) {
	people := []string{"anna@example.org", `"odd, one"@example.org`, "ж@example.org", "=cmd@example.org", "dora@example.org"}
	const lines = `{"address":"anna@example.org","mail":"subscribed","open":"granted","click":"granted","time":"2025-01-01T10:00:00Z","notice":"2025-01, \"draft\"","source":"page"}
{"address":"anna@example.org","click":"denied","time":"2025-06-01T10:00:00Z","source":"one-click"}
{"address":"anna@example.org","scope":"*","mail":"unsubscribed","time":"2025-07-01T10:00:00Z","source":"mailto","notice":"x"}
{"address":"\"odd, one\"@example.org","open":"unset","time":"2025-01-01T10:00:00Z"}
{"address":"ж@example.org","scope":"orders","mail":"unsubscribed","time":"2025-01-01T10:00:00Z","source":"cli"}
{"address":"=cmd@example.org","mail":"subscribed","time":"2025-01-01T10:00:00Z"}
{"address":"dora@example.org","mail":"unsubscribed","open":"denied","click":"denied","time":"2025-01-01T10:00:00Z","source":"api"}
`
	for _, format := range []Format{NDJSON, CSV} {
		store := newStore(t)
		importLines(t, store, lines)
		before := entries(t, store, people)
		out := export(t, store, format, true)
		for _, address := range people {
			who, _ := consent.ParseAddress(address)
			if err := store.Erase(t.Context(), who); err != nil {
				t.Fatal(err)
			}
		}
		if cmp.Equal(before, entries(t, store, people)) {
			t.Fatal("nothing was erased")
		}
		r, err := NewReader(strings.NewReader(out), ReadOptions{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		sum, err := Import(t.Context(), store, r, ImportOptions{Now: func() time.Time { return noon }, Report: func(n Note) error {
			return fmt.Errorf("%+v", n)
		}})
		if err != nil {
			t.Fatalf("%+v, %v\n%s", sum, err, out)
		}
		if diff := cmp.Diff(before, entries(t, store, people)); diff != "" {
			t.Errorf("%s: %s\n%s", format, diff, out)
		}
		// The one whose opt-out was all there was: it outlived the erasure, so importing it changed
		// nothing, and whose it is stays unknown.
		sum, said := importLines(t, store, export(t, store, NDJSON, true))
		if sum.Unchanged != sum.Lines-1 || len(said) != 1 || !strings.Contains(said[0], "person") {
			t.Errorf("the same once more: %+v, %q", sum, said)
		}
	}
}

func TestExportWithoutAddresses(t *testing.T) {
	store := newStore(t)
	importLines(t, store, `{"address":"anna@example.org","open":"granted"}`)
	for format, want := range map[Format]string{
		NDJSON: `{"person":"KEY","scope":"news","open":"granted","time":"2026-03-01T12:00:00Z","source":"import"}` + "\n",
		CSV:    "person,scope,mail,open,click,time,source,notice\nKEY,news,,granted,,2026-03-01T12:00:00Z,import,\n",
	} {
		who, _ := consent.ParseAddress("anna@example.org")
		want = strings.Replace(want, "KEY", store.Key(who).String(), 1)
		if got := export(t, store, format, false); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// generated is a file that is made while it is read.
type generated struct {
	lines, at int
	rest      []byte
}

func (g *generated) Read(b []byte) (int, error) {
	for len(g.rest) < len(b) && g.at < g.lines {
		g.rest = fmt.Appendf(g.rest, "{\"address\":\"person.%d@example.org\",\"open\":\"granted\",\"click\":\"denied\",\"time\":\"2026-01-01T00:00:00Z\"}\n", g.at)
		g.at++
	}
	n := copy(b, g.rest)
	if g.rest = append(g.rest[:0], g.rest[n:]...); n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// importMany imports n generated people and returns the most memory that was in use meanwhile.
func importMany(t testing.TB, n int) (most uint64) {
	t.Helper()
	r, err := NewReader(&generated{lines: n}, ReadOptions{Format: NDJSON, Default: Row{Scope: "news"}})
	if err != nil {
		t.Fatal(err)
	}
	store := &measuring{Store: newStore(t), most: &most}
	sum, err := Import(t.Context(), store, r, ImportOptions{Now: func() time.Time { return noon }, Report: func(Note) error { return nil }})
	if err != nil || sum.Changed != n {
		t.Fatalf("%+v, %v", sum, err)
	}
	return most
}

// measuring looks at the memory in use before each step.
type measuring struct {
	consent.Store
	most *uint64
}

func (m *measuring) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	runtime.GC()
	runtime.GC() // what is in a sync.Pool outlives the first
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	*m.most = max(*m.most, now.HeapAlloc)
	return m.Store.Apply(ctx, changes)
}

// The memory of an import does not grow with the file.
func TestImportInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("60,000 lines take a while")
	}
	small := importMany(t, 10_000)
	large := importMany(t, 60_000)
	t.Logf("10,000 lines: %d KiB in use, 60,000: %d KiB", small>>10, large>>10)
	if large > small+8<<20 { // bbolt's list of free pages grows a little
		t.Errorf("10,000 lines took %d bytes, 60,000 lines %d", small, large)
	}
}

var benchLines = flag.Int("lines", 100_000, "how many lines BenchmarkImport imports")

// BenchmarkImport with -benchtime 1x -lines 10000000 is ten million people into one file.
func BenchmarkImport(b *testing.B) {
	n, most := 0, uint64(0)
	for b.Loop() {
		most = max(most, importMany(b, *benchLines))
		n += *benchLines
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(most)/(1<<20), "MiB")
}

func BenchmarkReader(b *testing.B) {
	for b.Loop() {
		r, _ := NewReader(&generated{lines: 10_000}, ReadOptions{Format: NDJSON, Default: Row{Scope: "news"}})
		for {
			if _, _, err := r.Next(); err != nil {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "lines/s")
}
