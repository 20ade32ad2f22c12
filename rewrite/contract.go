package rewrite

import (
	"errors"
	"io"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// Bytes is a message in memory, for Parse.
type Bytes []byte

func (b Bytes) ReadAt(p []byte, off int64) (int, error) { panic("being written") }

// ErrOpaque is wrapped by Render's error where Options.Opaque is OpaqueReject and the copy would hold a
// click counter whose destination cannot be read.
var ErrOpaque = errors.New("…")

// ErrUnreadable is wrapped by Render's error where a body cannot be read safely, consent is missing and it may hold trackers.
var ErrUnreadable = errors.New("…")

// ErrHeader is wrapped by Parse's error: header over 256 KiB etc.
var ErrHeader = errors.New("…")

type Message struct{}

// Parse reads the message once; src must stay readable as long as copies are used.
func Parse(src io.ReaderAt, size int64, rules *trackers.Rules, opts Options) (*Message, error) { panic("being written") }

// Fields returns the bodies (unfolded, trimmed) of all header fields of that name (case ignored), in order.
func (m *Message) Fields(name string) []string { panic("being written") }

// Language is the message's own: Content-Language, else <html lang>, else "".
func (m *Message) Language() string { panic("being written") }

func (m *Message) Findings() []Finding { panic("being written") }
func (m *Message) OwnLinks() []OwnLink { panic("being written") }
func (m *Message) Render(v Variant) (*Copy, error) { panic("being written") }

// Copy is one person's copy. It can be written again and again.
type Copy struct{}

func (c *Copy) Len() int64 { panic("being written") }
func (c *Copy) Needs8Bit() bool { panic("being written") } // any byte over 127 in a body or header
func (c *Copy) WriteTo(w io.Writer) (int64, error) { panic("being written") }
// Prepend puts a complete header field (with its CRLF) before all others.
func (c *Copy) Prepend(field []byte) { panic("being written") }
func (c *Copy) Outcomes() []Outcome { panic("being written") }

// Footers: by language tag.
type Footers map[string]Footer
type Footer struct{ HTML, Text string } // templates that hold {{unsubscribe_url}} once

// DefaultFooters returns the built in ones for company ("" = not named).
func DefaultFooters(company string) Footers { panic("being written") }
