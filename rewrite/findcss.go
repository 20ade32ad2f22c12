package rewrite

import (
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// animated notes the addresses that an animation gives to an attribute one after the other.
func (f *htmlFinder) animated(tok *htmltoken.Token, a *htmltoken.Attr, values, vector string) (gone bool) {
	judge := func(addr string) bool {
		finding, ok := f.judge(tok, addr, unseen)
		if ok {
			finding.Vector = vector
			f.m.add(f.t, finding, f.cutAttr(a, withoutOpen))
		}
		return ok
	}
	for addr := range strings.SplitSeq(values, ";") {
		if judge(addr) {
			return true
		}
	}
	return strings.IndexByte(values, ';') >= 0 && judge(values) // an address may hold a ";" itself
}

// styleAttr notes what an attribute with CSS, or of an animation, fetches.
func (f *htmlFinder) styleAttr(tok *htmltoken.Token, a *htmltoken.Attr, name, attr string) {
	raw := f.src[a.ValueStart:a.ValueEnd]
	css := f.unescape(raw)
	if animates(attr) && f.animated(tok, a, css, name+" "+attr) || !f.about(css).calls {
		return
	}
	vector := name + " " + attr
	found, all := f.cssFindings(tok, css, vector, background)
	switch {
	case len(found) == 0:
	case all:
		for _, x := range found {
			f.m.add(f.t, x.Finding, f.cutAttr(a, withoutOpen))
		}
	case len(css) != len(raw):
		place := f.guardedStyle(a, css, found)
		for _, x := range found {
			f.m.addOpen(f.t, x.Finding, f.cutAttr(a, withoutOpen), place)
		}
	default:
		for _, x := range found {
			from, to := a.ValueStart+x.at.start, a.ValueStart+x.at.end
			f.m.addOpen(f.t, x.Finding, edit{start: from, end: to, when: withoutOpen, action: Removed, pieces: literal(x.at.replacement())},
				edit{start: from, end: to, pieces: f.guardedCSS(x)})
		}
	}
}

// styleSheet notes what a style element fetches. In SVG its text holds character references.
func (f *htmlFinder) styleSheet(from, to int, references bool) {
	css := f.src[from:to]
	if references {
		css = unescapeAttr(css)
	}
	found, all := f.cssFindings(nil, css, "style", unseen)
	for _, x := range found {
		e := edit{start: from + x.at.start, end: from + x.at.end, when: withoutOpen, action: Removed, pieces: literal(x.at.replacement())}
		place := edit{start: e.start, end: e.end}
		if all || len(css) != to-from {
			e.start, e.end, e.pieces = from, to, nil
		} else {
			place.pieces = f.guardedCSS(x)
		}
		f.m.addOpen(f.t, x.Finding, e, place)
	}
}

// importsRemote reports whether an address is itself a style sheet that fetches anything.
func (f *htmlFinder) importsRemote(addr string) bool {
	_, css, ok := dataAddress(addr)
	if !ok {
		return false
	}
	for _, a := range append(cssAddresses(css), cssAddresses(cssPlain(css))...) {
		if remote(cleanAddress(a.addr), "") != "" || strings.HasPrefix(strings.ToLower(a.addr), "data:") && a.why == "@import" {
			return true
		}
	}
	return false
}

// dataFetches reports whether an address is itself a document or a picture in XML that fetches
// anything.
func (f *htmlFinder) dataFetches(addr string) bool {
	if len(addr) < 5 || !strings.EqualFold(addr[:5], "data:") {
		return false
	}
	typ, body, _ := dataAddress(addr)
	if !strings.Contains(typ, "xml") && !strings.Contains(typ, "html") {
		return false
	}
	if f.depth > maxInside {
		return true
	}
	for _, found := range f.within(body).m.findings {
		if found.Kind == OpenTracker {
			return true
		}
	}
	return false
}

// foreignStyle looks into a style element once more, as a reader of XML reads it: its text is what
// is left without tags and comments, with character references resolved.
func (f *htmlFinder) foreignStyle(from, to, before int) {
	src := f.src[from:to]
	if !strings.ContainsAny(src, "<&") {
		return
	}
	g := &htmlFinder{m: &Message{rules: f.m.rules, opts: f.m.opts}, t: f.t, base: f.base, depth: f.depth}
	g.m.opts.Everything = false // the pieces are noted already
	found, _ := g.cssFindings(nil, xmlText(src), "style", unseen)
	if before += len(found); before <= len(f.m.findings) {
		return
	}
	for _, x := range found {
		f.m.add(f.t, x.Finding, edit{start: from, end: to, when: withoutOpen, action: Removed})
	}
}

// xmlText is the text of XML: without tags and comments, references resolved.
func xmlText(src string) string {
	var b strings.Builder
	for src != "" {
		i := strings.IndexByte(src, '<')
		if i < 0 {
			i = len(src)
		}
		b.WriteString(unescapeAttr(src[:i]))
		src = src[i:]
		open, end := "<", ">"
		switch {
		case strings.HasPrefix(src, "<!--"):
			open, end = "<!--", "-->"
		case strings.HasPrefix(src, "<![CDATA["):
			open, end = "<![CDATA[", "]]>"
		case src == "":
			return b.String()
		}
		src = src[len(open):]
		inside, rest, _ := strings.Cut(src, end)
		if end == "]]>" {
			b.WriteString(inside)
		}
		src = rest
	}
	return b.String()
}

type cssFinding struct {
	Finding
	at cssAddress
}

// cssFindings judges what CSS fetches. all says that escapes or comments hide an address from
// one way of reading it and not from another: then the whole must go.
func (f *htmlFinder) cssFindings(tok *htmltoken.Token, css, vector string, as appearance) (found []cssFinding, all bool) {
	known := map[string]bool{}
	judge := func(a cssAddress) {
		if a.why == "@import" && f.importsRemote(a.addr) {
			found = append(found, cssFinding{Finding{Kind: OpenTracker, Vector: vector + " " + a.why, Part: f.t.part.number, URL: a.addr, Rule: "document",
				Why: "a style sheet inside of an address, which fetches"}, a})
			return
		}
		finding, ok := f.judge(tok, a.addr, as)
		if !ok {
			addr := remote(cleanAddress(a.addr), f.base)
			if a.tells == "" && !a.tiny || addr == "" || f.m.rules.Allowed(addr) {
				f.m.ordinary(OpenTracker, vector+" "+a.why, f.t.part, addr)
				return
			}
			finding = Finding{Kind: OpenTracker, Part: f.t.part.number, URL: addr, Rule: a.tells, Why: "fetched only when the mail is printed or forwarded"}
			if a.tells == "" {
				finding.Rule, finding.Why = "size", "a picture behind what is too small to be seen"
			}
		}
		finding.Vector = vector + " " + a.why
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
