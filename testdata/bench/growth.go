package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/consentgate/consentgate/testdata/process"
)

// What growth is tried with; the first and the last are the ends that are looked at.
var (
	attachedSizes  = []int{10_000, 100_000, 1_000_000, 10_000_000, 50_000_000}
	htmlSizes      = []int{10_000, 100_000, 1_000_000, 4_000_000, 15_000_000} // over 16 MiB of text are refused
	recipientsEach = []int{1, 3, 10, 30, 100, 300, 1000}
	connectionsAll = []int{1, 3, 10, 30, 100, 300, 1000}
)

// growthPart looks at what the gateway takes for larger messages, more recipients and more
// connections, in mode cutthrough. It computes whether that grows no worse than they do, and draws it.
func (b *bench) growthPart(ctx context.Context) (_ *section, err error) {
	s := &section{title: "Growth", picture: growthPicture, text: "Mode cutthrough. The exponent is the slope of the straight line through the points where both axes are " +
		"logarithmic: 1 is linear, 0 is no growth, 2 is quadratic. Behind it that of the upper half of the points alone, where fixed costs no longer hide anything. " +
		"The dashed line in the picture is linear growth from the first point."}
	sizes := panel{title: "Size of the message", x: "bytes", y: "ms a message"}
	for _, one := range []struct {
		name  string
		sizes []int
		text  func(int) []byte
	}{
		{"HTML", b.htmlSizes, newsletter},
		{"attachment", b.attachedSizes, func(n int) []byte { return attached(b.letter.domain, n) }},
	} {
		var loads []load
		for _, n := range one.sizes {
			msg, err := newMessage(one.text(n))
			if err != nil {
				return nil, err
			}
			loads = append(loads, load{message: msg, conns: 1, rcpts: 1})
		}
		rows, err := b.grow(ctx, s, false, loads)
		if err != nil {
			return nil, err
		}
		bytes := func(i int) float64 { return float64(loads[i].message.size()) }
		sizes.add(one.name+": CPU", bytes, rows, cpuOf)
		sizes.add(one.name+": time", bytes, rows, timeOf)
	}

	var loads []load
	for _, n := range b.recipientsEach {
		loads = append(loads, load{message: b.letter, conns: 1, rcpts: n})
	}
	rows, err := b.grow(ctx, s, false, loads)
	if err != nil {
		return nil, err
	}
	count := func(i int) float64 { return float64(loads[i].rcpts) }
	people := panel{title: "Recipients a message", x: "recipients", y: "ms a message"}
	people.add("CPU", count, rows, cpuOf)
	people.add("time", count, rows, timeOf)

	var many []load
	for _, n := range b.connectionsAll {
		many = append(many, load{message: b.letter, conns: n, rcpts: 1})
	}
	if rows, err = b.grow(ctx, s, true, many); err != nil {
		return nil, err
	}
	count = func(i int) float64 { return float64(many[i].conns) }
	conns := panel{title: "Connections", x: "connections", y: "ms, MB"}
	conns.add("answer p50, ms", count, rows, func(r *row) float64 { return r.median(func(f figures) float64 { return f.p50 }) })
	conns.add("peak RSS, MB", count, rows, func(r *row) float64 { return r.peak })
	conns.add("CPU a message, ms", count, rows, cpuOf)

	panels := slices.DeleteFunc([]panel{sizes, people, conns}, func(p panel) bool { return p.lines == nil })
	s.table = [][]string{{"", "from", "to", "there", "exponent", "of the upper half"}}
	for _, p := range panels {
		for _, l := range p.lines {
			first, last := l.points[0], l.points[len(l.points)-1]
			all, above := exponent(l.points), exponent(upper(l.points))
			s.table = append(s.table, []string{p.title + ", " + l.name, fmt.Sprintf("%.0f", first.x), fmt.Sprintf("%.0f", last.x),
				fmt.Sprintf("%.3g → %.3g", first.y, last.y), fmt.Sprintf("%.2f", all), fmt.Sprintf("%.2f", above)})
			s.aims = append(s.aims, aim{what: p.title + ", " + l.name + ": the greater exponent", got: max(all, above), sense: "≤", want: linear})
		}
	}
	b.picture = draw("What consentgate takes, in mode cutthrough", panels)
	return s, nil
}

// linear is the exponent of linear growth, with a tenth for what times vary between runs.
const linear = 1.1

const growthPicture = "growth.svg"

// grow measures one load after the other, the whole series as often as there are runs. With fresh,
// each has a gateway of its own, whose memory says something; else they share one.
// A load that fails, since a message is refused or lost, has no further run and stands among the aims
// of s as one that is not met.
func (b *bench) grow(ctx context.Context, s *section, fresh bool, loads []load) (rows []*row, err error) {
	for _, l := range loads {
		rows = append(rows, &row{name: ours("cutthrough"), own: true, conns: l.conns, rcpts: l.rcpts})
	}
	for round := range b.runs {
		step := len(loads)
		if fresh {
			step = 1
		}
		for from := 0; from < len(loads); from += step {
			if err := b.growOnce(ctx, s, loads[from:from+step], rows[from:from+step]); err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
		}
	}
	return rows, nil
}

// growOnce puts each load once on a gateway that is fresh before the first.
func (b *bench) growOnce(ctx context.Context, s *section, loads []load, rows []*row) (err error) {
	own, stop, err := b.gateways(ctx, "cutthrough")
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	for i, l := range loads {
		if rows[i].failed != "" {
			continue
		}
		name := fmt.Sprintf("%d bytes, %d recipients, %d connections", l.message.size(), l.rcpts, l.conns)
		l.addr, l.people, l.window = own[0].addr, b.people, b.window/3
		one, err := l.measure(ctx, b.sink, own[0].pids, b.helpers)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.fail(rows[i], fmt.Errorf("%s: %w", name, err))
			s.aims = append(s.aims, aim{what: name, sense: "≤", want: linear, failed: err.Error()})
			continue
		}
		rows[i].runs = append(rows[i].runs, one)
		rows[i].peak = max(rows[i].peak, process.Memory(own[0].pids()[0], "VmHWM"))
		fmt.Fprintf(os.Stderr, "  %-50s %7.0f messages/s  %.2f ms CPU  others' load %2.0f %%\n", name, one.rate, one.cpu, one.others)
	}
	return nil
}

func cpuOf(r *row) float64  { return r.median(func(f figures) float64 { return f.cpu }) }
func timeOf(r *row) float64 { return r.median(func(f figures) float64 { return f.whole50 }) }

// add draws what y says of each row that did not fail, at the x of its place, as a line; none where
// fewer than two are left. What is not positive, as CPU below the tick of the clock in a very short
// run, has no logarithm and is left out.
func (p *panel) add(name string, x func(int) float64, rows []*row, y func(*row) float64) {
	l := plotted{name: name}
	for i, r := range rows {
		if r.failed != "" {
			continue
		}
		if v := y(r); v > 0 {
			l.points = append(l.points, point{x(i), v})
		}
	}
	if len(l.points) > 1 {
		p.lines = append(p.lines, l)
	}
}

// upper is the upper half of the points, two of them at least where there are two.
func upper(points []point) []point { return points[(len(points)-1)/2:] }

// exponent is the k of y = c·x^k that fits the points best: the slope of the least-squares line
// through their logarithms. It is NaN where there is no line: one x only, or a value that is not
// positive, which no measured one may be.
func exponent(points []point) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(points))
	for _, p := range points {
		x, y := math.Log(p.x), math.Log(p.y)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	k := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	if math.IsInf(k, 0) {
		return math.NaN()
	}
	return k + 0 // no -0
}
