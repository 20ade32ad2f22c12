// Package rewrite turns a message and a decision into one person's copy. It knows no network,
// no store and no clock.
//
// A Message is the original bytes plus an ordered list of edits, each with its kind and its
// place. A copy is the original with some of the edits applied, so what is not edited is
// identical by construction. All thinking (MIME, HTML, rules, decoding of links) happens in
// Parse, once a message; Render only fills a plan, once a recipient.
//
// It is lenient: mail that breaks the rules is read as mail readers read it. It never fetches
// anything.
package rewrite

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// Options is the operator's policy for rewriting, the same for all messages.
type Options struct {
	LinkPrefix  string      // what every unsubscribe link of ours begins with, e.g. "https://mail.example.org/u/"
	GuardPrefix string      // what every address of Variant.Guard begins with; "" = Guard is not asked, and nothing prepared for it
	Images      Images      // what goes without open consent; "" is ImagesTrackers
	Opaque      Opaque      // a known click counter whose destination cannot be read, without click consent; "" is OpaqueKeep
	Identifiers Identifiers // parameters that name the person; "" is IdentifiersStrip
	Signed      Signed      // signed bodies, which nobody can edit; "" is SignedKeep
	Footers     Footers     // nil: the built-in ones
	Position    Position    // where a footer stands; "" is PositionAuto
	Lock        Lock        // the provider behind the next hop
	// Everything notes every address that a reader may fetch or follow as a finding, the
	// ordinary ones with an empty Rule; for reports, copies are the same.
	Everything bool
}

// Images says which remote resources a copy without open consent does without.
type Images string

const (
	ImagesTrackers  Images = "trackers"   // the known trackers, the tiny and the hidden
	ImagesAllRemote Images = "all-remote" // whatever a reader would fetch; data: and cid: stay
)

// Opaque says what becomes of a click counter whose destination cannot be read.
type Opaque string

const (
	OpaqueKeep   Opaque = "keep"   // it still counts
	OpaqueUnlink Opaque = "unlink" // the text stays, the link goes
	OpaqueReject Opaque = "reject" // Render fails with ErrOpaque
)

// Identifiers says what becomes of parameters that name the person.
type Identifiers string

const (
	IdentifiersStrip Identifiers = "strip"
	IdentifiersKeep  Identifiers = "keep"
)

// Signed says what becomes of S/MIME and PGP bodies that hold trackers where consent is missing.
type Signed string

const (
	SignedKeep   Signed = "keep"   // they leave as they are
	SignedReject Signed = "reject" // Render fails with ErrSigned
)

// Position says where in a text the footer stands.
type Position string

const (
	PositionAuto   Position = "auto" // at the bottom, but at the top of HTML over 100 KB, which Gmail clips
	PositionBottom Position = "bottom"
	PositionTop    Position = "top"
)

var (
	// ErrHeader is wrapped by Parse's error where the message's own header is over 256 KiB.
	ErrHeader = errors.New("the message's header is too long")
	// ErrOpaque is wrapped by Render's error where Options.Opaque is OpaqueReject and the copy
	// would hold a click counter whose destination cannot be read.
	ErrOpaque = errors.New("a click counter's destination cannot be read")
	// ErrSigned is wrapped by Render's error where Options.Signed is SignedReject and a signed body
	// holds what would have to go from the copy, or cannot be searched.
	ErrSigned = errors.New("a signed body holds trackers")
	// ErrEightBit is wrapped by Render's error where Variant.SevenBit asks for what cannot be: the
	// bytes over 127 stand in what is signed, in a message within the message, or in too long a part.
	ErrEightBit = errors.New("the body cannot be converted to 7bit")
	// ErrUnreadable is wrapped by Render's error where consent is missing and a body that may
	// hold trackers cannot be read safely.
	ErrUnreadable = errors.New("the body cannot be searched for trackers")
)

// OwnLink is an unsubscribe link of ours that the message brought along.
type OwnLink struct {
	Token string // what stands behind Options.LinkPrefix
}

// Kind says what a finding tells of the reader, or what it is for.
type Kind string

const (
	OpenTracker  Kind = "open"
	ClickTracker Kind = "click"
	Unsubscribe  Kind = "unsubscribe" // a footer, a filled placeholder, the List fields
)

// Finding is one thing in the message that a copy may have to do without, or a place where
// something is put in.
type Finding struct {
	Kind        Kind
	Vector      string // how it phones home: "img src", "a href", "text link", …
	Part        string // the MIME part as IMAP numbers it, "1.2"; "" = header of the message
	URL         string // as a reader would see it, entities resolved; may name the person, never log it
	Rule        string // the rule that fired: a rule's name of package trackers, or "size", "hidden", …; "" for an ordinary address
	Provider    string // of the rule, "" if none
	Destination string // of a click tracker, "" if it cannot be read
	Why         string // in plain words
}

