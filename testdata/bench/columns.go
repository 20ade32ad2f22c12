package main

import (
	"fmt"
	"slices"
)

// column is one of a table of rows.
type column struct {
	title string
	cell  func(*row) string
}

// table is those of the rows that did not fail in these columns, with a heading.
func table(rows []*row, columns ...column) [][]string {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.failed != "" })
	lines := make([][]string, len(rows)+1)
	for _, c := range columns {
		lines[0] = append(lines[0], c.title)
		for i, r := range rows {
			lines[i+1] = append(lines[i+1], c.cell(r))
		}
	}
	return lines
}

// of is a column of medians.
func of(title, format string, f func(figures) float64) column {
	return column{title, func(r *row) string { return fmt.Sprintf(format, r.median(f)) }}
}

var (
	named       = column{"", func(r *row) string { return r.name }}
	connections = column{"connections", func(r *row) string { return fmt.Sprint(r.conns) }}
	recipients  = column{"recipients", func(r *row) string { return fmt.Sprint(r.rcpts) }}

	perSecond         = of("messages/s", "%.0f", rate)
	acceptedPerSecond = of("accepted/s", "%.0f", accepted)
	copiesPerSecond   = column{"recipients/s", func(r *row) string { return fmt.Sprintf("%.0f", float64(r.rcpts)*r.median(rate)) }}
	// the slowest and the fastest run
	spread = column{"slowest–fastest", func(r *row) string {
		values := make([]float64, len(r.runs))
		for i, f := range r.runs {
			values[i] = f.rate
		}
		return fmt.Sprintf("%.0f–%.0f", slices.Min(values), slices.Max(values))
	}}

	cpuEach = column{"CPU ms/message", func(r *row) string { return cpuCell(r, 1) }}
	cpuCopy = column{"CPU ms/recipient", func(r *row) string { return cpuCell(r, r.rcpts) }}
	// what the gateway takes for a copy without the signature
	cpuBeside = column{"without rsa.Sign", func(r *row) string {
		if !r.own {
			return ""
		}
		return fmt.Sprintf("%.2f", besideSign(r))
	}}

	answer50 = of("answer p50 ms", "%.1f", func(f figures) float64 { return f.p50 })
	answer99 = of("p99 ms", "%.1f", func(f figures) float64 { return f.p99 })
	whole50  = of("p50 ms", "%.2f", func(f figures) float64 { return f.whole50 })
	whole99  = of("p99 ms", "%.2f", func(f figures) float64 { return f.whole99 })

	waiting = column{"waiting, most", func(r *row) string { return fmt.Sprintf("%.0f", r.most(func(f figures) float64 { return f.depth })) }}
	longest = column{"longest s", func(r *row) string {
		return fmt.Sprintf("%.1f", r.most(func(f figures) float64 { return f.waiting }))
	}}

	memory = column{"memory MB", func(r *row) string {
		mb := r.median(func(f figures) float64 { return f.memory })
		switch {
		case mb == 0:
			return ""
		case !r.own:
			return fmt.Sprintf("%.0f (PSS)", mb)
		}
		return fmt.Sprintf("%.0f", mb)
	}}
	peak = column{"peak MB", func(r *row) string {
		if !r.own {
			return ""
		}
		return fmt.Sprintf("%.0f", r.peak)
	}}
	others = of("others' load", "%.0f %%", func(f figures) float64 { return f.others })
)

func cpuCell(r *row, parts int) string {
	used := r.median(func(f figures) float64 { return f.cpu })
	if used == 0 { // the bare sink's is not measured
		return ""
	}
	return fmt.Sprintf("%.2f", used/float64(parts))
}
