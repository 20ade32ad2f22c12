package rewrite

import (
	"bytes"
	"io"
	"strings"
)

// form is how the text of a part is to be read.
type form uint8

const (
	plainForm form = iota // text/plain
	htmlForm              // HTML of any kind, and SVG
	styleForm             // a style sheet that HTML refers to by cid:
	cardForm              // calendars and cards: lines of NAME;PARAMETERS:VALUE
)

// formOf says how a part is read; ok is false for one that is none of ours.
func formOf(typ string) (f form, ok bool) {
	switch typ {
	case "text/plain", "text/enriched", "text/richtext", "text/markdown", "text/x-markdown":
		return plainForm, true
	case "text/css":
		return styleForm, true
	case "image/svg+xml", "image/svg":
		return htmlForm, true
	case "text/calendar", "text/x-vcalendar", "text/vcard", "text/x-vcard", "text/directory", "application/ics":
		return cardForm, true
	}
	// text/html, text/watch-html, text/x-amp-html, application/xhtml+xml, and the "html" of scripts.
	return htmlForm, strings.Contains(typ, "html")
}

// takesFooter reports whether a reader sees the part as the text of the mail.
func takesFooter(typ string) bool {
	f, ok := formOf(typ)
	return ok && (f == plainForm || f == htmlForm && !strings.HasPrefix(typ, "image/")) && typ != "text/watch-html" // beside the HTML of the same alternative
}

// walk reads the text parts. Inside of what is signed nothing can be edited (RFC 1847 §2.1), but
// what would have to be is noted.
func (m *Message) walk(w *window, p *part, frozen bool) {
	typ := p.typ.value
	if typ == "application/octet-stream" && strings.HasSuffix(p.filename(), ".p7m") { // RFC 8551 §3.9
		typ = "application/pkcs7-mime"
	}
	switch typ {
	case "multipart/signed":
		m.signed, frozen = true, true
	case "multipart/encrypted":
		return
	case "application/pkcs7-mime", "application/x-pkcs7-mime": // RFC 8551 §3.2
		if kind := p.typ.params["smime-type"]; kind != "enveloped-data" && kind != "authenveloped-data" && kind != "certs-only" {
			m.frozen |= withoutBoth
			m.findings = append(m.findings, Finding{Kind: OpenTracker, Vector: "S/MIME", Part: p.number, Rule: "signed", Why: "a signed body that cannot be searched"})
		}
		return
	}
	for _, c := range p.children {
		m.walk(w, c, frozen)
	}
	switch {
	case len(p.children) > 0:
		return
	case p.typ.value == "message/partial": // RFC 2046 §5.2.2
		m.unreadable = "the body is a piece of a message"
		return
	case p.parent == nil && (p.typ.value == "message/rfc822" || p.typ.value == "message/global"):
		m.forwarded(p)
		return
	case p.typ.value == "message/external-body": // RFC 2046 §5.2.3
		m.external(p, frozen)
		return
	case p.attached():
		return
	}
	form, ok := formOf(p.shownAs())
	if !ok {
		return
	}
	t := &text{part: p, form: form, enc: parseTransfer(p.encoding), charset: findCharset(p.typ.params["charset"])}
	if t.amp = p.typ.value == "text/x-amp-html" && p.parent != nil; t.amp {
		e := removal{p.whole, withoutBoth, len(m.findings)}
		m.findings = append(m.findings, Finding{Kind: OpenTracker, Vector: "AMP part", Part: p.number, Rule: "amp", Why: "fetches and reports while it is read"})
		if frozen {
			m.frozen |= e.when
		} else {
			m.removals = append(m.removals, e)
		}
	}
	switch {
	case t.enc == unknownTransfer:
		m.unreadable = "a text part has an unknown Content-Transfer-Encoding"
		return
	case !t.charset.readable():
		m.unreadable = "a text part has an unknown character set"
		return
	case p.content.len() > maxText:
		m.unreadable = "a text part is too long"
		return
	}
	t.raw = w.read(p.content)
	t.decode(m.work)
	if !t.readable {
		m.unreadable = "a text part switches character sets that it does not name"
	}
	m.find(t, frozen)
	if p.doubtful && t.form == plainForm && newHTMLFinder(m, t).opensIn(string(t.plain)) {
		m.unreadable = "a part with a wrong type or boundary may be shown as HTML"
	}
	switch {
	case frozen:
		t.freeze(m, 0, len(t.plain))
		return
	case t.amp:
		// Parts that go or stay as a whole need no edits but the link.
		kept := t.edits[:0]
		for _, e := range t.edits {
			if e.linked {
				kept = append(kept, e)
			}
		}
		t.edits = kept
	}
	m.texts = append(m.texts, t)
}

// shownAs is the type that a reader goes by: for one that says nothing, the file name's.
func (p *part) shownAs() string {
	switch p.typ.value {
	case "application/octet-stream", "application/x-unknown-content-type":
		name := p.filename()
		switch name[strings.LastIndexByte(name, '.')+1:] {
		case "htm", "html", "shtml", "xhtml", "xht":
			return "text/html"
		case "svg":
			return "image/svg+xml"
		}
	}
	return p.typ.value
}

