package rewrite

import (
	"cmp"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// role is what an attribute can do on opening.
type role uint8

const (
	fetching    role = iota + 1 // a reader may fetch its address
	hrefFetched                 // so on the elements of fetchesHref
	document                    // it holds HTML
	styled                      // it holds CSS, or an address in CSS's way (SVG's presentation attributes and animations)
	described                   // the content of a meta element, read by those who make previews
)

// roleOf says what an attribute can do by its name, 0 for nothing.
func roleOf(attr string) role {
	switch attr {
	case "src", "srcset", "lowsrc", "dynsrc", "longdesc", "poster", "background", "data", "codebase", "code", "archive", "manifest", "profile", "icon", "o:althref",
		"imagesrcset", "xlink:href", "o:href", "datasrc", "classid", "movie", "attributionsrc":
		return fetching
	case "href", "value": // value of param
		return hrefFetched
	case "srcdoc":
		return document
	case "style", "fill", "stroke", "mask", "filter", "clip-path", "cursor", "marker", "marker-start", "marker-mid", "marker-end", "values", "to", "from", "by":
		return styled
	case "content":
		return described
	}
	return 0
}

// animates reports whether an attribute holds what an animation gives to another attribute.
func animates(name string) bool {
	switch name {
	case "values", "to", "from", "by":
		return true
	}
	return false
}

// fetchesHref reports whether an element's href is fetched without a click.
func fetchesHref(name string) bool {
	switch name {
	case "link", "image", "use", "feimage", "script", "font-face-uri", "param", "pattern", "lineargradient", "radialgradient", "filter",
		"mpath", "textpath", "tref", "mask", "clippath", "marker", "cursor", "color-profile":
		return true
	}
	return false
}

// goesWhole reports whether an element is nothing without what it fetches.
func goesWhole(name string) bool {
	switch name {
	case "img", "image", "input", "bgsound", "embed", "frame", "link", "track", "source", "amp-img", "amp-pixel", "v:image", "v:imagedata",
		"v:fill":
		return true
	}
	return false
}

// isClicked reports whether an element's addresses are asked only once somebody clicks.
func isClicked(name string) bool {
	switch name {
	case "a", "area":
		return true
	}
	return false
}

// isPicture reports whether a reader sees an element as a picture, whose size tells a pixel.
func isPicture(name string) bool {
	switch name {
	case "img", "image", "v:image", "amp-img", "bgsound", "iframe", "embed":
		return true
	}
	return false
}

// isSized reports of further elements that their size, or that of what they stand in, tells a pixel.
func isSized(name string) bool {
	switch name {
	case "video", "audio", "object", "input", "source", "v:fill", "v:imagedata", "v:stroke":
		return true
	}
	return false
}

// holdsPicture reports whether an element's size is that of the picture inside.
func holdsPicture(name string) bool {
	switch name {
	case "svg", "object", "video":
		return true
	}
	return false
}

// isFrame reports whether an element shows a document of its own, which may stand in a data: address.
func isFrame(name string) bool {
	switch name {
	case "iframe", "frame", "object", "embed", "portal", "fencedframe":
		return true
	}
	return false
}

// prefetches reports whether a link's rel brings the reader nothing and tells the other side of
// the opening.
func prefetches(rel string) bool {
	for word := range strings.FieldsSeq(rel) {
		switch strings.ToLower(word) {
		case "stylesheet", "icon":
			return false // judged by its address
		}
	}
	for word := range strings.FieldsSeq(rel) {
		switch strings.ToLower(word) {
		case "dns-prefetch", "preconnect", "prefetch", "prerender", "preload", "modulepreload", "subresource":
			return true
		}
	}
	return false
}

// appearance says whether an element's looks can tell a pixel.
type appearance uint8

const (
	unseen     appearance = iota // it is no picture
	picture                      // its size and style are the picture's
	background                   // they are those of what the picture stands behind
)

// altState says whether the tag at hand says in words what its picture shows, once that was asked.
type altState uint8

const (
	unknownAlt altState = iota
	withAlt
	withoutAlt
)

func (f *htmlFinder) described(tok *htmltoken.Token) bool {
	if f.alt == unknownAlt {
		f.alt = withoutAlt
		if alt, _ := f.attr(tok, "alt"); strings.TrimSpace(alt) != "" {
			f.alt = withAlt
		}
	}
	return f.alt == withAlt
}

// silent reports whether the tag plays a sound that nobody sees.
func (f *htmlFinder) silent(tok *htmltoken.Token) bool {
	if tok.Is(f.t.plain, "audio") {
		_, controls := tok.Attr(f.t.plain, "controls")
		return !controls
	}
	return tok.Is(f.t.plain, "bgsound")
}

// looks measures the tag at hand, once.
func (f *htmlFinder) looks(tok *htmltoken.Token, as appearance) look {
	if !f.measured {
		f.measured = true
		hidden := f.look.hidden
		f.look = f.measure(tok, f.css)
		f.look.hidden = hidden
	}
	l := f.look
	if as == background && (l.width < 0 || l.height < 0) { // a thin cell with a background is a line
		l.width, l.height = unknownSide, unknownSide
	}
	return l
}

// judge says whether fetching the address would tell somebody that this person opened the
// mail. The finding has no Vector yet.
func (f *htmlFinder) judge(tok *htmltoken.Token, addr string, as appearance) (Finding, bool) {
	addr = cleanAddress(addr)
	if f.dataFetches(addr) {
		return Finding{Kind: OpenTracker, Part: f.t.part.number, URL: addr, Rule: "document", Why: "a picture inside of an address, which fetches"}, true
	}
	finding, ok := f.judgeFrom(tok, addr, f.base, as)
	if !ok && len(f.bases) > 1 {
		for _, base := range f.bases {
			if finding, ok = f.judgeFrom(tok, addr, base, as); ok {
				break
			}
		}
	}
	return finding, ok
}

// judgeFrom judges a clean address, which may be relative to base.
func (f *htmlFinder) judgeFrom(tok *htmltoken.Token, addr, base string, as appearance) (Finding, bool) {
	addr = remote(addr, base)
	if addr == "" || f.m.rules.Allowed(addr) {
		return Finding{}, false
	}
	finding := Finding{Kind: OpenTracker, Part: f.t.part.number, URL: addr}
	r := f.rule(addr)
	spacer := r != nil && r.Kind == trackers.Spacer
	if r != nil && !spacer {
		finding.Rule, finding.Provider, finding.Why = r.Name, r.Provider, "a known open tracker"
		return finding, true
	}
	if as != unseen && !spacer {
		switch l := f.looks(tok, as); {
		case l.tiny():
			finding.Rule, finding.Why = "size", "a picture too small to be seen"
			return finding, true
		case l.hidden || f.silent(tok):
			finding.Rule, finding.Why = "hidden", "a picture that is hidden"
			return finding, true
		case as == picture && !l.stated && f.m.rules.OpenLike(addr) && !f.described(tok):
			finding.Rule, finding.Why = "address", "a picture of no stated size, whose address reads like an open counter"
			return finding, true
		}
	}
	if oddScheme(addr) {
		finding.Rule, finding.Why = "scheme", "fetched over the network, but not from the web"
		return finding, true
	}
	if f.m.opts.Images == ImagesAllRemote {
		finding.Rule, finding.Why = ruleRemote, "nothing remote stays without consent to opens"
		return finding, true
	}
	return Finding{}, false
}

// rule is what the rules say of fetching an address; the last one is remembered.
func (f *htmlFinder) rule(addr string) *trackers.Rule {
	if f.asked != addr {
		f.asked, f.answer = addr, f.m.rules.Fetched(addr)
	}
	return f.answer
}

const ruleRemote = "remote"

// fetches notes what the tag fetches on opening.
func (f *htmlFinder) fetches(tok *htmltoken.Token, name string) {
	whole := edit{start: tok.Start, end: tok.End, when: withoutOpen, action: Removed}
	switch name {
	case "meta":
		f.refresh(tok, whole)
	case "link":
		rel, _ := f.attr(tok, "rel")
		href, _ := f.attr(tok, "href")
		if addr := remote(cleanAddress(href), f.base); prefetches(rel) && addr != "" && !f.m.rules.Allowed(addr) {
			f.m.add(f.t, Finding{Kind: OpenTracker, Vector: "link " + strings.ToLower(rel), Part: f.t.part.number, URL: addr, Rule: "prefetch",
				Why: "tells of the opening and brings the reader nothing"}, whole)
			return
		}
	}
	f.attributes(tok, name, whole, 0)
}

// attributes notes what the tag's attributes from a number on fetch.
func (f *htmlFinder) attributes(tok *htmltoken.Token, name string, whole edit, from int) {
	for i := from; i < len(tok.Attrs); i++ {
		a := &tok.Attrs[i]
		if a.ValueStart == a.ValueEnd {
			continue
		}
		attr := lower(f.src[a.NameStart:a.NameEnd])
		r := roleOf(attr)
		if r == 0 && strings.HasSuffix(attr, ":href") && !isClicked(name) { // whatever an XML reader knows xlink by
			attr, r = "xlink:href", fetching
		}
		switch {
		case r == fetching && !(isClicked(name) && (attr == "xlink:href" || attr == "attributionsrc")), r == hrefFetched && fetchesHref(name), r == described && name == "meta":
			if f.fetched(tok, a, name, attr, whole) {
				f.onlyGuarded(func() { f.attributes(tok, name, whole, i+1) })
				return
			}
		case r == document:
			f.srcdoc(a)
		case r == styled:
			f.styleAttr(tok, a, name, attr)
		}
	}
}

// fetched notes what an attribute's address fetches. gone says that the whole tag goes for it.
func (f *htmlFinder) fetched(tok *htmltoken.Token, a *htmltoken.Attr, name, attr string, whole edit) (gone bool) {
	as := unseen
	switch {
	case isPicture(name) || isSized(name):
		as = picture
	case attr == "background":
		as = background
	}
	for _, addr := range f.addresses(a, attr) {
		if isFrame(name) && isDocument(addr) || name == "link" && f.importsRemote(addr) {
			f.m.add(f.t, Finding{Kind: OpenTracker, Vector: name + " " + attr, Part: f.t.part.number, URL: addr, Rule: "document",
				Why: "a document inside of an address, which may fetch what it likes"}, f.cutAttr(a, withoutOpen))
			return false
		}
		finding, ok := f.judge(tok, addr, as)
		if !ok {
			if addr = remote(cleanAddress(addr), f.base); addr == "" {
				continue
			}
			finding = Finding{Kind: OpenTracker, Vector: vector(name, attr), Part: f.t.part.number, URL: addr}
			f.m.ordinary(OpenTracker, finding.Vector, f.t.part, addr)
			if r := f.rule(addr); !f.going && !f.m.rules.Allowed(addr) && !(r != nil && r.Kind == trackers.Spacer) {
				finding.Rule, finding.Why = "size", "the same address is a pixel elsewhere in this mail"
				gone := f.cutAttr(a, withoutOpen)
				switch {
				case name == "img" && !f.looks(tok, picture).stated:
					gone = f.spacer(a, attr)
				case name == "img":
					gone = f.emptied(a, attr)
				case goesWhole(name):
					gone = whole
				}
				f.shown = append(f.shown, shownAddress{finding, gone, edit{start: a.ValueStart, end: a.ValueEnd}, attr})
			}
			continue
		}
		finding.Vector = vector(name, attr)
		if !f.going && (finding.Rule == "size" || finding.Rule == "hidden" || finding.Rule == "address") {
			if f.pixels == nil {
				f.pixels = map[string]bool{}
			}
			f.pixels[finding.URL] = true
		}
		place := f.guardedAttr(tok, a, name, attr, as, finding)
		switch {
		case finding.Rule != ruleRemote && f.takesSpace(tok, name):
			f.m.addOpen(f.t, finding, f.emptied(a, attr), place)
			return false
		case goesWhole(name) && !(finding.Rule == ruleRemote && isPicture(name)):
			f.m.addOpen(f.t, finding, whole, place)
			return true
		}
		f.m.addOpen(f.t, finding, f.cutAttr(a, withoutOpen), place)
		return false
	}
	return false
}

// vector names an attribute of an element in findings.
func vector(name, attr string) string {
	switch {
	case name == "img" && attr == "src":
		return "img src"
	case name == "a" && attr == "href":
		return "a href"
	}
	return name + " " + attr
}

// isDocument reports whether an address is itself a document with markup.
func isDocument(addr string) bool {
	scheme, rest, _ := strings.Cut(addr, ":")
	switch strings.ToLower(scheme) {
	case "javascript", "vbscript", "view-source":
		return true
	case "data":
		typ := strings.ToLower(rest[:max(strings.IndexAny(rest, ",;"), 0)])
		return strings.Contains(typ, "html") || strings.Contains(typ, "xml")
	}
	return false
}

// shownAddress is a picture that may stay, unless the same address is a pixel elsewhere: it would
// tell of the opening all the same.
type shownAddress struct {
	Finding
	edit  edit
	place edit // the value of the attribute
	attr  string
}

// settlePixels takes out what is shown of an address that is a pixel elsewhere.
func (f *htmlFinder) settlePixels() {
	for _, s := range f.shown {
		if f.pixels[s.URL] {
			f.addShown(s)
		}
	}
}

func (f *htmlFinder) addShown(s shownAddress) {
	switch s.attr {
	case "src", "href", "xlink:href", "background", "poster", "lowsrc", "dynsrc":
		if h, ok := f.m.target(f.t, s.Finding); ok {
			s.place.pieces = []piece{{hole: h}}
		}
	}
	f.m.addOpen(f.t, s.Finding, s.edit, s.place)
}

// settleSources takes out the sources of a picture element whose img is a pixel.
func (f *htmlFinder) settleSources(tok *htmltoken.Token) {
	if l := f.looks(tok, picture); f.pictureFrom < len(f.shown) && (l.tiny() || l.hidden) {
		for _, s := range f.shown[f.pictureFrom:] {
			f.addShown(s)
		}
		f.shown = f.shown[:f.pictureFrom]
	}
}

// cutAttr is the edit that takes an attribute out.
func (f *htmlFinder) cutAttr(a *htmltoken.Attr, when variants) edit {
	e := edit{when: when, action: Removed}
	e.start, e.end, e.pieces = f.attrSpan(a)
	return e
}

// refresh notes a meta element that loads another page by itself.
func (f *htmlFinder) refresh(tok *htmltoken.Token, whole edit) {
	equiv, _ := f.attr(tok, "http-equiv")
	content, ok := f.attr(tok, "content")
	if !ok || !strings.EqualFold(strings.TrimSpace(equiv), "refresh") {
		return
	}
	const white = " \t\r\n\f"
	rest := strings.TrimLeft(content, white)
	rest = strings.TrimLeft(rest, "0123456789.+-") // the time; some readers do without
	addr := strings.TrimLeft(rest, white+";,")
	if len(addr) > 3 && strings.EqualFold(addr[:3], "url") {
		addr = strings.TrimLeft(addr[3:], white+"=")
	}
	if i := strings.IndexAny(strings.TrimLeft(addr, `"'`), `"'`); i >= 0 {
		addr = strings.TrimLeft(addr, `"'`)[:i]
	}
	if addr = remote(cleanAddress(addr), f.base); addr != "" && !f.m.rules.Allowed(addr) {
		f.m.add(f.t, Finding{Kind: OpenTracker, Vector: "meta refresh", Part: f.t.part.number, URL: addr, Rule: "refresh", Why: "loads a page by itself"}, whole)
	}
}

// tooDeep is why a document in a document goes that nobody has looked into.
const tooDeep = "a document within a document, deeper than is looked into"

// srcdoc looks into the document that an attribute holds; if a reader must do without anything
// in it, the attribute goes.
func (f *htmlFinder) srcdoc(a *htmltoken.Attr) {
	f.inner(f.unescape(f.src[a.ValueStart:a.ValueEnd]), "srcdoc", func(when variants) edit { return f.cutAttr(a, when) })
}

// within walks a document of its own that stands somewhere in this one.
func (f *htmlFinder) within(html string) *htmlFinder {
	g := newHTMLFinder(&Message{rules: f.m.rules, opts: f.m.opts}, &text{part: f.t.part, plain: []byte(html)})
	g.base, g.bases, g.depth = f.base, f.bases, f.depth+1
	g.scan(0, len(html))
	f.m.unreadable = cmp.Or(f.m.unreadable, g.m.unreadable)
	return g
}

// inner looks into HTML that stands in an attribute or a property, which goes as a whole where
// anything in it must go; cut makes that edit.
func (f *htmlFinder) inner(html, vector string, cut func(variants) edit) {
	if f.depth > maxInside {
		f.m.add(f.t, Finding{Kind: OpenTracker, Vector: vector, Part: f.t.part.number, Rule: "document", Why: tooDeep}, cut(withoutBoth))
		return
	}
	g := f.within(html)
	var when, guarded variants
	for _, e := range g.t.edits {
		when, guarded = when|e.when, guarded|e.guarded
	}
	for _, found := range g.m.findings {
		found.Vector = vector + " " + found.Vector
		if found.Rule == "" {
			f.m.ordinary(found.Kind, found.Vector, f.t.part, found.URL)
			continue
		}
		e := cut(when)
		e.guarded = guarded &^ when
		f.m.add(f.t, found, e)
	}
}

func (f *htmlFinder) measure(tok *htmltoken.Token, style string) look {
	l := look{width: unknownSide, height: unknownSide}
	if v, ok := f.attr(tok, "width"); ok {
		l.width, l.stated = attrSide(v), true
	}
	if v, ok := f.attr(tok, "height"); ok {
		l.height, l.stated = attrSide(v), true
	}
	l.apply(style)
	return l
}

// addresses returns the addresses that an attribute holds: several in some. They are valid until
// the next call.
func (f *htmlFinder) addresses(a *htmltoken.Attr, name string) []string {
	v := f.unescape(f.src[a.ValueStart:a.ValueEnd])
	out := f.several[:0]
	switch name {
	case "srcset", "imagesrcset":
		out = srcset(out, v)
	case "archive", "attributionsrc", "profile":
		for word := range strings.FieldsFuncSeq(v, func(r rune) bool { return r <= ' ' || r == ',' }) {
			out = append(out, word)
		}
	case "content": // of meta: an address, or text with some in it
		if out = append(out, cleanAddress(v)); remote(out[0], "") == "" {
			eachAddress([]byte(v), func(from, to int) { out = append(out, v[from:to]) })
		}
	default:
		out = append(out, cleanAddress(v))
	}
	f.several = out
	return out
}

// srcset appends the addresses of a srcset (WHATWG HTML §4.8.4.2.2), and those that a reader
// finds who takes every comma for the end of one.
func srcset(out []string, v string) []string {
	separates := func(c byte) bool { return c <= ' ' || c == ',' }
	for i := 0; i < len(v); {
		for i < len(v) && separates(v[i]) {
			i++
		}
		from := i
		for i < len(v) && v[i] > ' ' {
			i++
		}
		if from == i {
			break
		}
		addr := strings.TrimRight(v[from:i], ",")
		out = append(out, addr)
		for _, piece := range strings.Split(addr, ",")[1:] {
			if isWebAddress(piece) || strings.HasPrefix(piece, "//") {
				out = append(out, piece)
			}
		}
		if v[i-1] == ',' {
			continue
		}
		for depth := 0; i < len(v) && (v[i] != ',' || depth > 0); i++ { // descriptors
			switch v[i] {
			case '(':
				depth++
			case ')':
				depth = max(depth-1, 0)
			}
		}
	}
	return out
}
