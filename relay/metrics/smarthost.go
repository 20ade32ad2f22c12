package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SmarthostTook takes down one copy that was offered to a next hop, which answered with that code, 0 = not at all.
func (m *Metrics) SmarthostTook(hop string, code int, took time.Duration) {
	of := m.smarthostTimes(hop)
	at := 0
	switch code / 100 {
	case 2:
		at = 1
	case 4:
		at = 2
	case 5:
		at = 3
	}
	of[at].Observe(took.Seconds())
}

// Smarthost makes the metrics of a next hop, before the first copy is offered to it.
func (m *Metrics) Smarthost(hop string) { m.smarthostTimes(hop) }

func (m *Metrics) smarthostTimes(hop string) *[4]prometheus.Observer {
	of, ok := m.smarthosts.Load(hop)
	if !ok {
		var by [4]prometheus.Observer
		for i, result := range []string{"failed", "accepted", "deferred", "refused"} {
			by[i] = m.smarthostTry.WithLabelValues(hop, result)
		}
		of, _ = m.smarthosts.LoadOrStore(hop, &by)
	}
	return of.(*[4]prometheus.Observer)
}
