// Package keyring holds the secrets of a gateway: it makes and reads the one key file, and
// derives a key for each use from it (SPEC section 9).
//
// A key file is text. Lines that are empty or begin with # are comments; the others are
//
//	lookup BASE64   exactly once
//	secret BASE64   once or more
//
// where BASE64 is 32 random bytes in base64url without padding (RFC 4648 §5). The lookup line is
// fixed for the life of a store: people stand in it under an HMAC of their address, so opt-outs
// could never be found again under another. Secrets rotate: the first is the current one and
// makes everything new; those behind it still open what they made.
//
// Every key is derived by HKDF-SHA-256 (RFC 5869) with an info string of its own, so that no two
// uses share a key and none tells anything about another.
//
// The package is not for DKIM keys or TLS keys, which are PEM files of their own.
package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	keySize    = 32
	maxSecrets = 16 // each costs one try on every token that comes in
)

// The info strings of HKDF. Changing one makes another key, so they never change.
const (
	infoLookup      = "consentgate lookup v1"
	infoFingerprint = "consentgate lookup fingerprint v1"
	infoHistory     = "consentgate history v1"
	infoToken       = "consentgate token v1"
	infoSeal        = "consentgate seal v1"
	infoWebhook     = "consentgate webhook v1"
)

// Ring is what was read from a key file. It is never changed, so it is safe for concurrent use.
type Ring struct {
	lookup  []byte
	secrets [][]byte // current first
}

// Ephemeral returns a ring of fresh random keys that is kept nowhere, for demonstrations and
// tests. What is stored or sealed with it is lost with it.
func Ephemeral() *Ring {
	return &Ring{lookup: random(), secrets: [][]byte{random()}}
}

// Lookup returns the 32-byte HMAC key under which stores keep people. It is the same for the
// life of a key file.
func (r *Ring) Lookup() []byte { return derive(r.lookup, infoLookup, keySize) }

// Fingerprint names the lookup key without telling anything about it: 22 characters of
// base64url. A store keeps it, so that a gateway with another key file is refused.
func (r *Ring) Fingerprint() string {
	return base64.RawURLEncoding.EncodeToString(derive(r.lookup, infoFingerprint, 16))
}

// History returns the 32-byte HMAC key under which the entries of a person's history are chained.
// It comes from the lookup key, since a chain must hold for the life of the store.
func (r *Ring) History() []byte { return derive(r.lookup, infoHistory, keySize) }

// Equal reports whether both hold the same keys, in the same order.
func (r *Ring) Equal(other *Ring) bool {
	return bytes.Equal(r.lookup, other.lookup) && slices.EqualFunc(r.secrets, other.secrets, bytes.Equal)
}

// Token returns the 32-byte keys for tokens in links, the current one first.
func (r *Ring) Token() [][]byte { return r.rotating(infoToken) }

// Seal returns the 32-byte keys for values that hold an address, the current one first.
func (r *Ring) Seal() [][]byte { return r.rotating(infoSeal) }

// Webhook returns the 32-byte HMAC keys that sign webhooks, the current one first.
func (r *Ring) Webhook() [][]byte { return r.rotating(infoWebhook) }

// rotating derives a key from each secret, the current one first.
func (r *Ring) rotating(info string) [][]byte {
	keys := make([][]byte, len(r.secrets))
	for i, s := range r.secrets {
		keys[i] = derive(s, info, keySize)
	}
	return keys
}

func derive(secret []byte, info string, size int) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, size)
	if err != nil { // only for sizes over 255 hashes
		panic("keyring: " + err.Error())
	}
	return key
}

func random() []byte {
	b := make([]byte, keySize)
	rand.Read(b) // never fails, by its contract
	return b
}

// parse reads the text of a key file. Errors name the line and never what stands in it.
func parse(text []byte) (*Ring, error) {
	ring := new(Ring)
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		word, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		if word != "lookup" && word != "secret" {
			return nil, fmt.Errorf("line %d begins with neither \"lookup\" nor \"secret\"", n)
		}
		value = strings.TrimSpace(value)
		key, err := base64.RawURLEncoding.Strict().DecodeString(value)
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("line %d: behind %q must stand %d bytes in base64url, 43 characters", n, word, keySize)
		}
		if word == "lookup" {
			if ring.lookup != nil {
				return nil, fmt.Errorf("line %d is a second lookup line; keep the one that the store was begun with", n)
			}
			ring.lookup = key
			continue
		}
		for _, other := range ring.secrets {
			if bytes.Equal(other, key) {
				return nil, fmt.Errorf("line %d repeats a secret from above; remove it", n)
			}
		}
		if ring.secrets = append(ring.secrets, key); len(ring.secrets) > maxSecrets {
			return nil, fmt.Errorf("line %d: more than %d secrets; remove the oldest", n, maxSecrets)
		}
	}
	if ring.lookup == nil {
		return nil, errors.New("it has no lookup line")
	}
	if ring.secrets == nil {
		return nil, errors.New("it has no secret line")
	}
	return ring, nil
}

// format returns the text of a key file.
func format(r *Ring) []byte {
	var b bytes.Buffer
	b.WriteString(`# Key file of consentgate. Keep it secret, and keep a copy of it in a safe place:
# without the lookup line no opt-out in the store can be found again.
#
# lookup: never change it while the store lives.
# secret: to rotate, put a new line before the others; old ones still open what they made.
`)
	fmt.Fprintf(&b, "lookup %s\n", base64.RawURLEncoding.EncodeToString(r.lookup))
	for _, s := range r.secrets {
		fmt.Fprintf(&b, "secret %s\n", base64.RawURLEncoding.EncodeToString(s))
	}
	return b.Bytes()
}
