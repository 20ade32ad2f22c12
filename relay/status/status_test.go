package status

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/metrics"
)

// house is a page whose clock the test moves.
type house struct {
	*Page
	counted *metrics.Metrics
	log     *slog.Logger
	now     time.Time
}

func newHouse() *house {
	h := &house{counted: metrics.New(), now: time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)}
	book := logbook.New(slog.NewTextHandler(io.Discard, nil), logbook.Options{Count: h.counted.Logged})
	h.log = slog.New(book)
	h.counted.Ask(metrics.Sources{Now: func() time.Time { return h.now }, Spool: func() metrics.SpoolState {
		return metrics.SpoolState{Messages: 3, Oldest: h.now.Add(-time.Minute), Writable: true}
	}})
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
	if !strings.Contains(page, "No mail in the last hour.") || !strings.Contains(page, "All is well") {
		t.Error(page)
	}
	h.Sample()
	h.counted.Forwarded(consent.Marketing)
	if _, page = h.get(t, "/"); !strings.Contains(page, `<b>1</b><span>forwarded</span>`) || !strings.Contains(page, "In all: forwarded 1,") {
		t.Error(page)
	}
}

func TestTrouble(t *testing.T) {
	h := newHouse()
	h.Sample()
	h.counted.LookupTook(time.Second, consent.ErrUnreachable)
	h.counted.Reloaded(false)
	h.log.Error("it broke", "id", "01m6", "err", "to <jane@example.org>")
	_, page := h.get(t, "/")
	for _, want := range []string{"2 things to look at", "<title>! Consent store does not answer", "could not be read again", "it broke", "01m6", "j•••@example.org"} {
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
	for v, want := range map[float64]string{math.NaN(): "–", .00012: "0.12 ms", .0042: "4.2 ms", .25: "250 ms", 4.2: "4.2 s", 90: "90 s", 600: "10 min", 7300: "2 h", 864000: "10 days"} {
		if got := duration(v); got != want {
			t.Errorf("duration(%v) is %q", v, got)
		}
	}
	for v, want := range map[float64]float64{0: 1, .7: .8, 1: 1, 7: 8, 11: 15, 99: 100, 1234: 1500} {
		if got := round(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("round(%v) is %v", v, got)
		}
	}
	if all := rows(map[string]float64{"a": 1, "b": 5, "c": 0, "d": 2, "e": 1}, 2); len(all) != 3 || all[0].Name != "b" || all[0].Share != 100 || all[1].Name != "d" || all[2] != (row{"all others", "2", 40}) {
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
