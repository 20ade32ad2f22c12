package main

import (
	"encoding/xml"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestExponent(t *testing.T) {
	curve := func(f func(float64) float64) (points []point) {
		for _, x := range []float64{1, 3, 10, 30, 100, 1000} {
			points = append(points, point{x, f(x)})
		}
		return points
	}
	for name, one := range map[string]struct {
		of   func(float64) float64
		want float64
	}{
		"constant":  {func(float64) float64 { return 7 }, 0},
		"linear":    {func(x float64) float64 { return 3 * x }, 1},
		"quadratic": {func(x float64) float64 { return x * x / 9 }, 2},
		"root":      {math.Sqrt, 0.5},
	} {
		if got := exponent(curve(one.of)); math.Abs(got-one.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, one.want)
		}
	}
	// A large fixed cost flattens the whole, not the upper half; that is why both are looked at.
	hidden := curve(func(x float64) float64 { return 5000 + x*x })
	if all, above := exponent(hidden), exponent(upper(hidden)); all > linear || above < linear {
		t.Errorf("5000+x²: %v, of the upper half %v", all, above)
	}
	// No line, or nothing measured: no number that could pass for an aim that is met.
	for _, points := range [][]point{{{2, 3}}, {{2, 3}, {2, 9}}, {{1, 0}, {2, 1}}} {
		if a := (aim{got: exponent(points), sense: "≤", want: linear}); a.met() {
			t.Errorf("%v: exponent %v meets the aim", points, a.got)
		}
	}
}

// The picture is well-formed, and all that it draws is inside of it.
func TestDraw(t *testing.T) {
	picture := draw("a < b & c", []panel{
		{title: "One", x: "bytes", y: "ms", lines: []plotted{
			{name: "fast", points: []point{{10, 0.5}, {1000, 7}}},
			{name: "slow", points: []point{{10, 90}, {1000, 99_999}}}}},
		{title: "Flat, on the axis", x: "n", y: "MB", lines: []plotted{{name: "one", points: []point{{1, 10}, {100, 10}}}}},
	})
	d := xml.NewDecoder(strings.NewReader(picture))
	circles := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch e.Name.Local {
		case "circle":
			circles++
			for _, a := range e.Attr[:2] {
				at, err := strconv.ParseFloat(a.Value, 64)
				low, high := float64(plotLeft), float64(panelWidth-plotRight)
				if a.Name.Local == "cy" {
					low, high = plotTop, panelHeight-plotBottom
				}
				if err != nil || at < low || at > high {
					t.Errorf("a point with %s=%s", a.Name.Local, a.Value)
				}
			}
		}
	}
	if circles != 6 || strings.Count(picture, "stroke-dasharray") != 4 || !strings.Contains(picture, "slow (exponent 1.52)") || strings.Contains(picture, "NaN") {
		t.Errorf("%d points in\n%s", circles, picture)
	}
}

// A load that failed, or came to nothing that has a logarithm, is no point; one point is no line.
func TestAdd(t *testing.T) {
	rows := []*row{{runs: []figures{{cpu: 2}}}, {failed: "451"}, {runs: []figures{{cpu: 0}}}, {runs: []figures{{cpu: 8}}}}
	ten := func(i int) float64 { return float64(10 * (i + 1)) }
	var p panel
	p.add("CPU", ten, rows, cpuOf)
	p.add("CPU", ten, rows[1:], cpuOf)
	if len(p.lines) != 1 || len(p.lines[0].points) != 2 || p.lines[0].points[1] != (point{40, 8}) {
		t.Errorf("%+v", p.lines)
	}
}
