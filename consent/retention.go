package consent

import "time"

// Purge works out what is left of a history when the events of before go that prove nothing in
// force: all but the last event, the one that set each purpose of each record to what it is, and those that say
// from where others came along. For each run of them stays a Checkpoint. It returns how many go; with an error that wraps ErrBroken, none does, since
// a new chain would hide what was done to the old.
func (l *Ledger) Purge(h *Held, before time.Time) (Update, int, error) {
	records, err := h.records()
	if err != nil {
		return Update{}, 0, err
	}
	lines := l.check(h)
	if err := broken(lines); err != nil || len(lines) == 0 {
		return Update{}, 0, err
	}
	keep := setters(lines, records)
	keep[len(lines)-1] = true
	for i, l := range lines { // what came along is not in the order of time, which only this says
		keep[i] = keep[i] || l.Kind == RenamedFrom
	}
	var kept []string
	var to link
	deleted := 0
	at := before.UTC().Truncate(time.Second)
	for i := 0; i < len(lines); i++ {
		end, events := i, 0 // of the run that begins here
		for ; end < len(lines) && !keep[end] && (lines[end].Kind == Checkpoint || lines[end].Time.Before(before)); end++ {
			if lines[end].Kind != Checkpoint {
				events++
			}
		}
		if events == 0 { // nothing to delete, or a checkpoint that stands already
			kept = append(kept, h.Events[i])
			to = lines[i].end()
			continue
		}
		last := lines[end-1]
		text, after, _ := l.add(h.Key, to, line{Event: Event{Kind: Checkpoint, Number: last.Number, Time: at}, last: last.end().mac})
		kept = append(kept, text)
		to = after
		deleted += events
		i = end - 1
	}
	if deleted == 0 {
		return Update{}, 0, nil
	}
	return Update{Events: kept, Replace: true}, deleted, nil
}

// end returns what the event behind l is made onto.
func (l line) end() link {
	if l.Kind == Checkpoint {
		return link{l.Number, l.last}
	}
	return link{l.Number, l.mac}
}

// setters says which events set what is in force: of each purpose in each record the latest that
// says just that, or, where none does, the latest that set it at all.
func setters(lines []line, records []Record) map[int]bool {
	keep := map[int]bool{}
	for _, r := range records {
		for _, p := range [...]struct {
			entry Entry
			state func(States) State
		}{
			{r.Mail, func(s States) State { return s.Mail }},
			{r.Open, func(s States) State { return s.Open }},
			{r.Click, func(s States) State { return s.Click }},
		} {
			if p.entry.State == "" {
				continue
			}
			latest, exact := -1, -1
			for i, l := range lines {
				state := p.state(l.New)
				if l.Kind != Changed || l.Scope != r.Scope || state == "" {
					continue
				}
				latest = i
				if (Entry{state, l.Time, l.Source, l.Notice}) == p.entry {
					exact = i
				}
			}
			if exact >= 0 {
				latest = exact
			}
			keep[latest] = true
		}
	}
	return keep
}
