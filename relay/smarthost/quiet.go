package smarthost

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
	"time"
)

// quiet reports whether nothing was said on a kept connection since the last answer. What was said
// unasked (that it is closed, a timeout, one reply too many) would be taken for the answer to the next
// command, and a refusal of it for one of the next message.
func (k *kept) quiet() bool {
	if k.r.Buffered() > 0 {
		return false
	}
	if secure, ok := k.Conn.(*tls.Conn); ok {
		// With a deadline that is over, only what TLS has decrypted already comes.
		if secure.SetReadDeadline(time.Unix(1, 0)) != nil {
			return false
		}
		if _, err := k.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	socket, ok := k.raw.(syscall.Conn)
	if !ok {
		return false
	}
	fd, err := socket.SyscallConn()
	return err == nil && nothingWaits(fd)
}
