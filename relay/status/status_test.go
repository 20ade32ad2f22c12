package status

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/rewrite"
)

// house is a page whose clock the test moves.
type house struct {
	*Page
	counted *metrics.Metrics
	log     *slog.Logger
	now     time.Time
	hops    map[string]bool
	full    bool // the spool
}

// gauge and counter say what a metric is, whoever else counts it.
func (h *house) gauge(name string, v float64) {
	h.say(name, dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: &v}})
}

func (h *house) counter(name, result string) {
	label, one := "result", 1.0
	h.say(name, dto.MetricType_COUNTER, &dto.Metric{Label: []*dto.LabelPair{{Name: &label, Value: &result}}, Counter: &dto.Counter{Value: &one}})
}

func (h *house) say(name string, kind dto.MetricType, m *dto.Metric) {
	name = "consentgate_" + name
	others := h.Metrics
	h.Metrics = prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := others.Gather()
		all = slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == name })
		return append(all, &dto.MetricFamily{Name: &name, Type: &kind, Metric: []*dto.Metric{m}}), err
	})
}

func newHouse() *house {
	h := &house{counted: metrics.New(), now: time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC), hops: map[string]bool{"mx:25": true}}
	book := logbook.New(slog.NewTextHandler(io.Discard, nil), logbook.Options{Count: h.counted.Logged})
	h.log = slog.New(book)
	h.counted.Ask(metrics.Sources{Now: func() time.Time { return h.now }, Spool: func() metrics.SpoolState {
		return metrics.SpoolState{Messages: 3, Oldest: h.now.Add(-time.Minute), Writable: !h.full}
	}, Smarthost: func() metrics.SmarthostState { return metrics.SmarthostState{Hops: h.hops} }})
	h.Page = New(Config{Metrics: h.counted.Registry(), Logbook: book, Log: h.log, Now: func() time.Time { return h.now }, Hostname: "<gate>.example.org", Version: "v1", Mode: "spool"})
	return h
}

func (h *house) get(t *testing.T, path string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w, w.Body.String()
}

// minute lets one pass in which so many copies left.
func (h *house) minute(copies int) {
	for range copies {
		h.counted.Forwarded(consent.Marketing)
	}
	h.now = h.now.Add(time.Minute)
	h.Sample()
}

// Nothing but the page's own style is allowed, and that by its hash.
func TestPolicy(t *testing.T) {
	h := newHouse()
	w, page := h.get(t, "/")
	_, rest, _ := strings.Cut(page, "<style>")
	css, _, ok := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(css))
	got := w.Header().Get("Content-Security-Policy")
	if !ok || !strings.HasPrefix(got, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") || !strings.Contains(got, "frame-ancestors 'none'") {
		t.Errorf("%s does not allow the style", got)
	}
	if strings.Contains(page, "style=") || strings.Contains(page, "<script") || strings.Contains(page, "http:") || strings.Contains(page, "https:") {
		t.Error("the page holds what it must not")
	}
	if strings.Contains(page, "<gate>") || !strings.Contains(page, "&lt;gate&gt;") {
		t.Error("the host name is not escaped")
	}
	if w.Header().Get("Refresh") != "" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Error(w.Header())
	}
}

