package rewrite

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
)

// Variant is what makes one person's copy different from another's.
type Variant struct {
	Open, Click bool // consent to open and to click tracking

	// Link is this person's unsubscribe link for the body: an absolute https URL without
	// quotes, white space or any of <>&. Empty for machine mail: then nothing is inserted.
	Link string
	// OneClick is the URI of the List-Unsubscribe field that goes with List-Unsubscribe-Post
	// (RFC 8058), MailTo a mailto: URI that stands beside it. Where OneClick is empty and Link
	// is not, the copy carries no List fields, for a receipt cannot be unsubscribed from; only
	// where no text part can hold Link does it stand in a List-Unsubscribe without one-click.
	OneClick, MailTo string
	// Language of the footer, RFC 5646; a language without a footer gets English.
	Language string
	// Bare leaves out the footer and the List fields, and lets the sender's own stay: Link stands
	// only where the sender put {{unsubscribe_url}}. For watching what would be done.
	Bare bool
	// SevenBit converts every body part that has bytes over 127, for a next hop without 8BITMIME
	// (RFC 6152 §3). Such bytes in header fields stay.
	SevenBit bool
	// To is the recipient's address. It is only held against the recipients that a field for the
	// provider may name, see ErrRecipients.
	To string
	// Guard returns what stands for an address in this person's copy: an absolute http or https URL of
	// letters, digits and any of -._~:/ alone. nil: copies are not guarded, what consent is there for stays
	// as it is. It is called while Render fills the copy, once for each address in it.
	Guard func(Target) string
	// Linked says of the links in Message.OwnLinks (by index) which are this very person's for
	// this very scope: the text part that holds one gets no footer.
	Linked []bool
}

// planKey tells the copies apart that need a plan of their own.
type planKey struct {
	bit                variants
	link, list, mailto bool
	bare, sevenBit     bool
	guard              bool
	linked             uint64
	lang               string
}

// plan is a copy with holes. It is made once and never changes.
type plan struct {
	segs     []segment
	fixed    int64 // bytes of all but the holes
	targets  []Target
	outcomes []Outcome
	eightBit bool
}

// Render makes one person's copy: it fills a plan and parses nothing. The error wraps ErrOpaque,
// ErrSigned or ErrUnreadable where this message must not leave for such a variant, or says which link
// cannot be put into a message.
func (m *Message) Render(v Variant) (*Copy, error) {
	if !v.Click && m.opaque {
		return nil, ErrOpaque
	}
	if m.opts.Signed == SignedReject && m.frozen&variantBit(v.Open, v.Click) != 0 {
		return nil, ErrSigned
	}
	if m.unreadable != "" && !(v.Open && v.Click) {
		return nil, fmt.Errorf("%w: %s", ErrUnreadable, m.unreadable)
	}
	if to, err := m.soleRecipient(); !v.Bare && (err != nil || to != "" && !strings.EqualFold(to, v.To)) {
		return nil, ErrRecipients
	}
	for _, l := range []string{v.Link, v.OneClick, v.MailTo} {
		if !fitsMessage(l) {
			return nil, fmt.Errorf("a link has characters that a message cannot hold, or over %d of them", MaxLink)
		}
	}
	key := planKey{bit: variantBit(v.Open, v.Click), link: v.Link != "", list: v.OneClick != "" && !v.Bare, bare: v.Bare, sevenBit: v.SevenBit, guard: v.Guard != nil && m.opts.GuardPrefix != ""}
	key.mailto = key.list && v.MailTo != ""
	for i, yes := range v.Linked {
		if yes && i < 64 {
			key.linked |= 1 << i
		}
	}
	var ft Footer
	if key.link {
		ft, key.lang = m.opts.Footers.find(v.Language)
	}
	m.mu.Lock()
	p := m.plans[key]
	if p == nil {
		var err error
		if p, err = m.plan(key, ft); err != nil {
			m.mu.Unlock()
			return nil, err
		}
		m.plans[key] = p
	}
	m.mu.Unlock()
	return p.copy(m.src, v), nil
}

// MaxLink is the longest link of a Variant. It keeps a List-Unsubscribe line under the 998 characters of
// RFC 5322 §2.1.1.
const MaxLink = 900

func fitsMessage(link string) bool {
	for i := range len(link) {
		if !linkBytes[link[i]] {
			return false
		}
	}
	return len(link) <= MaxLink
}