// Message is a parsed message. It is safe for concurrent use.
type Message struct {
	src        io.ReaderAt
	size       int64
	rules      *trackers.Rules
	opts       Options
	root       *part
	texts      []*text
	targets    []Target // the addresses that guarded copies have others for
	fields     []fieldEdit
	removals   []removal
	signatures []signature
	findings   []Finding
	own        []OwnLink
	footer     int // index of the finding for the footer
	list       int // and for the List fields
	lang       string
	eightBit   bool
	depth      int // of messages in place of a body

	unreadable string   // why a body cannot be searched, "" if all can
	cutShort   bool     // the last field has no line end
	opaque     bool     // has a link that OpaqueReject is about
	signed     bool     // has a multipart/signed
	frozen     variants // which kinds of copy would need an edit in a signed body

	work     *scratch                 // while it is parsed, then nil
	undone   map[string]trackers.Link // so, too: links whose destination was read, which is costly, since text and HTML have the same
	targetAt map[Target]int           // and where in targets each is

	mu    sync.Mutex
	plans map[planKey]*plan
}

// fieldEdit takes a header field out.
type fieldEdit struct {
	span
	when    variants
	list    bool // only where links of ours are put in
	finding int  // -1 for none
}

// removal takes a body part out with the delimiter before it.
type removal struct {
	span
	when    variants
	finding int
}

// Parse reads the message of size bytes once and notes all that a copy may need. rules must not
// be nil. src must stay readable, and the same, as long as copies are made and written. Lines
// end with CRLF; bare LF is read too. The error is one of reading src, or wraps ErrHeader.
func Parse(src io.ReaderAt, size int64, rules *trackers.Rules, opts Options) (*Message, error) {
	return parseMessage(src, size, rules, opts, 0)
}

// parseMessage is Parse for a message in so many others.
func parseMessage(src io.ReaderAt, size int64, rules *trackers.Rules, opts Options, depth int) (*Message, error) {
	if opts.Footers == nil {
		opts.Footers = builtinFooters
	}
	work := scratches.Get().(*scratch)
	m := &Message{src: src, size: size, rules: rules, opts: opts, depth: depth, plans: map[planKey]*plan{}, work: work}
	err := m.parse()
	m.settle()
	work.release()
	if err != nil {
		return nil, err
	}
	return m, nil
}

// parse reads the message, in the memory of m.work.
func (m *Message) parse() error {
	m.findings = m.work.findings
	w := newWindow(m.src, m.size)
	p := &parser{w: w}
	m.root, _, _ = p.entity(0, nil, "")
	if m.root.tooLong {
		return errHeader()
	}
	if len(m.root.children) == 0 {
		m.root.number = "1"
	}
	m.unreadable = p.unreadable
	m.lang = m.root.get("Content-Language")
	m.header()
	m.walk(w, m.root, false)
	m.eightBit = w.eightBit()
	last := w.at(max(0, m.root.end-1), 1)
	m.cutShort = m.root.end > 0 && len(last) == 1 && last[0] != '\n'
	if w.err != nil {
		return fmt.Errorf("reading the message: %w", w.err)
	}
	m.placeFooters()
	return nil
}

// settle takes what stays out of m.work, which the next parse gets.
func (m *Message) settle() {
	m.work.findings, m.findings = m.findings, append([]Finding(nil), m.findings...)
	m.work.keep(func(keep func(*string)) {
		for i := range m.findings {
			f := &m.findings[i]
			keep(&f.Vector)
			keep(&f.URL)
			keep(&f.Destination)
		}
		for i := range m.targets {
			keep(&m.targets[i].URL)
			keep(&m.targets[i].Destination)
		}
		keep(&m.lang)
	})
	for _, t := range m.texts {
		if t.lent {
			t.plain = nil
		}
	}
	m.work, m.undone, m.targetAt = nil, nil, nil
}