// What is shown is of the last hour, each minute in its place, and the one that is not over too.
func TestHour(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.minute(1000) // will be over an hour ago
	for i := range 58 {
		h.minute(i % 3)
	}
	view := func() (hour float64, steps []float64) {
		v, err := h.history.view(h.Metrics, h.now)
		if err != nil {
			t.Fatal(err)
		}
		return v.hour("consentgate_forwarded_total"), v.steps("consentgate_forwarded_total", "class", "marketing")
	}
	for range 5 {
		h.counted.Forwarded(consent.Marketing)
	}
	hour, steps := view()
	if hour != 1000+57+5 || steps[0] != 1000 || steps[1] != 0 || steps[2] != 1 || steps[59] != 5 {
		t.Errorf("%v: %v", hour, steps)
	}
	h.minute(0)
	if hour, steps = view(); hour != 57+5 || steps[58] != 5 || steps[59] != 0 || len(steps) != minutes {
		t.Errorf("a minute later %v: %v", hour, steps)
	}
	for range 200 {
		h.minute(1)
	}
	if hour, _ = view(); hour != 59 || len(h.history.samples) != minutes {
		t.Errorf("%v in %d samples", hour, len(h.history.samples))
	}
	// Who looks in between takes nothing away.
	for range 3 {
		h.get(t, "/")
	}
	if again, _ := view(); again != hour {
		t.Errorf("%v, then %v", hour, again)
	}
}

func TestYoung(t *testing.T) {
	h := newHouse()
	_, page := h.get(t, "/") // before the first sample
	if !strings.Contains(page, "No mail since the start, 1 s ago.") || !strings.Contains(page, "All is well") || !strings.Contains(page, `class="before" width="600"`) {
		t.Error(page)
	}
	h.Sample()
	h.counted.Forwarded(consent.Marketing)
	h.counted.Forwarded(consent.Marketing)
	h.now = h.now.Add(31 * time.Second)
	_, page = h.get(t, "/")
	for _, want := range []string{`<b>2</b><small>recipients</small><span>forwarded</span>`, "In all: forwarded 2,", "Counted since the start, 31 s ago.", `class="before" width="590"`,
		"<title>10:00 UTC: forwarded 2</title>", "<p class=\"y\"><span>2</span><span>1</span><span>0</span></p>", `<th scope="row">10:00</th><td>2</td>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for range 60 {
		h.minute(0)
	}
	if _, page = h.get(t, "/"); strings.Contains(page, `class="before"`) || !strings.Contains(page, "Counted in the last hour.") {
		t.Error("an hour later the start is still seen")
	}
}

// A burst hides no other minute, and nothing stands over the edge.
func TestBurst(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.minute(1)
	h.counted.Deferred(consent.Marketing, metrics.DeferredByStore)
	h.minute(20000)
	_, page := h.get(t, "/")
	for _, want := range []string{`<path class="c2 fill" d="M571 120h8v-1.5h-8zM581 120h8v-118.5h-8z"/>`, `<path class="c3 fill" d="M581 1.5h8v-1.5h-8z"/>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTrouble(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.counted.LookupTook(time.Second, consent.ErrUnreachable)
	h.counted.Reloaded(false)
	h.log.Error("it broke", "id", "01m6", "err", "to <jane@example.org>")
	_, page := h.get(t, "/")
	for _, want := range []string{"2 things to look at", "<title>! Consent store does not answer", "could not be read again", "it broke", "01m6"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "example.org</td>") || strings.Contains(page, "jane") {
		t.Error("what an error said is on the page")
	}
}

// Each trouble ends "All is well", says in words what it is, and stands in the title.
func TestTroubles(t *testing.T) {
	down := func(wrong error) func(h *house) {
		return func(h *house) {
			h.counted.LookupTook(time.Second, consent.ErrUnreachable)
			h.Ping = func(context.Context) error { return wrong }
		}
	}
	answer := func(code, n int) func(h *house) {
		return func(h *house) {
			for range n {
				h.counted.SmarthostTook("mx:25", code, time.Second)
			}
			for range 5 {
				h.counted.SmarthostTook("mx:25", 250, time.Second)
			}
		}
	}
	for name, c := range map[string]struct {
		happens func(h *house)
		want    string
	}{
		"down":         {down(consent.ErrUnreachable), "Consent store does not answer"},
		"lost":         {down(fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrLost)), "Consent store has lost its records, or may drop them"},
		"foreign":      {down(consent.ErrForeign), "Consent store belongs to another key file"},
		"moved":        {down(fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrMoved)), "Consent store was moved to another"},
		"filling":      {down(fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrFilling)), "Consent store is being filled by consent migrate"},
		"layout":       {down(errors.New("the consent store has layout 3")), "Consent store cannot be used"},
		"too slow":     {down(context.DeadlineExceeded), "Consent store does not answer"},
		"back":         {down(nil), ""},
		"not writable": {func(h *house) { h.gauge("store_writable", 0) }, "Consent store takes no changes"},
		"writable":     {func(h *house) { h.gauge("store_writable", 1) }, ""},
		"opt-out":      {func(h *house) { h.counted.Page("one_click", "down") }, "Unsubscribing failed once"},
		"opt-outs": {func(h *house) {
			h.counted.Page("one_click", "ok")
			h.counted.Page("choice", "down")
			h.counter("mailto_total", "down")
		}, "Unsubscribing failed 2 times"},
		"mailto":       {func(h *house) { h.counter("mailto_total", "down") }, "Unsubscribing failed once"},
		"unsubscribed": {func(h *house) { h.counted.Page("one_click", "ok") }, ""},
		"restart":      {func(h *house) { h.gauge("config_restart_needed", 1) }, "Configuration waits for a restart"},
		"no restart":   {func(h *house) { h.gauge("config_restart_needed", 0) }, ""},
		"reload":       {func(h *house) { h.counted.Reloaded(false) }, "Configuration could not be read again"},
		"spool":        {func(h *house) { h.full = true }, "Spool takes no mail"},
		"hop down":     {func(h *house) { h.hops["mx:25"] = false }, "Smarthost mx:25 failed when last tried"},
		"all put off":  {answer(451, 50), "Smarthost mx:25 put off 50 of 55 copies"},
		"all refused":  {answer(550, 6), "Smarthost mx:25 refused 6 of 11 copies"},
		"some put off": {answer(451, 4), ""},
		"hours ago": {func(h *house) {
			answer(451, 50)(h)
			for range 16 {
				h.minute(0)
			}
		}, ""},
		"nothing happens": {func(*house) {}, ""},
	} {
		h := newHouse()
		h.Sample()
		h.now = h.now.Add(time.Minute)
		h.Sample()
		c.happens(h)
		_, page := h.get(t, "/")
		if well := strings.Contains(page, "All is well"); well != (c.want == "") || !well && (!strings.Contains(page, "1 thing to look at") || !strings.Contains(page, "<title>! "+c.want+" –") || !strings.Contains(page, "<b>"+c.want+"</b>")) {
			t.Errorf("%s: the page lacks %q", name, c.want)
		}
	}
}

