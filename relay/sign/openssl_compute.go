//go:build cgo && linux && gc && go1.26 && !go1.27

package sign

import "unsafe"

// keepsProcessor says whether make keeps the goroutine's processor (its P).
const keepsProcessor = true

// make calls openssl_sign as a computation. The runtime takes a function of C for one that may block: within some 20 µs
// it gives the P to another thread, and a signature of 0.3 ms comes back to find none. At full load that is two more
// context switches a copy, and a tenth of the time in which no processor does anything. This one computes, waits for
// nothing that needs a P, and calls back no Go, so that the P may wait for it: it runs on the same stack as by cgo,
// that of the thread, without the runtime being told. The runtime calls setenv of C that way. What is to be known of
// it: nothing preempts it, so that whoever stops the world waits as long, and a profile books it as external code.
//
// That is nothing that Go promises. It was tried with the versions that are named above; with others call does it,
// see openssl_call.go.
func (s *signing) make() { asmcgocall(signFunction(), unsafe.Pointer(s)) }

// asmcgocall is not declared as go:noescape: what it is given must not be on the goroutine's stack.
//
//go:linkname asmcgocall runtime.asmcgocall
func asmcgocall(function, argument unsafe.Pointer) int32
