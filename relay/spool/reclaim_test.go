package spool

import (
	"math/rand/v2"
	"slices"
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

// TestOlderCopy: a segment was cleared out halfway when the process ended, so a message stands in two. Where the
// newer copy goes first, the older one must not bring back recipients who were done before it was made.
func TestOlderCopy(t *testing.T) {
	d := newDisk(t)
	opts := Options{SegmentSize: 4 << 10, ReserveSize: 4 << 10, files: d}
	s := open(t, opts)
	m := model{}
	fill := func(id string, size int) {
		n := newMessage(id, 1, strings.Repeat("x", size))
		must(t, s.Add(n))
		m.add(n)
	}
	fill("waits", 200)
	must(t, s.Add(newMessage("done", 2, "a body")))
	fill("one", 3000) // another segment
	must(t, s.Update("done", []Change{{Index: 0, Done: true}}))
	fill("two", 3000)
	s.mu.Lock()
	e, first, second := s.messages["done"], s.segments[0], s.segments[1]
	s.mu.Unlock()
	again, needed, err := s.again(e, first)
	if !needed || err != nil {
		t.Fatal(needed, err)
	}
	must(t, s.submit(&request{records: []record{again}, done: make(chan error, 1)}))
	fill("three", 3000)
	s.mu.Lock()
	second.damaged = true
	newer := e.at.seg
	s.mu.Unlock()
	for _, id := range []string{"a", "b", "c"} { // a step of clearing out comes with each
		fill(id, 10)
	}
	must(t, s.Update("done", []Change{{Index: 1, Done: true}}))
	s.mu.Lock()
	newer.damaged = true
	s.mu.Unlock()
	for _, id := range []string{"d", "e", "f"} {
		fill(id, 10)
	}
	s.mu.Lock()
	if !slices.Contains(s.segments, first) || slices.Contains(s.segments, second) || slices.Contains(s.segments, newer) {
		t.Errorf("the wrong segments are there: %v", d)
	}
	s.mu.Unlock()
	check(t, s, m)
	d.mu.Lock()
	opts.files = d.copy() // a kill at this moment
	d.mu.Unlock()
	check(t, open(t, opts), m)
}