// linkBytes are those that a link may have to stand in HTML, text and a header field as it is.
var linkBytes = func() (t [256]bool) {
	for c := byte('!'); c < 0x7f; c++ {
		t[c] = strings.IndexByte(`<>"&'\`, c) < 0
	}
	return t
}()

// rawEdit replaces a span of the source.
type rawEdit struct {
	span
	write func(*segments)
}

// plan works out what the copies of one kind have in common.
func (m *Message) plan(key planKey, ft Footer) (*plan, error) {
	p := &plan{eightBit: m.eightBit, targets: m.targets}
	done := map[int]Action{} // by finding
	var raw []rawEdit
	cut := func(s span, finding int) {
		raw = append(raw, rawEdit{span: s})
		if finding >= 0 {
			done[finding] = Removed
		}
	}
	for _, f := range m.fields {
		if (f.when&key.bit != 0 || key.guard) && (!f.list || (key.link || key.list) && !key.bare) {
			cut(f.span, f.finding)
		}
	}
	var locked switches
	if !key.bare {
		locked = m.switchesFor(key.bit&withoutOpen == 0, key.bit&withoutClick == 0)
	}
	for _, f := range m.root.fields {
		if locked.cut[strings.ToLower(f.name)] {
			cut(f.span, -1)
		}
	}
	var bodies []rawEdit // behind the fields, where both are at one place
	var removed []span
	for _, r := range m.removals {
		if r.when&key.bit != 0 || key.guard {
			cut(r.span, r.finding)
			removed = append(removed, r.span)
		}
	}
	wrap := key.link && !key.bare && !m.hasFooterPlace() && (m.signed || m.unreadable != "") && key.linked == 0
	top := m.root.header
	if key.list {
		done[m.list] = Inserted
	}
	if wrap {
		for _, f := range top.fields {
			if isContentField(f.name) {
				cut(f.span, -1)
			}
		}
		bodies = append(bodies, rawEdit{span{top.body, m.size}, func(s *segments) { m.writeWrapped(s, ft) }})
		done[m.footer] = Inserted
	}

	for _, t := range m.texts {
		if wrap || inside(t.part.content, removed) {
			continue
		}
		edits := t.selected(key, done)
		upgrade := t.charset.wide
		// What is put in for an address is longer than it, and a line has an end (RFC 5322 §2.1.1).
		encoded := t.enc == identity && (key.sevenBit && hasEightBit(t.raw) || hasTargets(edits))
		if t.footer && key.link && !key.bare && !t.placed && t.own&key.linked == 0 {
			e, utf8 := t.footerEdit(ft)
			edits = insertEdit(edits, e)
			upgrade = upgrade || utf8
			done[m.footer] = Inserted
		}
		if len(edits) == 0 && !encoded {
			continue
		}
		if upgrade || encoded {
			charset := ""
			if upgrade {
				charset = "utf-8"
			}
			if fields := t.part.encodedFields(charset, "quoted-printable"); t.part == m.root {
				raw = append(raw, fields...)
			} else {
				bodies = append(bodies, fields...)
			}
			bodies = append(bodies, rawEdit{t.part.content, func(s *segments) { t.spliceWhole(s, edits, upgrade); t.unglue(s) }})
		} else {
			bodies = append(bodies, rawEdit{t.part.content, func(s *segments) { t.part.separate(s); t.splice(s, edits); t.unglue(s) }})
			for _, e := range edits {
				for _, pc := range e.pieces {
					p.eightBit = p.eightBit || t.enc == identity && hasEightBit(pc.lit)
				}
			}
		}
	}

	if key.sevenBit {
		more, err := m.sevenBitParts(m.root, wrap)
		if err != nil {
			return nil, err
		}
		for _, e := range more {
			if e.end <= top.end {
				raw = append(raw, e)
			} else {
				bodies = append(bodies, e)
			}
		}
		p.eightBit = false
	}

	raw = append(raw, rawEdit{span{top.end, top.end}, func(s *segments) {
		if wrap {
			m.writeWrapFields(s)
		}
		for _, f := range locked.set {
			s.literal([]byte(f[0] + ": " + f[1] + "\r\n")...)
		}
		switch {
		case key.list:
			writeListFields(s, key.mailto)
		case key.link && !key.bare && !wrap && !m.hasFooterPlace():
			s.literal([]byte("List-Unsubscribe: <")...)
			s.hole(holeLink, plainFill)
			s.literal([]byte(">\r\n")...)
		}
		if top.body == top.end {
			s.literal('\r', '\n')
		}
	}})
	list, err := m.assemble(append(raw, bodies...))
	if err != nil {
		return nil, err
	}
	if p.segs, err = m.pack(list); err != nil {
		return nil, err
	}
	for _, sg := range p.segs {
		p.fixed += sg.len() + int64(len(sg.lit))
	}
	p.outcomes = m.outcomes(done)
	return p, nil
}

func inside(s span, all []span) bool {
	for _, o := range all {
		if o.start <= s.start && s.end <= o.end {
			return true
		}
	}
	return false
}

// selected returns the edits of this text that a kind of copy needs, and notes what they do.
func (t *text) selected(key planKey, done map[int]Action) []edit {
	var out []edit
	for _, e := range t.edits {
		if e.when&key.bit == 0 && !(key.guard && e.guarded&key.bit != 0) || e.linked && !key.link {
			continue
		}
		out = append(out, e)
	}
	return settle(out, done)
}

// insertEdit puts an insertion into its place.
func insertEdit(edits []edit, e edit) []edit {
	i := sort.Search(len(edits), func(i int) bool { return edits[i].start >= e.start })
	for i > 0 && edits[i-1].end > e.start {
		i-- // never inside of what goes
		e.start, e.end = edits[i].start, edits[i].start
		e.raw = rawPlace{edits[i].raw.start, edits[i].raw.start}
	}
	return append(edits[:i:i], append([]edit{e}, edits[i:]...)...)
}

// footerEdit is the insertion of the footer into this text; utf8 says that the part must leave
// in UTF-8 for it.
func (t *text) footerEdit(ft Footer) (e edit, utf8 bool) {
	tmpl := ft.Text
	if t.form == htmlForm {
		tmpl = t.spot.closes + asciiHTML(ft.HTML)
	} else {
		tail := t.plain[max(0, t.spot.at-2):t.spot.at]
		switch {
		case t.spot.at == 0 && len(t.plain) > 0:
			tmpl += "\r\n"
		case t.spot.at == 0:
		case bytes.HasSuffix(tail, []byte("\n")):
			tmpl = "\r\n" + tmpl
		default:
			tmpl = "\r\n\r\n" + tmpl
		}
		if !isASCII(tmpl) {
			switch _, ok := t.charset.encode(tmpl); {
			case ok && !(t.enc == identity && t.ascii):
			case t.charset.wide || t.ascii || t.charset.enc != nil:
				utf8 = true
			default:
				tmpl = toASCII(tmpl)
			}
		}
	}
	if t.enc == base64Transfer && !utf8 && !bytes.Contains(t.plain, []byte("\r\n")) && bytes.Contains(t.plain, []byte("\n")) {
		tmpl = strings.ReplaceAll(tmpl, "\r\n", "\n")
	}
	before, after, _ := strings.Cut(tmpl, linkPlaceholder)
	lit := func(s string) []byte {
		if !utf8 {
			if b, ok := t.charset.encode(s); ok && !t.charset.wide {
				return b
			}
		}
		return []byte(s)
	}
	return edit{start: t.spot.at, end: t.spot.at, raw: t.spot.raw, pieces: []piece{{lit: lit(before)}, {hole: holeLink}, {lit: lit(after)}}, finding: -1}, utf8
}

// encodedFields replaces the fields of a part that is written anew in another transfer encoding,
// and in another charset unless that is "".
func (p *part) encodedFields(charset, encoding string) []rawEdit {
	var out []rawEdit
	fields := ""
	if charset != "" {
		fields = "Content-Type: " + p.typ.value + "; charset=" + charset
		var names []string
		for name := range p.typ.params {
			if name != "charset" {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		for _, name := range names {
			v := p.typ.params[name]
			if isASCII(v) && len(v) < 200 {
				fields += ";\r\n " + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
			}
		}
		fields += "\r\n"
	}
	fields += "Content-Transfer-Encoding: " + encoding + "\r\n"
	if p.parent == nil && p.get("MIME-Version") == "" {
		fields = "MIME-Version: 1.0\r\n" + fields
	}
	for _, f := range p.fields {
		if charset != "" && strings.EqualFold(f.name, "Content-Type") || strings.EqualFold(f.name, "Content-Transfer-Encoding") {
			out = append(out, rawEdit{span: f.span})
		}
	}
	end, body := p.header.end, p.header.body
	return append(out, rawEdit{span{end, end}, func(s *segments) {
		s.literal([]byte(fields)...)
		if end == body && p.parent != nil {
			s.literal('\r', '\n')
		}
	}})
}

// spliceWhole writes the whole text with edits in quoted-printable, in UTF-8 or in its own charset.
func (t *text) spliceWhole(s *segments, edits []edit, utf8 bool) {
	var pieces []piece
	convert := func(b []byte) []byte {
		if !utf8 || t.charset.wide || t.charset.enc == nil {
			return b
		}
		return t.charset.decode(b)
	}
	done := 0
	for _, e := range edits {
		pieces = append(pieces, piece{lit: convert(t.plain[done:e.start])})
		pieces = append(pieces, e.pieces...)
		done = e.end
	}
	pieces = append(pieces, piece{lit: convert(t.plain[done:])})
	appendPiecesQP(s, pieces, 0, true)
}

// separate writes the blank line that the header of a body part lacks, so that what is put into its
// body is not read as a field.
func (p *part) separate(s *segments) {
	if p.parent != nil && p.end == p.body {
		s.literal('\r', '\n')
	}
}

// unglue writes the line end before a delimiter, where an empty part that now has text lacks
// it.
func (t *text) unglue(s *segments) {
	if t.part.glued {
		s.literal('\r', '\n')
	}
}

// writeListFields writes the pair of RFC 8058 §3.1, with holes.
func writeListFields(s *segments, mailto bool) {
	s.literal([]byte("List-Unsubscribe: <")...)
	s.hole(holeOneClick, plainFill)
	if mailto {
		s.literal([]byte(">,\r\n <")...)
		s.hole(holeMailTo, plainFill)
	}
	s.literal([]byte(">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")...)
}

func isContentField(name string) bool {
	return len(name) > 8 && strings.EqualFold(name[:8], "content-")
}

// wrapBoundary is a boundary that the message cannot know, since it is a hash over its header.
func (m *Message) wrapBoundary() string {
	h := sha256.New()
	for _, f := range m.root.fields {
		io.WriteString(h, f.name+f.body)
	}
	return "consentgate-" + hex.EncodeToString(h.Sum(nil)[:12])
}

func (m *Message) writeWrapFields(s *segments) {
	if m.root.get("MIME-Version") == "" {
		s.literal([]byte("MIME-Version: 1.0\r\n")...)
	}
	s.literal([]byte("Content-Type: multipart/mixed; boundary=\"" + m.wrapBoundary() + "\"\r\n")...)
}

// writeWrapped writes the body as the first part of a multipart/mixed, byte for byte, and the
// footer as the second.
func (m *Message) writeWrapped(s *segments, ft Footer) {
	b := m.wrapBoundary()
	s.literal([]byte("--" + b + "\r\n")...)
	for _, f := range m.root.fields {
		if isContentField(f.name) {
			s.source(f.start, f.end)
		}
	}
	s.literal('\r', '\n')
	s.source(m.root.body, m.size)
	s.literal([]byte("\r\n--" + b + "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Disposition: inline\r\n\r\n")...)
	before, after, _ := strings.Cut(ft.Text, linkPlaceholder)
	appendPiecesQP(s, []piece{{lit: []byte(before)}, {hole: holeLink}, {lit: []byte(after)}}, 0, true)
	s.literal([]byte("\r\n--" + b + "--\r\n")...)
}

// outcomes lists what a kind of copy does with each finding.
func (m *Message) outcomes(done map[int]Action) []Outcome {
	var out []Outcome
	for i := range m.findings {
		f := &m.findings[i]
		action, ok := done[i]
		if !ok {
			if f.Kind == Unsubscribe {
				continue
			}
			action = Kept
		}
		if out == nil {
			out = make([]Outcome, 0, len(m.findings)-i)
		}
		out = append(out, Outcome{f, action})
	}
	return out
}

// bigSpan is from how many bytes on a span stays a reference to the source; smaller ones are
// copied into the plan, so that writing a copy takes few writes.
const bigSpan = 32 << 10

// pack joins what stands between two holes.
func (m *Message) pack(list []segment) ([]segment, error) {
	total, joined := 0, 0
	for _, sg := range list {
		if sg.lit != nil {
			total += len(sg.lit)
		} else if sg.end > sg.start && sg.len() < bigSpan {
			total += int(sg.len())
		} else {
			joined += 2 // it, and what is before it
		}
	}
	out := make([]segment, 0, joined+1)
	lit := make([]byte, 0, total)
	flush := func() {
		if n := len(lit); n > 0 {
			out = append(out, segment{lit: lit[:n:n]})
			lit = lit[n:]
		}
	}
	for _, sg := range list {
		switch {
		case sg.lit != nil:
			lit = append(lit, sg.lit...)
		case sg.end > sg.start && sg.len() < bigSpan:
			n := len(lit)
			lit = lit[:n+int(sg.len())]
			if _, err := m.src.ReadAt(lit[n:], sg.start); err != nil && err != io.EOF {
				return nil, fmt.Errorf("reading the message: %w", err)
			}
		default:
			flush()
			out = append(out, sg)
		}
	}
	flush()
	return out, nil
}
