package process

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What is started is seen, in memory and CPU time, with its children, and ends with all of its group.
func TestProcess(t *testing.T) {
	log := t.TempDir() + "/log"
	p, err := Start(log, "sh", "-c", "echo up; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 60 & wait")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.Ready(t.Context(), func() error {
		if !strings.Contains(p.Said(), "up") || len(Children(p.PID())) != 1 {
			return fmt.Errorf("it said %q", p.Said())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := CPU([]int{p.PID()}); got < tick || got > time.Minute {
		t.Errorf("CPU %s after 200,000 rounds of a shell's loop", got)
	}
	if rss, peak := Memory(p.PID(), "VmRSS"), Memory(p.PID(), "VmHWM"); rss <= 0 || peak < rss {
		t.Errorf("RSS %f MB, peak %f MB", rss, peak)
	}
	child := Children(p.PID())
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	// sh leaves it behind; whoever inherits it may not have taken note of its end.
	err = Until(t.Context(), 10*time.Second, func() error {
		if f := stat(child[0]); f != nil && f[0] != "Z" {
			return fmt.Errorf("its child is there, in state %s", f[0])
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got := stat(p.PID()); got != nil {
		t.Errorf("still there: %q", got)
	}
}
