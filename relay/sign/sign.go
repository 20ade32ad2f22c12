// Package sign puts a DKIM signature (RFC 6376, RFC 8463) on a copy as it leaves.
//
// It signs what is there and changes nothing: whatever else is to be put into the copy and
// covered by the signature must be in it before. It is not for verifying, and not for taking
// out signatures that no longer hold, which package rewrite does.
package sign

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
	"golang.org/x/net/idna"

	"github.com/consentgate/consentgate/rewrite"
)

var (
	// ErrFrom is returned for a copy without exactly one From field whose addresses can be read.
	ErrFrom = errors.New("no From field that could be signed for")
	// ErrForeign is wrapped for a copy whose From is of another domain than the signer's.
	ErrForeign = errors.New("the From domain is not the DKIM domain or below it")
)

// Signer signs for one domain with one key. It is safe for concurrent use.
type Signer struct {
	domain, selector string
	key              crypto.Signer
}

// Load reads the key file and makes a Signer of it; see New.
func Load(path, domain, selector string) (*Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	s, err := New(text, domain, selector)
	if err != nil {
		return nil, fmt.Errorf("DKIM key %s: %w", path, err)
	}
	return s, nil
}

// New makes a Signer of a private key in PEM: RSA of 2048 bits or more as PKCS #1 or PKCS #8,
// or Ed25519 as PKCS #8. The public key is looked for by verifiers at
// SELECTOR._domainkey.DOMAIN; domain may be given in its Unicode form.
func New(keyPEM []byte, domain, selector string) (*Signer, error) {
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || !strings.Contains(host, ".") {
		return nil, fmt.Errorf("DKIM domain %q is not a domain", domain)
	}
	if !isSelector(selector) {
		return nil, fmt.Errorf("DKIM selector %q is not made of labels of letters, digits and hyphens", selector)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return &Signer{domain: host, selector: strings.ToLower(selector), key: key}, nil
}

// Sign puts a DKIM-Signature before the fields of c: relaxed/relaxed, SHA-256, over the whole
// body (no l=), without expiry (no x=) and without i=. With ErrFrom or ErrForeign nothing was
// signed and c is as it was; such a copy may leave unsigned.
func (s *Signer) Sign(c *rewrite.Copy) error {
	h, err := readHeader(c)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	domains, err := FromDomains(h.fields["from"])
	if err != nil {
		return err
	}
	for _, d := range domains {
		// The domains must be aligned for DMARC; a subdomain's mail may be signed by its
		// parent (RFC 7489 §3.1.1).
		if d != s.domain && !strings.HasSuffix(d, "."+s.domain) {
			return fmt.Errorf("%w: %s", ErrForeign, d)
		}
	}
	signer, err := dkim.NewSigner(&dkim.SignOptions{
		Domain:                 s.domain,
		Selector:               s.selector,
		Signer:                 s.key,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             h.signedFields(),
	})
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	// go-msgauth hands every Write to another goroutine: few, large ones are cheaper.
	out := bufio.NewWriterSize(signer, 64<<10)
	_, err = c.WriteTo(out)
	if err == nil {
		err = out.Flush()
	}
	if closed := signer.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	c.Prepend([]byte(signer.Signature()))
	return nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q: want RSA PRIVATE KEY or PRIVATE KEY", block.Type)
	}
	if err != nil {
		return nil, errors.New("private key cannot be read") // the cause may quote key material
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 { // RFC 8301 §3.2
			return nil, fmt.Errorf("RSA key of %d bits: want 2048 or more", k.N.BitLen())
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("key type %T: want RSA or Ed25519", key)
}

func isSelector(s string) bool {
	for _, label := range strings.Split(s, ".") { // RFC 6376 §3.1
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i] | 0x20
			if (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

// header is what signing needs to know of a copy's header.
type header struct {
	fields map[string][]string // by lower-case name, unfolded bodies in order
}

// maxHeader bounds the header that is kept in memory. Package rewrite refuses messages whose
// header is over 256 KiB; this leaves room for what was put in front.
const maxHeader = 1 << 20

var (
	errHeaderEnd   = errors.New("end of header")
	errHeaderLarge = errors.New("header is too large")
)

// headerSink takes bytes until the header ends.
type headerSink struct {
	buf bytes.Buffer
	end int // length of the header without the empty line, -1 = not seen
}

func (s *headerSink) Write(p []byte) (int, error) {
	from := max(0, s.buf.Len()-3)
	s.buf.Write(p)
	b := s.buf.Bytes()
	switch {
	case bytes.HasPrefix(b, []byte("\r\n")):
		s.end = 0
		return len(p), errHeaderEnd
	default:
		if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
			s.end = from + i + 2
			return len(p), errHeaderEnd
		}
	}
	if s.buf.Len() > maxHeader {
		return len(p), errHeaderLarge
	}
	return len(p), nil
}

func readHeader(c *rewrite.Copy) (header, error) {
	s := headerSink{end: -1}
	if _, err := c.WriteTo(&s); err != nil && !errors.Is(err, errHeaderEnd) {
		return header{}, err
	}
	text := s.buf.Bytes()
	h := header{fields: map[string][]string{}}
	if s.end >= 0 { // always, as package rewrite makes copies
		text = text[:s.end]
	}
	name := ""
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if line == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if bodies := h.fields[name]; len(bodies) > 0 {
				bodies[len(bodies)-1] += line
			}
			continue
		}
		field, body, ok := strings.Cut(line, ":")
		if !ok {
			name = ""
			continue
		}
		name = strings.ToLower(strings.TrimRight(field, " \t"))
		h.fields[name] = append(h.fields[name], body)
	}
	return h, nil
}
