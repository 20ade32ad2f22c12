package login

import (
	"strings"
	"testing"
)

// FuzzParseHash: a hash that is taken costs no more than what it may, and an error does not show it.
func FuzzParseHash(f *testing.F) {
	const salted = "$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"
	for _, s := range []string{"", "$argon2id$v=19$m=64,t=1,p=1" + salted, "$argon2id$v=19$m=064,t=1,p=1" + salted, "$argon2id$v=19$m=4294967295,t=1,p=1" + salted, "$argon2id$v=19$m=64,t=0,p=1" + salted,
		"$argon2i$v=19$m=64,t=1,p=1" + salted, "$2a$04$" + strings.Repeat("a", 53), "$2a$99$" + strings.Repeat("a", 53), "swordfish"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		verify, err := parseHash(hash)
		if err != nil {
			if len(hash) > 8 && strings.Contains(err.Error(), hash) {
				t.Fatalf("%q: %v", hash, err)
			}
			return
		}
		if !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") { // others take their time
			return
		}
		if verify("") && verify("secret") {
			t.Fatalf("%q fits two passwords", hash)
		}
	})
}
