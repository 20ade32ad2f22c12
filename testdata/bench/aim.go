package main

import (
	"fmt"
	"strings"
)

// aim is a figure beside what it is to be.
type aim struct {
	what    string
	got     float64
	unit    string // "times", "ms", "MB"; "" is a bare number
	sense   string // "≥", "≤" or "<" than want; "" where the figure is shown and nothing is asked of it
	want    float64
	missing string // why there is no figure: the peer was left out
	failed  string // why there is no figure: what was measured failed
}

// met says whether got is as it is to be.
func (a aim) met() bool {
	if a.missing != "" || a.failed != "" {
		return false
	}
	switch a.sense {
	case "≥":
		return a.got >= a.want
	case "≤":
		return a.got <= a.want
	case "<":
		return a.got < a.want
	}
	return true
}

// cells are those of a line in the table of aims.
func (a aim) cells() []string {
	unit := a.unit
	if unit != "" {
		unit = " " + unit
	}
	number := "%.2f"
	if a.unit == "MB" {
		number = "%.0f"
	}
	got, want, met := fmt.Sprintf(number, a.got)+unit, "", ""
	if a.sense != "" {
		want = fmt.Sprintf("%s %g%s", a.sense, a.want, unit)
		met = "**no**"
		if a.met() {
			met = "yes"
		}
	}
	if a.missing != "" {
		got, met = "not measured", ""
	}
	if a.failed != "" {
		got = "failed: " + strings.Join(strings.Fields(a.failed), " ")
	}
	return []string{a.what, got, want, met}
}

// ratio is by how much the gateway does more than a peer under the same load, as an aim of at least
// want; 0 = nothing is asked.
func (b *bench) ratio(rows []*row, own, other string, conns int, what string, of func(figures) float64, want float64) aim {
	a := aim{what: fmt.Sprintf("%s, %d connections: %s beside %s", own, conns, what, other), unit: "times", want: want}
	if want > 0 {
		a.sense = "≥"
	}
	theirs := find(rows, other, conns)
	if theirs == nil {
		a.missing = b.peers.missing[other]
		return a
	}
	mine := find(rows, own, conns)
	return a.of(func() float64 { return mine.times(theirs, of) }, mine, theirs)
}

// of is the aim with its figure, which comes of these rows: none where one of them failed.
func (a aim) of(got func() float64, rows ...*row) aim {
	for _, r := range rows {
		if r.failed != "" {
			a.failed = r.failed
			return a
		}
	}
	a.got = got()
	return a
}

// besideSign is the CPU a copy without that of a bare rsa.Sign.
func besideSign(r *row) float64 {
	return r.median(func(f figures) float64 { return f.cpu })/float64(r.rcpts) - r.sign
}
