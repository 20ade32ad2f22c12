package smarthost

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// A next hop that nobody sends to is tried all the same: at once, again where that failed, and now and then.
func TestWatch(t *testing.T) {
	f := newFake(t, agreeable)
	addr := f.l.Addr().String()
	gone := newFake(t, agreeable)
	gone.l.Close()
	c := newClient(t, func(cfg *Config) { cfg.MaxConnections = 1 }, f.url("smtp"), gone.url("smtp"))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.now = func() time.Time { return now }
	var told []string
	changed := func(hop string, err error) {
		if err != nil {
			hop += " failed"
		}
		told = append(told, hop)
	}
	round := func() {
		for _, h := range c.hops {
			c.try(t.Context(), h, changed)
		}
	}
	expect := func(step string, conns int, works bool, want ...string) {
		t.Helper()
		n, lines, _ := f.seen()
		_, _, hops := c.State()
		if n != conns || hops[addr] != works || len(told) != len(want) {
			t.Errorf("%s: %d connections, works %v, told %q\n%q", step, n, hops[addr], told, lines)
		}
		for i := range min(len(told), len(want)) {
			if told[i] != want[i] {
				t.Errorf("%s: told %q, want %q", step, told, want)
			}
		}
		told = nil
	}
	dead := gone.l.Addr().String() + " failed"
	round()
	expect("at once", 1, true, dead)
	round()
	expect("it was just asked", 1, true)
	if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
		t.Fatal(r, err)
	}
	expect("mail uses the same connection", 1, true)
	now = now.Add(idleTry)
	f.l.Close()
	round()
	expect("five minutes later it is gone", 1, false, addr+" failed")
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f = serveFake(t, l, agreeable)
	c.slots <- struct{}{}
	round()
	expect("all connections are in use", 0, false)
	<-c.slots
	round()
	expect("it is back", 1, true, addr)

	// The first round begins at once, and all ends with the context.
	ctx, cancel := context.WithCancel(t.Context())
	now = now.Add(idleTry)
	var wg sync.WaitGroup
	wg.Go(func() { c.Watch(ctx, func(string, error) {}) })
	for {
		if n, _, _ := f.seen(); n == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
}
