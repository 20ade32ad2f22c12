package rewrite

import (
	"bytes"
	"iter"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// look is what attributes and style say of an element's size and of whether it is seen.
type look struct {
	width, height float64 // px; unknownSide if not said, otherSide if not in px
	hidden        bool
	stated        bool // something is said of its size, in whatever unit
}

const (
	unknownSide = -1
	otherSide   = -2
)

// tiny is the size of a pixel: both sides at most 3 px, or one side 0. A picture one side of which
// is 1 px counts too where nothing is said of the other, or it is 1 px wide.
func (l look) tiny() bool {
	switch {
	case l.width == 0 || l.height == 0:
		return true
	case l.width >= 0 && l.height >= 0:
		return l.width <= 3 && l.height <= 3
	}
	return l.width >= 0 && l.width <= 1 || l.width == unknownSide && l.height >= 0 && l.height <= 1
}

// attrSide reads a width or height attribute (WHATWG HTML, rules for parsing dimension values).
func attrSide(v string) float64 {
	v = strings.TrimLeft(v, " \t\r\n\f+")
	n := 0
	for n < len(v) && (v[n] >= '0' && v[n] <= '9' || v[n] == '.') {
		n++
	}
	f, err := strconv.ParseFloat(v[:n], 64)
	switch {
	case err != nil:
		return unknownSide
	case strings.HasPrefix(strings.TrimSpace(v[n:]), "%") && f > 0:
		return otherSide
	}
	return f
}

// cssSide reads a CSS length, in lower case. ok is false for what is none: such a declaration does
// not count (CSS Syntax §2.2).
func cssSide(v string) (px float64, ok bool) {
	if inner, found := strings.CutPrefix(v, "calc("); found {
		if inner, found = strings.CutSuffix(inner, ")"); found && !strings.ContainsAny(inner, " (") {
			v = inner
		}
	}
	n := 0
	if n < len(v) && v[n] == '+' {
		n++
	}
	for n < len(v) && (v[n] >= '0' && v[n] <= '9' || v[n] == '.') {
		n++
	}
	if n+1 < len(v) && v[n] == 'e' { // 1e0px; but 1em is a unit
		k := n + 1
		if v[k] == '+' || v[k] == '-' {
			k++
		}
		if k < len(v) && v[k] >= '0' && v[k] <= '9' {
			for n = k; n < len(v) && v[n] >= '0' && v[n] <= '9'; n++ {
			}
		}
	}
	f, err := strconv.ParseFloat(v[:n], 64)
	if err != nil {
		switch v {
		case "auto", "none", "inherit", "initial", "unset", "revert", "revert-layer", "min-content", "max-content", "fit-content", "stretch", "-webkit-fill-available", "-moz-available":
			return otherSide, true
		}
		return otherSide, strings.IndexByte(v, '(') > 0
	}
	switch v[n:] {
	case "", "px":
		return f, true
	case "pt":
		return f * 4 / 3, true
	case "em", "rem", "ex", "ch":
		return f * 8, true
	case "in":
		return f * 96, true
	case "cm":
		return f * 37.8, true
	case "mm":
		return f * 3.78, true
	case "pc":
		return f * 16, true
	case "q":
		return f * 0.945, true
	case "%", "vw", "vh", "vmin", "vmax", "svw", "svh", "lvw", "lvh", "dvw", "dvh", "vi", "vb", "cqw", "cqh", "lh", "rlh", "cap", "ic":
		if f == 0 {
			return 0, true
		}
		return otherSide, true
	}
	return 0, false
}

// showsBox reports whether a value of display shows a box.
func showsBox(display string) bool {
	switch display {
	case "block", "inline", "inline-block", "flex", "inline-flex", "grid", "inline-grid", "list-item", "contents", "table", "inline-table",
		"table-row", "table-cell", "table-row-group", "table-header-group", "table-footer-group", "table-column", "table-column-group",
		"table-caption", "flow-root", "run-in", "initial", "inherit", "unset", "revert", "revert-layer":
		return true
	}
	return false
}

// apply lets the declarations of a style attribute or rule change l; what CSS says beats the
// attributes, and what is important beats the rest. clipped says that what is too large for the
// box is not seen, zero that one of its sides, or the most that it may be, is 0.
func (l *look) apply(style string) (clipped, zero bool) {
	if style == "" {
		return false, false
	}
	maxW, maxH := float64(unknownSide), float64(unknownSide)
	var away, absolute, gone bool
	var strong [5]bool // of what !important was said
	side := func(n int, to *float64, value string, important bool) {
		px, ok := cssSide(value)
		if !ok || strong[n] && !important {
			return
		}
		strong[n] = strong[n] || important
		l.stated = l.stated || value != "auto" && value != "none"
		*to = px
		zero = zero || px == 0
	}
	for d := range declarations(style) {
		value := d.value
		switch d.name {
		case "width", "inline-size":
			side(0, &l.width, value, d.important)
		case "height", "block-size":
			side(1, &l.height, value, d.important)
		case "max-width", "max-inline-size":
			side(2, &maxW, value, d.important)
		case "max-height", "max-block-size":
			side(3, &maxH, value, d.important)
		case "display":
			if (value == "none" || showsBox(value)) && (d.important || !strong[4]) {
				l.hidden, strong[4] = value == "none", d.important
			}
		case "visibility":
			gone = gone || value == "hidden" || value == "collapse"
		case "content-visibility":
			gone = gone || value == "hidden"
		case "opacity":
			if f, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64); err == nil && f < 0.01 {
				gone = true
			}
		case "filter":
			gone = gone || value == "opacity(0)" || value == "opacity(0%)" || strings.Contains(value, "opacity=0)")
		case "transform":
			gone = gone || strings.Contains(value, "scale(0)")
		case "clip", "clip-path":
			switch strings.ReplaceAll(strings.ReplaceAll(value, " ", ""), "px", "") {
			case "rect(0,0,0,0)", "rect(0000)", "rect(1,1,1,1)", "rect(1111)", "inset(50%)", "inset(100%)", "circle(0)":
				gone = true
			}
		case "position":
			absolute = value == "absolute" || value == "fixed"
		case "left", "right", "top":
			if px, err := strconv.ParseFloat(strings.TrimSuffix(value, "px"), 64); err == nil && px <= -900 {
				away = true
			}
		case "overflow", "overflow-x", "overflow-y":
			clipped = clipped || value == "hidden" || value == "clip"
		}
	}
	l.hidden = l.hidden || gone || away && absolute
	if maxW >= 0 && (l.width < 0 || maxW < l.width) && maxW <= 3 {
		l.width = maxW
	}
	if maxH >= 0 && (l.height < 0 || maxH < l.height) && maxH <= 3 {
		l.height = maxH
	}
	return clipped, zero
}

