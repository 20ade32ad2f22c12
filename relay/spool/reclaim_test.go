package spool

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestCarry clears out a segment that holds nothing but what became of messages in another one:
// that a message is done, and how often one was tried, must not be forgotten.
func TestCarry(t *testing.T) {
	d := newDisk(t)
	opts := Options{SegmentSize: 4 << 10, ReserveSize: 4 << 10, files: d}
	s := open(t, opts)
	m := model{}
	add := func(id string, size int) {
		n := newMessage(id, 2, text(rand.New(rand.NewPCG(1, 1)), size))
		must(t, s.Add(n))
		m.add(n)
	}
	add("waits", 200)
	add("done", 200)
	add("one", 3000) // does not fit into the first segment
	changes := []Change{{Index: 0, Done: true}, {Index: 1, Attempts: 3, Due: noon, Reply: "451"}}
	must(t, s.Update("waits", changes))
	m.update("waits", changes)
	must(t, s.Remove("done"))
	delete(m, "done")
	add("two", 3000) // a third
	s.mu.Lock()
	second := s.segments[1]
	second.damaged = true // so it is cleared out before all others
	s.mu.Unlock()
	for _, id := range []string{"a", "b", "c", "d"} { // a step of clearing out comes with each
		add(id, 10)
	}
	for _, name := range d.names("/spool") {
		if strings.HasSuffix(second.name, name) {
			t.Fatalf("%s is there still", name)
		}
	}
	s.mu.Lock()
	for id, e := range map[string]*entry{"waits": s.messages["waits"], "done": s.done["done"]} {
		if len(e.states) != 1 || e.states[0].seg == second {
			t.Errorf("%s: what became of it stands in %v", id, e.states)
		}
	}
	s.mu.Unlock()
	check(t, s, m)
	d.mu.Lock()
	opts.files = d.copy() // a kill at this moment
	d.mu.Unlock()
	check(t, open(t, opts), m)
}
