// Package status is the page that an operator looks at: the last hour of a gateway as pictures, what is up and what is
// down, and what the log complained of last.
//
// It is made of the metrics, read once a minute and kept for an hour in memory, so that it never says anything else than
// they do; a store that they call down is asked what is wrong. Nothing on it is about a person. It needs no JavaScript, and asks nobody else for anything.
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
	"errors"
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

	"github.com/consentgate/consentgate/consent"
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

	// Ping asks the consent store what is wrong when it is down; may be nil.
	Ping func(context.Context) error
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
		c := p.content(r.Context(), v)
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
	Since       string // what time the figures are of
	Trouble     []part // empty: all is well
	Parts       []part
	Tiles       []tile
	Balance     string
	Mail        chart
	Removed     chart
	Small       []chart
	SmallClass  string // how wide each of these is
	Rules       []row
	Decisions   []split
	Reasons     []row
	Web         []row
	Lines       []line
	Figures     figures
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

// part is a thing that is up or down, or of which nothing is known yet.
type part struct {
	Name, State, Note string
	Class             string // "", "bad" or "idle"
}

// tile is a figure: how many, of what, and what became of them.
type tile struct{ Value, Name, Unit, Note, Class string }

// row is a number with a bar, Share of 100 long, or a Class for its colour.
type row struct {
	Name, Value string
	Share       float64
	Class       string
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
	When, Level, Text, Kind, ID string
	Count                       int
}

