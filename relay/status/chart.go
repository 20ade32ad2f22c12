package status

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Charts are SVG of 600 by 120, which the page stretches to its width; text stands beside them, where it keeps its
// size. Colours are classes of the style sheet.

const width, height = 600, 120

// band is what is drawn of one name: its values a minute, and the class that colours it.
type band struct {
	Name, Class string
	values      []float64
}

// chart is a picture with what a reader needs beside it.
type chart struct {
	Title, Note    string
	Bands          []band
	SVG            template.HTML
	Top, Half, Low string // what its edges and the line between them stand for
	Empty          bool   // there is nothing to draw
	unit           func(float64) string
}

// least is how high the smallest bar is, so that a burst does not hide the others.
const least = 1.5

const step = float64(width) / minutes

// bars draws bands above each other, a bar for each minute.
func (v *view) bars(title, note string, bands ...band) chart {
	top := 0.0
	for i := range minutes {
		sum := 0.0
		for _, b := range bands {
			sum += positive(b.values[i])
		}
		top = math.Max(top, sum)
	}
	c := chart{Title: title, Note: note, Bands: bands, Empty: top == 0, unit: count}
	top = round(top, true)
	c.Top, c.Half, c.Low = count(top), count(top/2), "0"
	var s strings.Builder
	v.begin(&s, title+", for each of the last 60 minutes. "+totals(bands))
	paths := make([]strings.Builder, len(bands))
	for i := range minutes {
		high, sum, tallest := make([]float64, len(bands)), 0.0, 0
		for n, b := range bands {
			if h := positive(b.values[i]) / top * height; h > 0 {
				high[n] = math.Max(h, least)
			}
			sum += high[n]
			if high[n] > high[tallest] {
				tallest = n
			}
		}
		high[tallest] -= math.Max(0, sum-height) // what the small ones were given
		y := float64(height)
		for n, h := range high {
			if h > 0 {
				fmt.Fprintf(&paths[n], "M%s %sh%gv-%sh-%gz", short(float64(i)*step+1), short(y), step-2, short(h), step-2)
				y -= h
			}
		}
	}
	for n, b := range bands {
		if paths[n].Len() > 0 {
			fmt.Fprintf(&s, `<path class="%s fill" d="%s"/>`, b.Class, paths[n].String())
		}
	}
	v.end(&s, &c)
	return c
}

// lines draws bands as lines, the first one filled; unit writes a value.
func (v *view) lines(title, note string, unit func(float64) string, whole bool, bands ...band) chart {
	top, any := 0.0, false
	for _, b := range bands {
		for _, v := range b.values {
			if !math.IsNaN(v) {
				any = true
				top = math.Max(top, v)
			}
		}
	}
	c := chart{Title: title, Note: note, Bands: bands, Empty: !any || top == 0, unit: unit}
	top = round(top*1.1, whole)
	c.Top, c.Half, c.Low = unit(top), unit(top/2), "0"
	var s strings.Builder
	var said []string
	for _, b := range bands {
		last := math.NaN()
		for _, v := range b.values {
			if !math.IsNaN(v) {
				last = v
			}
		}
		if !math.IsNaN(last) {
			said = append(said, b.Name+" is now "+unit(last))
		}
	}
	v.begin(&s, title+" in the last 60 minutes. "+strings.Join(said, ", "))
	for n, b := range bands {
		if c.Empty {
			break
		}
		for from := 0; from < minutes; from++ {
			if math.IsNaN(b.values[from]) {
				continue
			}
			var path strings.Builder
			to := from
			for ; to < minutes && !math.IsNaN(b.values[to]); to++ {
				fmt.Fprintf(&path, " %s,%s", short(x(to)), short(y(b.values[to], top)))
			}
			left, right := x(from), x(to-1)
			if to == from+1 { // a lone minute is a dash
				left, right = left-step/2+1, right+step/2-1
				path.Reset()
				fmt.Fprintf(&path, " %s,%s %[3]s,%[2]s", short(left), short(y(b.values[from], top)), short(right))
			}
			if n == 0 {
				fmt.Fprintf(&s, `<polygon class="%s area" points="%s,%d%s %s,%d"/>`, b.Class, short(left), height, path.String(), short(right), height)
			}
			fmt.Fprintf(&s, `<polyline class="%s line" points="%s"/>`, b.Class, strings.TrimSpace(path.String()))
			from = to
		}
	}
	v.end(&s, &c)
	return c
}

