package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/testdata/process"
)

// target is one thing that mail is sent to.
type target struct {
	name string
	addr string
	pids func() []int // whose CPU and memory count; none for the bare sink
	own  bool         // a gateway, in one process
}

const straight = "load generator straight to the sink"

// row is what was measured of one target under one load.
type row struct {
	name  string
	own   bool
	conns int
	rcpts int
	sign  float64 // CPU ms of a bare rsa.Sign, in the same minutes
	peak  float64 // MB, of a gateway's process until now; else 0
	runs  []figures

	failed string // the error that a run of it ended with; then no figure of it counts
}

// turns puts the load on each target in turn, and on all of them again, so many times, behind a
// warm-up of each. So a machine that gets slower does so for all of them. A target that refuses a
// message or loses one has failed, and is left out from then on.
func (b *bench) turns(ctx context.Context, l load, targets ...*target) (rows []*row, err error) {
	var signs []float64
	for round := range b.runs + 1 {
		if round > 0 {
			signs = append(signs, signAlone(b.site.dkimKey, b.window/10))
			b.signs = append(b.signs, signAlone(sign.Fastest(b.site.dkimKey), b.window/10))
		}
		for i, t := range targets {
			if round > 0 && rows[i].failed != "" {
				continue
			}
			l := l
			l.addr, l.window = t.addr, b.window
			if round == 0 {
				rows = append(rows, &row{name: t.name, own: t.own, conns: l.conns, rcpts: l.rcpts})
				l.window = b.window * 2 / 3 // what compiles as it goes, as Haraka does, wants that
			}
			if t.name == straight { // that is fast enough
				l.window = b.window / 3
			}
			one, err := l.measure(ctx, b.sink, t.pids, b.helpers)
			if err != nil {
				err = fmt.Errorf("%s with %d connections and %d recipients: %w", t.name, l.conns, l.rcpts, err)
				if ctx.Err() != nil {
					return nil, err
				}
				b.fail(rows[i], err)
				continue
			}
			if round > 0 {
				rows[i].runs = append(rows[i].runs, one)
				fmt.Fprintf(os.Stderr, "  %-36s %4d connections %5d recipients %7.0f messages/s  %.2f ms CPU  others' load %2.0f %%\n",
					t.name, l.conns, l.rcpts, one.rate, one.cpu, one.others)
			}
		}
	}
	for i, t := range targets {
		if rows[i].failed != "" {
			continue
		}
		rows[i].sign = median(signs)
		b.loudest = max(b.loudest, rows[i].median(func(f figures) float64 { return f.others }))
		if t.own {
			rows[i].peak = process.Memory(t.pids()[0], "VmHWM")
		}
	}
	b.rsa = append(b.rsa, signs...)
	return rows, nil
}

// fail notes that a run ended with an error, which is one of this program too, in the end.
func (b *bench) fail(r *row, err error) {
	fmt.Fprintln(os.Stderr, " ", err)
	r.failed = err.Error()
	b.failures = append(b.failures, err)
}

// helpers are processes that have a part in a run and are not measured.
func (b *bench) helpers() []int { return []int{b.site.redis.PID()} }

// gateways serves one in each delivery mode, and makes sure that each does its work. stop ends them;
// it is to be called whatever the error.
func (b *bench) gateways(ctx context.Context, modes ...string) (targets []*target, stop func() error, err error) {
	var all []*gateway
	stop = func() (err error) {
		for _, g := range all {
			err = errors.Join(err, g.Stop())
		}
		return err
	}
	for _, mode := range modes {
		g, err := b.site.serve(ctx, mode)
		if err != nil {
			return nil, stop, err
		}
		all = append(all, g)
		if err := b.site.check(ctx, g.smtp, b.letter, b.sink); err != nil {
			return nil, stop, fmt.Errorf("the gateway in mode %s does not do its work, so its speed says nothing: %w", mode, err)
		}
		targets = append(targets, &target{name: ours(mode), addr: g.smtp, pids: func() []int { return []int{g.PID()} }, own: true})
	}
	return targets, stop, nil
}

// ours is how the gateway in a delivery mode is called in tables.
func ours(mode string) string { return "consentgate " + mode }

// beside returns those of the peers that this machine can run.
func (b *bench) beside(ctx context.Context, names ...string) (targets []*target, err error) {
	for _, name := range names {
		p, err := b.peers.get(ctx, name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			targets = append(targets, &target{name: name, addr: p.smtp, pids: p.pids})
		}
	}
	return targets, nil
}

// direct is the sink without anything between.
func (b *bench) direct() *target {
	return &target{name: straight, addr: b.sink.addr, pids: func() []int { return nil }}
}

// median of what of takes from the runs.
func (r *row) median(of func(figures) float64) float64 {
	values := make([]float64, len(r.runs))
	for i, f := range r.runs {
		values[i] = of(f)
	}
	return median(values)
}

// most is the greatest of what of takes from the runs.
func (r *row) most(of func(figures) float64) (most float64) {
	for _, f := range r.runs {
		most = max(most, of(f))
	}
	return most
}

func rate(f figures) float64     { return f.rate }
func accepted(f figures) float64 { return f.accepted }

// times is by how much more r did than other: the median of the ratios of the runs that were beside
// each other.
func (r *row) times(other *row, of func(figures) float64) float64 {
	return median(paired(r, other, func(a, b figures) float64 { return of(a) / of(b) }))
}

// paired is what f makes of the runs of two rows that were beside each other.
func paired(a, b *row, f func(a, b figures) float64) (values []float64) {
	for i := range min(len(a.runs), len(b.runs)) {
		values = append(values, f(a.runs[i], b.runs[i]))
	}
	return values
}

// find returns the row of that name and that number of connections, nil if there is none.
func find(rows []*row, name string, conns int) *row {
	i := slices.IndexFunc(rows, func(r *row) bool { return r.name == name && r.conns == conns })
	if i < 0 {
		return nil
	}
	return rows[i]
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
