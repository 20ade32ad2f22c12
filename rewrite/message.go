// Package rewrite turns a message and a decision into one person's copy. It knows no network,
// no store and no clock.
//
// A Message is the original bytes plus an ordered list of edits, each with its kind and its
// place. A copy is the original with some of the edits applied, so what is not edited is
// identical by construction. All thinking (MIME, HTML, rules, decoding of links) happens in
// Parse, once a message; Render only fills a plan, once a recipient.
package rewrite

import (
	"io"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// Options is the operator's policy for rewriting, the same for all messages.
type Options struct {
	LinkPrefix  string      // what every unsubscribe link of ours begins with, e.g. "https://mail.example.org/u/"
	Opaque      Opaque      // a known click counter whose destination cannot be read, without click consent
	Identifiers Identifiers // parameters that name the person
	Footers     Footers     // nil: the built-in ones
}

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

// Variant is what makes one person's copy different from another's.
type Variant struct {
	Open, Click bool // consent to open and to click tracking

	// Link is this person's unsubscribe link for the body: an absolute https URL without
	// quotes, white space or any of <>&. Empty for machine mail: then nothing is inserted.
	Link string
	// OneClick is the URI of the List-Unsubscribe field that goes with List-Unsubscribe-Post
	// (RFC 8058), MailTo a mailto: URI that stands beside it. An empty OneClick: no List fields
	// of ours, and the sender's own are left alone.
	OneClick, MailTo string
	// Language of the footer, RFC 5646; a language without a footer gets English.
	Language string
	// Linked says of the links in Message.OwnLinks (by index) which are this very person's for
	// this very scope: the text part that holds one gets no footer.
	Linked []bool
}

// OwnLink is an unsubscribe link of ours that the message brought along.
type OwnLink struct {
	Token string // what stands behind Options.LinkPrefix
	part  int
}

// Action is what became of a finding in a copy.
type Action string

const (
	Kept     Action = "kept"
	Removed  Action = "removed"
	Undone   Action = "undone" // the link goes straight to its destination
	Stripped Action = "stripped" // parameters that name the person were removed
	Unlinked Action = "unlinked"
	Inserted Action = "inserted"
)

// Kind says what a finding tells of the reader, or what it is for.
type Kind string

const (
	OpenTracker  Kind = "open"
	ClickTracker Kind = "click"
	Unsubscribe  Kind = "unsubscribe" // a footer, a filled placeholder, the List fields
)

// Finding is one thing in the message that a copy may have to do without.
type Finding struct {
	Kind        Kind
	Vector      string // how it phones home: "img src", "a href", "text link", …
	Part        string // the MIME part as IMAP numbers it, "1.2"; "" = header of the message
	URL         string // as a reader would see it, entities resolved
	Rule        string // the rule that fired: a rule's name of package trackers, or "size", "hidden", …
	Provider    string // of the rule, "" if none
	Destination string // of a click tracker, "" if it cannot be read
	Why         string // in plain words
}

// Outcome is what became of one finding in one copy.
type Outcome struct {
	*Finding
	Action Action
}

var _ = trackers.Default
var _ io.ReaderAt
