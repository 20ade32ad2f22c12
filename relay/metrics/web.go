package metrics

// Page counts a request to the unsubscribe address.
func (m *Metrics) Page(what, result string) { m.page.WithLabelValues(what, result).Inc() }

// Guard counts a hit on a guarded pixel or link.
func (m *Metrics) Guard(answer string) { m.guard.WithLabelValues(answer).Inc() }

// Called counts n calls, to "webhook" or "list".
func (m *Metrics) Called(to, result string, n int) {
	m.calls.WithLabelValues(to, result).Add(float64(n))
}
