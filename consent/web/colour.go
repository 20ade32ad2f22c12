package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Colour is the operator's colour, as "#rrggbb" in lower case; "" is the built-in one.
type Colour string

const defaultColour Colour = "#1d5a88"

// ParseColour reads a colour of CSS, "#rrggbb" or "#rgb".
func ParseColour(s string) (Colour, error) {
	hex, ok := strings.CutPrefix(strings.ToLower(s), "#")
	if ok && len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	if _, err := strconv.ParseUint(hex, 16, 32); err != nil || !ok || len(hex) != 6 {
		return "", fmt.Errorf("%.40q is not a colour", s)
	}
	return Colour("#" + hex), nil
}

// rgb is a colour of sRGB.
type rgb [3]float64 // 0 to 255

func (c Colour) rgb() rgb {
	if c == "" {
		c = defaultColour
	}
	n, _ := strconv.ParseUint(string(c[1:]), 16, 32)
	return rgb{float64(n >> 16), float64(n >> 8 & 255), float64(n & 255)}
}

func (c rgb) String() string {
	return fmt.Sprintf("#%02x%02x%02x", uint8(c[0]), uint8(c[1]), uint8(c[2]))
}

// luminance is the relative one of WCAG 2.2.
func (c rgb) luminance() float64 {
	var l [3]float64
	for i, v := range c {
		if v /= 255; v <= 0.04045 {
			l[i] = v / 12.92
		} else {
			l[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*l[0] + 0.7152*l[1] + 0.0722*l[2]
}

// contrast is the ratio of WCAG 2.2, from 1 to 21.
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// textContrast is what WCAG 2.2 §1.4.3 asks for at level AA, with something to spare for rounding.
const textContrast = 4.6

// The surfaces of the page that text stands on: those of style.
var (
	lightSurfaces = []rgb{Colour("#ffffff").rgb(), Colour("#f4f3ef").rgb(), Colour("#e6f2ea").rgb()}
	darkSurfaces  = []rgb{Colour("#1d232c").rgb(), Colour("#14181e").rgb(), Colour("#1b3326").rgb()}
	black, white  = rgb{}, rgb{255, 255, 255}
)

// palette is what the page makes of a colour. Every colour can be used: the buttons have it as it
// is, with black or white on it, whichever reads better; lines and text have it as much
// darker or lighter as they must be to be read on the page's surfaces.
type palette struct{ brand, on, light, dark rgb }

func (c Colour) palette() palette {
	p := palette{brand: c.rgb()}
	if p.on = white; contrast(p.brand, black) > contrast(p.brand, white) {
		p.on = black
	}
	p.light = p.brand.towards(black, lightSurfaces)
	p.dark = p.brand.towards(white, darkSurfaces)
	return p
}

// towards mixes as much of another colour into c as it takes to be read on all surfaces.
func (c rgb) towards(other rgb, surfaces []rgb) rgb {
	for share := 0.0; share < 1; share += 1.0 / 64 {
		var mixed rgb
		for i := range c {
			mixed[i] = math.Round(c[i]*(1-share) + other[i]*share)
		}
		least := 21.0
		for _, s := range surfaces {
			least = min(least, contrast(mixed, s))
		}
		if least >= textContrast {
			return mixed
		}
	}
	return other
}