// A smarthost that no mail was sent to does not work yet.
func TestUntried(t *testing.T) {
	h := newHouse()
	tried := h.hops
	h.hops = nil
	h.Sample()
	if _, page := h.get(t, "/"); !strings.Contains(page, "Smarthost <b>not tried yet</b>") {
		t.Error(page)
	}
	h.hops = tried
	h.Sample()
	if _, page := h.get(t, "/"); !strings.Contains(page, "Smarthost mx:25 <b>can be reached</b>") {
		t.Error(page)
	}
	h.counted.SmarthostTook("mx:25", 250, time.Second)
	for range 70 {
		h.minute(0)
	}
	if _, page := h.get(t, "/"); !strings.Contains(page, "Smarthost mx:25 <b>works</b>") || !strings.Contains(page, "not asked in the last hour") {
		t.Error(page)
	}
}

// The gateway's own reports are not among the mail that was accepted and forwarded, and a lookup that failed not among those
// that say how fast the store is.
func TestOwn(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.counted.Accepted(consent.Marketing)
	h.counted.Forwarded(consent.Marketing)
	h.counted.Forwarded(metrics.Report)
	h.counted.LookupTook(2*time.Second, consent.ErrUnreachable)
	h.counted.LookupTook(2*time.Millisecond, nil)
	h.now = h.now.Add(time.Second)
	_, page := h.get(t, "/")
	for _, want := range []string{`<b>1</b><small>recipients</small><span>accepted`, `<b>1</b><small>recipients</small><span>forwarded`, "In all: forwarded 1,", "half of its lookups within 1.8 ms"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// Why mail did not leave is said by reason, and what was kept for those who agreed.
func TestReasons(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.counted.Deferred(consent.Marketing, metrics.DeferredByStore)
	h.counted.Bounced(consent.Transactional, metrics.BouncedExpired)
	h.counted.Refused("DATA", metrics.RefusedContent)
	h.counted.Refused("DATA", metrics.RefusedSequence)
	kept := rewrite.Outcome{Finding: &rewrite.Finding{Kind: rewrite.OpenTracker, Vector: "img src", Rule: "r"}, Action: rewrite.Kept}
	h.counted.Tally([]rewrite.Outcome{kept, kept}, true, true, false).Count()
	_, page := h.get(t, "/")
	for _, want := range []string{"deferred: the consent store did not answer", "bounced: tried for too long", "message refused: cannot be read safely", "command refused: sequence", "0 links undone; 2 kept for who agreed", "kept for who agreed 2"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	bounds := func() []float64 { return []float64{inf, .1, 1, .01} }
	for _, c := range []struct {
		q          float64
		cumulative map[float64]float64
		want       float64
	}{
		{.5, map[float64]float64{.01: 100, .1: 100, 1: 100, inf: 100}, .005},
		{.5, map[float64]float64{.01: 0, .1: 100, 1: 100, inf: 100}, .055},
		{.99, map[float64]float64{.01: 90, .1: 98, 1: 100, inf: 100}, .55},
		{.99, map[float64]float64{.01: 0, .1: 0, 1: 0, inf: 100}, 1}, // beyond all that is known
	} {
		if got := quantile(c.q, bounds(), c.cumulative); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v of %v is %v, want %v", c.q, c.cumulative, got, c.want)
		}
	}
	if got := quantile(.5, bounds(), map[float64]float64{}); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", 1.5: "1.5"} {
		if got := count(v); got != want {
			t.Errorf("count(%v) is %q", v, got)
		}
	}
	for v, want := range map[float64]string{math.NaN(): "–", .00012: "0.12 ms", .0042: "4.2 ms", .25: "250 ms", 4.2: "4.2 s", 90: "90 s", 150: "2.5 min", 180: "3 min", 600: "10 min", 7300: "2 h", 864000: "10 days"} {
		if got := duration(v); got != want {
			t.Errorf("duration(%v) is %q", v, got)
		}
	}
	for v, want := range map[float64][2]float64{0: {1, 2}, .7: {.8, 2}, 1: {1, 2}, 3: {3, 4}, 5: {5, 6}, 7: {8, 8}, 9: {10, 10}, 11: {15, 20}, 99: {100, 100}, 130: {150, 150}, 1234: {1500, 1500}} {
		for i, whole := range []bool{false, true} {
			if got := round(v, whole); math.Abs(got-want[i]) > 1e-9 {
				t.Errorf("round(%v, %v) is %v", v, whole, got)
			}
		}
	}
	if all := rows(map[string]float64{"a": 1, "b": 5, "c": 0, "d": 2, "e": 1}, 2); len(all) != 3 || all[0].Name != "b" || all[0].Share != 100 || all[1].Name != "d" || all[2] != (row{Name: "all others", Value: "2", Share: 40}) {
		t.Errorf("%+v", all)
	}
}

// What a page costs: an hour of samples with every series there is.
func BenchmarkPage(b *testing.B) {
	h := newHouse()
	for range 70 {
		h.minute(3)
	}
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
}

func BenchmarkSample(b *testing.B) {
	h := newHouse()
	for b.Loop() {
		h.Sample()
	}
}
