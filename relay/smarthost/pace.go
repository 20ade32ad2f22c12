package smarthost

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pace is a token bucket: it lets so many through a second, and after a pause a tenth of that at
// once. A nil pace has no limit.
type pace struct {
	interval time.Duration // between two
	burst    time.Duration // how far next may lie behind

	mu   sync.Mutex
	next time.Time // when the next one is due
}

func newPace(perSecond int) *pace {
	if perSecond <= 0 {
		return nil
	}
	return &pace{interval: time.Second / time.Duration(perSecond), burst: time.Second / 10}
}

// wait returns when it is the caller's turn. The error says that ctx ends before, and comes at
// once where its deadline tells. Those who wait are let through in the order in which they came.
func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	due, err := p.take(ctx)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		p.next = p.next.Add(-p.interval)
		p.mu.Unlock()
		return ctx.Err()
	}
}

// take reserves the next turn.
func (p *pace) take(ctx context.Context) (due time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return due, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	due = p.next
	if earliest := now.Add(-p.burst); due.Before(earliest) {
		due = earliest
	}
	if deadline, ok := ctx.Deadline(); ok && due.After(deadline) {
		return due, fmt.Errorf("max_per_second: the turn comes in %v: %w", due.Sub(now).Round(time.Millisecond), context.DeadlineExceeded)
	}
	p.next = due.Add(p.interval)
	return due, nil
}
