// Package consent says who agreed to what: the words (address, scope, class, state), the
// table that turns a stored record into a decision, and the contract of the store that keeps
// the records.
//
// It knows no message and no SMTP: package relay is the only room where a decision meets a
// message. The stores are in redisstore and boltstore, the one suite that both pass in
// storetest, the keys in keyring, the tokens inside links in token, the pages in web.
package consent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Address is a normalised mail address, fit for comparing and for deriving a key: the domain
// is lower-cased and IDNA-mapped to its ASCII form, the local part is lower-cased, nothing
// else is folded (no dots removed, no +tag cut). The zero Address is invalid.
type Address struct {
	mailbox string // local@domain
}

// ErrAddress is what every error of ParseAddress wraps.
var ErrAddress = errors.New("not a mail address")

// ParseAddress normalises the mailbox of an envelope (RFC 5321 §4.1.2), without angle
// brackets. The local part may be quoted and may be UTF-8 (RFC 6531); a quoted local part that
// needs no quotes loses them, so that both spellings are one person. Errors say what is wrong
// without repeating the address, since they may end in a log.
func ParseAddress(mailbox string) (Address, error) {
	if len(mailbox) > maxMailbox {
		return Address{}, fmt.Errorf("%w: over %d bytes", ErrAddress, maxMailbox)
	}
	if !utf8.ValidString(mailbox) {
		return Address{}, fmt.Errorf("%w: not UTF-8", ErrAddress)
	}
	for _, r := range mailbox {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return Address{}, fmt.Errorf("%w: control character in it", ErrAddress)
		}
	}
	at := strings.LastIndexByte(mailbox, '@')
	if at <= 0 || at == len(mailbox)-1 {
		return Address{}, fmt.Errorf("%w: it has no local part, no @ or no domain", ErrAddress)
	}
	local, domain := mailbox[:at], mailbox[at+1:]
	if strings.HasPrefix(local, `"`) {
		plain, ok := unquote(local)
		if !ok {
			return Address{}, fmt.Errorf("%w: bad quoting in its local part", ErrAddress)
		}
		if isDotString(plain) {
			local = plain
		} else {
			local = quote(plain)
		}
	} else if !isDotString(local) {
		return Address{}, fmt.Errorf("%w: a character in its local part that must be quoted", ErrAddress)
	}
	host, err := normalDomain(domain)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	normal := strings.ToLower(local) + "@" + host
	if len(normal) > maxMailbox { // IDNA and some letters grow
		return Address{}, fmt.Errorf("%w: over %d bytes in its normal form", ErrAddress, maxMailbox)
	}
	return Address{normal}, nil
}

// maxMailbox is the longest mailbox in bytes: 64 for the local part, 255 for the domain
// (RFC 5321 §4.5.3.1), and the @.
const maxMailbox = 320

// String returns the normalised mailbox, in clear: it is personal data. Logs use Masked.
func (a Address) String() string { return a.mailbox }

// Domain returns what stands behind the last @.
func (a Address) Domain() string { return a.mailbox[strings.LastIndexByte(a.mailbox, '@')+1:] }

// IsZero reports whether a is the zero Address.
func (a Address) IsZero() bool { return a.mailbox == "" }

// Masked returns the address as logs and pages show it: the first character of the local part,
// three bullets, the domain. A first character that has no look of its own is left out.
func (a Address) Masked() string {
	if a.mailbox == "" {
		return "•••"
	}
	r, n := utf8.DecodeRuneInString(a.mailbox)
	if !unicode.IsPrint(r) || unicode.IsMark(r) {
		n = 0
	}
	return a.mailbox[:n] + "•••@" + a.Domain()
}

