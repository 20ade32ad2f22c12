// Package token makes and opens the opaque part of unsubscribe links (SPEC section 2): it says
// whose link it is and for which scope, cannot be read or forged without the key file, and
// never expires, since a mail may be opened years later.
//
// A token is base64url without padding (RFC 4648 §5) of
//
//	version (1 byte) | nonce (12 bytes) | ciphertext | tag (16 bytes)
//
// sealed with AES-256-GCM; the version is authenticated too. The nonce is synthetic: the first
// 12 bytes of HMAC-SHA-256, under a second key, over version and plaintext. So the same claims
// always give the same token, no randomness is spent, and one nonce meets two plaintexts only
// where the HMAC collides: among 2^32 different tokens of one secret that has a chance below
// 2^-33, and among 2^40 of 2^-17; rotate the secret before that. Open computes the nonce again from
// what it decrypted and compares, so that a forger would have to beat the HMAC as well as GCM.
//
// What equal tokens tell: that two links are the same person's for the same scope, which
// whoever holds both mails knows anyway. What a token's length tells: that of the claims.
//
// The plaintext is scope, language and address, each behind its length, then the sender's
// one-click address up to the end. Tokens for an ordinary address have some 100 characters.
//
// Unsubscribe links neither expire nor are they used up: both would break links that people hold in
// their mailboxes, and so it is with guarded pixels and links, whose token is a Hit. What must expire is a
// Slip. Each kind is under keys of its own, so that none opens as another.
package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"strings"
	"sync"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// Claims is what a token says.
type Claims struct {
	Who      consent.Address
	Scope    consent.Scope
	Language string // of the mail, RFC 5646; "" if not known, dropped when over 35 bytes
	OneClick string // the sender's own one-click https address; mostly "", dropped when over MaxOneClick
}

// MaxOneClick is the longest one-click address of a sender, in bytes, that a token carries.
const MaxOneClick = 1024

// ErrInvalid is the one error of Open: forged, cut, foreign and malformed tokens look the same.
var ErrInvalid = errors.New("this link is not valid")

const (
	version     = 1
	nonceSize   = 12
	tagSize     = 16
	maxLanguage = 35   // RFC 5646 §4.4.1
	maxToken    = 8000 // of a Hit; those of unsubscribe links are shorter
)

// Sealer makes and opens tokens. It is safe for concurrent use.
type Sealer struct {
	keys []*key // current first
}

type key struct {
	aead    cipher.AEAD
	scratch sync.Pool // of *scratch
}

// scratch is what one Seal or one try of Open works in, kept to spare allocations.
type scratch struct {
	mac   hash.Hash
	sum   [sha256.Size]byte
	plain []byte
	raw   []byte
	text  []byte
}

// New returns a sealer that makes tokens under the ring's current secret and opens those of all.
func New(ring *keyring.Ring) *Sealer {
	return &Sealer{newKeys(ring, "")}
}

// newKeys returns the keys of a purpose, "" being that of unsubscribe links.
func newKeys(ring *keyring.Ring, purpose string) []*key {
	var keys []*key
	for _, secret := range ring.Token() {
		keys = append(keys, newKey(secret, purpose))
	}
	return keys
}

func newKey(secret []byte, purpose string) *key {
	block, err := aes.NewCipher(expand(secret, purpose+"seal"))
	if err != nil {
		panic("token: " + err.Error()) // only for a wrong key size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("token: " + err.Error())
	}
	nonceKey := expand(secret, purpose+"nonce")
	k := &key{aead: aead}
	k.scratch.New = func() any {
		return &scratch{
			mac:   hmac.New(sha256.New, nonceKey),
			plain: make([]byte, 0, 128),
			raw:   make([]byte, 0, 192),
			text:  make([]byte, 0, 256),
		}
	}
	return k
}

func expand(secret []byte, info string) []byte {
	k, err := hkdf.Expand(sha256.New, secret, "consentgate token v1 "+info, 32)
	if err != nil {
		panic("token: " + err.Error())
	}
	return k
}

// nonce returns the synthetic nonce of plain. It is overwritten by the next call.
func (s *scratch) nonce(plain []byte) []byte {
	s.mac.Reset()
	s.mac.Write([]byte{version})
	s.mac.Write(plain)
	return s.mac.Sum(s.sum[:0])[:nonceSize]
}

