package spool

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// The writer is asked without a write, and does not answer while the disk hangs.
func TestAlive(t *testing.T) {
	d := newDisk(t)
	hangs, goOn := make(chan struct{}), make(chan struct{})
	s, err := Open("/spool", Options{files: d, SegmentSize: 1 << 20, ReserveSize: 1 << 10})
	must(t, err)
	must(t, s.Alive(t.Context()))
	before := d.syncs
	must(t, s.Alive(t.Context()))
	if d.syncs != before {
		t.Error("it wrote to the disk")
	}

	d.mu.Lock()
	d.badSync = func(int) bool {
		close(hangs)
		<-goOn
		return false
	}
	d.mu.Unlock()
	added := make(chan error)
	go func() {
		added <- s.Add(New{Message{ID: "a", Recipients: []Recipient{{To: "anna@example.net"}}, Size: 1}, strings.NewReader("x")})
	}()
	<-hangs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Alive(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the writer hangs: %v", err)
	}
	d.badSync = nil // the one who hangs holds d.mu
	close(goOn)
	must(t, <-added)
	must(t, s.Alive(t.Context()))
	must(t, s.Close())
	if err := s.Alive(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
