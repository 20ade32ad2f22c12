package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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

// machineFault is what goes wrong, again and again.
type machineFault struct {
	name       string
	hold       time.Duration
	strike     func(ctx context.Context, m *machine, n int) error
	heal       func(ctx context.Context, m *machine, n int) error
	mayRefuse  bool // what was not answered 250 its sender still has
	ownMachine bool // needs the gateway with a clock and a disk of its own
}

// A fault lasts a while, and mail flows for a while between two.
const (
	machineLasting = 2500 * time.Millisecond
	// awayTime is longer, so that much waits when the smarthost is back.
	awayTime = 5 * time.Second
)

var machineFaults = []machineFault{
	{name: "each sync takes 300 ms longer", hold: machineLasting, ownMachine: true, strike: sync300, heal: syncWell},
	{name: "each sync fails with EIO", hold: machineLasting, ownMachine: true, mayRefuse: true, heal: syncWell,
		strike: func(_ context.Context, m *machine, _ int) error {
			m.page.set(syncError, int64(syscall.EIO))
			return nil
		}},

	{name: "clock goes at half its speed, then is set right", hold: machineLasting, ownMachine: true, heal: rightTime,
		strike: func(ctx context.Context, m *machine, _ int) error {
			begun := time.Now()
			for time.Since(begun) < machineLasting { // in steps of the second that the page counts in
				m.page.clock(-time.Since(begun) / 2)
				sleep(ctx, 50*time.Millisecond)
			}
			return ctx.Err()
		}},
	{name: "clock jumps 6 h ahead while mail waits, and later back", hold: machineLasting, ownMachine: true, heal: mailWaits(rightTime), strike: mailWaits(jump(6 * time.Hour))},
	{name: "clock jumps 6 h back while mail waits, and later ahead", hold: machineLasting, ownMachine: true, heal: mailWaits(rightTime), strike: mailWaits(jump(-6 * time.Hour))},
	{name: "clock is lost: 1970, until it is set", hold: machineLasting, ownMachine: true, heal: rightTime,
		strike: func(_ context.Context, m *machine, _ int) error {
			m.page.clock(-time.Duration(time.Now().Unix()) * time.Second)
			return nil
		}},

	{name: "answers 300 ms late, at 4 KB/s", hold: machineLasting, strike: onLink(func(p *proxy) { p.set(behaviour{delay: 300 * time.Millisecond, rate: 4 << 10}) }), heal: onLink(wellAgain)},
	{name: "connections reset midway in a message or an answer", hold: machineLasting, strike: onLink(func(p *proxy) { p.set(behaviour{resetUp: 8 << 10, reset: 4 << 10}) }), heal: onLink(wellAgain)},
	{name: "a black hole without a reset, then the connections are gone", hold: machineLasting, strike: onLink((*proxy).swallow), heal: onLink(func(p *proxy) { p.set(behaviour{}); p.release() })},
	{name: "a black hole without a reset, then what it held goes on", hold: machineLasting, strike: onLink((*proxy).swallow), heal: onLink((*proxy).release)},

	{name: "stopped half of the time", hold: 0, strike: halfSpeed, heal: nothing},
	{name: "stopped (SIGSTOP) for 2.5 s", hold: machineLasting, strike: signalAll(syscall.SIGSTOP), heal: signalAll(syscall.SIGCONT)},
	{name: "told to read a broken configuration (SIGHUP)", hold: machineLasting, strike: brokenConfiguration, heal: rightConfiguration},
	{name: "killed (SIGKILL), and started again", hold: 0, strike: killAll, heal: nothing},
	{name: "ended (SIGTERM), and started again", hold: 0, strike: endAll, heal: nothing},

	{name: "smarthost answers 500 ms late", hold: machineLasting, strike: onHops(func(p *proxy) error { p.set(behaviour{delay: 500 * time.Millisecond}); return nil }), heal: onHops(func(p *proxy) error { p.set(behaviour{}); return nil })},
	{name: "smarthost refuses connections", hold: machineLasting, strike: onHops(func(p *proxy) error { p.away(); return nil }), heal: onHops((*proxy).back)},
	{name: "smarthost is back after 5 s and answers 451 for 1 s", hold: awayTime, strike: onHops(func(p *proxy) error { p.away(); return nil }), heal: backBusy},
}

