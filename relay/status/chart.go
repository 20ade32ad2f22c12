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
	Title, Note string
	Bands       []band
	SVG         template.HTML
	Top         string // what its upper edge stands for
	Empty       bool   // there is nothing to draw
}

// bars draws bands above each other, a bar for each minute.
func bars(title, note string, bands ...band) chart {
	top := 0.0
	for i := range minutes {
		sum := 0.0
		for _, b := range bands {
			sum += positive(b.values[i])
		}
		top = math.Max(top, sum)
	}
	c := chart{Title: title, Note: note, Bands: bands, Empty: top == 0}
	top = round(top)
	c.Top = count(top)
	var s strings.Builder
	begin(&s, title+", for each of the last 60 minutes. "+totals(bands))
	const step = float64(width) / minutes
	for i := range minutes {
		y := float64(height)
		for _, b := range bands {
			h := positive(b.values[i]) / top * height
			if h == 0 {
				continue
			}
			h = math.Max(h, 1)
			y -= h
			fmt.Fprintf(&s, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, b.Class, float64(i)*step+1, y, step-2, h)
		}
	}
	c.SVG = end(&s)
	return c
}

// lines draws bands as lines, the first one filled; unit writes a value.
func lines(title, note string, unit func(float64) string, bands ...band) chart {
	top, any := 0.0, false
	for _, b := range bands {
		for _, v := range b.values {
			if !math.IsNaN(v) {
				any = true
				top = math.Max(top, v)
			}
		}
	}
	c := chart{Title: title, Note: note, Bands: bands, Empty: !any || top == 0}
	top = round(top * 1.1)
	c.Top = unit(top)
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
	begin(&s, title+" in the last 60 minutes. "+strings.Join(said, ", "))
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
				fmt.Fprintf(&path, " %.1f,%.1f", x(to), y(b.values[to], top))
			}
			if to == from+1 { // a lone minute is a dash
				fmt.Fprintf(&path, " %.1f,%.1f", x(from)+6, y(b.values[from], top))
			}
			if n == 0 {
				fmt.Fprintf(&s, `<polygon class="%s area" points="%.1f,%d%s %.1f,%d"/>`, b.Class, x(from), height, path.String(), math.Max(x(to-1), x(from)+6*number(to == from+1)), height)
			}
			fmt.Fprintf(&s, `<polyline class="%s line" points="%s"/>`, b.Class, strings.TrimSpace(path.String()))
			from = to
		}
	}
	c.SVG = end(&s)
	return c
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func x(minute int) float64         { return (float64(minute) + .5) * width / minutes }
func y(value, top float64) float64 { return height - 3 - value/top*(height-6) }

func begin(s *strings.Builder, label string) {
	fmt.Fprintf(s, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(label))
	for _, y := range []float64{.5, height / 2, height - .5} {
		fmt.Fprintf(s, `<line class="grid" x1="0" x2="%d" y1="%.1f" y2="%.1f"/>`, width, y, y)
	}
}

func end(s *strings.Builder) template.HTML {
	s.WriteString("</svg>")
	return template.HTML(s.String()) // of numbers, fixed names and escaped text
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

// round returns the next number above v that is easy to read, 1 at least for whole numbers; small ones stay small.
func round(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if v <= n*unit*1.0001 {
			return n * unit
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
		return fmt.Sprintf("%.1f ms", seconds*1000)
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 10:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 7200:
		return fmt.Sprintf("%.0f min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%.0f h", seconds/3600)
	}
	return fmt.Sprintf("%.0f days", seconds/86400)
}
