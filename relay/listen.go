package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrNotHandedOver says that the configuration names a socket of systemd's that it did not hand over, which starting
// again by itself does not mend.
var ErrNotHandedOver = errors.New("systemd did not hand it over")

// listen binds "host:port" or "unix:/path", or takes the sockets that systemd holds under the name
// of "systemd:NAME". The socket file of a process that died is replaced.
func listen(address string) ([]net.Listener, error) {
	var l net.Listener
	var err error
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		all, err := inherited(name, os.Getenv, firstInherited)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w: %w", address, ErrNotHandedOver, err)
		}
		return all, nil
	} else if path, ok := strings.CutPrefix(address, "unix:"); ok {
		l, err = net.Listen("unix", path)
		if errors.Is(err, syscall.EADDRINUSE) && isStale(path) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", address, err)
			}
			l, err = net.Listen("unix", path)
		}
	} else {
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return []net.Listener{l}, nil
}

// isStale reports whether path is a socket that nobody listens on.
func isStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// firstInherited is the first file descriptor that systemd hands over.
const firstInherited = 3

// inherited returns the listening sockets of that name, sd_listen_fds_with_names(3). They can be
// taken once.
func inherited(name string, getenv func(string) string, first int) ([]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("no socket came; its unit is to be started before the service: systemctl restart consentgate-%s.socket consentgate", name)
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return nil, errors.New("LISTEN_FDS is not a number")
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var all []net.Listener
	for i := range min(n, len(names)) {
		if names[i] != name {
			continue
		}
		file := os.NewFile(uintptr(first+i), name)
		l, err := net.FileListener(file) // a duplicate
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("socket %d of systemd: %w", i, err)
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("systemd handed over %d sockets, none with FileDescriptorName=%s (they are: %s)", n, name, strings.Join(names, " "))
	}
	return all, nil
}
