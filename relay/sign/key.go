package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"
)

// Key is a private key and the name under which verifiers look for its public one. It is safe for
// concurrent use.
type Key struct {
	domain, selector string
	file             string // "" = it was not read from a file

	mu      sync.Mutex
	private crypto.Signer
	looked  time.Time   // when the file was last looked at
	read    os.FileInfo // what it was when it was read
	said    string      // the mistake that is in the log
}

// NewKey makes a private key that every verifier knows how to deal with, RSA of 2048 bits, as ParseKey takes it.
func NewKey() (keyPEM []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// LoadKey reads the key file and makes a Key of it; see ParseKey.
func LoadKey(path, domain, selector string) (*Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	k, err := ParseKey(text, domain, selector)
	if err != nil {
		return nil, fmt.Errorf("DKIM key %s: %w", path, err)
	}
	k.file, k.read = path, info
	return k, nil
}

// ParseKey makes a Key of a private key in PEM: RSA of 2048 bits or more as PKCS #1 or PKCS #8, or
// Ed25519 as PKCS #8. domain may be given in its Unicode form.
func ParseKey(keyPEM []byte, domain, selector string) (*Key, error) {
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || !strings.Contains(host, ".") || !areLabels(host) {
		return nil, fmt.Errorf("DKIM domain %q is not a domain", domain)
	}
	if !areLabels(selector) {
		return nil, fmt.Errorf("DKIM selector %q is not made of labels of letters, digits and hyphens", selector)
	}
	private, err := parsePrivate(keyPEM)
	if err != nil {
		return nil, err
	}
	return &Key{domain: host, selector: strings.ToLower(selector), private: private}, nil
}

// Name is where the DNS is asked for the public key, RFC 6376 §3.6.2.1.
func (k *Key) Name() string { return k.selector + "._domainkey." + k.domain }

// By names what makes its signatures, for the log: the machine's OpenSSL with its version, or Go.
func (k *Key) By() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return signedBy(k.private)
}

// Record is what the DNS has to say there as a TXT record, RFC 6376 §3.6.1 and RFC 8463 §4. One string
// of a record holds 255 bytes at most; that is for whoever writes it down.
func (k *Key) Record() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return "v=DKIM1; k=" + algorithm(k.private) + "; p=" + publicText(k.private)
}

// Published reports whether the TXT record published lets verifiers use this key, with the reason why
// it does not.
func (k *Key) Published(record string) error {
	tags := map[string]string{}
	for tag := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	version, hasVersion := tags["v"]
	algo := tags["k"]
	if algo == "" {
		algo = "rsa"
	}
	p, hasKey := tags["p"]
	switch {
	case hasVersion && version != "DKIM1", !hasKey:
		return errors.New("this is no DKIM record")
	case p == "":
		return errors.New("the key was revoked: p= is empty")
	case algo != algorithm(k.private):
		return fmt.Errorf("it is a key for %q, and the key file's is for %q", algo, algorithm(k.private))
	case p != publicText(k.private) && p != rsaText(k.private):
		return errors.New("it is another key than the key file's")
	case tags["h"] != "" && !contains(tags["h"], "sha256"):
		return errors.New("h= does not allow sha256")
	case tags["s"] != "" && !contains(tags["s"], "*") && !contains(tags["s"], "email"):
		return errors.New("s= does not allow mail")
	}
	return nil
}

func contains(list, want string) bool {
	for one := range strings.SplitSeq(list, ":") {
		if one == want {
			return true
		}
	}
	return false
}

func algorithm(key crypto.Signer) string {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return "ed25519"
	}
	return "rsa"
}

// publicText is p= of a record.
func publicText(key crypto.Signer) string {
	if pub, ok := key.Public().(ed25519.PublicKey); ok {
		return base64.StdEncoding.EncodeToString(pub)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic("sign: a public key that was parsed: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(der)
}

// rsaText is the other form that records have for RSA (RFC 6376 erratum 3017), "" for Ed25519.
func rsaText(key crypto.Signer) string {
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return ""
	}
	return base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(pub))
}

// signHash signs a SHA-256 hash, RFC 6376 §3.3.1 and RFC 8463 §3.
func signHash(key crypto.Signer, h [sha256.Size]byte) ([]byte, error) {
	if k, ok := key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(k, h[:]), nil
	}
	return key.Sign(nil, h[:], crypto.SHA256) // PKCS #1 v1.5 needs no randomness
}

// lookEvery is how often at most a key file is looked at.
const lookEvery = time.Second

// current returns the private key, read again if its file has changed. An error says that it was to be
// read again and could not be, the first time; the one before stays.
func (k *Key) current(now time.Time) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == "" || now.Sub(k.looked) < lookEvery && !now.Before(k.looked) {
		return k.private, nil
	}
	k.looked = now
	info, err := os.Stat(k.file)
	if err == nil {
		if os.SameFile(info, k.read) && info.Size() == k.read.Size() && info.ModTime().Equal(k.read.ModTime()) {
			return k.private, nil
		}
		var fresh *Key
		if fresh, err = LoadKey(k.file, k.domain, k.selector); err == nil {
			k.private, k.read, k.said = fresh.private, fresh.read, ""
			return k.private, nil
		}
	}
	if err.Error() == k.said {
		return k.private, nil
	}
	k.said = err.Error()
	return k.private, err
}

func parsePrivate(text []byte) (crypto.Signer, error) {
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
		return Fastest(k), nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("key type %T: want RSA or Ed25519", key)
}

// areLabels reports whether s is a selector (RFC 6376 §3.1), or a domain in ASCII, as the DNS can be asked for.
func areLabels(s string) bool {
	for _, label := range strings.Split(s, ".") {
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
