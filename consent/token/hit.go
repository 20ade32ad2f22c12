package token

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// Hit is what the token in a guarded pixel or link says.
type Hit struct {
	Who         consent.Address
	Scope       consent.Scope
	Purpose     consent.Purpose // Open for a pixel, Click for a link
	URL         string          // the sender's own address: absolute http or https
	Destination string          // where a link leads without its counter, http or https; "" = not known
	Language    string          // of the mail, RFC 5646; kept only where the reader may be shown a page: no Destination
}

// Hits makes and opens the tokens of guarded pixels and links. They are made like those of Sealer, so the
// same hit always gives the same token. It is safe for concurrent use.
//
// What is sealed is a byte that says what follows, then scope, language (where one is kept), address and URL without its
// scheme, each behind its length, then the destination. That is written as runs of bytes and copies from what stands in
// the URL itself, where most counters have it in some encoding: a token is little longer than the URL in base64.
type Hits struct{ keys []*key }

// NewHits returns what makes tokens under the ring's current secret and opens those of all.
func NewHits(ring *keyring.Ring) *Hits { return &Hits{newKeys(ring, "hit ")} }

// The bits of the first byte. They, and what sources returns, never change: mail is opened years later.
const (
	hitClick       = 1 << iota // of Purpose Click
	hitHTTPS                   // the URL's scheme is https, else http
	hitDestination             // a destination follows
	hitLanguage                // a language follows
)

// Seal returns the token of h, of A-Z, a-z, 0-9, - and _; Open takes one for 4000 bytes of URL and Destination, whoever
// it is for. A hit that Open would not return as it is, for its
// URL is no web address or it lacks Who or Scope, yields a token that does not open.
func (s *Hits) Seal(h Hit) string {
	k := s.keys[0]
	w := k.scratch.Get().(*scratch)
	defer k.scratch.Put(w)
	w.plain = appendHit(w.plain[:0], h)
	return k.seal(w)
}

// Open returns the hit of a token that this ring, or one that it was rotated from, has made; ErrInvalid for every
// other text, and after the same steps.
func (s *Hits) Open(token string) (Hit, error) { return open(s.keys, token, parseHit) }

func appendHit(b []byte, h Hit) []byte {
	var what byte
	if h.Purpose == consent.Click {
		what |= hitClick
	}
	rest, https := strings.CutPrefix(h.URL, "https://")
	if https {
		what |= hitHTTPS
	} else {
		rest = strings.TrimPrefix(h.URL, "http://")
	}
	if h.Destination != "" {
		what |= hitDestination
	}
	if h.Language != "" && len(h.Language) <= maxLanguage && h.Destination == "" && h.Purpose == consent.Click {
		what |= hitLanguage
	}
	field := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(b, what)
	field(string(h.Scope))
	if what&hitLanguage != 0 {
		field(h.Language)
	}
	field(h.Who.String())
	field(rest)
	if what&hitDestination != 0 {
		b = appendCopies(b, h.Destination, sources(rest))
	}
	return b
}

func parseHit(plain string) (Hit, error) {
	if plain == "" {
		return Hit{}, ErrInvalid
	}
	what := plain[0]
	plain = plain[1:]
	var h Hit
	n := 3
	if what&hitLanguage != 0 {
		n = 4
	}
	fields, plain, err := cutFields(plain, n)
	if err != nil || fields[n-1] == "" {
		return Hit{}, ErrInvalid
	}
	scope, who, rest := fields[0], fields[n-2], fields[n-1]
	if what&hitLanguage != 0 {
		h.Language = fields[1]
	}
	h.Purpose, h.URL = consent.Open, "http://"+rest
	if what&hitClick != 0 {
		h.Purpose = consent.Click
	}
	if what&hitHTTPS != 0 {
		h.URL = "https://" + rest
	}
	if what&hitDestination != 0 {
		var ok bool
		if h.Destination, ok = readCopies(plain, sources(rest)); !ok {
			return Hit{}, ErrInvalid
		}
	}
	if h.Who, err = consent.ParseAddress(who); err != nil {
		return Hit{}, ErrInvalid
	}
	if h.Scope, err = consent.ParseScope(scope); err != nil {
		return Hit{}, ErrInvalid
	}
	return h, nil
}

// sources is what a destination is copied from: a counter's address as it stands, percent-decoded, and what its parts
// are base64 of.
func sources(addr string) string {
	decoded := percentDecode(addr)
	var b strings.Builder
	b.WriteString("https://http://" + addr)
	if decoded != addr {
		b.WriteString(decoded)
	}
	for part := range strings.FieldsFuncSeq(decoded, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '-' || r == '_')
	}) {
		if len(part) < 16 {
			continue
		}
		part = strings.NewReplacer("-", "+", "_", "/").Replace(part[:len(part)/4*4])
		if raw, err := base64.StdEncoding.DecodeString(part); err == nil {
			b.Write(raw)
		}
	}
	return b.String()
}

// percentDecode decodes every well-formed %XX once.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	unhex := func(c byte) int { return strings.IndexByte("0123456789abcdef", c|0x20) } // of letters and digits
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if h, l := unhex(s[i+1]), unhex(s[i+2]); h >= 0 && l >= 0 {
				b = append(b, byte(h<<4|l))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// leastCopy is from how many bytes on a copy is shorter than what it stands for.
const leastCopy = 5

// appendCopies writes s as runs, each behind its length, with copies from between them: length and offset.
func appendCopies(b []byte, s, from string) []byte {
	run := 0 // where the run at hand begins
	for i := 0; i < len(s); {
		n, at := longestCopy(s[i:], from)
		if n < leastCopy {
			i++
			continue
		}
		b = append(binary.AppendUvarint(b, uint64(i-run)), s[run:i]...)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)), uint64(at))
		i += n
		run = i
	}
	if run < len(s) {
		b = append(binary.AppendUvarint(b, uint64(len(s)-run)), s[run:]...)
	}
	return b
}

// longestCopy returns the length of the longest beginning of s that stands in from, and where. It is 0 below
// leastCopy.
func longestCopy(s, from string) (n, at int) {
	if len(s) < leastCopy || !strings.Contains(from, s[:leastCopy]) { // mostly
		return 0, 0
	}
	low, high := leastCopy, len(s)
	for low <= high { // where a text stands all its beginnings do
		mid := (low + high) / 2
		if i := strings.Index(from, s[:mid]); i >= 0 {
			n, at, low = mid, i, mid+1
		} else {
			high = mid - 1
		}
	}
	return n, at
}

func readCopies(plain, from string) (string, bool) {
	var b strings.Builder
	number := func() uint64 { // what is none is greater than all that can be copied
		n, size := binary.Uvarint([]byte(plain[:min(len(plain), binary.MaxVarintLen64)]))
		if size <= 0 {
			return math.MaxUint64
		}
		plain = plain[size:]
		return n
	}
	for plain != "" {
		run, rest, err := cutFields(plain, 1)
		if err != nil {
			return "", false
		}
		b.WriteString(run[0])
		if plain = rest; plain == "" {
			break
		}
		n, at := number(), number()
		if at > uint64(len(from)) || n > uint64(len(from))-at || b.Len()+int(n) > maxToken {
			return "", false
		}
		b.WriteString(from[at : at+n])
	}
	s := b.String()
	return s, strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}
