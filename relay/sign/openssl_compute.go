//go:build cgo && linux && gc && go1.26 && !go1.27

package sign

import "unsafe"

// make calls openssl_sign as a computation. The runtime takes a function of C for one that may block: within some 20 µs
// it gives the goroutine's processor (its P) to another thread, and a signature of 0.3 ms comes back to find none. At
// full load that is two more context switches a copy, and a seventh of the time in which no processor does anything.
// This one does nothing but compute, and calls back no Go, so that the P may wait for it as for any loop of Go's: it
// runs on the same stack, that of the thread, without the runtime being told. The runtime calls setenv of C that way.
//
// That is nothing that Go promises. It was tried with the versions that are named above; with others call does it,
// see openssl_call.go.
func (s *signing) make() { asmcgocall(signFunction(), unsafe.Pointer(s)) }

//go:linkname asmcgocall runtime.asmcgocall
func asmcgocall(function, argument unsafe.Pointer) int32
