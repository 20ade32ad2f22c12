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

// signedFields returns the names for h=: each usual field as often as it is present, but those to be
// left out. From is named once more than that, so that a second one put in later breaks the signature
// (RFC 6376 §8.15), and so is the pair of RFC 8058 §4 where there is one: a further List-Unsubscribe
// would make a mailbox offer somebody else's link, or none.
func (h header) signedFields(leaveOut map[string]bool) []string {
	var names []string
	pair := h.count("list-unsubscribe") > 0 && h.count("list-unsubscribe-post") > 0
	for _, name := range usual {
		lower := strings.ToLower(name)
		if leaveOut[lower] && name != "From" {
			continue
		}
		n := h.count(lower)
		if name == "From" || (pair && (name == "List-Unsubscribe" || name == "List-Unsubscribe-Post")) {
			n++
		}
		for range n {
			names = append(names, name)
		}
	}
	return names
}

// header is a copy's header, taken apart.
type header []headerField

type headerField struct {
	name string // lower-case
	raw  []byte // with its line end
}

// readHeader takes a header apart that ends with a line end.
func readHeader(text []byte) header {
	var h header
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
			h = append(h, headerField{strings.ToLower(string(bytes.TrimSpace(name))), line})
		}
		text = text[n:]
	}
	return h
}

func (h header) count(name string) int {
	n := 0
	for _, f := range h {
		if f.name == name {
			n++
		}
	}
	return n
}

// bodies returns the bodies of the fields of that name, unfolded, in order.
func (h header) bodies(name string) []string {
	var all []string
	for _, f := range h {
		if f.name == name {
			_, body, _ := strings.Cut(string(f.raw), ":")
			all = append(all, strings.NewReplacer("\r", "", "\n", "").Replace(body))
		}
	}
	return all
}

// canonical returns the fields that names name, in canonical form: of several of one name the last one
// first, and nothing where there is none left (RFC 6376 §5.4.2).
func (h header) canonical(names []string) []byte {
	var text []byte
	at := map[string]int{}
	for _, name := range names {
		name = strings.ToLower(name)
		i, ok := at[name]
		if !ok {
			i = len(h)
		}
		for i--; i >= 0 && h[i].name != name; i-- {
		}
		if i >= 0 {
			text = canonical.AppendField(text, h[i].raw, true)
		}
		at[name] = max(i, 0)
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