func normalDomain(d string) (string, error) {
	if strings.HasPrefix(d, "[") { // address literal, RFC 5321 §4.1.3
		inner, ok := strings.CutSuffix(d[1:], "]")
		if !ok {
			return "", errors.New("an address literal without ]")
		}
		lit := strings.ToLower(inner)
		ip, err := netip.ParseAddr(strings.TrimPrefix(lit, "ipv6:"))
		if err != nil || ip.Zone() != "" {
			return "", errors.New("its address literal is no IP address")
		}
		if ip.Is6() {
			return "[ipv6:" + ip.String() + "]", nil
		}
		return "[" + ip.String() + "]", nil
	}
	host, err := idna.Lookup.ToASCII(d)
	if err != nil {
		// Underscores and the like are found in real host names; only plain ASCII passes here.
		host = strings.ToLower(d)
		for i := 0; i < len(host); i++ {
			c := host[i]
			if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return "", errors.New("its domain has a character that no host name has")
			}
		}
	}
	host = strings.TrimSuffix(host, ".") // behind the mapping, which makes dots of other characters
	if host == "" || len(host) > 255 {
		return "", errors.New("its domain is empty or over 255 bytes")
	}
	for label := range strings.SplitSeq(host, ".") { // RFC 1035 §2.3.4
		if label == "" || len(label) > 63 {
			return "", errors.New("a label of its domain is empty or over 63 bytes")
		}
	}
	return host, nil
}

// isDotString reports whether s is a Dot-string of RFC 5321 §4.1.2, or one of RFC 6531. Dots at
// the edges and in a row are let through: such mailboxes exist, and quoting tells no one apart.
func isDotString(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;@\,"`, r) {
			return false
		}
	}
	return s != ""
}

func unquote(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", false
	}
	s = s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return "", false
		case '\\':
			if i++; i == len(s) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Scope is the list, brand or stream that a decision is for: 1 to 128 letters, digits, dots,
// hyphens and underscores, kept in lower case.
type Scope string

// AnyScope stands for all scopes of this gateway.
const AnyScope Scope = "*"

// ParseScope checks and lower-cases a scope's name. "*" is AnyScope.
func ParseScope(s string) (Scope, error) {
	if s == string(AnyScope) {
		return AnyScope, nil
	}
	if s == "" || len(s) > 128 {
		return "", fmt.Errorf("a scope has 1 to 128 characters, this one has %d", len(s))
	}
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '.' && s[i] != '-' && s[i] != '_' {
			return "", fmt.Errorf("a scope is made of letters, digits, '.', '-' and '_': %q", s)
		}
	}
	return Scope(strings.ToLower(s)), nil
}

// Class says what kind of mail a message is.
type Class string

const (
	Marketing     Class = "marketing"     // the default
	Transactional Class = "transactional" // receipts, password resets: lifts suppression and deferral, never tracking
)

// ParseClass checks a class's name.
func ParseClass(s string) (Class, error) {
	switch c := Class(strings.ToLower(s)); c {
	case Marketing, Transactional:
		return c, nil
	}
	return "", fmt.Errorf("a class is marketing or transactional, not %q", s)
}

// Purpose is what a person can agree to.
type Purpose string

const (
	Mail  Purpose = "mail" // receiving the mail at all
	Open  Purpose = "open"
	Click Purpose = "click"
)

// State is what is known about a purpose: Granted, Denied or Unset for Open and Click,
// Subscribed or Unsubscribed for Mail.
type State string

const (
	Unset        State = "unset"
	Granted      State = "granted"
	Denied       State = "denied"
	Subscribed   State = "subscribed"
	Unsubscribed State = "unsubscribed"
)

// ParseState checks that s is a state of that purpose.
func ParseState(p Purpose, s string) (State, error) {
	st := State(s)
	switch {
	case p == Mail && (st == Subscribed || st == Unsubscribed):
		return st, nil
	case (p == Open || p == Click) && (st == Granted || st == Denied || st == Unset):
		return st, nil
	case p == Mail:
		return "", fmt.Errorf("mail is subscribed or unsubscribed, not %q", s)
	}
	return "", fmt.Errorf("%s is granted, denied or unset, not %q", p, s)
}
