package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// All parts that make the report of messages, in miniature and without peers: through a gateway that
// is built here, with a real Redis.
func TestSmall(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed; make need does that on Debian")
	}
	o := options{parts: mailParts, runs: 1, window: 100 * time.Millisecond, scale: scale{conns: []int{2, 3}, many: 12, people: 40,
		attachedSizes: []int{10_000, 100_000}, htmlSizes: []int{10_000, 100_000}, recipientsEach: []int{1, 10}, connectionsAll: []int{1, 4}}}
	b, err := newBench(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := b.mail(t.Context(), o.parts)
	if err != nil {
		t.Error(err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	rest, err := b.mail(late, []string{"text", "growth"})
	if err == nil || !strings.Contains(rest, "**0 of 0 aims are met.** Not met:\n\n- text: the part failed") || !strings.Contains(rest, "growth: the part failed") {
		t.Errorf("with no time left: %v\n%s", err, rest)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"one recipient", "12 recipients", "Mode spool", "Text of 2 KB", "Time added", "Growth", "was left out: it was not wanted",
		"consentgate cutthrough ", "consentgate stateless ", "consentgate spool "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "%!") || !strings.Contains(b.picture, "Connections") {
		t.Errorf("%s\n%s", text, b.picture)
	}
}