// Seal returns the token of c: 48 to 2400 characters of A-Z, a-z, 0-9, - and _. Claims without
// Who or Scope yield a token that does not open.
func (s *Sealer) Seal(c Claims) string {
	k := s.keys[0]
	w := k.scratch.Get().(*scratch)
	defer k.scratch.Put(w)

	w.plain = appendClaims(w.plain[:0], c)
	return k.seal(w)
}

// seal returns the token of what is in w.plain.
func (k *key) seal(w *scratch) string {
	w.raw = append(w.raw[:0], version)
	w.raw = append(w.raw, w.nonce(w.plain)...)
	w.raw = k.aead.Seal(w.raw, w.raw[1:1+nonceSize], w.plain, w.raw[:1])
	w.text = base64.RawURLEncoding.AppendEncode(w.text[:0], w.raw)
	return string(w.text)
}

// Open returns the claims of a token that this ring, or one that it was rotated from, has made.
// Every other text gets ErrInvalid, and after the same steps: each key is tried on it, even
// where it cannot be a token.
func (s *Sealer) Open(token string) (Claims, error) { return open(s.keys, token, parseClaims) }

// open tries each key on a token, and parses what one of them opens.
func open[T any](keys []*key, token string, parse func(plain string) (T, error)) (T, error) {
	raw, ok := decode(token)
	if !ok {
		raw = impossible[:]
	}
	var claims, none T
	found := false
	for _, k := range keys {
		plain, err := k.open(raw)
		if err != nil || !ok {
			continue
		}
		if c, err := parse(plain); err == nil {
			claims, found = c, true
		}
	}
	if !found {
		return none, ErrInvalid
	}
	return claims, nil
}

// impossible stands in for what is no token, so that it is tried like one.
var impossible [1 + nonceSize + 48 + tagSize]byte

// decode undoes base64url, and takes only what Seal would write: the decoder of the standard
// library would let line breaks pass, and without Strict bits that say nothing.
func decode(token string) ([]byte, bool) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	return raw, err == nil && len(raw) > 1+nonceSize+tagSize && raw[0] == version
}

func (k *key) open(raw []byte) (string, error) {
	w := k.scratch.Get().(*scratch)
	defer k.scratch.Put(w)
	nonce := raw[1 : 1+nonceSize]
	plain, err := k.aead.Open(w.plain[:0], nonce, raw[1+nonceSize:], raw[:1])
	if err != nil {
		return "", ErrInvalid
	}
	if subtle.ConstantTimeCompare(w.nonce(plain), nonce) != 1 {
		return "", ErrInvalid
	}
	return string(plain), nil
}

func appendClaims(b []byte, c Claims) []byte {
	if len(c.Language) > maxLanguage {
		c.Language = ""
	}
	if len(c.OneClick) > MaxOneClick {
		c.OneClick = ""
	}
	who := c.Who.String()
	b = append(binary.AppendUvarint(b, uint64(len(c.Scope))), c.Scope...)
	b = append(binary.AppendUvarint(b, uint64(len(c.Language))), c.Language...)
	b = append(binary.AppendUvarint(b, uint64(len(who))), who...)
	return append(b, c.OneClick...)
}

func parseClaims(plain string) (Claims, error) {
	fields, rest, err := cutFields(plain, 3)
	if err != nil {
		return Claims{}, err
	}
	c := Claims{Language: fields[1], OneClick: rest}
	if c.Who, err = consent.ParseAddress(fields[2]); err != nil {
		return Claims{}, ErrInvalid
	}
	if c.Scope, err = consent.ParseScope(fields[0]); err != nil {
		return Claims{}, ErrInvalid
	}
	return c, nil
}

// cutFields cuts n fields, each behind its length, off plain.
func cutFields(plain string, n int) (fields []string, rest string, err error) {
	for range n {
		length, size := binary.Uvarint([]byte(plain[:min(len(plain), binary.MaxVarintLen64)]))
		if size <= 0 || length > uint64(len(plain)-size) {
			return nil, "", ErrInvalid
		}
		fields = append(fields, plain[size:size+int(length)])
		plain = plain[size+int(length):]
	}
	return fields, plain, nil
}
