package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What is done to the gateways behind HAProxy, and to their Redis, while mail flows.

// blow is one of them; takes is how long it lasts at most, with all well before the next one.
type blow struct {
	name  string
	takes time.Duration
	do    func(*manyRun, context.Context, int) error // with the gateway that it strikes
}

var blows = [round]blow{
	{"ended", 11 * time.Second, (*manyRun).end},
	{"stopped", 13 * time.Second, (*manyRun).pause},
	{"killed", 6 * time.Second, func(m *manyRun, ctx context.Context, n int) error { return m.kill(ctx, n, time.Second) }},
	{"down", 11 * time.Second, func(m *manyRun, ctx context.Context, n int) error { return m.kill(ctx, n, downFor) }},
	{"no Redis", 14 * time.Second, (*manyRun).outage},
	{"killed", 6 * time.Second, func(m *manyRun, ctx context.Context, n int) error { return m.kill(ctx, n, time.Second) }},
}

const (
	round     = 6                       // blows that are made in their order
	settleFor = 1500 * time.Millisecond // between two blows
	downFor   = 7 * time.Second         // until HAProxy has long noticed
	lateBy    = 6 * time.Second         // how late the smarthost answers what is late; HAProxy marks a server down after 2 s
	noRedis   = 5 * time.Second
	lateEach  = 9 // late letters by each way: three or so for each gateway
)

// manyRun is the part while it runs.
type manyRun struct {
	*manyTally
	crowd *crowd
	sink  *sink
	redis *deployment
	b     *balancer
	late  *load  // the letters that are answered late
	link  string // of somebody's page

	ended []window // when a gateway was ended in good order
	apart []window // when there was no Redis
}

// window is from when to when something held.
type window struct{ from, to time.Time }

func within(all []window, t time.Time) bool {
	for _, w := range all {
		if t.After(w.from) && t.Before(w.to) {
			return true
		}
	}
	return false
}

// strike makes one blow after the other until there is no time for any.
func (m *manyRun) strike(ctx context.Context, end time.Time) error {
	for n := 0; ; n++ {
		b := blows[n%len(blows)]
		if time.Now().Add(b.takes).After(end) {
			if b = blows[len(blows)-1]; time.Now().Add(b.takes).After(end) { // a short one
				return nil
			}
		}
		if sleep(ctx, settleFor); ctx.Err() != nil {
			return nil
		}
		if err := b.do(m, ctx, n); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		m.blows[b.name]++
		// All are back before the next one; a while for checks that do not check.
		for i := range m.crowd.gateways {
			back, err := m.b.noticed(ctx, i, true, 5*time.Second)
			if err != nil {
				return err
			}
			if !back && ctx.Err() == nil {
				m.blind++
			}
		}
	}
}

// turn is whose turn it is: another one's for the same blow in the next round.
func turn(n int) int { return (n + n/round) % manyGateways }

// kill is SIGKILL, and a start a while later.
func (m *manyRun) kill(ctx context.Context, n int, away time.Duration) error {
	g := m.crowd.gateways[turn(n)]
	g.cmd.Process.Kill()
	<-g.done
	m.kills++
	sleep(ctx, away)
	return g.start(ctx)
}

// end is SIGTERM, with letters under way through that gateway which the smarthost answers late: their sender gets the
// answer all the same. It strikes a gateway in mode cutthrough, as one with a spool answers at once.
func (m *manyRun) end(ctx context.Context, n int) error {
	struck := n / round * 2 % (manyGateways + 1) // 0 and 2
	g := m.crowd.gateways[struck]
	begun := time.Now()
	var late sync.WaitGroup
	var marks []copyOf
	for _, addr := range []string{m.b.v2, m.b.v1} {
		for i := range lateEach {
			mark := fmt.Sprintf("late-%s-%d-%d", wayOf(m.b, addr), n, i)
			to := fmt.Sprintf("%s%d@example.com", tardy, i%kinds)
			marks = append(marks, copyOf{mark, to})
			late.Go(func() {
				c, err := dial(addr, allowed)
				if err == nil {
					defer c.Close()
					m.late.sendLetter(c, mark, letter{to: []string{to}, text: message(mark, "", 1500)})
				}
			})
		}
	}
	_, err := until(ctx, "the late letters at the smarthost", func(context.Context) error {
		m.sink.mu.Lock()
		defer m.sink.mu.Unlock()
		for _, of := range marks {
			if m.sink.copies[of] == 0 {
				return errors.New(of.mark + " is missing")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = g.stop()
	late.Wait()
	m.ended = append(m.ended, window{begun, time.Now()})
	for _, of := range marks {
		answer, sent := m.late.answers[of.mark]
		if !sent || answer.code != 250 {
			m.cut = append(m.cut, fmt.Sprintf("%s answered %d", of.mark, answer.code))
			continue
		}
		if _, by := m.sink.through(of); by == struck {
			m.kept[strings.Split(of.mark, "-")[1]]++
		}
	}
	return errors.Join(err, g.start(ctx))
}

// pause is SIGSTOP until HAProxy has noticed, when nobody who comes may be sent there any more.
func (m *manyRun) pause(ctx context.Context, n int) error {
	g := m.crowd.gateways[turn(n)]
	if err := g.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	defer g.cmd.Process.Signal(syscall.SIGCONT)
	down, err := m.b.noticed(ctx, turn(n), false, 8*time.Second)
	if err != nil {
		return err
	}
	if !down {
		m.blind++
	}
	m.stuck += m.come(ctx)
	return nil
}

// come lets so many come at once that each gateway would get some of them, and counts those who get no answer.
func (m *manyRun) come(ctx context.Context) int {
	var stuck atomic.Int64
	var all, arrived sync.WaitGroup
	leave := make(chan struct{})
	try := func(f func() error) {
		arrived.Add(1)
		all.Go(func() {
			err := f()
			if err != nil {
				stuck.Add(1)
			}
			arrived.Done()
		})
	}
	for range 4 * manyGateways {
		for _, addr := range []string{m.b.v2, m.b.v1} {
			try(func() error {
				dialer := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(allowed)}}
				c, err := dialer.DialContext(ctx, "tcp", addr)
				if err != nil {
					return err
				}
				all.Go(func() { <-leave; c.Close() })
				c.SetDeadline(time.Now().Add(3 * time.Second))
				_, err = io.ReadFull(c, make([]byte, 3))
				return err
			})
		}
		try(func() error { _, _, err := m.read(ctx); return err })
	}
	arrived.Wait()
	close(leave)
	all.Wait()
	return int(stuck.Load())
}

// read reads somebody's page.
func (m *manyRun) read(ctx context.Context) (int, string, error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, "GET", m.link, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// outage takes all of Redis away for a while.
func (m *manyRun) outage(ctx context.Context, _ int) error {
	for _, s := range m.redis.servers {
		s.kill()
	}
	begun := time.Now()
	sleep(ctx, noRedis)
	code, text, err := m.read(ctx)
	if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(text, "<html lang=") { // HAProxy's own has no language
		m.faceless = append(m.faceless, fmt.Sprintf("%d %.200q %v", code, text, err))
	}
	m.apart = append(m.apart, window{begun.Add(time.Second), time.Now()})
	for _, s := range m.redis.servers {
		if err := s.start(); err != nil {
			return err
		}
	}
	for _, s := range m.redis.servers {
		if _, err := until(ctx, "the cluster", s.covered); err != nil {
			return err
		}
	}
	return nil
}

// tardy are those whose mail the smarthost answers late.
const tardy = "tardy"

func wayOf(b *balancer, addr string) string {
	if addr == b.v1 {
		return "v1"
	}
	return "v2"
}
