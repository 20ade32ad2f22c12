package smarthost

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 50
		p := newPace(perSecond)
		time.Sleep(time.Hour) // of the test's own clock: a long pause saves up no more than the burst
		var mu sync.Mutex
		var times []time.Time
		var wg sync.WaitGroup
		for range 4 * perSecond {
			wg.Go(func() {
				if err := p.wait(context.Background()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				times = append(times, time.Now())
				mu.Unlock()
			})
		}
		wg.Wait()
		for i, first := range times {
			n := 0
			for _, at := range times[i:] {
				if at.Sub(first) < time.Second {
					n++
				}
			}
			if most := perSecond + perSecond/10 + 1; n > most {
				t.Fatalf("%d in the second behind number %d, want at most %d", n, i, most)
			}
		}
		if took := times[len(times)-1].Sub(times[0]); took > 4*time.Second {
			t.Errorf("%d took %v", len(times), took)
		}
	})
}

func TestPaceAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1)
		start := time.Now()
		if err := p.wait(context.Background()); err != nil || time.Since(start) != 0 {
			t.Fatalf("the first waited %v, %v", time.Since(start), err)
		}
		soon, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := p.wait(soon); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		// One that gave up took nobody's turn.
		ctx, giveUp := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- p.wait(ctx) }()
		synctest.Wait()
		giveUp()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := p.wait(context.Background()); err != nil || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestMaxPerSecond(t *testing.T) {
	f := newFake(t, agreeable)
	c := newClient(t, func(c *Config) { c.MaxPerSecond = 1 }, f.url("smtp"))
	if r, err := send(t, c, joe, hello); err != nil || !r.Accepted() {
		t.Fatal(r, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.Send(ctx, joe, hello, 32); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, _, messages := f.seen(); len(messages) != 1 {
		t.Errorf("%d messages", len(messages))
	}
}
