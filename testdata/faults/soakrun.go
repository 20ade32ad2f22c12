package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

// runSoak runs it for that time; draining comes on top.
func runSoak(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (*soakTally, error) {
	if err := haveRedis(); err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	dir = filepath.Join(dir, "soak")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := newSoak(ctx, dir, binary, seed)
	if s != nil {
		defer s.end()
	}
	if err != nil {
		return nil, err
	}
	// Three turns of all faults at least.
	s.every = max(min(soakEvery, duration/time.Duration(3*len(soakFaults))), 3*time.Second)
	fmt.Printf("soak: %v, a fault every %v\n", duration, s.every.Round(time.Second))
	t := &soakTally{struck: map[string]int{}, seconds: int(duration.Seconds())}

	if err := s.measure(ctx, t, seed); err != nil {
		return nil, err
	}
	begun := time.Now()
	loading, stop := context.WithDeadline(ctx, begun.Add(duration))
	defer stop()
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	s.load.pace = time.Duration(soakConnections / t.pace * float64(time.Second))
	busy.Go(func() { s.load.run(loading, soakConnections, 0, seed+1) })
	busy.Go(func() { s.crowd.change(loading, seed) })
	busy.Go(func() { t.clicked = s.crowd.click(loading, "http://"+s.page, s.links) })
	busy.Go(func() { t.views, t.badViews = s.view(loading) })
	if err := s.turns(loading, t, begun); err != nil {
		return nil, err
	}
	busy.Wait()

	over := time.Now()
	left, err := s.station.drained(ctx, 2*time.Minute, false)
	if err != nil {
		return nil, err
	}
	drained := time.Since(over)
	if err := s.rested(ctx, t); err != nil {
		return nil, err
	}
	t.end.at = time.Since(begun)
	t.redisTally = judgeRedis(s.load, s.sink, s.crowd, 0)
	t.redisTally.waiting, t.redisTally.drained = left, drained
	t.needless = s.sink.needless(s.load)
	for _, said := range t.said {
		fmt.Println("  " + said)
	}
	return t, nil
}

// newSoak starts the gateway and all that it needs. What it returns is to be ended, also with an error.
func newSoak(ctx context.Context, dir, binary string, seed uint64) (s *soak, err error) {
	s = &soak{station: &station{mode: "cutthrough"}, crowd: &crowd{}}
	s.crowd.http.Timeout = 10 * time.Second
	if s.redis, err = single(ctx, dir); err != nil {
		return s, err
	}
	if s.sink, err = newSink(seed); err != nil {
		return s, err
	}
	s.sink.brief = true
	if s.hop, err = newProxy(s.sink.addr); err != nil {
		return s, err
	}
	s.hop.cut = s.sink.cutOff
	key := filepath.Join(dir, "key")
	if err := keyring.Create(key); err != nil {
		return s, err
	}
	ring, err := keyring.Load(key)
	if err != nil {
		return s, err
	}
	s.links = token.New(ring)
	if s.gateway, err = newGateway(dir, binary, settings{key: key, mode: s.mode, smarthost: s.hop.addr, spool: filepath.Join(dir, "spool"), store: s.redis.url}); err != nil {
		return s, err
	}
	if err := s.start(ctx); err != nil {
		return s, err
	}
	s.crowd.gateways = []*gateway{s.gateway}
	s.load = newLoad(s.smtp, fmt.Sprintf("%x", seed&0xffff))
	s.load.write = s.crowd.write(false)
	return s, s.crowd.settle(ctx)
}

func (s *soak) end() {
	if s.gateway != nil && s.cmd != nil {
		s.cmd.Process.Kill()
		<-s.done
	}
	if s.hop != nil {
		s.hop.close()
	}
	if s.sink != nil {
		s.sink.close()
	}
	if s.redis != nil {
		s.redis.close()
	}
}

// keptFor is a little more than the gateway keeps an idle connection to its smarthost.
const keptFor = 32 * time.Second

// measure finds out how much the gateway can, and what it takes idle when it has done so: its connections to Redis
// are kept, so they are opened before, with as many at once as later.
func (s *soak) measure(ctx context.Context, t *soakTally, seed uint64) error {
	full, stop := context.WithTimeout(ctx, capacityTime)
	defer stop()
	l := newLoad(s.smtp, s.load.name+"-full")
	l.write = s.load.write
	l.run(full, soakConnections, 0, seed)
	n := 0
	for mark, a := range l.answers {
		if a.code == 250 {
			n++
		}
		s.load.answers[mark] = a // to be judged with the others
	}
	if t.capacity = float64(n) / capacityTime.Seconds(); t.capacity == 0 {
		return fmt.Errorf("no message was answered 250; see %s/log", s.dir)
	}
	t.pace = t.capacity / 2
	fmt.Printf("  %.0f messages a second at full load, %.0f from now on\n", t.capacity, t.pace)
	if err := burst(ctx, s); err != nil {
		return err
	}
	left, err := s.drained(ctx, time.Minute, false)
	if err == nil && left != "" {
		err = fmt.Errorf("the spool is not empty a minute after the first load:\n%s", left)
	}
	if err != nil {
		return err
	}
	sleep(ctx, keptFor)
	t.idle, err = s.sample(ctx)
	return err
}

// turns makes the faults in turn, and takes samples, until whole is done.
func (s *soak) turns(whole context.Context, t *soakTally, begun time.Time) error {
	ctx, stop := context.WithCancel(whole)
	var mu sync.Mutex
	var now []string // the faults since the last row
	failed := make(chan error, 1)
	go func() {
		defer stop()
		var err error
		for n := 0; err == nil; n++ {
			next := begun.Add(time.Duration(n)*s.every + s.every/3)
			if sleep(ctx, time.Until(next)); ctx.Err() != nil {
				break
			}
			f := soakFaults[n%len(soakFaults)]
			mu.Lock()
			now = append(now, f.name)
			t.struck[f.name]++
			mu.Unlock()
			if err = f.do(ctx, s); err != nil {
				err = fmt.Errorf("%s: %w", f.name, err)
			}
		}
		failed <- err
	}()
	var all []soakSample
	row := begun.Add(s.every)
	for n := 1; ctx.Err() == nil; n++ {
		if sleep(ctx, time.Until(begun.Add(time.Duration(n)*min(sampleEvery, s.every/3)))); ctx.Err() != nil {
			break
		}
		v, err := s.sample(ctx)
		if err != nil {
			if ctx.Err() == nil {
				stop()
				return errors.Join(fmt.Errorf("asking for /metrics: %w", err), <-failed)
			}
			break
		}
		v.at = time.Since(begun)
		all = append(all, v)
		if !time.Now().Before(row) {
			row = row.Add(s.every)
			mu.Lock()
			v.faults, now = now, nil
			mu.Unlock()
			s.progress(&v)
			t.rows = append(t.rows, v)
			fmt.Println("  " + v.String())
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	if err := whole.Err(); err == context.Canceled { // and not its deadline, which is its end
		return err
	}
	turn := s.every * time.Duration(len(soakFaults))
	if len(all) == 0 || all[len(all)-1].at < 2*turn+turn/2 {
		return errors.New("it ended before all faults were made three times")
	}
	last := all[len(all)-1].at - turn
	t.second = medians(all, func(v soakSample) bool { return v.at > turn && v.at <= 2*turn })
	t.last = medians(all, func(v soakSample) bool { return v.at > last })
	return nil
}

// medians are those of the samples that in names.
func medians(all []soakSample, in func(soakSample) bool) soakSample {
	of := func(value func(soakSample) float64) float64 {
		var values []float64
		for _, v := range all {
			if in(v) {
				values = append(values, value(v))
			}
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return soakSample{
		heap:       of(func(v soakSample) float64 { return v.heap }),
		rss:        of(func(v soakSample) float64 { return v.rss }),
		goroutines: of(func(v soakSample) float64 { return v.goroutines }),
		files:      of(func(v soakSample) float64 { return v.files }),
	}
}

// overdueAfter is when a copy that was accepted should have arrived, whatever fault came between.
const overdueAfter = time.Minute

// progress counts what was accepted and delivered so far.
func (s *soak) progress(v *soakSample) {
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for mark, a := range s.load.answers {
		if a.code != 250 {
			continue
		}
		for _, to := range a.to {
			v.accepted++
			switch of := (copyOf{mark, to}); {
			case s.sink.copies[of] > 0:
				v.delivered++
			case s.sink.reports[of] != "":
				v.reported++
			case time.Since(a.begun) > overdueAfter:
				v.overdue++
			}
		}
	}
}

// rested waits until what is idle for a while is closed, for two minutes at most, and takes the last sample.
func (s *soak) rested(ctx context.Context, t *soakTally) (err error) {
	for end := time.Now().Add(2 * time.Minute); ; sleep(ctx, time.Second) {
		if t.end, err = s.sample(ctx); err != nil {
			return err
		}
		over := func(l limit) bool { return l.now > l.limit }
		if !slices.ContainsFunc(t.idleLimits(), over) || time.Now().After(end) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// view looks at people's pages until ctx is done, as a reader does who loads a page again that does not come. Bad
// are the pages that did not come in 20 s.
func (s *soak) view(ctx context.Context) (views, bad int) {
	random := rand.New(rand.NewPCG(0, 4))
	for ctx.Err() == nil {
		sleep(ctx, 50*time.Millisecond)
		kind := []string{consents, denies, unsubscribed, ordinary}[random.IntN(4)]
		who, err := consent.ParseAddress(fmt.Sprintf("%s%d@example.com", kind, random.IntN(kinds)))
		if err != nil {
			return views, bad + 1
		}
		link := "http://" + s.page + "/u/" + s.links.Seal(token.Claims{Who: who, Scope: "default"})
		for end := time.Now().Add(20 * time.Second); ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
			if s.viewOne(link) {
				views++
				break
			}
			if time.Now().After(end) {
				bad++
				break
			}
		}
	}
	return views, bad
}

func (s *soak) viewOne(link string) bool {
	answer, err := s.crowd.http.Get(link)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK && strings.Contains(string(text), "</html>")
}
