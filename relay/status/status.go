// Package status is the page that an operator looks at: the last hour of a gateway as pictures, what is up and what is
// down, and what the log complained of last.
//
// It is made of the metrics alone, read once a minute and kept for an hour in memory, so that it never says anything else
// than they do. Nothing on it is about a person. It needs no JavaScript, and asks nobody else for anything.
//
// The package is not for keeping figures longer than an hour, nor for who may look.
package status

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/consentgate/consentgate/relay/logbook"
)

// Config is what New needs.
type Config struct {
	Metrics  prometheus.Gatherer // those of package metrics
	Logbook  *logbook.Logbook
	Log      *slog.Logger
	Now      func() time.Time
	Hostname string
	Version  string
	Mode     string   // delivery.mode
	Observe  bool     // the text of copies is not changed
	Listens  []string // where mail is taken
}

// Page is the handler.
type Page struct {
	Config
	began   time.Time
	history history
}

// New returns a page that knows of no minute yet.
func New(c Config) *Page {
	return &Page{Config: c, began: c.Now(), history: history{at: map[string]int{}}}
}

// Run takes a sample at once and every minute, until ctx is done.
func (p *Page) Run(ctx context.Context) error {
	p.Sample()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.Sample()
		case <-ctx.Done():
			return nil
		}
	}
}

