package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent/keyring"
)

// The part with what surrounds a gateway: its disk, its clock, the network on all three sides of it, its process, and
// its smarthost. Two gateways, one in each mode that has a spool, share a Redis; senders, smarthost and Redis stand behind
// proxies.

// machineModes are those of the gateways.
var machineModes = []string{"cutthrough", "spool"}

// machine is all that a fault of this part may strike.
type machine struct {
	*deployment
	stations []*station
	senders  []*proxy // before each gateway
	hops     []*proxy // behind each
	page     *faultPage
}

// machineTally is what came of a fault in one mode.
type machineTally struct {
	*redisTally
	needless  int // of the doubled: the first was answered 250, and the answer was not cut off on its way
	kills     int
	mayRefuse bool
}

func (t *machineTally) bad() bool {
	return t.lost+t.tracked+t.mailed+t.missed > 0 || t.held > 0 && !t.mayRefuse || t.needless > inFlight*t.kills || t.flows < 0 || t.waiting != ""
}

// runMachine makes each fault for its share of the time.
func runMachine(ctx context.Context, dir, binary string, duration time.Duration, only string, seed uint64) (rows []*machineTally, err error) {
	if err := haveRedis(); err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	faults := named(machineFaults, only, func(f machineFault) string { return f.name })
	struck, err := buildStruck(ctx, dir)
	var skip skipped
	if errors.As(err, &skip) {
		fmt.Printf("SKIPPED: clock and slow disk: %v\n", err)
	} else if err != nil {
		return nil, err
	}
	for i, f := range faults {
		share := duration / time.Duration(len(faults))
		use := binary
		if f.ownMachine {
			if use = struck; use == "" {
				continue
			}
		}
		fmt.Printf("%s: %v\n", f.name, share.Round(time.Second))
		ts, err := f.run(ctx, filepath.Join(dir, fmt.Sprint("machine-", i)), use, share, seed+uint64(i))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.name, err)
		}
		rows = append(rows, ts...)
	}
	return rows, nil
}

func (f machineFault) run(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (rows []*machineTally, err error) {
	end := time.Now().Add(duration)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &machine{}
	if m.deployment, err = proxied(ctx, dir); err != nil {
		return nil, err
	}
	defer m.deployment.close()
	if m.page, err = newFaultPage(filepath.Join(dir, "page")); err != nil {
		return nil, err
	}
	defer m.page.close()
	key := filepath.Join(dir, "key")
	if err := keyring.Create(key); err != nil {
		return nil, err
	}
	c := &crowd{}
	c.http.Timeout = 10 * time.Second
	for i, mode := range machineModes {
		if err := m.add(ctx, filepath.Join(dir, mode), binary, mode, key, c, fmt.Sprintf("%x-%d", seed&0xffff, i)); err != nil {
			return nil, err
		}
		s := m.stations[i]
		defer s.close()
		defer m.senders[i].close()
		defer m.hops[i].close()
		c.gateways = append(c.gateways, s.gateway)
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}

	loading, stop := context.WithCancel(ctx)
	defer stop()
	var busy sync.WaitGroup
	for i, s := range m.stations {
		busy.Go(func() { s.load.run(loading, 4, 20*time.Millisecond, seed+uint64(i)) })
	}
	busy.Go(func() { c.change(loading, seed) })
	defer busy.Wait()
	defer stop()
	for n := 0; n < max(f.least, 1) || time.Now().Add(healthyFor+f.hold).Before(end); n++ {
		if err := f.once(ctx, m, n); err != nil {
			return nil, err
		}
	}
	sleep(ctx, settling)
	stop()
	busy.Wait()
	over := time.Now()
	for i, s := range m.stations {
		left, err := s.drained(ctx, 30*time.Second, false)
		if err != nil {
			return nil, err
		}
		t := &machineTally{redisTally: judgeRedis(s.load, s.sink, c, i), mayRefuse: f.mayRefuse, kills: s.kills}
		t.needless = s.sink.needless(s.load)
		t.fault, t.mode, t.waiting, t.drained = f.name, s.mode, left, time.Since(over)
		t.times, t.flows = s.tally.times, s.tally.flows
		rows = append(rows, t)
		fmt.Printf("  %-10s %d times, %d answered 250, %d 451, %d copies, %d withdrawals put to the test; lost %d, doubled %d (%d needless), tracked %d, mailed %d, untracked though agreed %d, transactional held %d; flows after %.0f ms; spool empty after %.1f s\n",
			s.mode, t.times, t.messages, t.deferred, t.delivered, t.tested, t.lost, t.doubled, t.needless, t.tracked, t.mailed, t.missed, t.held, ms(t.flows), t.drained.Seconds())
		for _, said := range t.said {
			if !f.mayRefuse || !strings.HasPrefix(said, "TRANSACTIONAL") {
				fmt.Println("  " + said)
			}
		}
		if f.shows != nil && !f.shows(s) {
			return nil, fmt.Errorf("%s: nothing that the gateway did shows that the fault happened", s.mode)
		}
		if left != "" {
			fmt.Printf("  still waits:\n%s", left)
		}
	}
	return rows, nil
}

// add starts a gateway with a smarthost, and proxies on both sides of it.
func (m *machine) add(ctx context.Context, dir, binary, mode, key string, c *crowd, name string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s := &station{mode: mode}
	if s.sink, err = newSink(0); err != nil {
		return err
	}
	hop, err := newProxy(s.sink.addr)
	if err != nil {
		return errors.Join(err, s.sink.close())
	}
	hop.cut = s.sink.cutOff
	s.gateway, err = newGateway(dir, binary, settings{key: key, mode: mode, smarthost: hop.addr, spool: filepath.Join(dir, "spool"), store: m.url})
	var sender *proxy
	if err == nil {
		s.env = []string{m.page.env()}
		sender, err = newProxy(s.smtp)
	}
	if err == nil {
		if err = s.start(ctx); err != nil {
			sender.close()
		}
	}
	if err != nil {
		hop.close()
		return errors.Join(err, s.sink.close())
	}
	s.load = newLoad(sender.addr, name)
	s.load.write = c.write(false)
	m.stations, m.senders, m.hops = append(m.stations, s), append(m.senders, sender), append(m.hops, hop)
	return nil
}

// once lets all be well for a while, then the fault happen and go, and waits until mail flows again.
func (f machineFault) once(ctx context.Context, m *machine, n int) error {
	sleep(ctx, healthyFor)
	if err := f.strike(ctx, m, n); err != nil {
		return err
	}
	sleep(ctx, f.hold)
	if err := f.heal(ctx, m, n); err != nil {
		return err
	}
	back := time.Now()
	for _, s := range m.stations {
		s.tally.times++
		if s.tally.flows >= 0 {
			if late := s.flowsAfter(ctx, back, func(string) bool { return true }); late < 0 {
				s.tally.flows = late
			} else {
				s.tally.flows = max(s.tally.flows, late)
			}
		}
	}
	return ctx.Err()
}

// needless counts the copies that came more than once though the first was answered 250, and nothing cut the
// answer off.
func (k *sink) needless(l *load) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, times := range k.copies {
		if l.answers[c.mark].code == 250 && times > 1 && !k.unsaid[c] {
			n++
		}
	}
	return n
}
