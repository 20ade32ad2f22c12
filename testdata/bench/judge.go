package main

import (
	"fmt"
	"slices"
	"time"
)

// judge says whether all that was accepted has arrived, each message for as many recipients as were
// accepted, not less and not more, and nothing else.
func judge(accepted, arrived []event) error {
	open := make(map[int64]int, len(accepted))
	for _, e := range accepted {
		open[e.n] += e.recipients
	}
	for _, e := range arrived {
		if _, ok := open[e.n]; !ok {
			return fmt.Errorf("message %d arrived, which was not accepted", e.n)
		}
		open[e.n] -= e.recipients
	}
	for n, left := range open {
		if left > 0 {
			return fmt.Errorf("message %d was accepted, and did not arrive for %d recipients", n, left)
		}
		if left < 0 {
			return fmt.Errorf("message %d arrived for %d recipients more than it was accepted for", n, -left)
		}
	}
	return nil
}

// backlog is what waited behind the answer to the sender: the most messages at a time that were
// accepted and had not arrived for all their recipients, and the longest that one did so. All
// accepted messages have arrived, see judge.
func backlog(accepted, arrived []event) (depth int, age time.Duration) {
	whole := make(map[int64]time.Time, len(arrived)) // when it was there for all
	for _, e := range arrived {
		if e.at.After(whole[e.n]) {
			whole[e.n] = e.at
		}
	}
	type step struct {
		at time.Time
		by int
	}
	var steps []step
	for _, e := range accepted {
		if end := whole[e.n]; end.After(e.at) {
			steps = append(steps, step{e.at, 1}, step{end, -1})
			age = max(age, end.Sub(e.at))
		}
	}
	slices.SortFunc(steps, func(a, b step) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.by - b.by // who goes makes room first
	})
	now := 0
	for _, s := range steps {
		now += s.by
		depth = max(depth, now)
	}
	return depth, age
}