// header notes the fields of the message's header that do not leave.
func (m *Message) header() {
	for _, f := range m.root.fields {
		name := strings.ToLower(f.name)
		e := fieldEdit{span: f.span, when: always, finding: -1}
		switch name {
		case "bcc", "resent-bcc": // RFC 5322 §3.6.3
		case "disposition-notification-to", "return-receipt-to", "x-confirm-reading-to", "read-receipt-to", "disposition-notification-options",
			"x-pmrqc", "return-receipt", "return-receipt-requested", "x-acknowledge-to", "register-mail-reply-requested-by", "generate-delivery-report",
			"x-image-url", "x-mozilla-external-attachment-url":
			e.when = withoutOpen
			e.finding = len(m.findings)
			m.findings = append(m.findings, Finding{Kind: OpenTracker, Vector: f.name, Rule: "receipt", Why: "asks the reader for a receipt (RFC 8098)"})
		case "list-unsubscribe", "list-unsubscribe-post":
			e.list = true
		default:
			if !strings.HasPrefix(name, "x-consent-") {
				continue
			}
		}
		m.fields = append(m.fields, e)
	}
	m.readSignatures()
	m.list = len(m.findings)
	m.findings = append(m.findings, Finding{Kind: Unsubscribe, Vector: "List-Unsubscribe", Why: "one-click unsubscribe (RFC 8058)"})
	m.footer = len(m.findings)
	m.findings = append(m.findings, Finding{Kind: Unsubscribe, Vector: "footer", Why: "the visible unsubscribe link"})
}

// add notes a finding and its edit; an edit for no variant is only a finding.
func (m *Message) add(t *text, f Finding, e edit) {
	e.finding = len(m.findings)
	m.findings = append(m.findings, f)
	if f.Kind == OpenTracker && e.guarded == 0 && !e.spared && m.opts.GuardPrefix != "" {
		e.guarded = always &^ e.when
	}
	if e.when|e.guarded != 0 {
		t.edits = append(t.edits, e)
	}
}

// ordinary notes an address that is no tracker's, where all are to be noted.
func (m *Message) ordinary(kind Kind, vector string, p *part, addr string) {
	if m.opts.Everything && addr != "" {
		m.findings = append(m.findings, Finding{Kind: kind, Vector: vector, Part: p.number, URL: addr})
	}
}

func (m *Message) isOwn(addr string) bool {
	return m.opts.LinkPrefix != "" && strings.HasPrefix(addr, m.opts.LinkPrefix)
}

// follow says what is to become of a link without click consent, and fills in the finding.
// ok is false for an ordinary link.
func (m *Message) follow(addr string, f *Finding) (to string, action Action, ok bool) {
	l, found := m.undone[addr]
	if !found {
		if l, found = m.rules.Link(addr); !found {
			return "", "", false
		}
		if l.Destination != "" {
			if m.undone == nil {
				m.undone = map[string]trackers.Link{}
			}
			m.undone[addr] = l
		}
	}
	to, action = addr, Stripped
	strip := m.opts.Identifiers != IdentifiersKeep
	f.Rule, f.Why = "identifier", "a parameter that names the person"
	if l.Rule != nil {
		f.Rule, f.Provider, f.Why = l.Rule.Name, l.Rule.Provider, "a click counter"
		if l.Destination != "" {
			to, action = l.Destination, Undone
		}
		if l.Opaque {
			f.Why = "a click counter whose destination cannot be read"
			switch m.opts.Opaque {
			case OpaqueUnlink:
				return "", Unlinked, true
			case OpaqueReject:
				m.opaque = true
			}
			if l.Destination == "" {
				return "", Kept, true
			}
		}
	} else if !strip {
		return "", "", false
	}
	if strip {
		to = m.rules.StripIdentifiers(to)
	}
	if !l.Opaque && l.Rule != nil {
		f.Destination = to
	}
	return to, action, true
}

// OwnRules returns the names of the rules by which this package itself finds trackers, beside those of package trackers.
func OwnRules() []string {
	return []string{"address", "amp", "data-consent-href", "document", "external", "forward", "hidden", "identifier", "ping", "prefetch", "print", "receipt", "refresh", ruleRemote, "scheme", "signed", "size"}
}

// Header returns the message's header.
func (m *Message) Header() *Header { return &Header{m.root.header} }

// Fields is Header().Fields.
func (m *Message) Fields(name string) []string { return m.root.all(name) }

// Language is the message's own (RFC 5646): Content-Language (RFC 3282), else <html lang>, else
// "". Whoever keeps it keeps nothing of the message's text alive.
func (m *Message) Language() string { return strings.Clone(m.lang) }

// HTMLPart is an HTML part that a reader sees.
type HTMLPart struct {
	Part  string // as IMAP numbers it
	Bytes int    // decoded
}

// HTMLParts returns the HTML parts that a footer may be put into, with their lengths as readers
// that clip long ones count them.
func (m *Message) HTMLParts() []HTMLPart {
	var out []HTMLPart
	for _, t := range m.texts {
		if t.form == htmlForm && t.footer {
			out = append(out, HTMLPart{t.part.number, t.length})
		}
	}
	return out
}

// Findings returns all that was found, in the order of the message. They must not be changed.
func (m *Message) Findings() []Finding { return m.findings }

// OwnLinks returns the unsubscribe links of ours that the message brought along, 64 at most.
func (m *Message) OwnLinks() []OwnLink { return m.own }
