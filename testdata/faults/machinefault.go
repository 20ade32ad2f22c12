package main

import (
	"bytes"
	"context"
	"errors"
	"net/mail"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// machineFault is what goes wrong, again and again.
type machineFault struct {
	name       string
	hold       time.Duration
	strike     func(ctx context.Context, m *machine, n int) error
	heal       func(ctx context.Context, m *machine, n int) error
	mayRefuse  bool                  // what was not answered 250 its sender still has
	ownMachine bool                  // needs the gateway with a clock and a disk of its own
	least      int                   // how often it is made at least, since it is another one each time
	shows      func(s *station) bool // whether it is seen in what the gateway did that it happened; nil = it cannot be otherwise
}

// A fault lasts a while, and mail flows for a while between two.
const (
	machineLasting = 2500 * time.Millisecond
	// awayTime is longer, so that much waits when the smarthost is back.
	awayTime = 5 * time.Second
)

var machineFaults = []machineFault{
	{name: "each sync takes 300 ms longer", hold: machineLasting, ownMachine: true, strike: sync300, heal: syncWell},
	{name: "each sync fails with EIO", hold: machineLasting, ownMachine: true, shows: refusals, mayRefuse: true, heal: syncWell,
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
	{name: "clock jumps 6 h ahead while mail waits, and later back", hold: machineLasting, ownMachine: true, shows: wrongDate, heal: mailWaits(rightTime), strike: mailWaits(jump(6 * time.Hour))},
	{name: "clock jumps 6 h back while mail waits, and later ahead", hold: machineLasting, ownMachine: true, shows: wrongDate, heal: mailWaits(rightTime), strike: mailWaits(jump(-6 * time.Hour))},
	{name: "clock is lost: 1970, until it is set", hold: machineLasting, ownMachine: true, shows: wrongDate, heal: rightTime,
		strike: func(_ context.Context, m *machine, _ int) error {
			m.page.clock(-time.Duration(time.Now().Unix()) * time.Second)
			return nil
		}},

	{name: "answers 300 ms late, at 4 KB/s", hold: machineLasting, least: len(links), strike: onLink(func(p *proxy) { p.set(behaviour{delay: 300 * time.Millisecond, rate: 4 << 10}) }), heal: onLink(wellAgain)},
	{name: "connections reset midway in a message or an answer", hold: machineLasting, least: len(links), strike: onLink(func(p *proxy) { p.set(behaviour{resetUp: 8 << 10, reset: 4 << 10}) }), heal: onLink(wellAgain)},
	{name: "a black hole without a reset, then the connections are gone", hold: machineLasting, least: len(links), strike: onLink((*proxy).swallow), heal: onLink(func(p *proxy) { p.set(behaviour{}); p.release() })},
	{name: "a black hole without a reset, then what it held goes on", hold: machineLasting, least: len(links), strike: onLink((*proxy).swallow), heal: onLink((*proxy).release)},

	{name: "stopped half of the time", strike: halfSpeed, heal: nothing},
	{name: "stopped (SIGSTOP) for 2.5 s", hold: machineLasting, strike: signalAll(syscall.SIGSTOP), heal: signalAll(syscall.SIGCONT)},
	{name: "told to read a broken configuration (SIGHUP)", hold: machineLasting, strike: brokenConfiguration, heal: rightConfiguration},
	{name: "killed (SIGKILL), and started again", strike: killAll, heal: nothing},
	{name: "ended (SIGTERM), and started again", strike: endAll, heal: nothing},

	{name: "smarthost answers 500 ms late", hold: machineLasting, strike: onHops(func(p *proxy) error { p.set(behaviour{delay: 500 * time.Millisecond}); return nil }), heal: onHops(func(p *proxy) error { p.set(behaviour{}); return nil })},
	{name: "smarthost refuses connections", hold: machineLasting, strike: onHops(func(p *proxy) error { p.away(); return nil }), heal: onHops((*proxy).back)},
	{name: "smarthost is back after 5 s and answers 451 for 1 s", hold: awayTime, strike: onHops(func(p *proxy) error { p.away(); return nil }), heal: backBusy},
}

var receivedAt = regexp.MustCompile(`(?s)^Received: from .*?;\s+(\S[^\r\n]*)`)

// wrongDate reports whether a copy's Received field says a time that is hours off.
func wrongDate(s *station) bool {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for of, text := range s.sink.text {
		m := receivedAt.FindStringSubmatch(text[max(strings.Index(text, "Received: "), 0):])
		if m == nil {
			continue
		}
		at, err := mail.ParseDate(m[1])
		if err == nil && at.Sub(s.sink.came[of]).Abs() > 5*time.Hour {
			return true
		}
	}
	return false
}

// refusals reports whether something was answered 451.
func refusals(s *station) bool {
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	for _, a := range s.load.answers {
		if a.code == 451 {
			return true
		}
	}
	return false
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
		for _, p := range links[n%len(links)](m) {
			do(p)
		}
		return nil
	}
}

// links are the ways between a gateway and others.
var links = [...]func(*machine) []*proxy{
	func(m *machine) []*proxy { return m.hops },
	func(m *machine) []*proxy { return m.senders },
	func(m *machine) []*proxy { return []*proxy{m.proxy} },
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
