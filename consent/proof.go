package consent

import "fmt"

// check reads a history as verify does, and says at its end, by lines of the kind Missing, which
// records are not what it says: who can write into the store but has no key could else leave the chain
// alone and turn a denial into a consent.
func (l *Ledger) check(h *Held) []line {
	lines := l.verify(h.Key, h.Events, h.Fields[HeadField])
	number := uint64(1)
	if n := len(lines); n > 0 {
		number = lines[n-1].Number
	}
	for _, flaw := range unproven(lines, h) {
		lines = append(lines, line{Event: Event{Number: number, Kind: Missing, Broken: flaw}})
	}
	return lines
}

// unproven compares the records with the events. Each entry is what the last event of its purpose
// and scope says. Two things are not so: an opt-out that outlived an erasure or a rename has no event
// and no notice; and among events that came from another address the last is not always the latest, so
// there any of them will do.
func unproven(lines []line, h *Held) (flaws []string) {
	records, err := h.records()
	if err != nil {
		return []string{err.Error()}
	}
	said := map[place][]Entry{}
	var order []place
	renamed := false
	for _, l := range lines {
		renamed = renamed || l.Kind == RenamedFrom
		l.turns(func(at place, is Entry) {
			if said[at] == nil {
				order = append(order, at)
			}
			said[at] = append(said[at], is)
		})
	}
	flaw := func(at place) {
		flaws = append(flaws, fmt.Sprintf("what is recorded in scope %s for %s is not what the history says", at.scope, at.purpose))
	}
	recorded := map[place]bool{}
	for _, r := range records {
		for _, purpose := range [...]Purpose{Mail, Open, Click} {
			entry := *r.entry(purpose)
			if entry.State == "" {
				continue
			}
			at := place{r.Scope, purpose}
			recorded[at] = true
			events := said[at]
			if outlived := entry.State == Unsubscribed && entry.Notice == ""; outlived && (renamed || events == nil) {
				continue
			}
			proven := len(events) > 0 && events[len(events)-1] == entry
			for i := 0; renamed && i < len(events) && !proven; i++ {
				proven = events[i] == entry
			}
			if !proven {
				flaw(at)
			}
		}
	}
	for _, at := range order {
		if !recorded[at] {
			flaw(at)
		}
	}
	return flaws
}