// forwarded looks into a message that stands in place of the body: a reader shows it as if it were
// one. Nothing in it is edited.
func (m *Message) forwarded(p *part) {
	const why = "a message stands in place of the body, and may hold trackers"
	if m.depth > 2 || parseTransfer(p.encoding) != identity {
		m.unreadable = why
		return
	}
	inner, err := parseMessage(io.NewSectionReader(m.src, p.content.start, p.content.len()), p.content.len(), m.rules, m.opts, m.depth+1)
	if err != nil || inner.unreadable != "" {
		m.unreadable = why
		return
	}
	for _, f := range inner.findings {
		if f.Kind == OpenTracker && f.Rule != "" {
			m.unreadable = why
		}
	}
}

// external notes a part that a reader fetches from elsewhere.
func (m *Message) external(p *part, frozen bool) {
	addr := p.typ.params["url"]
	if site := p.typ.params["site"]; addr == "" && site != "" {
		addr = "ftp://" + site + "/" + p.typ.params["name"]
	}
	if addr == "" || m.rules.Allowed(addr) {
		return
	}
	e := removal{p.whole, withoutOpen, len(m.findings)}
	m.findings = append(m.findings, Finding{Kind: OpenTracker, Vector: "message/external-body", Part: p.number, URL: addr, Rule: "external", Why: "a part that is fetched from elsewhere"})
	switch {
	case frozen:
		m.frozen |= e.when
	case p.parent == nil:
		m.unreadable = "the body is to be fetched from elsewhere"
	default:
		m.removals = append(m.removals, e)
	}
}

// find notes what is to be edited in a text.
func (m *Message) find(t *text, frozen bool) {
	t.edits = m.work.edits[:0]
	m.findEdits(t, frozen)
	m.work.edits, t.edits = t.edits, append([]edit(nil), t.edits...)
	if t.enc == quotedPrintable {
		for i := range t.edits {
			e := &t.edits[i]
			e.raw = t.rawPlace(e.start, e.end)
		}
		t.spot.raw = t.rawPlace(t.spot.at, t.spot.at)
		t.jumps = nil
	}
}

func (m *Message) findEdits(t *text, frozen bool) {
	switch t.form {
	case styleForm:
		newHTMLFinder(m, t).styleSheet(0, len(t.plain), false)
		return
	case cardForm:
		m.findCard(t)
		return
	}
	marks := m.findMarks(t.plain)
	if t.form == htmlForm {
		f := newHTMLFinder(m, t)
		f.stack, f.shown, f.several = m.work.stack[:0], m.work.shown[:0], m.work.several[:0]
		f.marks, f.base = marks, t.part.base()
		f.begin()
		f.scan(0, len(t.plain))
		f.settlePixels()
		if f.readOtherwise() {
			m.unreadable = "readers differ on control characters, padding or entities in a text part, which hide a tracker"
		}
		if m.lang == "" {
			m.lang = f.lang
		}
		t.spot = f.footerSpot(m.opts.Position)
		marks = f.marks
		m.work.stack, m.work.shown, m.work.several = f.stack, f.shown, f.several
	} else {
		m.findText(t)
		for i := range marks {
			marks[i].seen = true
		}
		if t.spot = (footerSpot{at: len(t.plain)}); m.opts.Position == PositionTop {
			t.spot.at = 0
		}
		t.freezeClearSigned(m)
	}
	if !frozen {
		m.noteMarks(t, marks)
	}
}

// freeze takes the edits of plain[from:to] back, and notes for which copies they were.
func (t *text) freeze(m *Message, from, to int) {
	kept := t.edits[:0]
	for _, e := range t.edits {
		if e.linked || e.end <= from || to <= e.start {
			kept = append(kept, e)
			continue
		}
		m.frozen |= e.when
	}
	t.edits = kept
}

// freezeClearSigned keeps what OpenPGP signed in the open (RFC 9580 §7) as it is.
func (t *text) freezeClearSigned(m *Message) {
	begin, end := []byte("-----BEGIN PGP SIGNED MESSAGE-----"), []byte("-----END PGP SIGNATURE-----")
	for at := 0; ; {
		i := bytes.Index(t.plain[at:], begin)
		if i < 0 {
			return
		}
		from, to := at+i, len(t.plain)
		if n := bytes.Index(t.plain[from:], end); n >= 0 {
			to = from + n + len(end)
		}
		t.freeze(m, from, to)
		at = to
	}
}

// base is what relative addresses in p are resolved against (RFC 2557 §5), "" if nothing is said.
func (p *part) base() string {
	for ; p != nil; p = p.parent {
		for _, name := range []string{"Content-Base", "Content-Location"} {
			if addr := remote(cleanAddress(strings.Trim(p.get(name), "<> \"")), ""); addr != "" {
				return addr
			}
		}
	}
	return ""
}