func nothing(context.Context, *machine, int) error { return nil }

func sync300(_ context.Context, m *machine, _ int) error {
	m.page.set(syncDelay, int64(300*time.Millisecond))
	return nil
}

func syncWell(_ context.Context, m *machine, _ int) error {
	m.page.set(syncDelay, 0)
	m.page.set(syncError, 0)
	return nil
}

func rightTime(_ context.Context, m *machine, _ int) error {
	m.page.clock(0)
	return nil
}

func jump(by time.Duration) func(context.Context, *machine, int) error {
	return func(_ context.Context, m *machine, _ int) error {
		m.page.clock(by)
		return nil
	}
}

// mailWaits does something while the smarthost is away and messages wait for another attempt.
func mailWaits(do func(context.Context, *machine, int) error) func(context.Context, *machine, int) error {
	return func(ctx context.Context, m *machine, n int) (err error) {
		for _, p := range m.hops {
			p.away()
		}
		sleep(ctx, 500*time.Millisecond)
		err = do(ctx, m, n)
		sleep(ctx, 500*time.Millisecond)
		for _, p := range m.hops {
			err = errors.Join(err, p.back())
		}
		return err
	}
}

// onLink strikes the ways to the smarthost, from the senders, and to Redis, one after the other.
func onLink(do func(*proxy)) func(context.Context, *machine, int) error {
	return func(_ context.Context, m *machine, n int) error {
		for _, p := range [][]*proxy{m.hops, m.senders, {m.proxy}}[n%3] {
			do(p)
		}
		return nil
	}
}

func wellAgain(p *proxy) { p.set(behaviour{}) }

func onHops(do func(*proxy) error) func(context.Context, *machine, int) error {
	return func(_ context.Context, m *machine, _ int) (err error) {
		for _, p := range m.hops {
			err = errors.Join(err, do(p))
		}
		return err
	}
}

func backBusy(ctx context.Context, m *machine, _ int) (err error) {
	for i, p := range m.hops {
		m.stations[i].sink.busy.Store(true)
		err = errors.Join(err, p.back())
	}
	sleep(ctx, time.Second)
	for _, s := range m.stations {
		s.sink.busy.Store(false)
	}
	return err
}

func signalAll(sig syscall.Signal) func(context.Context, *machine, int) error {
	return func(_ context.Context, m *machine, _ int) (err error) {
		for _, s := range m.stations {
			err = errors.Join(err, s.cmd.Process.Signal(sig))
		}
		return err
	}
}

func halfSpeed(ctx context.Context, m *machine, n int) (err error) {
	for end := time.Now().Add(machineLasting); time.Now().Before(end) && err == nil; {
		err = signalAll(syscall.SIGSTOP)(ctx, m, n)
		sleep(ctx, 50*time.Millisecond)
		err = errors.Join(err, signalAll(syscall.SIGCONT)(ctx, m, n))
		sleep(ctx, 50*time.Millisecond)
	}
	return err
}

func killAll(ctx context.Context, m *machine, _ int) (err error) { return m.restart(ctx, false) }
func endAll(ctx context.Context, m *machine, _ int) (err error)  { return m.restart(ctx, true) }

func (m *machine) restart(ctx context.Context, order bool) (err error) {
	for _, s := range m.stations {
		err = errors.Join(err, s.kill(ctx, order))
	}
	return err
}

func brokenConfiguration(ctx context.Context, m *machine, n int) error {
	return m.reconfigure(ctx, []byte("hostname ="), []byte("hostname = 1 #"))
}

func rightConfiguration(ctx context.Context, m *machine, n int) error {
	return m.reconfigure(ctx, []byte("hostname = 1 #"), []byte("hostname ="))
}

func (m *machine) reconfigure(ctx context.Context, from, to []byte) error {
	for _, s := range m.stations {
		text, err := os.ReadFile(s.config)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.config, bytes.Replace(text, from, to, 1), 0o600); err != nil {
			return err
		}
	}
	return signalAll(syscall.SIGHUP)(ctx, m, 0)
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
	for n := 0; n == 0 || time.Now().Add(healthyFor+f.hold).Before(end); n++ {
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
			fmt.Println("  " + said)
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
