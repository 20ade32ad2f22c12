//go:build !cgo || !linux

package sign

import (
	"crypto"
	"crypto/rsa"
)

// RSABy names what makes the RSA signatures, for the log.
func RSABy() string { return "Go" }

// Fastest is k: a program without cgo has no OpenSSL to sign by.
func Fastest(k *rsa.PrivateKey) crypto.Signer { return k }