func (p *Page) content(ctx context.Context, v *view) content {
	now := p.Now()
	up := math.Max(math.Round(now.Sub(p.began).Seconds()), 1)
	c := content{Config: p.Config, Now: now.UTC().Format("15:04:05 UTC"), Uptime: duration(up), Since: "in the last hour"}
	if up < 3600 {
		c.Since = "since the start, " + c.Uptime + " ago"
	}
	const m = "consentgate_"
	hour := func(name string, labels ...string) float64 { return v.hour(m+name, labels...) }
	steps := func(name string, labels ...string) []float64 { return v.steps(m+name, labels...) }
	// Reports of the gateway's own were accepted from nobody.
	mail := func(name string) float64 { return hour(name) - hour(name, "class", "report") }
	mailSteps := func(name string) []float64 {
		all := steps(name)
		for i, n := range steps(name, "class", "report") {
			all[i] -= n
		}
		return all
	}

	accepted, forwarded := mail("accepted_total"), mail("forwarded_total")
	deferred, bounced, suppressed := mail("deferred_total"), mail("bounced_total"), mail("suppressed_total")
	agreed := hour("trackers_kept_total", "how", "kept") + hour("trackers_kept_total", "how", "guarded")
	commands, messages := v.by("reason", m+"refused_total"), v.by("reason", m+"refused_total", "command", "DATA")
	delete(messages, "sequence") // of these there was no message
	delete(messages, "syntax")
	refused := 0.0
	for reason, n := range messages {
		refused += n
		commands[reason] -= n
	}
	c.Quiet = accepted+forwarded+deferred+bounced+suppressed+refused == 0
	c.Tiles = []tile{
		{count(accepted), "accepted", "recipients", "answered 250", "c1"},
		{count(forwarded), "forwarded", "recipients", "the smarthost took the copy", "c2"},
		{count(bounced), "bounced", "recipients", "refused for good, or given up", "c4"},
		{count(suppressed), "suppressed", "recipients", "had unsubscribed", "c5"},
		{count(deferred), "deferred", "attempts", "to be made again", "c3"},
		{count(hour("trackers_removed_total")), "removed", "trackers", removedNote(hour("links_undone_total"), hour("links_opaque_total", "action", "kept"), agreed), "c6"},
	}
	spooled := v.known(m + "spool_messages")
	c.Balance = p.balance(spooled, v.now(m+"spool_recipients"), hour("queue_removed_total"))
	c.Mail = v.bars("Copies a minute", "", band{"forwarded", "c2", mailSteps("forwarded_total")}, band{"suppressed", "c5", mailSteps("suppressed_total")},
		band{"bounced", "c4", mailSteps("bounced_total")}, band{"deferred attempts", "c3", mailSteps("deferred_total")})
	if p.Observe {
		c.Removed = v.bars("Trackers found a minute, only observed", "", band{"opens", "c6", steps("trackers_observed_total", "kind", "open")}, band{"clicks", "c1", steps("trackers_observed_total", "kind", "click")})
	} else {
		kept := steps("trackers_kept_total", "how", "kept")
		for i, n := range steps("trackers_kept_total", "how", "guarded") {
			kept[i] += n
		}
		c.Removed = v.bars("Trackers a minute", "", band{"opens removed", "c6", steps("trackers_removed_total", "kind", "open")}, band{"clicks removed", "c1", steps("trackers_removed_total", "kind", "click")},
			band{"kept for who agreed", "c2", kept})
	}
	c.Rules = rows(v.by("rule", m+"rule_hits_total"), 8)

	for _, d := range []struct{ name, purpose string }{{"Opens may be counted", "open"}, {"Clicks may be counted", "click"}} {
		c.Decisions = append(c.Decisions, decisions(d.name, v, m, d.purpose, [][2]string{{"granted", "yes"}, {"denied", "no"}}))
	}
	c.Decisions = append(c.Decisions, decisions("Mail may go", v, m, "mail", [][2]string{{"send", "yes"}, {"suppress", "no"}, {"defer", "later"}}))

	c.Reasons = slices.Concat(
		why("deferred", "c3", v.by("reason", m+"deferred_total")), why("bounced", "c4", v.by("reason", m+"bounced_total")),
		why("message refused", "c5", messages), why("command refused", "c5", commands))

	storeName, smarthostName := m+"store_request_duration_seconds", m+"smarthost_request_duration_seconds"
	if spooled {
		note := "nothing waits"
		if v.now(m+"spool_messages") > 0 {
			note = "the oldest for " + duration(v.now(m+"spool_oldest_age_seconds"))
		}
		c.Small = append(c.Small, v.lines("Messages waiting in the spool", note, count, true, band{"waiting", "c3", v.levels(m + "spool_messages")}))
	}
	c.Small = append(c.Small,
		v.lines("Consent store, a lookup", "", duration, false, band{"99 of 100", "c6", v.quantiles(.99, storeName, lookups...)}, band{"half", "c1", v.quantiles(.5, storeName, lookups...)}),
		v.lines("Smarthost, a copy", "", duration, false, band{"99 of 100", "c6", v.quantiles(.99, smarthostName)}, band{"half", "c1", v.quantiles(.5, smarthostName)}))
	c.SmallClass = "narrow"
	if len(c.Small) == 2 {
		c.SmallClass = "half"
	}
	c.Figures = v.figures(append([]chart{c.Mail, c.Removed}, c.Small...)...)

	c.parts(v, m, storeName, smarthostName, p.store(ctx, v.now(m+"store_up") == 1))
	hits := v.by("result", m+"cache_lookups_total")
	c.Web = nonzero([]row{
		{Name: "Consents answered from memory", Value: percent(hits["hit"], hits["hit"]+hits["miss"])},
		{Name: "Unsubscribe pages shown", Value: count(hour("page_requests_total", "what", "page", "result", "ok"))},
		{Name: "One-click unsubscribes", Value: count(hour("page_requests_total", "what", "one_click", "result", "ok"))},
		{Name: "Unsubscribes by mail", Value: count(hour("mailto_total", "result", "ok"))},
		{Name: "Guarded hits let through", Value: count(hour("guard_hits_total", "answer", "fetched") + hour("guard_hits_total", "answer", "counted"))},
		{Name: "Guarded hits held back", Value: count(hour("guard_hits_total", "answer", "blank") + hour("guard_hits_total", "answer", "direct") + hour("guard_hits_total", "answer", "asked"))},
		{Name: "Calls to webhook and lists", Value: count(hour("calls_total", "result", "done"))},
		{Name: "Calls that failed", Value: count(hour("calls_total", "result", "failed"))},
		{Name: "Calls given up or lost", Value: count(hour("calls_total", "result", "given_up") + hour("calls_total", "result", "lost"))},
		{Name: "Calls waiting", Value: count(v.now(m + "calls_waiting"))},
		{Name: "Logins failed", Value: count(hour("logins_failed_total"))},
		{Name: "Connections turned away", Value: count(hour("smtp_connections_refused_total"))},
		{Name: "Trackers that had to stay, in signed text", Value: count(hour("trackers_kept_total", "how", "without_consent"))},
		{Name: "Copies signed with DKIM", Value: count(hour("signatures_total", "result", "signed"))},
		{Name: "Copies without a key for their domain", Value: count(hour("signatures_total", "result", "no_key"))},
		{Name: "Reports to senders", Value: count(hour("reports_total"))},
	})
	for _, l := range p.Logbook.Last(8) {
		c.Lines = append(c.Lines, line{l.Last.UTC().Format("Jan 2 15:04:05"), strings.ToLower(l.Level.String()), l.Text, l.Kind, l.ID, l.Count})
	}
	return c
}

