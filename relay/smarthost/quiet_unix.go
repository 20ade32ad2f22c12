//go:build unix

package smarthost

import "syscall"

// nothingWaits reports whether a socket is open and has nothing to be read.
func nothingWaits(socket syscall.RawConn) bool {
	nothing := false
	err := socket.Read(func(fd uintptr) bool {
		for {
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err == syscall.EINTR {
				continue
			}
			nothing = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
			return true
		}
	})
	return err == nil && nothing
}
