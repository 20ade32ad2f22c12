package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// modes are those of the gateways that share the Redis, one each.
var modes = []string{"cutthrough", "spool", "stateless"}

// station is a gateway under load, with a smarthost of its own where all is well.
type station struct {
	*gateway
	mode  string
	sink  *sink
	load  *load
	tally redisTally // what is measured as it goes
}

const (
	healthyFor = 1500 * time.Millisecond // between two faults
	settling   = 500 * time.Millisecond  // within which each gateway has found out; what a message costs counts from then
)

// runRedis makes each fault whose name holds only for its share of the time.
func runRedis(ctx context.Context, dir, binary string, duration time.Duration, only string, seed uint64) ([]*redisTally, error) {
	if err := haveRedis(); err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	faults := named(redisFaults, only, func(f redisFault) string { return f.name })
	var rows []*redisTally
	for i, f := range faults {
		share := duration / time.Duration(len(faults))
		fmt.Printf("Redis %s: %v\n", f.name, share.Round(time.Second))
		ts, err := f.run(ctx, filepath.Join(dir, fmt.Sprint("redis-", i)), binary, share, seed+uint64(i))
		if err != nil {
			return nil, fmt.Errorf("the Redis that is %q: %w", f.name, err)
		}
		rows = append(rows, ts...)
	}
	return rows, nil
}

func haveRedis() error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return skipped("redis-server is not installed; make need does that on Debian")
	}
	return nil
}

// named are the faults whose name holds only.
func named[F any](all []F, only string, name func(F) string) (some []F) {
	for _, f := range all {
		if strings.Contains(name(f), only) {
			some = append(some, f)
		}
	}
	return some
}