func x(minute int) float64         { return (float64(minute) + .5) * step }
func y(value, top float64) float64 { return height - 3 - value/top*(height-6) }

// short writes a coordinate.
func short(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// begin draws what stands behind: the time before the gateway ran, and the lines of the grid.
func (v *view) begin(s *strings.Builder, label string) {
	fmt.Fprintf(s, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(label))
	if n := v.unknown(); n > 0 {
		fmt.Fprintf(s, `<rect class="before" width="%s" height="%d" fill="url(#before)"><title>before the start</title></rect>`, short(float64(n)*step), height)
	}
	for _, y := range []float64{.5, height / 2, height - .5} {
		fmt.Fprintf(s, `<line class="grid" x1="0" x2="%d" y1="%s" y2="%s"/>`, width, short(y), short(y))
	}
}

// end lays over each minute what a mouse that rests on it is told.
func (v *view) end(s *strings.Builder, c *chart) {
	for i := v.unknown(); i < minutes && !c.Empty; i++ {
		var said []string
		for _, b := range c.Bands {
			if value := b.values[i]; value > 0 {
				said = append(said, b.Name+" "+c.unit(value))
			}
		}
		if said != nil {
			fmt.Fprintf(s, `<rect class="tip" x="%s" width="%g" height="%d"><title>%s UTC: %s</title></rect>`, short(float64(i)*step), step, height, v.minute(i), template.HTMLEscapeString(strings.Join(said, ", ")))
		}
	}
	s.WriteString("</svg>")
	c.SVG = template.HTML(s.String()) // of numbers, fixed names and escaped text
}

// figures are charts as a table, the newest minute first.
type figures struct {
	Charts []chart
	Rows   []figuresRow
}

type figuresRow struct {
	Minute string
	Cells  []string
}

func (v *view) figures(charts ...chart) figures {
	f := figures{Charts: charts}
	for i := minutes - 1; i >= v.unknown(); i-- {
		row := figuresRow{Minute: v.minute(i)}
		for _, c := range charts {
			for _, b := range c.Bands {
				cell := "–"
				if !math.IsNaN(b.values[i]) {
					cell = c.unit(b.values[i])
				}
				row.Cells = append(row.Cells, cell)
			}
		}
		f.Rows = append(f.Rows, row)
	}
	return f
}

func totals(bands []band) string {
	var said []string
	for _, b := range bands {
		sum := 0.0
		for _, v := range b.values {
			sum += positive(v)
		}
		said = append(said, b.Name+" "+count(sum))
	}
	return "In all: " + strings.Join(said, ", ") + "."
}

func positive(v float64) float64 {
	if v > 0 { // not NaN either
		return v
	}
	return 0
}

// round returns the next number above v that is easy to read; with whole, its half is a whole number too.
func round(v float64, whole bool) float64 {
	if v <= 0 {
		v = 1
	}
	if whole {
		v = math.Max(v, 2)
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if top := n * unit; v <= top*1.0001 && (!whole || math.Mod(top, 2) == 0) {
			return top
		}
	}
	return 10 * unit
}

// count writes a number with its thousands parted.
func count(v float64) string {
	if v < 10 && v != math.Trunc(v) {
		return fmt.Sprintf("%.1f", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// duration writes seconds in the unit that fits.
func duration(seconds float64) string {
	switch {
	case math.IsNaN(seconds):
		return "–"
	case seconds == 0:
		return "0"
	case seconds < .001:
		return fmt.Sprintf("%.2g ms", seconds*1000)
	case seconds < .01:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", seconds*1000), ".0") + " ms"
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", seconds), ".0") + " s"
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 600 && math.Mod(seconds, 60) != 0:
		return fmt.Sprintf("%.1f min", seconds/60)
	case seconds < 7200:
		return fmt.Sprintf("%.0f min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%.0f h", seconds/3600)
	}
	return fmt.Sprintf("%.0f days", seconds/86400)
}