// lookups are the labels of those that the store answered.
var lookups = []string{"operation", "lookup", "result", "answered"}

// balance says how the tiles go together.
func (p *Page) balance(spooled bool, waiting, removed float64) string {
	if !spooled {
		return "Who was accepted was forwarded, or was suppressed without a word to the sender; of all others the sender was told at once."
	}
	text := "Who was accepted was forwarded, bounced or suppressed, or waits: " + count(waiting) + " now."
	if removed > 0 {
		text += " An operator removed " + count(removed) + "."
	}
	if p.Mode == "cutthrough" {
		text += " Bounced and suppressed are also those of whom the sender was told at once, and who were not accepted."
	}
	return text
}

// storePatience is how long the page waits for a store that is down to say what is wrong.
const storePatience = time.Second

// store is what is wrong with the consent store.
func (p *Page) store(ctx context.Context, up bool) error {
	switch {
	case up:
		return nil
	case p.Ping == nil:
		return consent.ErrUnreachable
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if err := p.Ping(ctx); err != nil {
		return err
	}
	return nil // it came back this moment
}

// A smarthost that says no to at least half of what it got is trouble, where it got enough.
const (
	recent = 15 // minutes
	enough = 5  // copies
)

// parts says what is up and what is down.
func (c *content) parts(v *view, m, store, smarthost string, wrong error) {
	say := func(class, name, state, note string) {
		p := part{name, state, note, class}
		c.Parts = append(c.Parts, p)
		if class == "bad" {
			c.Trouble = append(c.Trouble, p)
		}
	}
	last := &v.samples[len(v.samples)-1]
	switch {
	case errors.Is(wrong, consent.ErrForeign):
		say("bad", "Consent store", "belongs to another key file", "start the gateway with the key_file that it was begun with")
	case errors.Is(wrong, consent.ErrLost):
		say("bad", "Consent store", "has lost its records, or may drop them", "restore them from a backup; where it is as it should be: consentgate consent accept-store. Redis: maxmemory-policy noeviction")
	case errors.Is(wrong, consent.ErrMoved):
		say("bad", "Consent store", "was moved to another", "set consent.store to that one, and start the gateway again")
	case errors.Is(wrong, consent.ErrFilling):
		say("bad", "Consent store", "is being filled by consent migrate", "wait until that says that gateways may use it")
	case wrong != nil && !errors.Is(wrong, consent.ErrUnreachable) && !errors.Is(wrong, context.DeadlineExceeded) && !errors.Is(wrong, context.Canceled):
		say("bad", "Consent store", "cannot be used", "the log says why; where its layout is a newer one, start the program that wrote it")
	case wrong != nil:
		say("bad", "Consent store", "does not answer", "marketing mail gets what consent.when_unreachable says, and opt-outs are answered 503")
	case v.known(m+"store_writable") && v.now(m+"store_writable") == 0:
		say("bad", "Consent store", "takes no changes", "it answers lookups, but opt-outs are answered 503; the log says why")
	default:
		say("", "Consent store", "answers", within("half of its lookups within ", v.hourQuantile(.5, store, lookups...), "no lookup "+c.Since))
	}
	if lost := v.steps(m+"page_requests_total", "result", "down"); true {
		for i, n := range v.steps(m+"mailto_total", "result", "down") {
			lost[i] += n
		}
		sum, minute := 0.0, ""
		for i, n := range lost {
			if n > 0 {
				sum += n
				minute = v.minute(i)
			}
		}
		if asked := v.hour(m+"page_requests_total") + v.hour(m+"mailto_total"); sum > 0 {
			say("bad", "Unsubscribing", "failed "+times(sum), "people were told so, or 451 by mail; last at "+minute+" UTC. See the consent store")
		} else if asked > 0 {
			say("", "Unsubscribing", "works", count(asked)+" requests "+c.Since)
		}
	}
	hops := map[string]bool{}
	for _, i := range v.match(m + "smarthost_up") {
		hops[v.series[i].labels["smarthost"]] = last.value(i) == 1
	}
	if len(hops) == 0 { // in the first moment
		say("idle", "Smarthost", "not tried yet", "")
	}
	for _, hop := range slices.Sorted(maps.Keys(hops)) {
		name := "Smarthost " + hop
		got := func(result string) float64 {
			return v.since(recent, smarthost, "smarthost", hop, "result", result)
		}
		all := v.since(recent, smarthost, "smarthost", hop)
		switch no := fmt.Sprintf(" of %s copies", count(all)); {
		case !hops[hop]:
			say("bad", name, "failed when last tried", "see that it runs and may be reached; mail waits meanwhile")
		case all >= enough && got("deferred")*2 >= all:
			say("bad", name, "put off "+count(got("deferred"))+no, fmt.Sprintf("with 4yz, in the last %d min; the log has its words", recent))
		case all >= enough && got("refused")*2 >= all:
			say("bad", name, "refused "+count(got("refused"))+no, fmt.Sprintf("with 5yz, in the last %d min; the log has its words", recent))
		case v.now(smarthost, "smarthost", hop) == 0:
			say("", name, "can be reached", "no mail since the start")
		default:
			say("", name, "works", within("half of its copies within ", v.hourQuantile(.5, smarthost, "smarthost", hop), "not asked in the last hour"))
		}
	}
	if v.known(m + "spool_writable") {
		if v.now(m+"spool_writable") == 0 {
			say("bad", "Spool", "takes no mail", "senders are told 452; free room on its disk, it goes on by itself")
		} else {
			say("", "Spool", "takes mail", count(v.now(m+"spool_messages"))+" messages waiting, "+size(v.now(m+"spool_bytes"))+" on disk")
		}
	}
	switch open, limit := v.now(m+"smtp_connections"), v.now(m+"smtp_connections_limit"); {
	case limit > 0 && open >= limit:
		say("bad", "Senders", "have taken all "+count(limit)+" connections", "others are told 421; see smtp.max_connections")
	default:
		say("", "Senders", count(open)+" connected", "of "+count(limit))
	}
	if v.now(m+"config_reload_successful") == 0 {
		say("bad", "Configuration", "could not be read again", "what was in force stays; consentgate check-config names the line")
	}
	if v.now(m+"config_restart_needed") == 1 {
		say("bad", "Configuration", "waits for a restart", "it was read again, but the log names keys that only a start puts in force")
	}
	for _, i := range v.match(m + "certificate_expiry_timestamp_seconds") {
		left := last.value(i) - float64(last.at.Unix())
		name, state := "Certificate of "+v.series[i].labels["listener"], "ends in "+duration(math.Max(left, 0))
		if left < 7*86400 {
			say("bad", name, state, "renew it; the file is read again by itself")
		} else {
			say("", name, state, "")
		}
	}
}

func times(n float64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

// within says how long something takes, or else where that is not known.
func within(text string, seconds float64, other string) string {
	if math.IsNaN(seconds) {
		return other
	}
	return text + duration(seconds)
}

func removedNote(undone, opaque, agreed float64) string {
	note := count(undone) + " links undone"
	if opaque > 0 {
		note += ", " + count(opaque) + " cannot be read"
	}
	return note + "; " + count(agreed) + " kept for who agreed"
}

// causes are the reasons of counters in words, where their names do not say it.
var causes = map[string]string{
	"deferred store": "the consent store did not answer", "deferred smarthost": "the smarthost was not reached", "deferred answer": "the smarthost said 4yz", "deferred internal": "a failure here, see the log",
	"bounced answer": "the smarthost said 5yz", "bounced expired": "tried for too long", "bounced content": "may not be sent so",
	"message refused content": "cannot be read safely", "message refused policy": "a sender may not do that", "message refused no_room": "the disk is full",
	"message refused broken": "the connection ended in it", "message refused internal": "a failure here, see the log", "command refused internal": "a failure here, see the log",
}

// why is what was done for which reasons, the most frequent first.
func why(what, class string, of map[string]float64) []row {
	all := rows(of, 5)
	for i, r := range all {
		words, ok := causes[what+" "+r.Name]
		if !ok {
			words = strings.ReplaceAll(r.Name, "_", " ")
		}
		all[i] = row{Name: what + ": " + words, Value: r.Value, Class: class}
	}
	return all
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
			all = append(all, row{Name: name, Value: count(of[name]), Share: of[name] / of[names[0]] * 100})
		default:
			others += of[name]
		}
	}
	if others > 0 {
		all = append(all, row{Name: "all others", Value: count(others), Share: math.Min(others/of[names[0]], 1) * 100})
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