func (f redisFault) run(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (rows []*redisTally, err error) {
	end := time.Now().Add(duration)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := f.deploy(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	key := filepath.Join(dir, "key")
	if err := keyring.Create(key); err != nil {
		return nil, err
	}
	var stations []*station
	c := &crowd{}
	c.http.Timeout = 10 * time.Second
	for i, mode := range modes {
		s, err := newStation(ctx, filepath.Join(dir, mode), binary, mode, key, d, c, fmt.Sprintf("%x-%d", seed&0xffff, i))
		if err != nil {
			return nil, err
		}
		defer s.close()
		stations = append(stations, s)
		c.gateways = append(c.gateways, s.gateway)
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	hit, err := d.whoIsHit(ctx, key)
	if err != nil {
		return nil, err
	}

	loading, stop := context.WithCancel(ctx)
	defer stop()
	var busy sync.WaitGroup
	for i, s := range stations {
		busy.Go(func() { s.load.run(loading, 3, 30*time.Millisecond, seed+uint64(i)) })
	}
	busy.Go(func() { c.change(loading, seed) })
	for n := 0; n == 0 || time.Now().Add(healthyFor+f.hold).Before(end); n++ {
		if err := f.once(ctx, d, stations, n, hit); err != nil {
			stop()
			busy.Wait()
			return nil, err
		}
	}
	sleep(ctx, settling)
	stop()
	busy.Wait()
	over := time.Now()
	for i, s := range stations {
		left := ""
		if s.mode != "stateless" {
			if left, err = s.drained(ctx, 30*time.Second, false); err != nil {
				return nil, err
			}
		}
		drained := time.Since(over)
		t := judgeRedis(s.load, s.sink, c, i)
		t.fault, t.mode, t.waiting, t.drained = f.name, s.mode, left, drained
		t.times, t.away, t.flows, t.well, t.wrong = s.tally.times, s.tally.away, s.tally.flows, s.tally.well, s.tally.wrong
		rows = append(rows, t)
		fmt.Printf("  %-10s %d answered 250, %d 451, %d copies, %d withdrawals put to the test; lost %d, doubled %d, tracked %d, mailed %d, untracked though agreed %d, transactional held %d; flows after %.0f ms; changes %d confirmed, %d not; answer/CPU ms %v well, %v wrong\n",
			s.mode, t.messages, t.deferred, t.delivered, t.tested, t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, ms(t.flows), t.confirmed, t.unconfirmed, t.well, t.wrong)
		for _, said := range t.said {
			fmt.Println("  " + said)
		}
		if left != "" {
			fmt.Printf("  still waits:\n%s", left)
		}
	}
	if f.after != nil {
		if rows[0].note, err = f.after(ctx, d, stations); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// once lets all be well for a while, then the fault happen and go, and waits until mail flows again.
func (f redisFault) once(ctx context.Context, d *deployment, stations []*station, n int, hit func(to string) bool) error {
	measure := func(pick func(*station) *cost, during func() error) error {
		from := time.Now()
		begin := make([]time.Duration, len(stations))
		for i, s := range stations {
			begin[i] = s.cpu()
		}
		err := during()
		for i, s := range stations {
			pick(s).add(s.load, from, time.Now(), s.cpu()-begin[i])
		}
		return err
	}
	measure(func(s *station) *cost { return &s.tally.well }, func() error { sleep(ctx, healthyFor); return nil })

	struck := time.Now()
	if err := f.strike(ctx, d, n); err != nil {
		return err
	}
	for _, s := range stations {
		if f.restart && s.mode != "stateless" { // which remembers nothing, so it must not end
			if err := s.kill(ctx, true); err != nil {
				return err
			}
		}
	}
	var back time.Time
	if err := measure(func(s *station) *cost { return &s.tally.wrong }, func() (err error) {
		if f.hold == 0 {
			back, err = f.heal(ctx, d)
		} else {
			sleep(ctx, f.hold)
		}
		return err
	}); err != nil {
		return err
	}
	if f.hold > 0 {
		var err error
		if back, err = f.heal(ctx, d); err != nil {
			return err
		}
	}
	for _, s := range stations {
		s.tally.times++
		s.tally.away = max(s.tally.away, back.Sub(struck))
		late := s.flowsAfter(ctx, back, hit)
		if late < 0 || s.tally.flows < 0 {
			s.tally.flows = -1
		} else {
			s.tally.flows = max(s.tally.flows, late)
		}
	}
	if f.mend != nil {
		return f.mend(ctx, d)
	}
	return ctx.Err()
}

// flowsAfter waits until a marketing copy of those that hit names arrives, and returns how long that is after back; < 0: none came in 10 s.
func (s *station) flowsAfter(ctx context.Context, back time.Time, hit func(to string) bool) time.Duration {
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit) && ctx.Err() == nil; sleep(ctx, 10*time.Millisecond) {
		if at, ok := flowed(s.load, s.sink, back, hit); ok {
			return at.Sub(back)
		}
	}
	return -1
}

func newStation(ctx context.Context, dir, binary, mode, key string, d *deployment, c *crowd, name string) (*station, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	k, err := newSink(0)
	if err != nil {
		return nil, err
	}
	g, err := newGateway(dir, binary, settings{key: key, mode: mode, smarthost: k.addr, spool: filepath.Join(dir, "spool"), store: d.url, waitReplicas: d.waitReplicas})
	if err == nil {
		err = g.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	l := newLoad(g.smtp, name)
	l.write = c.write(mode == "stateless")
	return &station{gateway: g, mode: mode, sink: k, load: l}, nil
}

func (s *station) close() {
	s.cmd.Process.Kill()
	<-s.done
	s.sink.close()
}

// whoIsHit returns who of those whose consent stays is concerned when the third of a cluster that was
// struck is away; without a cluster all are.
func (d *deployment) whoIsHit(ctx context.Context, keyFile string) (func(to string) bool, error) {
	if len(d.servers) < 6 {
		return func(string) bool { return true }, nil
	}
	ring, err := keyring.Load(keyFile)
	if err != nil {
		return nil, err
	}
	ledger := consent.NewLedger(ring)
	third := map[string]int{}
	for _, kind := range []string{consents, denies, ordinary} {
		for i := range kinds {
			to := fmt.Sprintf("%s%d@example.com", kind, i)
			who, err := consent.ParseAddress(to)
			if err != nil {
				return nil, err
			}
			slot, err := d.servers[0].client.ClusterKeySlot(ctx, "{"+ledger.Key(who).String()+"}").Result()
			if err != nil {
				return nil, err
			}
			for third[to] = 0; int(slot) >= (third[to]+1)*16384/3; third[to]++ {
			}
		}
	}
	return func(to string) bool {
		n, ok := third[to]
		return ok && n == d.third
	}, nil
}

// cpu is what the gateway used so far; 0 where the system does not say (it does in Linux, in hundredths of a second).
func (g *gateway) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
