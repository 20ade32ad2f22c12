package rewrite

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
)

// look is what attributes and style say of an element's size and of whether it is seen.
type look struct {
	width, height float64 // px; unknownSide if not said, or not in px
	hidden        bool
	stated        bool // something is said of its size, in whatever unit
}

const unknownSide = -1

// tiny is the size of a pixel: both sides at most 3 px, or one side 0. A picture 1 px wide that
// leaves its height to its proportions counts too.
func (l look) tiny() bool {
	switch {
	case l.width == 0 || l.height == 0:
		return true
	case l.width >= 0 && l.height >= 0:
		return l.width <= 3 && l.height <= 3
	}
	return l.width >= 0 && l.width <= 1
}

// attrSide reads a width or height attribute (WHATWG HTML, rules for parsing dimension values).
func attrSide(v string) float64 {
	v = strings.TrimLeft(v, " \t\r\n\f+")
	n := 0
	for n < len(v) && (v[n] >= '0' && v[n] <= '9' || v[n] == '.') {
		n++
	}
	f, err := strconv.ParseFloat(v[:n], 64)
	if err != nil || strings.HasPrefix(strings.TrimSpace(v[n:]), "%") {
		return unknownSide
	}
	return f
}

// cssSide reads a CSS length.
func cssSide(v string) float64 {
	n := 0
	for n < len(v) && (v[n] >= '0' && v[n] <= '9' || v[n] == '.') {
		n++
	}
	f, err := strconv.ParseFloat(v[:n], 64)
	if err != nil {
		return unknownSide
	}
	switch v[n:] {
	case "", "px":
		return f
	case "pt":
		return f * 4 / 3
	case "em", "rem", "ex", "ch":
		return f * 8
	}
	if f == 0 {
		return 0
	}
	return unknownSide
}

// apply lets the declarations of a style attribute or rule change l; what CSS says beats the
// attributes.
func (l *look) apply(style string) {
	if style == "" {
		return
	}
	maxW, maxH := float64(unknownSide), float64(unknownSide)
	none := false // the last display counts, whatever else hides
	for name, value := range declarations(style) {
		switch name {
		case "width", "height", "max-width", "max-height":
			l.stated = l.stated || value != "auto" && value != "none"
		}
		switch name {
		case "width":
			l.width = cssSide(value)
		case "height":
			l.height = cssSide(value)
		case "max-width":
			maxW = cssSide(value)
		case "max-height":
			maxH = cssSide(value)
		case "display":
			none = value == "none"
		case "visibility":
			l.hidden = l.hidden || value == "hidden" || value == "collapse"
		case "opacity":
			if f, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64); err == nil && f < 0.01 {
				l.hidden = true
			}
		}
	}
	l.hidden = l.hidden || none
	if maxW >= 0 && (l.width < 0 || maxW < l.width) && maxW <= 3 {
		l.width = maxW
	}
	if maxH >= 0 && (l.height < 0 || maxH < l.height) && maxH <= 3 {
		l.height = maxH
	}
}

// hides reports whether what stands inside an element with this style is not seen.
func hides(style string) bool {
	if style == "" {
		return false
	}
	var clipped, zero bool
	l := look{width: unknownSide, height: unknownSide}
	for name, value := range declarations(style) {
		switch name {
		case "overflow", "overflow-x", "overflow-y":
			clipped = clipped || value == "hidden"
		case "max-height", "height", "max-width", "width":
			zero = zero || cssSide(value) == 0
		}
	}
	l.apply(style)
	return l.hidden || clipped && zero
}

// declarations takes a declaration list apart: comments and escapes resolved, names and values
// lower-cased, without !important. It passes over those that say nothing of size or visibility,
// which are most.
func declarations(style string) iter.Seq2[string, string] {
	style = cssPlain(style)
	return func(yield func(name, value string) bool) {
		for rest := style; rest != ""; {
			var d string
			d, rest, _ = strings.Cut(rest, ";")
			name, value, ok := strings.Cut(d, ":")
			if name = strings.TrimSpace(name); !ok || name == "" || strings.IndexByte("dvowhmDVOWHM", name[0]) < 0 {
				continue
			}
			value = strings.TrimSpace(strings.ToLower(value))
			if v, ok := strings.CutSuffix(value, "important"); ok {
				value = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "!"))
			}
			if !yield(strings.ToLower(name), value) {
				return
			}
		}
	}
}

// cssPlain resolves comments and escapes.
func cssPlain(s string) string {
	if !strings.ContainsAny(s, "\\/") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			end := strings.Index(s[i+2:], "*/")
			if end < 0 {
				return b.String()
			}
			i += end + 4
		case s[i] == '\\':
			r, n := cssEscape(s[i:])
			b.WriteRune(r)
			i += n
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String()
}

// styleSheets returns the contents of the style elements.
func styleSheets(src []byte) []string {
	var out []string
	for len(src) > 0 {
		i := indexFold(src, "<style")
		if i < 0 {
			break
		}
		src = src[i:]
		gt := bytes.IndexByte(src, '>')
		if gt < 0 {
			break
		}
		src = src[gt+1:]
		end := indexFold(src, "</style")
		if end < 0 {
			end = len(src)
		}
		out = append(out, string(src[:end]))
		src = src[end:]
	}
	return out
}

// indexFold is bytes.Index without case; lower begins with '<'.
func indexFold(b []byte, lower string) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '<')
		if i < 0 || at+i+len(lower) > len(b) {
			return -1
		}
		at += i
		if strings.EqualFold(string(b[at:at+len(lower)]), lower) {
			return at
		}
		at++
	}
}
