package sign

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"regexp"
	"strings"

	"golang.org/x/net/idna"

	"github.com/consentgate/consentgate/rewrite/canonical"
)

// usual are the fields that are signed where they are present, RFC 6376 §5.4.1, with those that
// decide how the body is shown, whose change would make another message of it.
var usual = []string{
	"From", "Reply-To", "Subject", "Date", "To", "Cc", "Message-ID",
	"In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	"Resent-Date", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post",
	"List-Subscribe", "List-Post", "List-Owner", "List-Archive",
}

// place is where a field stands in usual, by its name in lower case.
var place = func() map[string]int {
	m := map[string]int{}
	for i, name := range usual {
		m[strings.ToLower(name)] = i
	}
	return m
}()

// Places of those that are treated in ways of their own.
var from, listUnsubscribe, listUnsubscribePost = place["from"], place["list-unsubscribe"], place["list-unsubscribe-post"]

// placeOf returns the place of a field by its name, -1 where it is not one of the usual.
func placeOf(name []byte) int {
	var lower [32]byte // longer than any
	if len(name) > len(lower) {
		return -1
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	if i, ok := place[string(lower[:len(name)])]; ok {
		return i
	}
	return -1
}

// signedFields returns the places of what h= names: each usual field as often as it is present, but those to
// be left out. From is named once more than that, so that a second one put in later breaks the signature
// (RFC 6376 §8.15), and so is the pair of RFC 8058 §4 where there is one: a further List-Unsubscribe
// would make a mailbox offer somebody else's link, or none.
func (h header) signedFields(leaveOut map[string]bool) []int {
	count := make([]int, len(usual))
	for _, f := range h {
		if f.place >= 0 {
			count[f.place]++
		}
	}
	pair := count[listUnsubscribe] > 0 && count[listUnsubscribePost] > 0
	signed := make([]int, 0, len(h)+3)
	for i, name := range usual {
		if len(leaveOut) > 0 && i != from && leaveOut[strings.ToLower(name)] {
			continue
		}
		n := count[i]
		if i == from || pair && (i == listUnsubscribe || i == listUnsubscribePost) {
			n++
		}
		for range n {
			signed = append(signed, i)
		}
	}
	return signed
}

// header is a copy's header, taken apart.
type header []headerField

type headerField struct {
	place int    // in usual; -1 = it is not one of them
	raw   []byte // with its line end
}

// appendHeader takes a header apart that ends with a line end, and appends its fields to h.
func appendHeader(h header, text []byte) header {
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\n') + 1
		if n == 0 {
			n = len(text)
		}
		line := text[:n]
		if (line[0] == ' ' || line[0] == '\t') && len(h) > 0 {
			last := &h[len(h)-1]
			last.raw = last.raw[:len(last.raw)+n] // what follows it in text
		} else {
			name, _, _ := bytes.Cut(line, []byte(":"))
			h = append(h, headerField{placeOf(bytes.TrimSpace(name)), line})
		}
		text = text[n:]
	}
	return h
}

var unfold = strings.NewReplacer("\r", "", "\n", "")

// bodies returns the bodies of the fields at that place, unfolded, in order.
func (h header) bodies(place int) []string {
	var all []string
	for _, f := range h {
		if f.place == place {
			_, body, _ := bytes.Cut(f.raw, []byte(":"))
			all = append(all, unfold.Replace(string(body)))
		}
	}
	return all
}

// appendCanonical appends the fields that signed names, in canonical form: of several of one name the last one
// first, and nothing where there is none left (RFC 6376 §5.4.2).
func (h header) appendCanonical(text []byte, signed []int) []byte {
	at := len(h)
	for k, place := range signed {
		if k == 0 || signed[k-1] != place {
			at = len(h)
		}
		for at--; at >= 0 && h[at].place != place; at-- {
		}
		if at < 0 {
			at = 0
			continue
		}
		text = canonical.AppendField(text, h[at].raw, true)
	}
	return text
}

var angle = regexp.MustCompile(`^([^<>]*)<([^<>\s]+@[^<>\s]+)>\s*$`)

// FromDomains returns the domains of all addresses in the From field, in ASCII and lower case.
// from holds the bodies of the fields of that name, unfolded; there has to be one. Else, and where it
// cannot be read, the error is ErrFrom.
func FromDomains(from []string) ([]string, error) {
	if len(from) != 1 { // RFC 5322 §3.6: exactly one
		return nil, fmt.Errorf("%w: %d From fields", ErrFrom, len(from))
	}
	// Display names in any charset, or in none, as PHP scripts write them, do not matter here.
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{
		CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
	}}
	list, err := parser.ParseList(strings.ToValidUTF8(from[0], "?"))
	if m := angle.FindStringSubmatch(from[0]); err != nil && m != nil {
		switch {
		case strings.Count(from[0], "@") == 1:
			// "Shop [EU] <news@example.org>": not RFC 5322, and yet no doubt about the domain.
			list, err = []*mail.Address{{Address: m[2]}}, nil
		case !strings.ContainsAny(m[1], `,;:"()\`):
			// "news@example.org <news@example.org>", as many programs write it. Some reader may take either.
			list, err = []*mail.Address{{Address: m[2]}}, nil
			for word := range strings.FieldsSeq(m[1]) {
				if strings.Contains(word, "@") {
					list = append(list, &mail.Address{Address: word})
				}
			}
		}
	}
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("%w: it cannot be read", ErrFrom)
	}
	domains := make([]string, len(list))
	for i, a := range list {
		d := a.Address[strings.LastIndexByte(a.Address, '@')+1:]
		if isHostname(d) { // idna wants more of ASCII than mail is sent from: no "_", no "--" in third place
			domains[i] = strings.ToLower(d)
		} else if domains[i], err = idna.Lookup.ToASCII(strings.TrimSuffix(d, ".")); err != nil || domains[i] == "" {
			return nil, fmt.Errorf("%w: domain cannot be read", ErrFrom)
		}
	}
	return domains, nil
}

func isHostname(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return false
		}
	}
	return true
}
