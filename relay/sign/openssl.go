//go:build cgo && linux

package sign

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stddef.h>
//
// // What is used of OpenSSL 3, by the names of its manual. None of it is linked: where the library or a function
// // of it is missing, Go's code signs.
// static void *(*d2i_AutoPrivateKey)(void **, const unsigned char **, long);
// static void *(*EVP_PKEY_CTX_new)(void *, void *);
// static int (*EVP_PKEY_sign_init)(void *);
// static int (*EVP_PKEY_CTX_set_rsa_padding)(void *, int);
// static int (*EVP_PKEY_CTX_set_signature_md)(void *, const void *);
// static int (*EVP_PKEY_sign)(void *, unsigned char *, size_t *, const unsigned char *, size_t);
// static void (*EVP_PKEY_CTX_free)(void *);
// static void (*EVP_PKEY_free)(void *);
// static const void *(*EVP_sha256)(void);
// static void (*ERR_clear_error)(void);
// static int (*OPENSSL_init_crypto)(unsigned long long, const void *);
// static const char *(*OpenSSL_version)(int);
//
// // openssl_load returns the version of the library, NULL where it cannot be used. What openssl.cnf would load into
// // this process, and what the library would do when it ends, is left out.
// static const char *openssl_load(void) {
// 	void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
// 	if (library == NULL) return NULL;
// #define find(name) if ((name = dlsym(library, #name)) == NULL) return NULL
// 	find(d2i_AutoPrivateKey);
// 	find(EVP_PKEY_CTX_new);
// 	find(EVP_PKEY_sign_init);
// 	find(EVP_PKEY_CTX_set_rsa_padding);
// 	find(EVP_PKEY_CTX_set_signature_md);
// 	find(EVP_PKEY_sign);
// 	find(EVP_PKEY_CTX_free);
// 	find(EVP_PKEY_free);
// 	find(EVP_sha256);
// 	find(ERR_clear_error);
// 	find(OPENSSL_init_crypto);
// 	find(OpenSSL_version);
// #undef find
// 	const unsigned long long noLoadConfig = 0x80, noAtExit = 0x80000;
// 	if (OPENSSL_init_crypto(noLoadConfig | noAtExit, NULL) != 1) return NULL;
// 	return OpenSSL_version(0);
// }
//
// static void *openssl_key(const unsigned char *der, long length) {
// 	void *key = d2i_AutoPrivateKey(NULL, &der, length);
// 	if (key == NULL) ERR_clear_error();
// 	return key;
// }
//
// static void openssl_free(void *key) { EVP_PKEY_free(key); }
//
// // struct signing is a signature to be made. It holds no address of Go's memory.
// struct signing {
// 	void *key;                    // an EVP_PKEY
// 	unsigned char hash[32];       // SHA-256
// 	unsigned char signature[512]; // room for a key of 4096 bits
// 	size_t length;                // of the signature; 0 where it could not be made
// };
//
// // openssl_sign makes a signature by RSASSA-PKCS1-v1_5.
// static void openssl_sign(struct signing *s) {
// 	const int pkcs1Padding = 1;
// 	void *context = EVP_PKEY_CTX_new(s->key, NULL);
// 	s->length = sizeof s->signature;
// 	int ok = context != NULL &&
// 		EVP_PKEY_sign_init(context) > 0 &&
// 		EVP_PKEY_CTX_set_rsa_padding(context, pkcs1Padding) > 0 &&
// 		EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) > 0 &&
// 		EVP_PKEY_sign(context, s->signature, &s->length, s->hash, sizeof s->hash) > 0;
// 	EVP_PKEY_CTX_free(context);
// 	if (ok) return;
// 	ERR_clear_error();
// 	s->length = 0;
// }
//
// static void *openssl_sign_address(void) { return openssl_sign; }
import "C"

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// openSSL is the version of the machine's OpenSSL, such as "OpenSSL 3.0.19", which signs by RSA in less than half the
// time that crypto/rsa takes; "" where there is none to sign by. It is loaded when it is first asked for.
var openSSL = sync.OnceValue(func() string {
	text := C.openssl_load()
	if text == nil {
		return ""
	}
	words := strings.Fields(C.GoString(text)) // a name, the number, and a date
	return strings.Join(words[:min(2, len(words))], " ")
})

// opensslKey signs by OpenSSL, and by crypto/rsa where OpenSSL fails.
type opensslKey struct {
	*rsa.PrivateKey
	key    unsafe.Pointer // an EVP_PKEY, which several threads may sign by at once
	failed *sync.Once
}

// Sign makes a signature of PKCS #1 v1.5, which needs no randomness.
func (k *opensslKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if hash, ok := opts.(crypto.Hash); ok && hash == crypto.SHA256 && len(digest) == sha256.Size {
		if signature := k.sign(digest); signature != nil {
			return signature, nil
		}
		k.failed.Do(func() { slog.Warn("OpenSSL fails to sign; crypto/rsa does it instead", "version", openSSL()) })
	}
	return k.PrivateKey.Sign(random, digest, opts)
}

// sign is Sign by OpenSSL alone, for a SHA-256 hash; nil where it fails.
func (k *opensslKey) sign(hash []byte) []byte {
	s := signing{key: k.key}
	copy(unsafe.Slice((*byte)(&s.hash[0]), len(s.hash)), hash)
	if k.Size() > mostComputed {
		s.call()
	} else {
		s.make()
	}
	runtime.KeepAlive(k)
	if int(s.length) != k.Size() {
		return nil
	}
	return C.GoBytes(unsafe.Pointer(&s.signature[0]), C.int(s.length))
}

// mostComputed is the length, in bytes, of the longest key with which a signature is a matter of a millisecond.
const mostComputed = 3072 / 8

type signing C.struct_signing

// call has openssl_sign called as any function of C is.
func (s *signing) call() { C.openssl_sign((*C.struct_signing)(s)) }

// signFunction is the address of openssl_sign.
var signFunction = sync.OnceValue(func() unsafe.Pointer { return C.openssl_sign_address() })

// Fastest is k, or signs by OpenSSL with it where that is here, takes a key of that length (up to 4096 bits), and has
// shown that it makes the same signature.
func Fastest(k *rsa.PrivateKey) crypto.Signer {
	if openSSL() == "" {
		return k
	}
	fast := newOpenSSLKey(k, x509.MarshalPKCS1PrivateKey(k))
	if fast == nil {
		return k
	}
	probe := sha256.Sum256([]byte("consentgate"))
	want, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, probe[:])
	if err != nil || !bytes.Equal(fast.sign(probe[:]), want) {
		return k
	}
	return fast
}

// newOpenSSLKey has OpenSSL sign by a key in DER, which is k; nil where OpenSSL does not take it.
func newOpenSSLKey(k *rsa.PrivateKey, der []byte) *opensslKey {
	key := C.openssl_key((*C.uchar)(&der[0]), C.long(len(der)))
	if key == nil {
		return nil
	}
	fast := &opensslKey{PrivateKey: k, key: key, failed: new(sync.Once)}
	runtime.AddCleanup(fast, func(key unsafe.Pointer) { C.openssl_free(key) }, key)
	return fast
}

// signedBy names what makes the signatures of a private key, for the log.
func signedBy(key crypto.Signer) string {
	if _, ok := key.(*opensslKey); ok {
		return openSSL()
	}
	return "Go"
}
