// Package sign puts DKIM signatures (RFC 6376, RFC 8463) on a copy as it leaves.
//
// It signs what is there and changes nothing: whatever else is to be put into the copy and
// covered by the signature must be in it before. It is not for verifying, and not for taking
// out signatures that no longer hold, which package rewrite does.
package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/canonical"
)

var (
	// ErrFrom is returned for a copy without exactly one From field whose addresses can be read.
	ErrFrom = errors.New("no From field that could be signed for")
	// ErrForeign is wrapped for a copy whose From is of a domain that there is no key for.
	ErrForeign = errors.New("no key for the From domain or one above it")
)

// Options are the operator's part. The zero value of a field means what stands behind it.
type Options struct {
	LeaveOut []string         // names of fields that are not signed since the next hop rewrites them; From is always signed
	Log      *slog.Logger     // discards
	Now      func() time.Time // time.Now; for t=, and for when key files are looked at
}

// Signer signs with the keys of the domain in From. It is safe for concurrent use.
type Signer struct {
	keys     map[string][]*Key // by domain
	leaveOut map[string]bool   // lower-case
	log      *slog.Logger
	now      func() time.Time
	last     atomic.Pointer[known]
}

// New makes a Signer. Several keys of one domain all sign, each with a field of its own; the first one's
// is on top. Keys that were loaded from a file are read again when it changes; one that cannot be read
// then is logged, and the one before stays in use.
func New(keys []*Key, o Options) *Signer {
	s := &Signer{keys: map[string][]*Key{}, leaveOut: map[string]bool{}, log: o.Log, now: o.Now}
	for _, k := range keys {
		s.keys[k.domain] = append(s.keys[k.domain], k)
	}
	for _, name := range o.LeaveOut {
		s.leaveOut[strings.ToLower(name)] = true
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Sign puts a DKIM-Signature for each key before the fields of c: relaxed/relaxed, SHA-256, over the whole
// body (no l=), without expiry (no x=) and without i=. The keys are those of the From domain, else those
// of the nearest domain above it that has some (aligned for DMARC, RFC 7489 §3.1.1); where From names
// several addresses, all have to be of that domain or below it. With ErrFrom or ErrForeign nothing was
// signed and c is as it was; such a copy may leave unsigned.
func (s *Signer) Sign(c *rewrite.Copy) error {
	w := works.Get().(*work)
	defer works.Put(w)
	w.body.Reset(true, -1)
	in := canonical.Splitter{Header: w.text[:0], Body: w.body}
	_, err := c.WriteTo(&in)
	if w.text = in.Header; err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	w.header = appendHeader(w.header[:0], in.Header)
	domains, err := s.fromDomains(w.header.bodies(from))
	if err != nil {
		return err
	}
	keys := s.keysFor(domains)
	if keys == nil {
		return fmt.Errorf("%w: %s", ErrForeign, domains[0])
	}
	signed := w.header.signedFields(s.leaveOut)
	w.hashed = w.header.appendCanonical(w.hashed[:0], signed)
	sum, _ := w.body.Sum()
	now := s.now()
	fields := make([][]byte, len(keys))
	for i, k := range keys {
		if fields[i], err = s.field(k, joinNames(signed), w, sum, now); err != nil {
			return fmt.Errorf("sign: %s: %w", k.Name(), err)
		}
	}
	for i := len(fields) - 1; i >= 0; i-- {
		c.Prepend(fields[i])
	}
	return nil
}

// work is what one call of Sign needs. Nothing of it is in what is put into the copy.
type work struct {
	body   *canonical.Body
	text   []byte // the copy's header
	header header
	hashed []byte // the fields of h= in canonical form
}

var works = sync.Pool{New: func() any { return &work{body: canonical.NewBody(true, -1)} }}

// known is a From field that was read. Copies of one message have the same, and mostly those of the next.
type known struct {
	from    string
	domains []string
}

// fromDomains is FromDomains.
func (s *Signer) fromDomains(bodies []string) ([]string, error) {
	if last := s.last.Load(); last != nil && len(bodies) == 1 && bodies[0] == last.from {
		return last.domains, nil
	}
	domains, err := FromDomains(bodies)
	if err == nil {
		s.last.Store(&known{bodies[0], domains})
	}
	return domains, err
}

// keysFor returns the keys of the nearest domain that all domains are in, nil if there are none.
func (s *Signer) keysFor(domains []string) []*Key {
	for d := domains[0]; d != ""; _, d, _ = strings.Cut(d, ".") {
		keys := s.keys[d]
		for _, other := range domains {
			if other != d && !strings.HasSuffix(other, "."+d) {
				keys = nil
			}
		}
		if keys != nil {
			return keys
		}
	}
	return nil
}

// field makes the DKIM-Signature of one key over the fields names, which w.hashed has.
func (s *Signer) field(k *Key, names string, w *work, bodyHash []byte, now time.Time) ([]byte, error) {
	private, err := k.current(now)
	if err != nil {
		s.log.Error("a DKIM key cannot be read again; the one before stays", "name", k.Name(), "err", err)
	}
	text := appendTags(append(make([]byte, 0, fieldSize), "DKIM-Signature:"...), [][2]string{
		{"a", algorithm(private) + "-sha256"},
		{"bh", base64.StdEncoding.EncodeToString(bodyHash)},
		{"c", "relaxed/relaxed"},
		{"d", k.domain},
		{"h", names},
		{"s", k.selector},
		{"t", strconv.FormatInt(now.Unix(), 10)},
		{"v", "1"},
	})
	text = append(text, "\r\n b="...)
	n := len(w.hashed)
	w.hashed = canonical.AppendField(w.hashed, text, true)
	hash := sha256.Sum256(w.hashed[:len(w.hashed)-len("\r\n")]) // RFC 6376 §3.7: with an empty b=, without a line end
	w.hashed = w.hashed[:n]
	signature, err := signHash(private, hash)
	if err != nil {
		return nil, err
	}
	for i, b := 3, base64.StdEncoding.EncodeToString(signature); len(b) > 0; i = 0 { // of " b="
		n := min(len(b), maxLine-i)
		if i == 0 {
			text = append(text, "\r\n "...)
		}
		text, b = append(text, b[:n]...), b[n:]
	}
	return append(text, "\r\n"...), nil
}

// fieldSize is the usual length of the field, and some more.
const fieldSize = 1 << 10

// maxLine is from what length on a line of the field is folded.
const maxLine = 75

// appendTags writes tags, a line as long as they fit.
func appendTags(text []byte, tags [][2]string) []byte {
	col := 0
	for _, tag := range tags {
		n := len(tag[0]) + len(tag[1]) + len(" =;")
		if col > 0 && col+n > maxLine {
			text, col = append(text, "\r\n"...), 0
		}
		for _, part := range [...]string{" ", tag[0], "=", tag[1], ";"} {
			text = append(text, part...)
		}
		col += n
	}
	return text
}

// joinNames is h=, the names of the fields at those places, folded where a message has so many fields that the line would be too long for
// RFC 5322 §2.1.1.
func joinNames(signed []int) string {
	var b strings.Builder
	b.Grow(256)
	col := 0
	for i, place := range signed {
		name := usual[place]
		if i > 0 {
			b.WriteByte(':')
		}
		if col += len(name) + 1; col > 800 {
			b.WriteString("\r\n ")
			col = 0
		}
		b.WriteString(name)
	}
	return b.String()
}
