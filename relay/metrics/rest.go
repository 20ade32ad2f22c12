package metrics

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SmarthostTook takes down one copy that was offered to a next hop, which answered with that code, 0 = not at all.
func (m *Metrics) SmarthostTook(hop string, code int, took time.Duration) {
	of, ok := m.smarthosts.Load(hop)
	if !ok {
		var by [4]prometheus.Observer
		for i, result := range []string{"failed", "accepted", "deferred", "refused"} {
			by[i] = m.smarthostTry.WithLabelValues(hop, result)
		}
		of, _ = m.smarthosts.LoadOrStore(hop, &by)
	}
	at := 0
	switch code / 100 {
	case 2:
		at = 1
	case 4:
		at = 2
	case 5:
		at = 3
	}
	of.(*[4]prometheus.Observer)[at].Observe(took.Seconds())
}

// Page counts a request to the unsubscribe address.
func (m *Metrics) Page(what, result string) { m.page.WithLabelValues(what, result).Inc() }

// Guard counts a hit on a guarded pixel or link.
func (m *Metrics) Guard(answer string) { m.guard.WithLabelValues(answer).Inc() }

// Called counts n calls, to "webhook" or "list".
func (m *Metrics) Called(to, result string, n int) {
	m.calls.WithLabelValues(to, result).Add(float64(n))
}

// Logged counts a line of the log.
func (m *Metrics) Logged(level slog.Level) {
	switch {
	case level >= slog.LevelError:
		m.logged[1].Inc()
	case level >= slog.LevelWarn:
		m.logged[0].Inc()
	}
}

// Reloaded says whether the configuration was taken over when it was last read.
func (m *Metrics) Reloaded(ok bool) { m.reloaded.Set(float64(number(ok))) }
