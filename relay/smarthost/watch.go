package smarthost

import (
	"context"
	"errors"
	"time"
)

const (
	idleTry  = 5 * time.Minute  // how often a next hop that worked and has nothing to do is tried
	firstTry = 30 * time.Second // how soon one that failed is; each time in vain doubles it,
	lastTry  = 15 * time.Minute // up to this, which comes at once where it refused us for good
)

// Watch tries those next hops that no mail does, until ctx is done, by a connection up to where MAIL may follow: at once, then each
// five minutes while it works, and sooner where it failed, 30 s later at first. So State says how they do though nobody
// sends, and one that is well again is used again. Mail does not wait for that. changed is called with its address, and
// nil or what went wrong, when a try finds it otherwise than it was.
func (c *Client) Watch(ctx context.Context, changed func(hop string, err error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		for _, h := range c.hops {
			c.try(ctx, h, changed)
		}
		timer.Reset(firstTry)
	}
}

func (c *Client) try(ctx context.Context, h *hop, changed func(string, error)) {
	worked, heard, vain := h.state()
	wait := idleTry
	if !worked {
		wait = min(firstTry<<max(min(vain, 10)-1, 0), lastTry)
	}
	if c.now().Sub(heard) < wait {
		return
	}
	trying, stop := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer stop()
	c.trying.Store(&stop)
	defer c.trying.Store(nil)
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default: // there is mail enough
		return
	}
	k, err := c.connect(trying, h)
	if errors.Is(trying.Err(), context.Canceled) { // mail needs the connection, or all ends
		if err == nil {
			c.farewell(k)
		}
		return
	}
	if err == nil {
		h.heard(c.now(), time.Time{})
		c.keep(k)
	} else {
		h.heard(c.now(), c.now().Add(c.limit.penalty))
		h.inVain(err)
	}
	if worked != (err == nil) {
		changed(h.addr, err)
	}
}

// inVain takes down that a try without mail failed.
func (h *hop) inVain(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vain++
	if said, ok := errors.AsType[answer](err); ok && said.code/100 == 5 {
		h.vain = 10
	}
}
