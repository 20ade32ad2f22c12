package main

import (
	"fmt"
	"strings"
	"time"
)

func (v soakSample) String() string {
	return fmt.Sprintf("%v: %.0f MB, heap due %.0f MB, %.0f goroutines, %.0f files; spool %.0f messages, oldest %.1f s, %.1f MB; %d accepted, %d delivered, %d reported, %d overdue; %s",
		v.at.Round(time.Second), v.rss/1e6, v.heap/1e6, v.goroutines, v.files, v.messages, v.age, float64(v.onDisk)/1e6, v.accepted, v.delivered, v.reported, v.overdue, strings.Join(v.faults, ", "))
}

// soakReport is the file about the soak.
func soakReport(t *soakTally) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Soak

Written by `+"`make soak`"+` on %s. One gateway (cutthrough with its spool, Redis with an append-only file that is synced at each write) ran for %v at half of what it could in its
first seconds: it was to be sent %.0f of %.0f messages a second, over %d connections, and answered %.0f a second 250. People agreed and took it back meanwhile through the API, the command and by one click, and looked at their page.
Every fault below was made in turn; a row is the end of the time until the next one. The memory is the whole RSS, and the heap is how
large Go lets it become before the next collection, twice what lived at the last; it rises until segments of the spool's log, of 64 MiB each, are cleared out, of which there are four at most, since the spool
remembers of what is done where it stands there. "Overdue" are copies that were accepted over a minute ago, and have
neither arrived nor been reported.

| after | faults since the row above | RSS MB | heap MB | goroutines | open files | spool messages | oldest s | spool MB, as it says | on disk | copies accepted | delivered | reported | overdue |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`, time.Now().UTC().Format("2006-01-02"), (time.Duration(t.seconds) * time.Second).String(), t.pace, t.capacity, soakConnections, float64(t.messages)/float64(max(t.seconds, 1)))
	row := func(what string, v soakSample) {
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.1f | %.0f | %.0f | %.0f | %.1f | %.1f | %.1f | %d | %d | %d | %d |\n", what, strings.Join(v.faults, ", "),
			v.rss/1e6, v.heap/1e6, v.goroutines, v.files, v.messages, v.age, v.bytes/1e6, float64(v.onDisk)/1e6, v.accepted, v.delivered, v.reported, v.overdue)
	}
	row("idle, before", t.idle)
	for _, v := range t.rows {
		row(v.at.Round(time.Second).String(), v)
	}
	fmt.Fprintf(&b, `
The spool was empty %.1f s after the load ended. What may have grown:

| | at the end | at the beginning | allowed |
|---|---|---|---|
`, t.drained.Seconds())
	for _, l := range append(t.turnLimits(), t.idleLimits()...) {
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.0f |\n", l.name, l.now, l.before, l.limit)
	}
	b.WriteString("\n\"A turn\" is the time in which each fault was made once, the last against the second: in the first, memory and the spool's log grow to what they are from then on.\n\n| fault | times |\n|---|---|\n")
	for _, f := range soakFaults {
		fmt.Fprintf(&b, "| %s | %d |\n", f.name, t.struck[f.name])
	}
	fmt.Fprintf(&b, `
| messages answered 250 | 451 | other | copies delivered | reported | lost | doubled | of these, needlessly | tracked without consent | mailed though unsubscribed | untracked though agreed | transactional refused | withdrawn before | changes confirmed | tried again | one clicks | page views | pages that did not come |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| %d | %d | %d | %d | %d | **%d** | %d | **%d** | **%d** | **%d** | **%d** | **%d** | %d | %d | %d | %d | %d | **%d** |

What is doubled, and not needlessly, was at the smarthost when its connection was cut, so that its answer did not arrive; it went again since nobody knew better.
`, t.messages, t.deferred, t.refused+t.unsure, t.delivered, t.reported, t.lost, t.doubled, t.needless, t.tracked, t.mailed, t.missed, t.held, t.tested, t.confirmed, t.unconfirmed, t.clicked, t.views, t.badViews)
	if grown := t.grown(); len(grown) > 0 {
		fmt.Fprintf(&b, "\n**It grew:** %s.\n", strings.Join(grown, "; "))
	}
	return b.String()
}
