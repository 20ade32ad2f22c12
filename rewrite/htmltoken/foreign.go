package htmltoken

// maxOpen bounds openElements, so that an end tag costs a bounded search.
const maxOpen = 256

// space of names of an open element.
const (
	html = iota
	svg
	math
)

// What an open element of svg or math is for the rules of §13.2.6.
const (
	noPoint       = iota
	htmlPoint     // HTML integration point: HTML rules hold for the start tags inside
	textPoint     // MathML text integration point: so too, but for mglyph and malignmark
	annotationXML // an annotation-xml that is no integration point: so too for svg
)

type element struct {
	key    uint64
	traits traits // of an html element
	ns     uint8
	point  uint8
}

// openElements is the tokenizer's notion of the stack of open elements (§13.2.4.2). It serves one question:
// is this place foreign content? See the package comment for where it differs from a browser's.
type openElements struct {
	n     int
	stack [maxOpen]element
}

func (o *openElements) reset() { o.n = 0 }

// foreign reports whether the current node is an element of svg or math.
func (o *openElements) foreign() bool { return o.n > 0 && o.stack[o.n-1].ns != html }

func (o *openElements) push(e element) {
	if o.n == maxOpen {
		copy(o.stack[:], o.stack[1:])
		o.n--
	}
	o.stack[o.n] = e
	o.n++
}

// start takes note of a start tag and returns the name of the element if its content is raw text.
func (o *openElements) start(src []byte, t *Token) (raw string) {
	name := src[t.NameStart:t.NameEnd]
	key := nameKey(name)
	known := lookup(name, key)
	if o.foreign() && !o.htmlRules(known.traits) {
		if known.traits&breakout == 0 && !(known.traits&font != 0 && fontBreaksOut(src, t)) {
			if !t.SelfClosing {
				ns := o.stack[o.n-1].ns
				o.push(element{key: key, ns: ns, point: pointOf(ns, known.traits, src, t)})
			}
			return ""
		}
		o.leave()
	}
	switch {
	case known.traits&(svgRoot|mathRoot) != 0:
		if t.SelfClosing {
			return ""
		}
		ns := uint8(svg)
		if known.traits&mathRoot != 0 {
			ns = math
		}
		o.push(element{key: key, ns: ns})
		return ""
	case known.traits&unlisted != 0:
		return ""
	case known.traits&needsTable != 0 && !o.inTable():
		return "" // ignored (§13.2.6.4.7)
	}
	if key == keyA { // §13.2.6.4.7, a start tag whose tag name is "a"
		o.endHTML(key, known.traits)
	}
	// An end tag that was left out (§13.2.6.4.7), where it is plain to see.
	if o.n > 0 {
		top := &o.stack[o.n-1]
		if top.ns == html && (known.traits&closesP != 0 && top.key == keyP || known.traits&closesSame != 0 && top.key == key) {
			o.n--
		}
	}
	o.push(element{key: key, traits: known.traits})
	return known.raw
}

// htmlRules reports whether a start tag in foreign content goes by the rules for HTML (§13.2.6).
func (o *openElements) htmlRules(tr traits) bool {
	switch o.stack[o.n-1].point {
	case htmlPoint:
		return true
	case textPoint:
		return tr&mathGlyph == 0
	case annotationXML:
		return tr&svgRoot != 0
	}
	return false
}

// inTable reports whether a table is open around this place.
func (o *openElements) inTable() bool {
	for i := o.n - 1; i >= 0; i-- {
		e := &o.stack[i]
		if e.ns == html && e.traits&table != 0 {
			return true
		}
		if e.point != noPoint {
			return false
		}
	}
	return false
}

// leave closes elements up to one in which HTML may stand (§13.2.6.5, what breaks out of foreign content).
func (o *openElements) leave() {
	for o.n > 0 {
		e := &o.stack[o.n-1]
		if e.ns == html || e.point == htmlPoint || e.point == textPoint {
			return
		}
		o.n--
	}
}

// end takes note of an end tag.
func (o *openElements) end(name []byte) {
	key := nameKey(name)
	if o.n > 0 && o.stack[o.n-1].ns == html && o.stack[o.n-1].key == key {
		o.n--
		return
	}
	known := lookup(name, key)
	if o.foreign() {
		if key == keyP || key == keyBr {
			o.leave()
		}
		for i := o.n - 1; i >= 0 && o.stack[i].ns != html; i-- { // §13.2.6.5, any other end tag
			if o.stack[i].key == key {
				o.n = i
				return
			}
		}
	}
	o.endHTML(key, known.traits)
}

// endHTML closes the nearest open HTML element of that name, if its end tag reaches it (§13.2.6.4.7).
func (o *openElements) endHTML(key uint64, tr traits) {
	if tr&unlisted != 0 {
		return
	}
	stop := special // any other end tag
	switch {
	case tr&tablePart != 0:
		stop = tableScope
	case key == keyLi:
		stop = scope | listScope
	case tr&(special|formatting) != 0:
		stop = scope
	}
	blocks, last := 0, 0
	for i := o.n - 1; i >= 0; i-- {
		e := &o.stack[i]
		switch {
		case e.ns != html:
			if e.point != noPoint {
				return // all of them end a scope and are special
			}
		case e.key == key || e.traits&tr&heading != 0:
			switch {
			case blocks > 0 && tr&formatting != 0:
				o.adopt(i, blocks, last)
			case tr&alone != 0:
				copy(o.stack[i:o.n], o.stack[i+1:o.n])
				o.n--
			default:
				o.n = i
			}
			return
		case e.traits&stop != 0:
			return
		case e.traits&special != 0:
			if blocks == 0 {
				last = i
			}
			blocks++
		}
	}
}

// adopt does to the stack what the adoption agency does (§13.2.6.4.7) when the formatting element at i ends
// and blocks stand open inside of it, the innermost at last: they stay open and it does not.
func (o *openElements) adopt(i, blocks, last int) {
	kept := i
	for j := i + 1; j < o.n; j++ {
		e := o.stack[j]
		if j > last && blocks < 8 {
			break // the agency works 8 times at most, once a block and once to close what is in the last
		}
		if j > last || e.ns == html && e.traits&(special|formatting) != 0 {
			o.stack[kept] = e
			kept++
		}
	}
	o.n = kept
}

func pointOf(ns uint8, tr traits, src []byte, t *Token) uint8 {
	switch {
	case ns == svg && tr&svgPoint != 0:
		return htmlPoint
	case ns == math && tr&mathText != 0:
		return textPoint
	case ns == math && tr&annotation != 0:
		if a, ok := t.Attr(src, "encoding"); ok {
			v := src[a.ValueStart:a.ValueEnd]
			if EqualFold(v, "text/html") || EqualFold(v, "application/xhtml+xml") {
				return htmlPoint
			}
		}
		return annotationXML
	}
	return noPoint
}

func fontBreaksOut(src []byte, t *Token) bool {
	for _, name := range [...]string{"color", "face", "size"} {
		if _, ok := t.Attr(src, name); ok {
			return true
		}
	}
	return false
}
