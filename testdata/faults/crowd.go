package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// crowd are the people of the part with Redis: those whose consent stays (both0, never0, gone0 and
// so on, and ordinary ones), and those who change their mind while mail flows.
type crowd struct {
	gateways []*gateway // of one Redis
	http     http.Client

	mu          sync.Mutex
	minds       []*mind
	confirmed   int // changes
	unconfirmed int
}

const (
	denies = "never" // denied opens and clicks
	mover  = "mind"  // granted both, and takes that back, or unsubscribes
	kinds  = 8       // how many of each kind whose consent stays
)

// mind is somebody who agreed, confirmed, and takes it back.
type mind struct {
	address string
	leaves  bool      // unsubscribes; else denies both
	agreed  time.Time //
	taken   time.Time // when taking it back was confirmed; zero = not yet
	by      int       // the gateway that did so
	clicks  bool      // takes it back by one click alone

	pretends bool // that click says that it comes from somewhere else
}

// elsewhere is after what time a change through one gateway holds in all others.
const elsewhere = 100 * time.Millisecond

// holds says whether taking it back must hold for a message that was submitted to that gateway then.
func (m *mind) holds(gateway int, submitted time.Time) bool {
	if m.taken.IsZero() {
		return false
	}
	since := m.taken
	if gateway != m.by {
		since = since.Add(elsewhere)
	}
	return submitted.After(since)
}

// settle records what those agreed to whose consent stays.
func (c *crowd) settle(ctx context.Context) error {
	for i := range kinds {
		for kind, change := range map[string]string{consents: `{"open":"granted","click":"granted"}`, denies: `{"open":"denied","click":"denied"}`, unsubscribed: `{"mail":"unsubscribed"}`} {
			if _, err := until(ctx, "setting a consent", func(ctx context.Context) error {
				return c.put(ctx, 0, fmt.Sprintf("%s%d@example.com", kind, i), change)
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// put makes a change through a gateway's API; an error says that it is not confirmed.
func (c *crowd) put(ctx context.Context, gateway int, address, change string) error {
	r, err := http.NewRequestWithContext(ctx, "PUT", c.gateways[gateway].api+"/v1/consent/default/"+address, strings.NewReader(change))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return err
}

// change lets people agree and take it back until ctx is done: through any of the gateways, most by the API and
// some by the command. Who is told that it did not work tries again, as a person would.
func (c *crowd) change(ctx context.Context, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	for n := 0; ctx.Err() == nil; n++ {
		m := &mind{address: fmt.Sprintf("%s%d@example.com", mover, n), leaves: random.IntN(2) == 0}
		gateway := random.IntN(len(c.gateways))
		if c.note(c.put(ctx, gateway, m.address, `{"open":"granted","click":"granted"}`)) {
			c.mu.Lock()
			m.agreed = time.Now()
			c.minds = append(c.minds, m)
			c.mu.Unlock()
		}
		sleep(ctx, 15*time.Millisecond)
		if m := c.waiting(random); m != nil {
			gateway := random.IntN(len(c.gateways))
			if c.note(c.takeBack(ctx, m, gateway, random.IntN(8) == 0)) {
				c.mu.Lock()
				m.taken, m.by = time.Now(), gateway
				c.mu.Unlock()
			}
		}
		sleep(ctx, 15*time.Millisecond)
	}
}

func (c *crowd) takeBack(ctx context.Context, m *mind, gateway int, command bool) error {
	change, flags := `{"open":"denied","click":"denied"}`, []string{"--open", "denied", "--click", "denied"}
	if m.leaves {
		change, flags = `{"mail":"unsubscribed"}`, []string{"--mail", "unsubscribed"}
	}
	if command {
		_, err := c.gateways[gateway].cli(ctx, append([]string{"consent", "set", m.address}, flags...)...)
		return err
	}
	return c.put(ctx, gateway, m.address, change)
}

func (c *crowd) note(err error) (confirmed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.confirmed++
	} else {
		c.unconfirmed++
	}
	return err == nil
}

// waiting is one of those who agreed a while ago and have not taken it back, or nil.
func (c *crowd) waiting(random *rand.Rand) *mind {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*mind
	for _, m := range c.minds[max(0, len(c.minds)-40):] {
		if m.taken.IsZero() && !m.clicks && time.Since(m.agreed) > 300*time.Millisecond {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[random.IntN(len(all))]
}

// recent is one of the last who agreed, many of whom took it back just now; "" where there is none.
func (c *crowd) recent(random *rand.Rand) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.minds) == 0 {
		return ""
	}
	return c.minds[len(c.minds)-1-random.IntN(min(len(c.minds), 40))].address
}

// write is a letter to up to four of the crowd, or to one alone.
func (c *crowd) write(alone bool) func(mark string, random *rand.Rand) letter {
	return func(mark string, random *rand.Rand) letter {
		var to []string
		for n := 1 + random.IntN(4); n > 0 && !(alone && len(to) > 0); n-- {
			kind := []string{consents, denies, unsubscribed, ordinary, mover, mover}[random.IntN(6)]
			who := fmt.Sprintf("%s%d@example.com", kind, random.IntN(kinds))
			if kind == mover {
				who = c.recent(random)
			}
			if who != "" {
				to = append(to, who)
			}
		}
		if len(to) == 0 {
			to = []string{ordinary + "0@example.com"}
		}
		l := letter{to: unique(to), transactional: random.IntN(6) == 0}
		fields := ""
		if l.transactional {
			fields = "X-Consent-Class: transactional\r\n"
		}
		l.text = message(mark, fields, 1500)
		return l
	}
}
