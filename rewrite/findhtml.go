package rewrite

import (
	"bytes"
	"strings"
	"unsafe"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// htmlFinder walks the markup of one part and notes every edit that a copy may need.
type htmlFinder struct {
	m     *Message
	t     *text
	src   string   // t.plain; addresses in findings are parts of it
	base  string   // of <base href>, "" without
	bases []string // of all of them
	lang  string
	stack []element
	depth int  // of scans inside of scans
	xml   bool // an XML reader reads it, too

	marks  []mark         // placeholders and own links in this part, in order
	passed int            // how many of them are behind us
	sheet  sheet          // what style elements say of classes and ids
	styles [32]styleFacts // see about

	css         string // what style says of the tag at hand
	look        look   // of the tag at hand; its size once measured
	alt         altState
	pictureFrom int // where in shown the picture element at hand begins
	measured    bool
	several     []string // of addresses
	unescaped   []byte   // see unescape
	asked       string   // see rule
	answer      *trackers.Rule
	beforeStyle int // how many findings there were before the style element at hand

	going  bool            // the tag at hand goes as a whole, but from guarded copies
	pixels map[string]bool // addresses found to be pixels by their looks
	shown  []shownAddress

	bodyEnd, htmlEnd, textEnd *footerSpot
	top                       *footerSpot // before the first thing that a reader sees
}

// element is an open element.
type element struct {
	name   string
	hidden bool
	from   int // where its content begins
}

// footerSpot is a place for the footer, with what must be closed before it.
type footerSpot struct {
	at     int
	raw    rawPlace // as in an edit
	closes string
}

const maxStack = 512

// maxInside is how many documents, comments or the like within one another are looked into.
const maxInside = 4

// isVoid reports whether an element has no content.
func isVoid(name string) bool {
	switch name {
	case "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "image", "input", "keygen", "link", "meta",
		"param", "source", "track", "wbr":
		return true
	}
	return false
}

// scan walks plain[from:to].
func (f *htmlFinder) scan(from, to int) {
	src := f.t.plain[from:to]
	z := tokenizer(src)
	var tok htmltoken.Token
	tagStart := from
	for z.Next(&tok) {
		shift(&tok, from)
		switch tok.Kind {
		case htmltoken.Text:
			f.text(&tok)
		case htmltoken.StartTag:
			if tok.Crowded {
				f.m.unreadable = "a tag has too many attributes"
			}
			f.startTag(&tok)
		case htmltoken.EndTag:
			f.endTag(&tok)
		case htmltoken.Comment:
			f.comment(&tok)
		case htmltoken.Bogus, htmltoken.Doctype:
			f.instruction(&tok)
		case htmltoken.CDATA:
			if f.parent() == "style" {
				f.styleSheet(tok.DataStart, tok.DataEnd, false)
			} else {
				f.inside(tok.DataStart, tok.DataEnd) // elsewhere it is a comment that ends with the first ">"
			}
		}
		if f.depth == 0 {
			switch {
			case tok.Kind == htmltoken.Text && tok.Raw && tok.End == to:
				f.textEnd = f.spot(tagStart) // nothing ends this style, title or the like
			case tok.Unterminated && tok.Kind != htmltoken.Text:
				f.textEnd = f.spot(tok.Start)
			}
			f.passMarks(&tok)
			if f.top == nil && f.sees(&tok) {
				f.top = &footerSpot{at: tok.Start}
			}
			tagStart = tok.Start
		}
	}
	putAway(z)
	if f.depth == 0 && f.textEnd == nil {
		f.textEnd = f.spot(to)
	}
	if len(f.stack) > 0 && f.parent() == "style" {
		f.foreignStyle(f.stack[len(f.stack)-1].from, to, f.beforeStyle)
	}
}

func shift(t *htmltoken.Token, by int) {
	if by == 0 {
		return
	}
	t.Start, t.End = t.Start+by, t.End+by
	t.NameStart, t.NameEnd = t.NameStart+by, t.NameEnd+by
	t.DataStart, t.DataEnd = t.DataStart+by, t.DataEnd+by
	for i := range t.Attrs {
		a := &t.Attrs[i]
		a.NameStart, a.NameEnd = a.NameStart+by, a.NameEnd+by
		a.ValueStart, a.ValueEnd, a.End = a.ValueStart+by, a.ValueEnd+by, a.End+by
	}
}

func newHTMLFinder(m *Message, t *text) *htmlFinder {
	src := t.plain
	if t.shared {
		src = append(m.work.room(len(src)), src...)
	}
	return &htmlFinder{m: m, t: t, src: unsafe.String(unsafe.SliceData(src), len(src))} // nothing writes to it while m is parsed
}

// begin reads what must be known before the first tag.
func (f *htmlFinder) begin() {
	var styles []int
	base := false
	src := f.t.plain
	for at := 0; ; at++ {
		i := bytes.IndexByte(src[at:], '<')
		if i < 0 || at+i+len("<base") > len(src) {
			break
		}
		at += i
		switch src[at+1] {
		case 's', 'S':
			if at+len("<style") <= len(src) && htmltoken.EqualFold(src[at:at+len("<style")], "<style") {
				styles = append(styles, at)
			}
		case 'b', 'B':
			base = base || htmltoken.EqualFold(src[at:at+len("<base")], "<base")
		}
	}
	f.sheet = readSheets(src, styles)
	f.xml = strings.Contains(f.t.part.typ.value, "xml") || strings.Contains(f.t.part.typ.value, "svg")
	f.findBases(base || bytes.Contains(src, []byte("xml:base")))
}

// findBases lists what the text says that relative addresses are relative to. For browsers the first base
// element holds, for what comes before it too once it is loaded later; for others it may be any. named is
// false for a text that holds neither "<base" nor "xml:base".
func (f *htmlFinder) findBases(named bool) {
	src := f.t.plain
	if f.base != "" {
		f.bases = append(f.bases, f.base)
	}
	var tok htmltoken.Token
	note := func(name string) {
		if a, ok := tok.Attr(src, name); ok {
			if addr := remote(f.attrAddress(f.src[a.ValueStart:a.ValueEnd]), ""); addr != "" && len(f.bases) < 8 {
				f.bases = append(f.bases, addr)
			}
		}
	}
	if named {
		z := tokenizer(src)
		for z.Next(&tok) {
			if tok.Kind == htmltoken.StartTag {
				if tok.Is(src, "base") {
					note("href")
				}
				note("xml:base")
			}
		}
		putAway(z)
	}
	if len(f.bases) > 0 {
		f.base = f.bases[0]
	}
}

// attr returns an attribute's decoded value; the first of two equal ones wins.
func (f *htmlFinder) attr(tok *htmltoken.Token, name string) (string, bool) {
	a, ok := tok.Attr(f.t.plain, name)
	if !ok {
		return "", false
	}
	return f.unescape(f.src[a.ValueStart:a.ValueEnd]), true
}

func (f *htmlFinder) hidden() bool {
	return len(f.stack) > 0 && f.stack[len(f.stack)-1].hidden
}

// spot is where a footer can stand if it is to be put at i: what hides it or would swallow it
// is closed first.
func (f *htmlFinder) spot(i int) *footerSpot {
	s := &footerSpot{at: i}
	low := len(f.stack)
	for k, e := range f.stack {
		if e.hidden || swallows(e.name) {
			low = k
			break
		}
	}
	for k := len(f.stack) - 1; k >= low; k-- {
		if name := f.stack[k].name; name != "html" && name != "body" {
			s.closes += "</" + name + ">"
		}
	}
	return s
}

// swallows reports whether a footer inside of an element would not be seen, or not be a link of its own.
func swallows(name string) bool {
	switch name {
	case "a", "template", "select", "option", "button", "object", "video", "audio", "svg", "math", "noscript", "map", "canvas", "head",
		"picture", "marquee":
		return true
	}
	return false
}

// sees reports whether a token is something in the body that a reader sees. What is hidden before
// it (the line that mail readers show beside the subject) stays before it.
func (f *htmlFinder) sees(tok *htmltoken.Token) bool {
	if f.hidden() {
		return false
	}
	switch tok.Kind {
	case htmltoken.Text:
		return !tok.Raw && strings.TrimSpace(f.src[tok.Start:tok.End]) != ""
	case htmltoken.StartTag:
		switch lower(f.src[tok.NameStart:tok.NameEnd]) {
		case "html", "head", "body", "title", "meta", "link", "style", "script", "base":
			return false
		}
		return true
	}
	return false
}

// clipped is how long HTML may be before Gmail hides its end behind a link, in bytes.
const clipped = 100 << 10

// footerSpot is where the footer of the whole text stands.
func (f *htmlFinder) footerSpot(p Position) footerSpot {
	if f.top != nil && (p == PositionTop || p != PositionBottom && len(f.src) > clipped) {
		return *f.top
	}
	for _, s := range []*footerSpot{f.bodyEnd, f.htmlEnd} {
		if s != nil {
			return *s
		}
	}
	return *f.textEnd
}

func (f *htmlFinder) startTag(tok *htmltoken.Token) {
	name := f.name(tok)
	f.close(name)
	style := f.style(tok, name)
	f.css = style
	if name == "style" {
		f.beforeStyle = len(f.m.findings)
	}
	e := element{name: name, hidden: f.hidden(), from: tok.End}
	if !e.hidden {
		_, hiddenAttr := tok.Attr(f.t.plain, "hidden")
		e.hidden = (hiddenAttr || f.about(style).hides) && !f.shownAgain(tok) || name == "template"
	}
	f.look, f.measured, f.alt = look{hidden: e.hidden}, false, unknownAlt
	if holdsPicture(name) || strings.HasPrefix(name, "v:") {
		l := f.looks(tok, picture)
		e.hidden = e.hidden || l.tiny()
	}
	switch name {
	case "picture":
		f.pictureFrom = len(f.shown)
	case "img":
		if f.parent() == "picture" {
			f.settleSources(tok)
		}
	}

	switch name {
	case "html":
		if lang, ok := f.attr(tok, "lang"); ok && f.lang == "" {
			f.lang = strings.TrimSpace(lang)
		}
	case "base":
		if href, ok := f.attr(tok, "href"); ok && f.base == "" {
			f.base = remote(cleanAddress(href), "")
		}
	}
	f.fetches(tok, name)
	f.links(tok, name)
	f.doubtfulTag(tok)
	if !isVoid(name) && !tok.SelfClosing && len(f.stack) < maxStack {
		f.stack = append(f.stack, e)
	}
}

// close pops the elements that a start tag closes by itself (WHATWG HTML §13.1.2.4), as far as
// it matters for knowing what is hidden.
func (f *htmlFinder) close(name string) {
	upTo := func(names, stops string) {
		for i := len(f.stack) - 1; i >= 0; i-- {
			n := " " + f.stack[i].name + " "
			if strings.Contains(stops, n) {
				return
			}
			if strings.Contains(names, n) {
				f.stack = f.stack[:i]
			}
		}
	}
	switch name {
	case "p", "div", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "center", "blockquote", "section", "article", "pre", "hr", "form":
		if f.parent() == "p" {
			f.stack = f.stack[:len(f.stack)-1]
		}
	case "td", "th":
		upTo(" td th ", " table tr ")
	case "tr":
		upTo(" tr td th ", " table ")
	case "tbody", "thead", "tfoot":
		upTo(" tbody thead tfoot tr td th ", " table ")
	case "li":
		upTo(" li ", " ul ol ")
	case "option":
		if f.parent() == "option" {
			f.stack = f.stack[:len(f.stack)-1]
		}
	}
}

// name is the name of a tag in lower case, in XML without a prefix.
func (f *htmlFinder) name(tok *htmltoken.Token) string {
	name := lower(f.src[tok.NameStart:tok.NameEnd])
	if f.xml && !strings.HasPrefix(name, "v:") {
		name = name[strings.LastIndexByte(name, ':')+1:]
	}
	return name
}

// lower is strings.ToLower, quicker for what is in lower case.
func lower(name string) string {
	for i := range len(name) {
		if c := name[i]; c-'A' < 26 || c >= 0x80 {
			return strings.ToLower(name)
		}
	}
	return name
}

func (f *htmlFinder) endTag(tok *htmltoken.Token) {
	name := f.name(tok)
	if f.depth == 0 {
		switch name {
		case "body":
			f.bodyEnd = f.spot(tok.Start)
			return // what stands behind </body> is in the body all the same
		case "html":
			f.htmlEnd = f.spot(tok.Start)
			return
		}
	}
	for i := len(f.stack) - 1; i >= 0; i-- {
		if f.stack[i].name == name {
			if name == "style" {
				f.foreignStyle(f.stack[i].from, tok.Start, f.beforeStyle)
			}
			f.stack = f.stack[:i]
			return
		}
		if n := f.stack[i].name; (n == "td" || n == "th" || n == "table") && name != "table" && name != "tr" && name != "tbody" && name != "td" && name != "th" {
			return // an end tag does not reach out of its table cell
		}
	}
}

// conditional reports whether a comment that begins so is one with a condition: "[if mso".
func conditional(head []byte) bool {
	const white = " \t\r\n"
	head, ok := bytes.CutPrefix(bytes.TrimLeft(head, white), []byte("["))
	head = bytes.TrimLeft(head, white)
	return ok && len(head) > 2 && htmltoken.EqualFold(head[:2], "if")
}

// comment looks into conditional comments, which Outlook reads as markup, and into those on whose
// end readers may differ.
func (f *htmlFinder) comment(tok *htmltoken.Token) {
	data := f.t.plain[tok.DataStart:tok.DataEnd]
	if !hasTag(data) {
		return
	}
	open := bytes.Index(data, []byte("]>"))
	if open >= 0 && conditional(data[:open]) {
		f.inside(tok.DataStart+open+2, tok.DataEnd)
	} else if doubtfulComment(data) {
		f.inside(tok.DataStart, tok.DataEnd)
	}
}

// instruction looks into what XML readers fetch for: <?xml-stylesheet href="…"?> and the address of
// a document type.
func (f *htmlFinder) instruction(tok *htmltoken.Token) {
	eachAddress(f.t.plain[tok.Start:tok.End], func(from, to int) {
		finding, ok := f.judge(nil, f.attrAddress(f.src[tok.Start+from:tok.Start+to]), unseen)
		if ok && (finding.Rule != ruleRemote || tok.Kind != htmltoken.Doctype || !strings.Contains(finding.URL, "://www.w3.org/")) {
			finding.Vector = "instruction"
			f.m.add(f.t, finding, edit{start: tok.Start, end: tok.End, when: withoutOpen, action: Removed})
		}
	})
}

// inside walks markup inside of a token; the elements that it leaves open are its own.
func (f *htmlFinder) inside(from, to int) {
	if f.depth > maxInside {
		f.m.add(f.t, Finding{Kind: OpenTracker, Vector: "document", Part: f.t.part.number, Rule: "document", Why: tooDeep},
			edit{start: from, end: to, when: withoutBoth, action: Removed})
		return
	}
	saved := append([]element(nil), f.stack...)
	f.depth++
	f.scan(from, to)
	f.depth--
	f.stack = append(f.stack[:0], saved...)
}

// parent is the name of the innermost open element.
func (f *htmlFinder) parent() string {
	if len(f.stack) == 0 {
		return ""
	}
	return f.stack[len(f.stack)-1].name
}

// attrSpan is the range to cut for an attribute to go, with the white space before it.
func (f *htmlFinder) attrSpan(a *htmltoken.Attr) (start, end int, pieces []piece) {
	start, end = a.NameStart, a.End
	for start > 0 && strings.IndexByte(" \t\r\n\f", f.t.plain[start-1]) >= 0 {
		start--
	}
	if end < len(f.t.plain) && strings.IndexByte(" \t\r\n\f>/", f.t.plain[end]) < 0 {
		pieces = literal(" ")
	}
	return start, end, pieces
}

// links notes what the tag leads to when clicked.
func (f *htmlFinder) links(tok *htmltoken.Token, name string) {
	target := "href"
	switch {
	case name == "form":
		target = "action"
	case name == "button" || name == "input":
		target = "formaction"
	case name != "a" && name != "area" && !strings.HasPrefix(name, "v:"):
		return
	}
	wanted, named := f.attr(tok, "data-consent-href")
	wanted = cleanAddress(wanted)
	named = named && isWebAddress(wanted)
	for i := range tok.Attrs {
		a := &tok.Attrs[i]
		attr := lower(f.src[a.NameStart:a.NameEnd])
		switch {
		case attr == "data-consent-href":
			e := f.cutAttr(a, always)
			e.finding = -1
			f.t.edits = append(f.t.edits, e)
		case attr == "ping", attr == "attributionsrc":
			if a.ValueStart == a.ValueEnd {
				continue
			}
			e := f.cutAttr(a, withoutClick)
			e.guarded = withClick
			f.m.add(f.t, Finding{Kind: ClickTracker, Vector: name + " " + attr, Part: f.t.part.number,
				URL: f.attrAddress(f.src[a.ValueStart:a.ValueEnd]), Rule: "ping", Why: "tells of the click beside it"}, e)
		case attr == target || name == "a" && strings.HasSuffix(attr, ":href"): // each of several: readers differ on which counts
			addr := f.attrAddress(f.src[a.ValueStart:a.ValueEnd])
			if f.m.isOwn(addr) {
				continue
			}
			if addr = remote(addr, f.base); addr == "" {
				continue
			}
			finding := Finding{Kind: ClickTracker, Vector: vector(name, target), Part: f.t.part.number, URL: addr}
			to, action, ok := f.m.follow(addr, &finding)
			if named {
				if !ok {
					finding.Rule, finding.Why = "data-consent-href", "the sender named the destination"
				}
				to, action, ok = wanted, Undone, true
				finding.Destination = wanted
			}
			if !ok {
				f.m.ordinary(ClickTracker, finding.Vector, f.t.part, addr)
				continue
			}
			place := edit{start: a.ValueStart, end: a.ValueEnd}
			if target != "href" { // what is typed into a form would be lost on the way
				place = edit{}
			}
			e := edit{start: a.ValueStart, end: a.ValueEnd, when: withoutClick, action: action}
			switch {
			case action == Kept:
				e.when = 0
			case action == Unlinked:
				e.start, e.end, e.pieces = f.attrSpan(a)
			case a.Quote == 0:
				e.pieces = literal(`"` + attrEscaper.Replace(to) + `"`)
			default:
				e.pieces = literal(attrEscaper.Replace(to))
			}
			f.m.addLink(f.t, finding, e, place, f.cutAttr(a, withoutClick))
		}
	}
}

// text looks for addresses in running text, since readers make links of them, and into style
// sheets.
func (f *htmlFinder) text(tok *htmltoken.Token) {
	switch parent := f.parent(); {
	case parent == "style":
		f.styleSheet(tok.Start, tok.End, !tok.Raw)
		if tok.Raw && hasTag(f.t.plain[tok.Start:tok.End]) {
			f.inside(tok.Start, tok.End)
		}
		return
	case parent == "script":
		f.structured(tok.Start, tok.End)
		if hasTag(f.t.plain[tok.Start:tok.End]) {
			f.inside(tok.Start, tok.End)
		}
		return
	case tok.Raw:
		f.inside(tok.Start, tok.End) // a reader that drops the tag (iframe, noembed, textarea …) shows what is in it
		return
	}
	eachAddress(f.t.plain[tok.Start:tok.End], func(from, to int) {
		addr := f.attrAddress(f.src[tok.Start+from : tok.Start+to])
		if f.m.isOwn(addr) {
			return
		}
		finding := Finding{Kind: ClickTracker, Vector: "text link", Part: f.t.part.number, URL: addr}
		dest, action, ok := f.m.follow(addr, &finding)
		if !ok {
			f.m.ordinary(ClickTracker, finding.Vector, f.t.part, addr)
			return
		}
		place := edit{start: tok.Start + from, end: tok.Start + to}
		gone := place
		gone.pieces = literal(attrEscaper.Replace(removedLink(&finding)))
		e := edit{start: place.start, end: place.end, when: withoutClick, action: action, pieces: literal(attrEscaper.Replace(dest))}
		switch action {
		case Kept:
			e.when = 0
		case Unlinked:
			e.pieces = gone.pieces
		}
		f.m.addLink(f.t, finding, e, place, gone)
	})
}

func isWebAddress(s string) bool {
	return len(s) > 8 && (strings.EqualFold(s[:7], "http://") || strings.EqualFold(s[:8], "https://"))
}
