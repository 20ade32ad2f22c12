package relay

import (
	"strings"
	"testing"
)

// counted returns the sum of a metric over all series whose labels hold those that are named, "name=value".
func (b *testbed) counted(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := b.cfg.Metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "consentgate_"+name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			has := " "
			for _, l := range m.GetLabel() {
				has += l.GetName() + "=" + l.GetValue() + " "
			}
			for _, l := range labels {
				if !strings.Contains(has, " "+l+" ") {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return sum
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// count checks several metrics, "name label=value …".
func (b *testbed) counts(t *testing.T, want map[string]float64) {
	t.Helper()
	for metric, n := range want {
		words := strings.Fields(metric)
		if got := b.counted(t, words[0], words[1:]...); got != n {
			t.Errorf("%s is %v, want %v", metric, got, n)
		}
	}
}
