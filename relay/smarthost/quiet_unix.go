//go:build unix

package smarthost

import "syscall"

// nothingWaits reports whether a socket is open and has nothing to be read. It asks, whatever deadline there is.
func nothingWaits(socket syscall.RawConn) bool {
	nothing := false
	err := socket.Control(func(fd uintptr) {
		var one [1]byte
		for {
			_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				nothing = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
				return
			}
		}
	})
	return err == nil && nothing
}
