package smarthost

import (
	"context"
	"time"
)

const (
	watchEvery = 30 * time.Second // how often a next hop that failed is tried
	idleTry    = 5 * time.Minute  // how often one is that worked and has nothing to do
)

// Watch tries those next hops that no mail does, until ctx is done: at once, every 30 s where one failed, and else every 5
// minutes, by a connection up to where MAIL may follow. So State says how they do though nobody sends, and one that is
// well again is used again. changed is called with its address, and nil or what went wrong, when a try finds it otherwise
// than it was.
func (c *Client) Watch(ctx context.Context, changed func(hop string, err error)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		for _, h := range c.hops {
			c.try(ctx, h, changed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Client) try(ctx context.Context, h *hop, changed func(string, error)) {
	worked, heard := h.state()
	if worked && c.now().Sub(heard) < idleTry {
		return
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default: // there is mail enough
		return
	}
	trying, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout+watchEvery)
	defer cancel()
	k, err := c.connect(trying, h)
	if ctx.Err() != nil {
		if err == nil {
			k.raw.Close()
		}
		return
	}
	if err == nil {
		h.heard(c.now(), time.Time{})
		c.keep(k)
	} else {
		h.heard(c.now(), c.now().Add(c.limit.penalty))
	}
	if worked != (err == nil) {
		changed(h.addr, err)
	}
}
