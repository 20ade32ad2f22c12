package sign

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

// FuzzParseKey: a key that is taken has a name that the DNS can be asked for, and an error repeats nothing of it.
func FuzzParseKey(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, s := range [][2]string{{"example.org", "a"}, {"bücher.example", "2026-03.eu"}, {"example.org.", "a"}, {"org", "a"}, {"ex ample.org", "a"}, {"example.org", "-a"}, {"example.org", "a..b"}, {"example.org", "A_b"}} {
		f.Add(text, s[0], s[1])
	}
	f.Add(text[:len(text)/2], "example.org", "a")
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n"), "example.org", "a")
	f.Fuzz(func(t *testing.T, text []byte, domain, selector string) {
		k, err := ParseKey(text, domain, selector)
		if err != nil {
			if len(text) > 60 && strings.Contains(err.Error(), string(text[30:60])) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		name := k.Name()
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ';' }) || strings.Contains(name, "..") || !strings.Contains(name, "._domainkey.") {
			t.Fatalf("%q at %q is called %q", selector, domain, name)
		}
	})
}
