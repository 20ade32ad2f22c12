package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// What is left is estimated from the last seconds: a slow beginning, or a pass that begins anew, does not count for ever.
func TestProgressEstimate(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := newProgress(&out, func() time.Time { return now }, 10_000, 0)
	last := func(done int64) string {
		now = now.Add(10 * time.Second)
		p.at(done, int(done))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return lines[len(lines)-1]
	}
	for done := range int64(30) {
		last(done + 1)
	}
	last(2000)
	if got := last(4000); !strings.HasSuffix(got, ", 30s left") {
		t.Error(got)
	}
	last(10)
	if got := last(5010); !strings.HasSuffix(got, ", 10s left") {
		t.Error(got)
	}
}
