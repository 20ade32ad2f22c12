//go:build cgo && linux

package sign

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"io"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// OpenSSL makes the signatures that crypto/rsa makes, for many at once as for one, and with keys of all sizes up to 4096 bits.
func TestOpenSSL(t *testing.T) {
	if openSSL() == "" {
		t.Skip("no OpenSSL 3 is here")
	}
	for _, bits := range []int{2048, 3072, 4096, 4104} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		fast := Fastest(k)
		if _, ok := fast.(*opensslKey); ok != (bits <= 4096) {
			t.Fatalf("%d bits: signed by OpenSSL: %v", bits, ok)
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

// However OpenSSL is called, a garbage collector that stops all that computes, and a profiler that looks at it, do it no
// harm.
func TestOpenSSLCalls(t *testing.T) {
	if strings.HasPrefix(runtime.Version(), "go1.26") && !keepsProcessor {
		t.Error("each signature gives its processor away")
	}
	if openSSL() == "" {
		t.Skip("no OpenSSL 3 is here")
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	fast := Fastest(k).(*opensslKey)
	h := sha256.Sum256([]byte("x"))
	want, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, h[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Log("no profile is made: ", err)
	}
	defer pprof.StopCPUProfile()
	for name, ask := range map[string]func(*signing){"make": (*signing).make, "call": (*signing).call} {
		var signers sync.WaitGroup
		for range 4 * runtime.GOMAXPROCS(0) {
			signers.Go(func() {
				for range 50 {
					s := signing{key: fast.key}
					copy(unsafe.Slice((*byte)(&s.hash[0]), len(s.hash)), h[:])
					ask(&s)
					if got := unsafe.Slice((*byte)(&s.signature[0]), s.length); !bytes.Equal(got, want) {
						t.Errorf("%s: %x, want %x", name, got, want)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { signers.Wait(); close(done) }()
		for collecting := true; collecting; {
			runtime.GC()
			select {
			case <-done:
				collecting = false
			default:
			}
		}
	}
}

// Where OpenSSL does not sign, or does it wrong, crypto/rsa does.
func TestOpenSSLFails(t *testing.T) {
	if openSSL() == "" {
		t.Skip("no OpenSSL 3 is here")
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	broken := newOpenSSLKey(k, der) // which cannot sign as RSA does
	if broken == nil {
		t.Fatal("OpenSSL does not take a key of Ed25519")
	}
	if broken.sign(make([]byte, sha256.Size)) != nil {
		t.Fatal("it signs all the same")
	}
	h := sha256.Sum256([]byte("x"))
	for range 3 {
		if got, err := signHash(broken, h); err != nil || rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, h[:], got) != nil {
			t.Errorf("%x, %v", got, err)
		}
	}
	if got, err := Fastest(k).Sign(rand.Reader, h[:], &rsa.PSSOptions{Hash: crypto.SHA256}); err != nil || rsa.VerifyPSS(&k.PublicKey, crypto.SHA256, h[:], got, nil) != nil {
		t.Errorf("PSS: %x, %v", got, err)
	}
	long := sha512.Sum512([]byte("x"))
	if got, err := Fastest(k).Sign(nil, long[:], crypto.SHA512); err != nil || rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA512, long[:], got) != nil {
		t.Errorf("another hash: %x, %v", got, err)
	}
	if newOpenSSLKey(k, []byte("no key")) != nil {
		t.Error("OpenSSL takes what is no key")
	}
}

// Keys come and go without their memory staying.
func TestOpenSSLKeysAreFreed(t *testing.T) {
	if openSSL() == "" {
		t.Skip("no OpenSSL 3 is here")
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PrivateKey(k)
	h := sha256.Sum256([]byte("x"))
	round := func() int64 {
		for range 20 {
			for range 100 {
				if newOpenSSLKey(k, der).sign(h[:]) == nil {
					t.Fatal("OpenSSL does not sign")
				}
			}
			runtime.GC()
			time.Sleep(10 * time.Millisecond) // cleanups run by themselves
		}
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return usage.Maxrss
	}
	before := round()
	if after := round(); after-before > 4<<10 {
		t.Errorf("two thousand keys more take %d KB", after-before)
	}
}
