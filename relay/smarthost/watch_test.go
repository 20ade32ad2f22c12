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
	round()
	expect("it is too soon", 0, false)
	now = now.Add(firstTry)
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
	seen(f, 2)
	cancel()
	wg.Wait()
}

// seen waits until somebody has connected that often.
func seen(f *fake, conns int) {
	for {
		if n, _, _ := f.seen(); n >= conns {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Where a next hop says nothing, mail to another one does not wait for what is found out about it.
func TestWatchYields(t *testing.T) {
	good := newFake(t, agreeable)
	mute := newFake(t, func(int, string) string { return silence })
	c := newClient(t, func(cfg *Config) { cfg.MaxConnections = 1; cfg.ConnectTimeout = time.Hour }, good.url("smtp"), mute.url("smtp"))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Watch(ctx, func(hop string, err error) { t.Errorf("%s: %v", hop, err) }) })
	seen(mute, 1)
	if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
		t.Errorf("%+v, %v", r, err)
	}
	if _, _, hops := c.State(); len(hops) != 1 {
		t.Errorf("what was broken off says nothing of the next hop: %v", hops)
	}
	cancel()
	wg.Wait()
}

// A next hop is asked less and less often while it fails, and seldom where it refuses us for good: a login that is wrong would
// be locked.
func TestWatchBacksOff(t *testing.T) {
	for name, c := range map[string]struct {
		say  string
		want int
	}{"for now": {"421 4.3.2 later", 8}, "for good": {"554 5.7.1 not you", 4}} { // after 0, 30 s, 1:30, 3:30, 7:30, 15:30, 30:30, 45:30; every quarter
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(_ int, line string) string { return c.say })
			client := newClient(t, nil, f.url("smtp"))
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			client.now = func() time.Time { return now }
			for range 120 {
				client.try(t.Context(), client.hops[0], func(string, error) {})
				now = now.Add(30 * time.Second)
			}
			if n, _, _ := f.seen(); n != c.want {
				t.Errorf("tried %d times in an hour, want %d", n, c.want)
			}
		})
	}
}