// Sample takes down what the metrics say now, as the end of a minute.
func (p *Page) Sample() {
	p.history.mu.Lock()
	defer p.history.mu.Unlock()
	s, err := p.history.read(p.Metrics, p.Now())
	if err != nil {
		p.Log.Warn("the status page lacks a minute", "err", err)
		return
	}
	p.history.keep(s)
}

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	style string

	page = template.Must(template.New("page").Parse(strings.Replace(pageText, "STYLE", style, 1)))

	policy = func() string {
		sum := sha256.Sum256([]byte(style))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
	v, err := p.history.view(p.Metrics, p.Now())
	var b bytes.Buffer
	if err == nil {
		c := p.content(v)
		if c.Watched = r.URL.Query().Has("watch"); c.Watched {
			h.Set("Refresh", "30")
		}
		err = page.Execute(&b, c)
	}
	if err != nil {
		p.Log.Error("the status page cannot be made", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes())
}

// content is what the page shows.
type content struct {
	Config
	Now, Uptime string
	Trouble     []string // empty: all is well
	Parts       []part
	Tiles       []tile
	Mail        chart
	Removed     chart
	Latency     []chart
	Spool       chart
	Rules       []row
	Decisions   []split
	Web         []row
	Lines       []line
	Quiet       bool // no mail came
	Watched     bool // it is loaded again by itself, as its reader wishes (WCAG 2.2 §2.2.1)
}

// Chart is for the template, which hands one thing on.
func (content) Chart(class string, c chart, nothing string) any {
	return struct {
		Class, Nothing string
		C              chart
	}{class, nothing, c}
}

// part is a thing that is up or down.
type part struct {
	Name, State, Note string
	Bad               bool
}

type tile struct{ Value, Name, Note, Class string }

// row is a number with a bar, Share of 100 long.
type row struct {
	Name, Value string
	Share       float64
}

// split is a bar of several shares.
type split struct {
	Name   string
	Total  string
	Shares []share
}

type share struct {
	Name, Value, Class string
	X, Share           float64
}

// line is a warning or an error.
type line struct {
	When, Level, Text, Cause, ID string
	Count                        int
}

func (p *Page) content(v *view) content {
	now := p.Now()
	c := content{Config: p.Config, Now: now.UTC().Format("15:04:05 UTC"), Uptime: duration(math.Max(now.Sub(p.began).Seconds(), 1))}
	const m = "consentgate_"
	hour := func(name string, labels ...string) float64 { return v.hour(m+name, labels...) }
	steps := func(name string, labels ...string) []float64 { return v.steps(m+name, labels...) }

	accepted, forwarded := hour("accepted_total"), hour("forwarded_total")
	deferred, bounced, suppressed := hour("deferred_total"), hour("bounced_total"), hour("suppressed_total")
	refused := hour("refused_total", "command", "DATA") - hour("refused_total", "command", "DATA", "reason", "sequence") - hour("refused_total", "command", "DATA", "reason", "syntax") // no message
	c.Quiet = accepted+forwarded+deferred+bounced+suppressed+refused == 0
	c.Tiles = []tile{
		{count(accepted), "accepted", "recipients answered 250", "c1"},
		{count(forwarded), "forwarded", "copies the smarthost took", "c2"},
		{count(deferred), "deferred", "attempts to be made again", "c3"},
		{count(bounced), "bounced", "refused for good, or given up", "c4"},
		{count(suppressed), "suppressed", "people who had unsubscribed", "c5"},
		{count(hour("trackers_removed_total")), "trackers removed", removedNote(hour("links_undone_total"), hour("links_opaque_total", "action", "kept")), "c6"},
	}
	c.Mail = bars("Copies a minute", "", band{"forwarded", "c2", steps("forwarded_total")}, band{"suppressed", "c5", steps("suppressed_total")},
		band{"deferred", "c3", steps("deferred_total")}, band{"bounced", "c4", steps("bounced_total")})
	if p.Observe {
		c.Removed = bars("Trackers found a minute, only observed", "", band{"open", "c6", steps("trackers_observed_total", "kind", "open")}, band{"click", "c1", steps("trackers_observed_total", "kind", "click")})
	} else {
		c.Removed = bars("Trackers removed a minute", "", band{"open", "c6", steps("trackers_removed_total", "kind", "open")}, band{"click", "c1", steps("trackers_removed_total", "kind", "click")})
	}
	c.Rules = rows(v.by("rule", m+"rule_hits_total"), 8)

	for _, d := range []struct{ name, purpose string }{{"Opens may be counted", "open"}, {"Clicks may be counted", "click"}} {
		c.Decisions = append(c.Decisions, decisions(d.name, v, m, d.purpose, [][2]string{{"granted", "yes"}, {"denied", "no"}}))
	}
	c.Decisions = append(c.Decisions, decisions("Mail may go", v, m, "mail", [][2]string{{"send", "yes"}, {"suppress", "no"}, {"defer", "later"}}))

	storeName, smarthostName := m+"store_request_duration_seconds", m+"smarthost_request_duration_seconds"
	c.Latency = []chart{
		lines("Consent store, a lookup", "", duration, band{"99 of 100", "c6", v.quantiles(.99, storeName, "operation", "lookup", "result", "answered")}, band{"half", "c1", v.quantiles(.5, storeName, "operation", "lookup", "result", "answered")}),
		lines("Smarthost, a copy", "", duration, band{"99 of 100", "c6", v.quantiles(.99, smarthostName)}, band{"half", "c1", v.quantiles(.5, smarthostName)}),
	}
	waiting := v.now(m + "spool_messages")
	if v.known(m + "spool_messages") {
		note := "nothing waits"
		if waiting > 0 {
			note = "the oldest for " + duration(v.now(m+"spool_oldest_age_seconds"))
		}
		c.Spool = lines("Messages waiting in the spool", note, count, band{"waiting", "c3", v.levels(m + "spool_messages")})
	}

	c.parts(v, m, storeName, smarthostName, waiting)
	hits := v.by("result", m+"cache_lookups_total")
	c.Web = nonzero([]row{
		{Name: "Consents answered from memory", Value: percent(hits["hit"], hits["hit"]+hits["miss"])},
		{Name: "Unsubscribe pages shown", Value: count(hour("page_requests_total", "what", "page", "result", "ok"))},
		{Name: "One-click unsubscribes", Value: count(hour("page_requests_total", "what", "one_click", "result", "ok"))},
		{Name: "Guarded hits let through", Value: count(hour("guard_hits_total", "answer", "fetched") + hour("guard_hits_total", "answer", "counted"))},
		{Name: "Guarded hits held back", Value: count(hour("guard_hits_total", "answer", "blank") + hour("guard_hits_total", "answer", "direct") + hour("guard_hits_total", "answer", "asked"))},
		{Name: "Calls to webhook and lists", Value: count(hour("calls_total", "result", "done"))},
		{Name: "Calls that failed", Value: count(hour("calls_total", "result", "failed"))},
		{Name: "Calls waiting", Value: count(v.now(m + "calls_waiting"))},
		{Name: "Logins failed", Value: count(hour("logins_failed_total"))},
		{Name: "Connections turned away", Value: count(hour("smtp_connections_refused_total"))},
		{Name: "Messages refused at once", Value: count(refused)},
		{Name: "Trackers that had to stay, in signed text", Value: count(hour("trackers_kept_total", "how", "without_consent"))},
		{Name: "Copies signed with DKIM", Value: count(hour("signatures_total", "result", "signed"))},
		{Name: "Copies without a key for their domain", Value: count(hour("signatures_total", "result", "no_key"))},
	})
	for _, l := range p.Logbook.Last(8) {
		c.Lines = append(c.Lines, line{l.Last.UTC().Format("Jan 2 15:04:05"), strings.ToLower(l.Level.String()), l.Text, l.Cause, l.ID, l.Count})
	}
	return c
}

// parts says what is up and what is down.
func (c *content) parts(v *view, m, store, smarthost string, waiting float64) {
	say := func(bad bool, name, good, trouble, note string) {
		p := part{name, good, note, bad}
		if bad {
			p.State = trouble
			c.Trouble = append(c.Trouble, name+" "+trouble)
		}
		c.Parts = append(c.Parts, p)
	}
	say(v.now(m+"store_up") == 0, "Consent store", "answers", "does not answer", within("half of its lookups within ", v.hourQuantile(.5, store, "operation", "lookup", "result", "answered")))
	hops := map[string]bool{}
	for _, i := range v.match(m + "smarthost_up") {
		hops[v.series[i].labels["smarthost"]] = v.samples[len(v.samples)-1].value(i) == 1
	}
	for _, hop := range slices.Sorted(maps.Keys(hops)) {
		say(!hops[hop], "Smarthost "+hop, "works", "failed when last tried", within("half of its copies within ", v.hourQuantile(.5, smarthost, "smarthost", hop)))
	}
	if v.known(m + "spool_writable") {
		say(v.now(m+"spool_writable") == 0, "Spool", "takes mail", "takes no mail", count(waiting)+" waiting, "+size(v.now(m+"spool_bytes"))+" on disk")
	}
	open, limit := v.now(m+"smtp_connections"), v.now(m+"smtp_connections_limit")
	say(limit > 0 && open >= limit, "Senders", count(open)+" connected", "have taken all connections", "of "+count(limit))
	if v.now(m+"config_reload_successful") == 0 {
		say(true, "Configuration", "", "could not be read again", "what was in force stays")
	}
	for _, i := range v.match(m + "certificate_expiry_timestamp_seconds") {
		left := v.samples[len(v.samples)-1].value(i) - float64(v.samples[len(v.samples)-1].at.Unix())
		say(left < 7*86400, "Certificate of "+v.series[i].labels["listener"], "ends in "+duration(math.Max(left, 0)), "ends in "+duration(math.Max(left, 0)), "")
	}
}

// within says how long something takes, where that is known.
func within(text string, seconds float64) string {
	if math.IsNaN(seconds) {
		return "not asked in the last hour"
	}
	return text + duration(seconds)
}

func removedNote(undone, opaque float64) string {
	note := count(undone) + " links undone"
	if opaque > 0 {
		note += ", " + count(opaque) + " cannot be read"
	}
	return note
}

func decisions(name string, v *view, m, purpose string, order [][2]string) split {
	s := split{Name: name}
	total := v.hour(m+"decisions_total", "purpose", purpose)
	s.Total = count(total)
	x := 0.0
	for n, o := range order {
		by := v.by("reason", m+"decisions_total", "purpose", purpose, "decision", o[0])
		for shade, reason := range []string{"scope", "any_scope", "default", "transactional", "unreachable"} {
			if by[reason] == 0 {
				continue
			}
			part := by[reason] / total * 100
			s.Shares = append(s.Shares, share{o[1] + ", " + reasons[reason], count(by[reason]), fmt.Sprintf("d%d%d", n, shade), x, part})
			x += part
		}
	}
	return s
}

// reasons in words.
var reasons = map[string]string{
	"scope": "by this list's record", "any_scope": "by the record for all lists", "default": "nothing recorded",
	"transactional": "transactional", "unreachable": "the store did not answer",
}

// rows are the n largest, and the others together.
func rows(of map[string]float64, n int) []row {
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
	var all []row
	others := 0.0
	for i, name := range names {
		switch {
		case of[name] == 0:
		case i < n:
			all = append(all, row{name, count(of[name]), of[name] / of[names[0]] * 100})
		default:
			others += of[name]
		}
	}
	if others > 0 {
		all = append(all, row{"all others", count(others), math.Min(others/of[names[0]], 1) * 100})
	}
	return all
}

// nonzero leaves out what did not happen.
func nonzero(all []row) []row {
	return slices.DeleteFunc(all, func(r row) bool { return r.Value == "0" || r.Value == "" })
}

func percent(part, of float64) string {
	if of == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", part/of*100)
}

func size(bytes float64) string {
	switch {
	case bytes < 1<<20:
		return fmt.Sprintf("%.0f KB", bytes/1024)
	case bytes < 1<<30:
		return fmt.Sprintf("%.0f MB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", bytes/(1<<30))
}
