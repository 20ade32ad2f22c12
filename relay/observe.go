package relay

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/consentgate/consentgate/rewrite"
)

// reportEvery is how often the log sums up what would have been done, where it is only observed.
const reportEvery = time.Hour

// observation sums up what would have been done to the copies that left as they came.
type observation struct {
	mu      sync.Mutex
	since   time.Time
	copies  int
	changed int            // copies that would not have left as they came, footer aside
	refused int            // that would not have left at all
	actions map[string]int // "open removed", "click undone", …
	rules   map[string]int // of what would not have stayed, by rule
}

// note counts one copy. The outcomes are those of the copy that did not leave, or err says why there
// would be none.
func (b *observation) note(outcomes []rewrite.Outcome, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.copies == 0 {
		b.since, b.actions, b.rules = now, map[string]int{}, map[string]int{}
	}
	b.copies++
	if err != nil {
		b.refused++
	}
	changed := false
	for _, o := range outcomes {
		if o.Kind == rewrite.Unsubscribe {
			continue
		}
		b.actions[string(o.Kind)+" "+string(o.Action)]++
		if o.Action != rewrite.Kept {
			changed = true
			b.rules[o.Rule]++
		}
	}
	if changed {
		b.changed++
	}
}

// run writes the sums to the log every hour until ctx is done.
func (b *observation) run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.tell(log)
		case <-ctx.Done():
			return
		}
	}
}

// tell writes the sums, if there are any, and begins anew.
func (b *observation) tell(log *slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.copies == 0 {
		return
	}
	group := func(name string, counts map[string]int) slog.Attr {
		var attrs []any
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			attrs = append(attrs, k, counts[k])
		}
		return slog.Group(name, attrs...)
	}
	log.Info("observed: what would have been done", "since", b.since.UTC().Format(time.RFC3339), "copies", b.copies,
		"would_change", b.changed, "would_refuse", b.refused, group("findings", b.actions), group("rules", b.rules))
	b.copies, b.changed, b.refused = 0, 0, 0
}
