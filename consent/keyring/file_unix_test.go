//go:build unix

package keyring

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, text []byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(at(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	good := format(Ephemeral())
	write("group", good, 0o660)
	write("world", good, 0o644)
	write("writable", good, 0o602)
	write("good", good, 0o600)
	write("readonly", good, 0o400)
	write("broken", []byte("nonsense\n"), 0o600)
	write("huge", make([]byte, maxFile+1), 0o600)
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	link(at("good"), "link")
	link(at("world"), "link-to-world")
	link(at("gone"), "link-to-nothing")
	link("loop", "loop")
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"good", ""},
		{"readonly", ""},
		{"link", ""},
		{"group", "chmod 600"},
		{"world", "has mode 0644"},
		{"writable", "has mode 0602"},
		{"link-to-world", "has mode 0644"},
		{"link-to-nothing", "is a link to " + at("gone")},
		{"loop", "too many levels"},
		{"pipe", "not a regular file"},
		{".", "not a regular file"},
		{"none", "keygen"},
		{"broken", "line 1"},
		{"huge", "no key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ring, err := Load(at(c.name))
			if c.want == "" {
				if err != nil || ring == nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode  os.FileMode
		owner uint32
		ok    bool
	}{
		{0o600, 1000, true}, {0o400, 1000, true}, {0o640, 1000, false}, {0o440, 1000, false}, {0o604, 1000, false},
		{0o600, 0, true}, {0o640, 0, true}, {0o440, 0, true}, {0o660, 0, false}, {0o650, 0, false}, {0o444, 0, false}, {0o644, 0, false},
	} {
		if err := checkMode("key", c.mode, c.owner); (err == nil) != c.ok {
			t.Errorf("mode %04o of user %d: %v", c.mode, c.owner, err)
		}
	}
}

func TestLoadRefusesAnothersFile(t *testing.T) {
	for _, c := range []struct {
		owner, self uint32
		ok          bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}} {
		err := checkOwner("key", c.owner, c.self)
		if (err == nil) != c.ok {
			t.Errorf("owner %d for user %d: %v", c.owner, c.self, err)
		}
	}
	if u, err := user.Lookup("nobody"); err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		if err := checkOwner("key", uint32(uid), 0); err == nil || !strings.HasSuffix(err.Error(), "run this as that user: runuser -u nobody -- consentgate …") {
			t.Error(err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away to try the whole way
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skip("cannot give a file away here:", err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("another's file: %v", err)
	}
}

// Root's rotation leaves the file to the gateway's user.
func TestRotateKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12346); err != nil {
		t.Skip("cannot give a file away here:", err)
	}
	if _, err := Rotate(path, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 12345 || stat.Gid != 12346 {
		t.Errorf("it belongs to %d:%d", stat.Uid, stat.Gid)
	}
}
