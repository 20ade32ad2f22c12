//go:build !unix

package smarthost

import "syscall"

// nothingWaits cannot tell here.
func nothingWaits(syscall.RawConn) bool { return true }
