package rewrite

import (
	"bytes"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// fetching names the attributes from which a reader may fetch on opening the mail.
var fetching = map[string]bool{
	"src": true, "srcset": true, "lowsrc": true, "dynsrc": true, "longdesc": true, "poster": true, "background": true,
	"data": true, "codebase": true, "code": true, "archive": true, "manifest": true, "profile": true, "icon": true,
	"imagesrcset": true, "xlink:href": true, "o:href": true, "datasrc": true, "classid": true, "movie": true,
}

// hrefFetches names the elements whose href is fetched without a click.
var hrefFetches = map[string]bool{"link": true, "image": true, "use": true, "feimage": true, "script": true, "font-face-uri": true}

// goWhole names the elements that are nothing without what they fetch: they go as a whole.
var goWhole = map[string]bool{
	"img": true, "image": true, "input": true, "bgsound": true, "embed": true, "iframe": true, "frame": true, "link": true, "track": true,
	"source": true, "amp-img": true, "amp-pixel": true, "v:image": true, "v:imagedata": true, "v:fill": true,
}

// pictures names the elements that a reader sees as a picture, whose size tells a pixel.
var pictures = map[string]bool{"img": true, "image": true, "v:image": true, "amp-img": true, "bgsound": true, "iframe": true, "embed": true}

// styled names the attributes that hold CSS, or an address in CSS's way (SVG's presentation
// attributes and animations).
var styled = map[string]bool{
	"style": true, "fill": true, "stroke": true, "mask": true, "filter": true, "clip-path": true, "cursor": true, "marker": true,
	"marker-start": true, "marker-mid": true, "marker-end": true, "values": true, "to": true, "from": true, "by": true,
}

// prefetches are the values of link's rel that bring the reader nothing and tell the other side
// of the opening.
var prefetches = map[string]bool{"dns-prefetch": true, "preconnect": true, "prefetch": true, "prerender": true, "preload": true, "modulepreload": true, "subresource": true}

// judge says whether fetching the address would tell somebody that this person opened the
// mail. seen tells a picture's looks, nil for what is none.
func (f *htmlFinder) judge(addr, vector string, seen func() look) (Finding, bool) {
	addr = remote(cleanAddress(addr), f.base)
	if addr == "" || f.m.rules.Allowed(addr) {
		return Finding{}, false
	}
	finding := Finding{Kind: OpenTracker, Vector: vector, Part: f.t.part.number, URL: addr}
	if r := f.m.rules.Open(addr); r != nil {
		finding.Rule, finding.Provider, finding.Why = r.Name, r.Provider, "a known open tracker"
		return finding, true
	}
	if seen != nil && !f.m.rules.Spacer(addr) {
		switch l := seen(); {
		case l.tiny():
			finding.Rule, finding.Why = "size", "a picture too small to be seen"
			return finding, true
		case l.hidden:
			finding.Rule, finding.Why = "hidden", "a picture that is hidden"
			return finding, true
		}
	}
	if f.m.opts.Images == ImagesAllRemote {
		finding.Rule, finding.Why = ruleRemote, "nothing remote stays without consent to opens"
		return finding, true
	}
	return Finding{}, false
}

const ruleRemote = "remote"

// fetches notes what the tag fetches on opening.
func (f *htmlFinder) fetches(tok *htmltoken.Token, name, style string, hidden bool) {
	var l look
	measured := false
	seen := func() look {
		if !measured {
			l, measured = f.measure(tok, style), true
			l.hidden = hidden
		}
		return l
	}
	whole := edit{start: tok.Start, end: tok.End, when: withoutOpen, action: Removed}
	switch name {
	case "meta":
		f.refresh(tok, whole)
	case "link":
		rel, _ := f.attr(tok, "rel")
		href, _ := f.attr(tok, "href")
		if addr := remote(cleanAddress(href), f.base); prefetches[strings.ToLower(strings.TrimSpace(rel))] && addr != "" && !f.m.rules.Allowed(addr) {
			f.m.add(f.t, Finding{Kind: OpenTracker, Vector: "link " + strings.ToLower(rel), Part: f.t.part.number, URL: addr, Rule: "prefetch",
				Why: "tells of the opening and brings the reader nothing"}, whole)
			return
		}
	}
	for i := range tok.Attrs {
		a := &tok.Attrs[i]
		if a.ValueStart == a.ValueEnd {
			continue
		}
		attr := lowerName(f.bytes(a.NameStart, a.NameEnd))
		switch {
		case fetching[attr] && !(name == "a" && attr == "xlink:href"), attr == "href" && hrefFetches[name]:
			shown := seen
			if !pictures[name] {
				shown = nil
			}
			for _, addr := range f.addresses(a, attr) {
				finding, ok := f.judge(addr, name+" "+attr, shown)
				if !ok {
					addr = remote(cleanAddress(addr), f.base)
					f.m.ordinary(OpenTracker, name+" "+attr, f.t.part, addr)
					if addr != "" && !f.m.rules.Allowed(addr) && !f.m.rules.Spacer(addr) {
						again := Finding{Kind: OpenTracker, Vector: name + " " + attr, Part: f.t.part.number, URL: addr, Rule: "size", Why: "the same address is a pixel elsewhere in this mail"}
						if goWhole[name] {
							f.shown = append(f.shown, shownAddress{again, whole})
						} else {
							f.shown = append(f.shown, shownAddress{again, f.cutAttr(a, withoutOpen)})
						}
					}
					continue
				}
				if finding.Rule == "size" || finding.Rule == "hidden" {
					if f.pixels == nil {
						f.pixels = map[string]bool{}
					}
					f.pixels[finding.URL] = true
				}
				if goWhole[name] && !(finding.Rule == ruleRemote && pictures[name]) {
					f.m.add(f.t, finding, whole)
					return
				}
				f.m.add(f.t, finding, f.cutAttr(a, withoutOpen))
				break
			}
		case attr == "srcdoc":
			f.srcdoc(a)
		case styled[attr]:
			f.styleAttr(tok, a, name+" "+attr, seen)
		}
	}
}

// shownAddress is a picture that may stay, unless the same address is a pixel elsewhere: it would
// tell of the opening all the same.
type shownAddress struct {
	Finding
	edit edit
}

// settlePixels takes out what is shown of an address that is a pixel elsewhere.
func (f *htmlFinder) settlePixels() {
	for _, s := range f.shown {
		if f.pixels[s.URL] {
			f.m.add(f.t, s.Finding, s.edit)
		}
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
	i := strings.IndexAny(content, ";,")
	if i < 0 {
		return
	}
	addr := strings.TrimSpace(content[i+1:])
	if len(addr) > 3 && strings.EqualFold(addr[:3], "url") {
		addr = strings.TrimLeft(strings.TrimLeft(addr[3:], " \t\r\n"), "= \t\r\n")
	}
	if addr = remote(cleanAddress(strings.Trim(addr, `"'`)), f.base); addr != "" && !f.m.rules.Allowed(addr) {
		f.m.add(f.t, Finding{Kind: OpenTracker, Vector: "meta refresh", Part: f.t.part.number, URL: addr, Rule: "refresh", Why: "loads a page by itself"}, whole)
	}
}

// srcdoc looks into the document that an attribute holds; if a reader must do without anything
// in it, the attribute goes.
func (f *htmlFinder) srcdoc(a *htmltoken.Attr) {
	if f.depth > 4 {
		return
	}
	inner := &text{part: f.t.part, plain: []byte(unescapeAttr(f.bytes(a.ValueStart, a.ValueEnd)))}
	m := &Message{rules: f.m.rules, opts: f.m.opts}
	g := &htmlFinder{m: m, t: inner, base: f.base, depth: f.depth + 1}
	g.scan(0, len(inner.plain))
	var when variants
	for _, e := range inner.edits {
		when |= e.when
	}
	for _, found := range m.findings {
		found.Vector = "srcdoc " + found.Vector
		if found.Rule == "" {
			f.m.ordinary(found.Kind, found.Vector, f.t.part, found.URL)
			continue
		}
		f.m.add(f.t, found, f.cutAttr(a, when))
	}
}

// styleAttr notes what an attribute with CSS fetches.
func (f *htmlFinder) styleAttr(tok *htmltoken.Token, a *htmltoken.Attr, vector string, seen func() look) {
	raw := f.bytes(a.ValueStart, a.ValueEnd)
	if bytes.IndexByte(raw, '(') < 0 && bytes.IndexByte(raw, '&') < 0 && bytes.IndexByte(raw, '\\') < 0 {
		if !isWebAddress(string(bytes.TrimSpace(raw))) {
			return
		}
		// <animate attributeName="href" to="…">
		if finding, ok := f.judge(string(raw), vector, nil); ok {
			f.m.add(f.t, finding, f.cutAttr(a, withoutOpen))
		}
		return
	}
	css := unescapeAttr(raw)
	found, all := f.cssFindings(css, vector, func() look {
		l := seen()
		if l.width < 0 || l.height < 0 { // a thin cell with a background is a line
			l.width, l.height = unknownSide, unknownSide
		}
		return l
	})
	switch {
	case len(found) == 0:
	case all || len(css) != len(raw):
		for _, x := range found {
			f.m.add(f.t, x.Finding, f.cutAttr(a, withoutOpen))
		}
	default:
		for _, x := range found {
			f.m.add(f.t, x.Finding, edit{start: a.ValueStart + x.at.start, end: a.ValueStart + x.at.end, when: withoutOpen, action: Removed, pieces: literal(x.at.replacement())})
		}
	}
}

// styleSheet notes what a style element fetches. In SVG its text holds character references.
func (f *htmlFinder) styleSheet(from, to int, references bool) {
	css := string(f.bytes(from, to))
	if references {
		css = unescapeAttr(f.bytes(from, to))
	}
	found, all := f.cssFindings(css, "style", nil)
	for _, x := range found {
		e := edit{start: from + x.at.start, end: from + x.at.end, when: withoutOpen, action: Removed, pieces: literal(x.at.replacement())}
		if all || len(css) != to-from {
			e.start, e.end, e.pieces = from, to, nil
		}
		f.m.add(f.t, x.Finding, e)
	}
}

type cssFinding struct {
	Finding
	at cssAddress
}

// cssFindings judges what CSS fetches. all says that escapes or comments hide an address from
// one way of reading it and not from another: then the whole must go.
func (f *htmlFinder) cssFindings(css, vector string, seen func() look) (found []cssFinding, all bool) {
	known := map[string]bool{}
	var lastPrelude, lastTells string
	judge := func(a cssAddress) {
		finding, ok := f.judge(a.addr, vector+" "+a.why, seen)
		if !ok {
			if a.prelude != lastPrelude {
				lastPrelude, lastTells = a.prelude, tellsOf(a.prelude)
			}
			tells := lastTells
			addr := remote(cleanAddress(a.addr), f.base)
			if tells == "" || addr == "" || f.m.rules.Allowed(addr) {
				f.m.ordinary(OpenTracker, vector+" "+a.why, f.t.part, addr)
				return
			}
			finding = Finding{Kind: OpenTracker, Vector: vector + " " + a.why, Part: f.t.part.number, URL: addr, Rule: tells, Why: "fetched only when the mail is printed or forwarded"}
		}
		found = append(found, cssFinding{finding, a})
	}
	for _, a := range cssAddresses(css) {
		known[a.addr] = true
		judge(a)
	}
	if strings.Contains(css, "/*") || strings.Contains(css, "\\") {
		n := len(found)
		for _, a := range cssAddresses(cssPlain(css)) {
			if !known[a.addr] {
				judge(a)
			}
		}
		all = len(found) > n
	}
	return found, all
}

func (f *htmlFinder) measure(tok *htmltoken.Token, style string) look {
	l := look{width: unknownSide, height: unknownSide}
	if v, ok := f.attr(tok, "width"); ok {
		l.width = attrSide(v)
	}
	if v, ok := f.attr(tok, "height"); ok {
		l.height = attrSide(v)
	}
	l.apply(style)
	return l
}

// addresses returns the addresses that an attribute holds: several in a srcset.
func (f *htmlFinder) addresses(a *htmltoken.Attr, name string) []string {
	v := attrAddress(f.bytes(a.ValueStart, a.ValueEnd))
	if name != "srcset" && name != "imagesrcset" {
		return []string{v}
	}
	var out []string
	for _, word := range strings.FieldsFunc(v, func(r rune) bool { return r <= ' ' }) {
		word = strings.Trim(word, ",")
		if strings.ContainsAny(word, "/:") {
			out = append(out, word)
		}
	}
	return out
}
