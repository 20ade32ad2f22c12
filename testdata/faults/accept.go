package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// acceptEmptied empties a Redis for good. Until the operator accepts that at one of the gateways no marketing mail may leave
// through any, and then it must through all.
func acceptEmptied(ctx context.Context, d *deployment, all []*station) (string, error) {
	if err := d.servers[0].empty(); err != nil {
		return "", err
	}
	if _, err := d.servers[0].answers(ctx); err != nil {
		return "", err
	}
	for end, n := time.Now().Add(time.Second), 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
		for _, s := range all {
			code, err := s.single(fmt.Sprint("emptied-", n), "emptied@example.com")
			if err != nil {
				return "", err
			}
			if code == 250 && s.mode != "spool" {
				return "", fmt.Errorf("%s: marketing mail is answered 250 though Redis was emptied", s.mode)
			}
		}
		sleep(ctx, 20*time.Millisecond)
	}
	for _, s := range all {
		if s.sink.has("emptied@example.com") {
			return "", fmt.Errorf("%s: marketing mail left though Redis was emptied", s.mode)
		}
	}

	if _, err := all[0].cli(ctx, "consent", "accept-store", "--yes"); err != nil {
		return "", err
	}
	accepted := time.Now()
	for i, s := range all {
		to := fmt.Sprintf("accepted%d@example.com", i)
		n := 0
		if _, err := until(ctx, s.mode+" after accept-store", func(context.Context) error {
			n++
			if code, err := s.single(fmt.Sprint("accepted-", n), to); err != nil || code != 250 {
				return fmt.Errorf("answered %d %v", code, err)
			}
			if !s.sink.has(to) {
				return errors.New("no copy yet")
			}
			return nil
		}); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Emptied for good, nothing but transactional mail left for a second; %.0f ms after `consent accept-store` at one gateway mail left through all three.", ms(time.Since(accepted))), nil
}

// single sends one marketing message to one person on a connection of its own.
func (s *station) single(mark, to string) (code int, err error) {
	c, err := dial(s.smtp, "")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.transaction([]string{to}, message(mark, "", 300))
}

// has reports whether a copy for that recipient arrived.
func (k *sink) has(to string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for of := range k.copies {
		if of.to == to {
			return true
		}
	}
	return false
}