// styleFacts is what is asked of every style.
type styleFacts struct {
	style string
	hides bool // see hides
	calls bool // it may fetch something, or hold what fetches elsewhere
}

var noStyle styleFacts

// about says of a style what is asked of every one. Most styles of a mail come again and again, so what was
// said of the last ones is remembered.
func (f *htmlFinder) about(style string) *styleFacts {
	if style == "" {
		return &noStyle
	}
	last := &f.styles[(len(style)+int(style[len(style)/2])*5)%len(f.styles)]
	if last.style != style {
		*last = styleFacts{style, hides(style), strings.IndexByte(style, '(') >= 0 || strings.IndexByte(style, '\\') >= 0 || strings.Contains(style, "--")}
	}
	return last
}

// hides reports whether what stands inside an element with this style is not seen.
func hides(style string) bool {
	l := look{width: unknownSide, height: unknownSide}
	clipped, zero := l.apply(style)
	return l.hidden || clipped && (zero || l.width >= 0 && l.height >= 0 && l.tiny())
}

// declaration is one of a style, its name and value in lower case.
type declaration struct {
	name, value string
	important   bool
}

// declarations takes a declaration list apart, comments and escapes resolved. It passes over those
// that say nothing of size or visibility, which are most.
func declarations(style string) iter.Seq[declaration] {
	style = cssPlain(style)
	return func(yield func(declaration) bool) {
		closed := true
		for rest := style; rest != ""; {
			n := -1
			if closed {
				n, closed = declarationEnd(rest)
			}
			if !closed {
				if n = strings.IndexByte(rest, ';'); n < 0 {
					n = len(rest)
				}
			}
			name, value, ok := strings.Cut(rest[:n], ":")
			rest = rest[min(n+1, len(rest)):]
			if name = strings.TrimSpace(name); !ok || len(name) < 3 || !tellingFirst[name[0]] {
				continue
			}
			switch lower := strings.ToLower(name); lower {
			case "display", "visibility", "opacity", "overflow", "overflow-x", "overflow-y", "width", "height", "max-width", "max-height",
				"inline-size", "block-size", "max-inline-size", "max-block-size", "transform", "clip", "clip-path", "content-visibility",
				"position", "left", "right", "top", "filter":
				name = lower
			default:
				continue
			}
			d := declaration{name: name, value: strings.TrimSpace(strings.ToLower(value))}
			if v, ok := strings.CutSuffix(d.value, "important"); ok {
				d.value, d.important = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "!")), true
			}
			if !yield(d) {
				return
			}
		}
	}
}

// tellingFirst are the first letters of the properties that say something of size or visibility.
var tellingFirst = func() (t [256]bool) {
	for _, c := range "dvowhmibtcplrf" {
		t[c], t[c-0x20] = true, true
	}
	return t
}()

// declarationEnd returns where the first declaration of a list ends: at a semicolon outside of
// strings and brackets. closed is false where one of these has no end: readers differ on what
// comes behind, and it is read as if there were none.
func declarationEnd(s string) (n int, closed bool) {
	for n < len(s) && !declarationBytes[s[n]] {
		n++
	}
	if n == len(s) || s[n] == ';' {
		return n, true
	}
	if strings.IndexByte(s[n:], ';') < 0 {
		return len(s), true
	}
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == quote || c == '\n' {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth = max(depth-1, 0)
		case c == ';' && depth == 0:
			return i, true
		}
	}
	return len(s), depth == 0 && quote == 0
}

// declarationBytes are those that may end a declaration, or hide its end.
var declarationBytes = [256]bool{';': true, '"': true, '\'': true, '(': true}

// cssPlain resolves comments and escapes.
func cssPlain(s string) string {
	if strings.IndexByte(s, '\\') < 0 && !strings.Contains(s, "/*") {
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

// indexFold is bytes.Index without case; lower begins with '<' and goes on.
func indexFold(b []byte, lower string) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '<')
		if i < 0 || at+i+len(lower) > len(b) {
			return -1
		}
		at += i
		if b[at+1]|0x20 == lower[1]|0x20 && htmltoken.EqualFold(b[at:at+len(lower)], lower) {
			return at
		}
		at++
	}
}
