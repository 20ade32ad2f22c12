//go:build cgo && linux

package sign

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
)

// OpenSSL makes the signatures that crypto/rsa makes, for many at once as for one, and with keys of all sizes.
func TestOpenSSL(t *testing.T) {
	if err := loadOpenSSL(); err != nil {
		t.Skip(err)
	}
	for _, bits := range []int{2048, 3072, 4096} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		fast, ok := Fastest(k).(opensslKey)
		if !ok {
			t.Fatalf("%d bits: OpenSSL is here and does not sign", bits)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				h := sha256.Sum256([]byte{byte(bits), byte(i)})
				want, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, h[:])
				if err != nil {
					t.Error(err)
				}
				got, err := signHash(fast, h)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bits: %x, want %x: %v", bits, got, want, err)
				}
			})
		}
		all.Wait()
	}
}

// Where OpenSSL does not sign, crypto/rsa does.
func TestOpenSSLFails(t *testing.T) {
	if err := loadOpenSSL(); err != nil {
		t.Skip(err)
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	fast := Fastest(k).(opensslKey)
	h := sha256.Sum256(nil)
	if _, err := fast.Sign(nil, h[:16], crypto.SHA256); err == nil {
		t.Error("a hash of 16 bytes is signed as SHA-256")
	}
	three := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: append(slices.Clone(k.Primes), k.Primes[0])}
	if _, ok := Fastest(three).(opensslKey); ok {
		t.Error("OpenSSL got two of three primes")
	}
}
