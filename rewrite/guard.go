package rewrite

import (
	"net/url"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// A guarded copy is one with consent whose pixels and counted links point at the gateway, so that
// a withdrawal holds for mail that is delivered already. What would go without consent and cannot
// point there goes from it as from a copy without: receipts, AMP parts, prefetches, ping, counted
// forms, style sheets and documents, addresses that CSS hides by escapes. Links that only have
// parameters that name the person stay, and so does what is signed.

// Target is an address of the sender's that a guarded copy has another one for.
type Target struct {
	Kind        Kind   // OpenTracker or ClickTracker
	URL         string // what stood there: absolute http or https, in ASCII
	Destination string // of a click tracker, http or https; "" if it cannot be read
}

// longestTarget is how long an address and its destination may be together: what is made of them must
// fit into what servers and readers take for an address.
const longestTarget = 4000

// target returns the hole for an address, one for each that is different. ok is false where none can
// be asked for: then the address must not stay in a guarded copy.
func (m *Message) target(t *text, f Finding) (h hole, ok bool) {
	if m.opts.GuardPrefix == "" || !isASCII(f.URL) && t.charset.enc != nil && !t.charset.wide && !t.charset.isUTF8() {
		return noHole, false // what its bytes mean depends on the reader
	}
	g := Target{Kind: f.Kind, Destination: f.Destination}
	if g.URL, ok = trackers.Web(f.URL); !ok {
		return noHole, false
	}
	if g.Destination != "" {
		if g.Destination, ok = trackers.Web(f.Destination); !ok {
			return noHole, false
		}
	}
	whole := g.URL
	if g.Kind == ClickTracker { // net/url takes no "100%" in a path or fragment, browsers do
		i := len("https://")
		if n := strings.IndexAny(g.URL[i:], "/?#"); n >= 0 {
			whole = g.URL[:i+n]
		}
	}
	if u, err := url.Parse(whole); err != nil || u.Host == "" || len(g.URL)+len(g.Destination) > longestTarget {
		return noHole, false
	}
	i, ok := m.targetAt[g]
	if !ok {
		i = len(m.targets)
		if m.targetAt == nil {
			m.targetAt = map[Target]int{}
		}
		m.targetAt[g] = i
		m.targets = append(m.targets, g)
	}
	return firstTarget + hole(i), true
}

// isGuarded reports whether an address is one of ours already, from an earlier passage.
func (m *Message) isGuarded(addr string) bool { return strings.HasPrefix(addr, m.opts.GuardPrefix) }

// addLink is add for a link: where it is counted, a guarded copy has a hole in place. Where there can be
// none, as always for the zero edit, it has what a copy without consent has, or what gone says.
func (m *Message) addLink(t *text, f Finding, e, place, gone edit) {
	if e.action != Stripped && namesLink(f.URL) {
		// Around a link of ours that is filled in later: nobody is counted for unsubscribing.
		if place.end > 0 && (f.Destination == "" || namesLink(f.Destination)) {
			e = edit{start: place.start, end: place.end, when: withoutClick, action: Undone, pieces: []piece{{hole: holeLink}}}
		}
		if e.when != 0 {
			e.guarded = always &^ e.when
		}
		m.add(t, f, e)
		return
	}
	if m.opts.GuardPrefix == "" || e.action == Stripped || m.isGuarded(f.URL) {
		m.add(t, f, e) // no counter
		return
	}
	h, ok := noHole, false
	if place.end > 0 {
		h, ok = m.target(t, f)
	}
	switch {
	case ok:
		place.pieces, place.action = []piece{{hole: h}}, Guarded
	case e.when != 0:
		e.guarded = always &^ e.when
	default:
		place, place.action = gone, Unlinked
	}
	m.add(t, f, e)
	if e.guarded == 0 {
		m.addGuarded(t, place, withClick)
	}
}

// addOpen is add for an open tracker: a guarded copy has place, unless that has no pieces.
func (m *Message) addOpen(t *text, f Finding, e, place edit) {
	if m.opts.GuardPrefix == "" {
		m.add(t, f, e)
		return
	}
	own := m.isGuarded(f.URL)
	e.spared = place.pieces != nil || own
	m.add(t, f, e)
	if place.pieces != nil && !own {
		place.action = Guarded
		m.addGuarded(t, place, withOpen)
	}
}

// addGuarded notes what guarded copies have in the place of what was found last.
func (m *Message) addGuarded(t *text, place edit, consent variants) {
	place.when, place.guarded, place.finding = 0, consent, len(m.findings)-1
	t.edits = append(t.edits, place)
}

// guardedAttr is what a guarded copy has for an attribute that fetches from a tracker: its address, or
// each of several that is one, replaced. Without pieces: the attribute cannot stay.
func (f *htmlFinder) guardedAttr(tok *htmltoken.Token, a *htmltoken.Attr, name, attr string, as appearance, found Finding) edit {
	e := edit{start: a.ValueStart, end: a.ValueEnd}
	if f.m.opts.GuardPrefix == "" {
		return e
	}
	switch attr {
	case "archive", "attributionsrc", "profile", "content":
	case "srcset", "imagesrcset":
		raw := f.src[a.ValueStart:a.ValueEnd]
		v := unescapeAttr(raw)
		if a.Quote == 0 || v != raw && !isASCII(v) {
			return e
		}
		holes := map[string]hole{}
		for _, addr := range srcset(nil, v) {
			found, ok := f.judge(tok, addr, as)
			if !ok || f.m.isGuarded(found.URL) {
				continue
			}
			if holes[addr], ok = f.m.target(f.t, found); !ok {
				return e
			}
		}
		e.pieces = fillSet(v, holes)
	default:
		if h, ok := f.m.target(f.t, found); ok && guardable(name, attr, found.Rule) {
			e.pieces = []piece{{hole: h}}
		}
	}
	return e
}

// guardable reports whether what is answered in the place of a tracker, which is a picture, does for an
// attribute. A tracker brings the reader nothing anyway.
func guardable(name, attr, rule string) bool {
	switch rule {
	case "document", "scheme":
		return false
	case ruleRemote:
		return attr == "background" || attr == "poster" || takesPicture(name)
	}
	return true
}

// takesPicture reports whether an element fetches nothing but pictures.
func takesPicture(name string) bool {
	switch name {
	case "img", "image", "feimage", "amp-img", "input", "v:image", "v:imagedata", "v:fill":
		return true
	}
	return false
}

// fillSet is the value of a srcset with holes for some of its addresses, for an attribute in quotes.
func fillSet(v string, holes map[string]hole) []piece {
	var pieces []piece
	done := 0
	for i := 0; i < len(v); i++ {
		if i > 0 && v[i-1] > ' ' && v[i-1] != ',' {
			continue
		}
		longest := ""
		for addr := range holes {
			if rest, ok := strings.CutPrefix(v[i:], addr); ok && len(addr) > len(longest) && (rest == "" || rest[0] <= ' ' || rest[0] == ',') {
				longest = addr
			}
		}
		if longest == "" {
			continue
		}
		pieces = append(append(pieces, literal(attrEscaper.Replace(v[done:i]))...), piece{hole: holes[longest]})
		done = i + len(longest)
		i = done - 1
	}
	return append(pieces, literal(attrEscaper.Replace(v[done:]))...)
}

// guardedCSS is what stands for an address in CSS in guarded copies; nil where none can.
func (f *htmlFinder) guardedCSS(x cssFinding) []piece {
	h, ok := f.m.target(f.t, x.Finding)
	switch {
	case !ok || x.at.why == "@import" || x.Rule == "document" || x.Rule == "scheme":
		return nil
	case x.at.bare:
		return []piece{{hole: h}}
	case x.at.quote == 0:
		return []piece{{lit: []byte("url(")}, {hole: h}, {lit: []byte(")")}}
	}
	quote := []byte{x.at.quote}
	return []piece{{lit: quote}, {hole: h}, {lit: quote}}
}

// guardedStyle is what a guarded copy has for a whole attribute with CSS that is written with character
// references. Without pieces: the attribute cannot stay.
func (f *htmlFinder) guardedStyle(a *htmltoken.Attr, css string, found []cssFinding) edit {
	e := edit{start: a.ValueStart, end: a.ValueEnd}
	if f.m.opts.GuardPrefix == "" || a.Quote == 0 || !isASCII(css) {
		return e
	}
	var pieces []piece
	done := 0
	for _, x := range found {
		if f.m.isGuarded(x.URL) {
			continue
		}
		guarded := f.guardedCSS(x)
		if guarded == nil || x.at.start < done {
			return e
		}
		pieces = append(pieces, literal(attrEscaper.Replace(css[done:x.at.start]))...)
		for _, p := range guarded {
			if p.hole == noHole {
				p.lit = []byte(attrEscaper.Replace(string(p.lit)))
			}
			pieces = append(pieces, p)
		}
		done = x.at.end
	}
	e.pieces = append(pieces, literal(attrEscaper.Replace(css[done:]))...)
	return e
}

// onlyGuarded notes what find finds for guarded copies alone: from all others it goes with the whole tag.
func (f *htmlFinder) onlyGuarded(find func()) {
	switch {
	case f.m.opts.GuardPrefix == "":
		return
	case f.going:
		find()
		return
	}
	findings, edits := len(f.m.findings), len(f.t.edits)
	f.going = true
	find()
	f.going = false
	kept := f.t.edits[:edits]
	for _, e := range f.t.edits[edits:] {
		if e.guarded != 0 {
			e.when, e.finding = 0, -1
			kept = append(kept, e)
		}
	}
	f.t.edits, f.m.findings = kept, f.m.findings[:findings]
}

// hasTargets reports whether any edit has a hole for an address.
func hasTargets(edits []edit) bool {
	for _, e := range edits {
		for _, p := range e.pieces {
			if p.hole >= firstTarget {
				return true
			}
		}
	}
	return false
}
