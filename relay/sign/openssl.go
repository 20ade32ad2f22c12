//go:build cgo && linux

package sign

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	"strings"
	"sync"

	"github.com/golang-fips/openssl/v2"
	"github.com/golang-fips/openssl/v2/bbig"
)

// opensslFile is the library of OpenSSL 3, which is loaded where the machine has it. It signs by RSA in well under
// half the time that crypto/rsa takes.
const opensslFile = "libcrypto.so.3"

var loadOpenSSL = sync.OnceValue(func() error {
	if ok, _ := openssl.CheckVersion(opensslFile); !ok {
		return errors.New("OpenSSL 3 is not on this machine")
	}
	return openssl.Init(opensslFile)
})

// RSABy names what makes the RSA signatures, for the log.
func RSABy() string {
	if loadOpenSSL() != nil {
		return "Go"
	}
	return strings.Join(strings.Fields(openssl.VersionText())[:2], " ")
}

// opensslKey signs by OpenSSL, and by crypto/rsa where OpenSSL fails.
type opensslKey struct {
	*rsa.PrivateKey
	key *openssl.PrivateKeyRSA
}

// Sign makes a signature of PKCS #1 v1.5, which needs no randomness.
func (k opensslKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if signature, err := openssl.SignRSAPKCS1v15(k.key, opts.HashFunc(), digest); err == nil {
		return signature, nil
	}
	return k.PrivateKey.Sign(random, digest, opts)
}

// Fastest is k, or signs by OpenSSL with it where that is here and has shown that it makes the same signature.
func Fastest(k *rsa.PrivateKey) crypto.Signer {
	if len(k.Primes) != 2 || loadOpenSSL() != nil {
		return k
	}
	n := func(i *big.Int) openssl.BigInt { return bbig.Enc(i) }
	key, err := openssl.NewPrivateKeyRSA(n(k.N), n(big.NewInt(int64(k.E))), n(k.D), n(k.Primes[0]), n(k.Primes[1]),
		n(k.Precomputed.Dp), n(k.Precomputed.Dq), n(k.Precomputed.Qinv))
	if err != nil {
		return k
	}
	probe := sha256.Sum256([]byte("consentgate"))
	want, wantErr := rsa.SignPKCS1v15(nil, k, crypto.SHA256, probe[:])
	got, err := openssl.SignRSAPKCS1v15(key, crypto.SHA256, probe[:])
	if wantErr != nil || err != nil || !bytes.Equal(got, want) {
		return k
	}
	return opensslKey{k, key}
}
