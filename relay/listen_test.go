//go:build unix

package relay

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// handed is what systemd sets for sockets that begin at the returned file descriptor.
func handed(t *testing.T, names string, listeners ...net.Listener) (getenv func(string) string, first int) {
	t.Helper()
	for i, l := range listeners {
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Dup(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		l.Close()
		if i == 0 {
			first = fd
		} else if fd != first+i {
			t.Skipf("file descriptors %d and %d do not follow each other", first, fd)
		}
	}
	env := map[string]string{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": strconv.Itoa(len(listeners)), "LISTEN_FDNAMES": names}
	return func(name string) string { return env[name] }, first
}

func TestInherited(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "smtp"))
	if err != nil {
		t.Fatal(err)
	}
	unix.(*net.UnixListener).SetUnlinkOnClose(false)
	env, first := handed(t, "smtp:local", tcp, unix)
	for name, want := range map[string]net.Addr{"smtp": tcp.Addr(), "local": unix.Addr()} {
		all, err := inherited(name, env, first)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v", name, all, err)
		}
		defer all[0].Close()
		if got := all[0].Addr(); got.String() != want.String() || got.Network() != want.Network() {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		c, err := net.Dial(want.Network(), want.String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if _, err := inherited("smtps", env, first); err == nil || !strings.Contains(err.Error(), "none with FileDescriptorName=smtps (they are: smtp local)") {
		t.Error(err)
	}
}

func TestNothingInherited(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for name, env := range map[string]map[string]string{
		"not started by systemd": {},
		"for another process":    {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"},
		"no number":              {"LISTEN_PID": self, "LISTEN_FDS": "one", "LISTEN_FDNAMES": "smtp"},
		"none":                   {"LISTEN_PID": self, "LISTEN_FDS": "0", "LISTEN_FDNAMES": "smtp"},
		"no such descriptor":     {"LISTEN_PID": self, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"},
	} {
		if l, err := inherited("smtp", func(n string) string { return env[n] }, 1<<20); err == nil {
			t.Errorf("%s: %v", name, l)
		}
	}
	if _, err := listen("systemd:smtp"); err == nil || !strings.HasPrefix(err.Error(), "listen on systemd:smtp: ") {
		t.Error(err)
	}
}
