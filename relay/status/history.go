package status

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// minutes is how far back the page looks.
const minutes = 60

// history keeps what the metrics said at the end of each of the last minutes, in memory: 8 bytes for each series and
// minute.
type history struct {
	mu      sync.Mutex
	series  []series
	at      map[string]int // index in series
	samples []sample       // the oldest first, at most minutes
}

// series is one line of what Prometheus would scrape. A bucket of a histogram has le.
type series struct {
	name   string
	labels map[string]string
	le     float64
}

// sample is the value of each series at a time; series that came later are missing at the end.
type sample struct {
	at     time.Time
	values []float64
}

func (s *sample) value(i int) float64 {
	if i < len(s.values) {
		return s.values[i]
	}
	return 0
}

// read takes down what the metrics say now; h.mu is held.
func (h *history) read(g prometheus.Gatherer, now time.Time) (sample, error) {
	families, err := g.Gather()
	if err != nil {
		return sample{}, err
	}
	s := sample{at: now, values: make([]float64, len(h.series))}
	put := func(name string, m *dto.Metric, le, v float64) {
		key := name
		for _, l := range m.GetLabel() {
			key += "\x00" + l.GetName() + "\x00" + l.GetValue()
		}
		if !math.IsNaN(le) {
			key += "\x00" + string(binaryFloat(le))
		}
		i, ok := h.at[key]
		if !ok {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			i = len(h.series)
			h.series = append(h.series, series{name, labels, le})
			h.at[key] = i
			s.values = append(s.values, 0)
		}
		s.values[i] = v
	}
	none := math.NaN()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				put(f.GetName(), m, none, m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				put(f.GetName(), m, none, m.GetGauge().GetValue())
			case dto.MetricType_HISTOGRAM:
				put(f.GetName(), m, math.Inf(1), float64(m.GetHistogram().GetSampleCount()))
				for _, b := range m.GetHistogram().GetBucket() {
					put(f.GetName(), m, b.GetUpperBound(), float64(b.GetCumulativeCount()))
				}
			}
		}
	}
	return s, nil
}

func binaryFloat(f float64) []byte {
	b := make([]byte, 8)
	for i, bits := 0, math.Float64bits(f); i < 8; i++ {
		b[i] = byte(bits >> (8 * i))
	}
	return b
}

// keep takes a sample in for good.
func (h *history) keep(s sample) {
	if len(h.samples) == minutes {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// view is the history up to a moment: the minutes that are over, and the one that is not.
type view struct {
	series  []series
	samples []sample
}

// view reads what the metrics say now, beside what was kept.
func (h *history) view(g prometheus.Gatherer, now time.Time) (*view, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.read(g, now)
	if err != nil {
		return nil, err
	}
	v := &view{series: h.series[:len(h.series):len(h.series)]}
	v.samples = append(append(v.samples, h.samples...), s)
	return v, nil
}

// unknown is how many of the minutes lie before the gateway ran.
func (v *view) unknown() int { return minutes - (len(v.samples) - 1) }

// minute says when one began, in UTC.
func (v *view) minute(i int) string {
	return v.samples[len(v.samples)-1-minutes+i].at.UTC().Format("15:04")
}

// match returns the indexes of the series of that name whose labels are so, "name", "value", … A histogram's are
// those of its count.
func (v *view) match(name string, labels ...string) []int {
	var all []int
	for i := range v.series {
		if s := &v.series[i]; s.name == name && s.has(labels) && (math.IsNaN(s.le) || math.IsInf(s.le, 1)) {
			all = append(all, i)
		}
	}
	return all
}

func (s *series) has(labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if s.labels[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

// now is the sum of gauges.
func (v *view) now(name string, labels ...string) float64 {
	return v.sum(v.match(name, labels...), &v.samples[len(v.samples)-1])
}

// known reports whether there is such a series.
func (v *view) known(name string, labels ...string) bool { return len(v.match(name, labels...)) > 0 }

func (v *view) sum(of []int, s *sample) float64 {
	sum := 0.0
	for _, i := range of {
		sum += s.value(i)
	}
	return sum
}

// hour is by how much counters grew in the time that the view covers.
func (v *view) hour(name string, labels ...string) float64 { return v.since(minutes, name, labels...) }

// since is by how much they grew in the last n minutes.
func (v *view) since(n int, name string, labels ...string) float64 {
	of := v.match(name, labels...)
	return v.sum(of, &v.samples[len(v.samples)-1]) - v.sum(of, &v.samples[max(0, len(v.samples)-1-n)])
}

// by is hour for each value of a label.
func (v *view) by(label, name string, labels ...string) map[string]float64 {
	all := map[string]float64{}
	for _, i := range v.match(name, labels...) {
		all[v.series[i].labels[label]] += v.samples[len(v.samples)-1].value(i) - v.samples[0].value(i)
	}
	return all
}

// steps is by how much counters grew in each minute, the last one being now; NaN before the gateway ran.
func (v *view) steps(name string, labels ...string) []float64 {
	of := v.match(name, labels...)
	return v.each(func(before, s *sample) float64 { return v.sum(of, s) - v.sum(of, before) })
}

// levels is what gauges were at the end of each minute.
func (v *view) levels(name string, labels ...string) []float64 {
	of := v.match(name, labels...)
	return v.each(func(_, s *sample) float64 { return v.sum(of, s) })
}

func (v *view) each(f func(before, s *sample) float64) []float64 {
	all := make([]float64, minutes)
	for i := range all {
		all[i] = math.NaN()
		if at := len(v.samples) - minutes + i; at > 0 {
			all[i] = f(&v.samples[at-1], &v.samples[at])
		}
	}
	return all
}

// quantiles are those of a histogram in each minute, in seconds; NaN where nothing was observed.
func (v *view) quantiles(q float64, name string, labels ...string) []float64 {
	return v.each(func(before, s *sample) float64 { return v.quantile(q, before, s, name, labels) })
}

// hourQuantile is that of the whole time.
func (v *view) hourQuantile(q float64, name string, labels ...string) float64 {
	return v.quantile(q, &v.samples[0], &v.samples[len(v.samples)-1], name, labels)
}

// quantile reads a histogram as Prometheus' histogram_quantile does: evenly within a bucket.
func (v *view) quantile(q float64, before, s *sample, name string, labels []string) float64 {
	cumulative := map[float64]float64{}
	var bounds []float64
	for i := range v.series {
		of := &v.series[i]
		if of.name != name || !of.has(labels) {
			continue
		}
		if _, ok := cumulative[of.le]; !ok {
			bounds = append(bounds, of.le)
		}
		cumulative[of.le] += s.value(i) - before.value(i)
	}
	return quantile(q, bounds, cumulative)
}
