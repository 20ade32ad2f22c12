package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// panel is a diagram with two logarithmic axes.
type panel struct {
	title, x, y string
	lines       []plotted
}

// plotted is a line in a panel.
type plotted struct {
	name   string
	points []point // in order of x
}

// point is one of a line; both are positive.
type point struct{ x, y float64 }

// The places of things, in the SVG's units.
const (
	panelWidth  = 340
	panelHeight = 360
	plotLeft    = 52
	plotRight   = 20
	plotTop     = 58
	plotBottom  = 58
	legendLine  = 16
	legendMost  = 4
	pictureHigh = panelHeight + legendLine*legendMost + 24
)

// Colours that the colour-blind tell apart (Okabe and Ito).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// draw returns the panels beside each other as an SVG, with a dashed line in each that shows linear
// growth from the first point of its first line.
func draw(title string, panels []panel) string {
	var b strings.Builder
	width := panelWidth * len(panels)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, sans-serif" font-size="12" fill="#222">`+"\n",
		width, pictureHigh, width, pictureHigh)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", escaped(title))
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="15" font-weight="600" text-anchor="middle">%s</text>`+"\n", width/2, escaped(title))
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,0)">`+"\n", i*panelWidth)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis is a logarithmic one that spans whole powers of ten.
type axis struct {
	low, high int // powers of ten
	from, to  float64
}

func newAxis(values []float64, from, to float64) axis {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	a := axis{low: int(math.Floor(math.Log10(least))), high: int(math.Ceil(math.Log10(most))), from: from, to: to}
	if a.high == a.low {
		a.high++
	}
	return a
}

// at is where v is drawn.
func (a axis) at(v float64) float64 {
	share := (math.Log10(v) - float64(a.low)) / float64(a.high-a.low)
	return a.from + share*(a.to-a.from)
}

func (p panel) draw(b *strings.Builder) {
	var xs, ys []float64
	for _, l := range p.lines {
		for _, q := range l.points {
			xs, ys = append(xs, q.x), append(ys, q.y)
		}
	}
	const left, right, top, bottom = plotLeft, panelWidth - plotRight, plotTop, panelHeight - plotBottom
	x, y := newAxis(xs, left, right), newAxis(ys, bottom, top)

	fmt.Fprintf(b, `<text x="%d" y="46" font-size="13" font-weight="600" text-anchor="middle">%s</text>`+"\n", (left+right)/2, escaped(p.title))
	for e := x.low; e <= x.high; e++ {
		at := x.at(math.Pow10(e))
		fmt.Fprintf(b, `<path d="M%.1f %dV%d" stroke="#e2e2e2"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, top, bottom, at, bottom+16, power(e))
	}
	for e := y.low; e <= y.high; e++ {
		at := y.at(math.Pow10(e))
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#e2e2e2"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, at, right, left-6, at+4, power(e))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#777"/>`+"\n", left, top, bottom, right)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+right)/2, bottom+34, escaped(p.x))
	fmt.Fprintf(b, `<text transform="translate(12,%d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+bottom)/2, escaped(p.y))

	// Linear growth, to where it leaves the panel.
	first := p.lines[0].points[0]
	last := min(math.Pow10(x.high), first.x*math.Pow10(y.high)/first.y)
	fmt.Fprintf(b, `<path d="M%.1f %.1fL%.1f %.1f" fill="none" stroke="#888" stroke-dasharray="5 4"/>`+"\n",
		x.at(first.x), y.at(first.y), x.at(last), y.at(first.y*last/first.x))

	for i, l := range p.lines {
		colour := colours[i%len(colours)]
		var path, dots strings.Builder
		for j, q := range l.points {
			command := byte('L')
			if j == 0 {
				command = 'M'
			}
			fmt.Fprintf(&path, "%c%.1f %.1f", command, x.at(q.x), y.at(q.y))
			fmt.Fprintf(&dots, `<circle cx="%.1f" cy="%.1f" r="3"/>`, x.at(q.x), y.at(q.y))
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><g fill="%s">%s</g>`+"\n", path.String(), colour, colour, dots.String())
		at := panelHeight + i*legendLine
		fmt.Fprintf(b, `<path d="M%d %dh22" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s (exponent %.2f)</text>`+"\n",
			left, at-4, colour, left+30, at, escaped(l.name), exponent(l.points))
	}
	at := panelHeight + len(p.lines)*legendLine
	fmt.Fprintf(b, `<path d="M%d %dh22" stroke="#888" stroke-dasharray="5 4"/><text x="%d" y="%d">linear</text>`+"\n", left, at-4, left+30, at)
}

// power is how 10^e is written at an axis.
func power(e int) string {
	switch {
	case e >= 6:
		return "1" + strings.Repeat("0", e-6) + " M"
	case e >= 3:
		return "1" + strings.Repeat("0", e-3) + " k"
	case e >= 0:
		return "1" + strings.Repeat("0", e)
	}
	return fmt.Sprintf("%.*f", -e, math.Pow10(e))
}

func escaped(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}
