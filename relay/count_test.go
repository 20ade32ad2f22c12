package relay

import (
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite/trackers"
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

// A rule is counted from when it is loaded, before it finds something.
func TestRulesAreCountedFromTheStart(t *testing.T) {
	b := start(t, nil)
	own, err := trackers.Load([]byte("[[rule]]\nname = \"our-own\"\nprovider = \"Ours\"\nkind = \"click\"\nhosts = [\"click.example.org\"]\nexample = \"https://click.example.org/1\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	set := *b.settings()
	set.Rules = set.Rules.With(own)
	b.counts(t, map[string]float64{"rule_hits_total": 0})
	names := func() string { return strings.Join(b.labels(t, "rule_hits_total", "rule"), " ") }
	if all := names(); strings.Contains(all, "our-own") || !strings.Contains(all, "mailjet-click") || !strings.Contains(all, "tracker_hosts") {
		t.Error(all)
	}
	if err := b.Reload(set); err != nil {
		t.Fatal(err)
	}
	if all := names(); !strings.Contains(all, "our-own") {
		t.Error(all)
	}
}

// labels returns the values of a label of a metric.
func (b *testbed) labels(t *testing.T, name, label string) []string {
	t.Helper()
	families, err := b.cfg.Metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "consentgate_"+name && l.GetName() == label {
					all = append(all, l.GetValue())
				}
			}
		}
	}
	return all
}
