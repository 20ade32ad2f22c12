package main

import (
	"strings"
	"testing"
	"time"
)

// What must not be is told.
func TestSoakIsBad(t *testing.T) {
	good := func() *soakTally {
		v := soakSample{rss: 60e6, goroutines: 50, files: 30, onDisk: 70e6}
		return &soakTally{redisTally: &redisTally{doubled: 3}, second: v, last: v, idle: v, end: v}
	}
	if all := good(); all.bad() {
		t.Errorf("all is well, and it is bad: %q", all.grown())
	}
	for name, spoil := range map[string]func(*soakTally){
		"lost":               func(t *soakTally) { t.lost = 1 },
		"tracked":            func(t *soakTally) { t.tracked = 1 },
		"mailed":             func(t *soakTally) { t.mailed = 1 },
		"needlessly doubled": func(t *soakTally) { t.needless = 1 },
		"no page":            func(t *soakTally) { t.badViews = 1 },
		"waits for ever":     func(t *soakTally) { t.waiting = "1 message" },
		"memory":             func(t *soakTally) { t.last.rss = 100e6 },
		"goroutines":         func(t *soakTally) { t.end.goroutines = 70 },
		"files":              func(t *soakTally) { t.end.files = 50 },
		"files in a turn":    func(t *soakTally) { t.last.files = 60 },
		"the spool":          func(t *soakTally) { t.end.onDisk = 400e6 },
		"a message is left":  func(t *soakTally) { t.end.messages = 1 },
	} {
		all := good()
		if spoil(all); !all.bad() {
			t.Errorf("%s, and all is well", name)
		}
	}
}

func TestMediansOfATurn(t *testing.T) {
	var all []soakSample
	for i, rss := range []float64{5, 1, 3, 100, 100, 100} {
		all = append(all, soakSample{at: time.Duration(i) * time.Second, rss: rss})
	}
	if got := medians(all, func(v soakSample) bool { return v.at < 3*time.Second }); got.rss != 3 {
		t.Errorf("%v", got.rss)
	}
}

func TestReadMetrics(t *testing.T) {
	m, err := readMetrics(strings.NewReader("# HELP go_goroutines x\n# TYPE go_goroutines gauge\ngo_goroutines 42\nwith{label=\"a\"} 7\nprocess_resident_memory_bytes 6.1e+07\n"))
	if err != nil || len(m) != 2 || m["go_goroutines"] != 42 || m["process_resident_memory_bytes"] != 61e6 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := readMetrics(strings.NewReader("go_goroutines many\n")); err == nil {
		t.Error("that is no number")
	}
}
