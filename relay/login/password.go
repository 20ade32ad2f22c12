package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// verifier says whether a password is the one behind a hash.
type verifier func(password string) bool

// What Hash uses: RFC 9106 §4, the second recommended option.
const (
	memory  = 64 << 10 // KiB
	passes  = 3
	threads = 4
	saltLen = 16
	keyLen  = 32
)

// Hash returns an argon2id hash of the password, in PHC form: $argon2id$v=19$m=…,t=…,p=…$salt$key.
func Hash(password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, passes, memory, threads, keyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// CheckHash says whether hash is one that a Login can have. The error does not show it.
func CheckHash(hash string) error {
	_, err := parseHash(hash)
	return err
}

var errHash = errors.New("this is no argon2id or bcrypt hash")

func parseHash(hash string) (verifier, error) {
	if strings.HasPrefix(hash, "$2") {
		if _, err := bcrypt.Cost([]byte(hash)); err != nil || len(hash) != 60 {
			return nil, errHash
		}
		return func(password string) bool {
			return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
		}, nil
	}
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, errHash
	}
	var m, t uint32
	var p uint8
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); n != 3 || err != nil || parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", m, t, p) {
		return nil, errHash
	}
	if m > 1<<20 || t < 1 || t > 100 || p < 1 || m < 8*uint32(p) {
		return nil, errors.New("the parameters of this argon2id hash are out of range: m up to 1048576 (1 GiB), t from 1 to 100")
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err := b64.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return nil, errHash
	}
	want, err := b64.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 64 {
		return nil, errHash
	}
	return func(password string) bool {
		got := argon2.IDKey([]byte(password), salt, t, m, p, uint32(len(want)))
		return subtle.ConstantTimeCompare(got, want) == 1
	}, nil
}
