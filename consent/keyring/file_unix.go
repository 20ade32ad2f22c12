//go:build unix

package keyring

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// openFile opens path for reading without waiting where it is a pipe.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// checkAccess wants a file that its owner alone may use, this user or root. Root's may be read by its group
// too: so do Kubernetes and systemd hand a secret to a program that is not root.
func checkAccess(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("key file %s: its owner cannot be read on this system", path)
	}
	if err := checkMode(path, info.Mode().Perm(), stat.Uid); err != nil {
		return err
	}
	return checkOwner(path, stat.Uid, uint32(os.Geteuid()))
}

// checkReaders wants a file that its owner alone may use, whoever that is.
func checkReaders(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return checkMode(path, info.Mode().Perm(), stat.Uid)
}

func checkMode(path string, mode fs.FileMode, owner uint32) error {
	others := fs.FileMode(0o077)
	if owner == 0 {
		others = 0o037
	}
	if mode&others != 0 {
		return fmt.Errorf("key file %s has mode %04o, so others may use it: chmod 600 %s", path, mode, path)
	}
	return nil
}

func checkOwner(path string, owner, self uint32) error {
	if owner != self && owner != 0 {
		if self == 0 { // under sudo, most likely: the file is as it should be
			as := fmt.Sprintf("sudo -u '#%d' consentgate …", owner)
			if u, err := user.LookupId(strconv.Itoa(int(owner))); err == nil {
				as = fmt.Sprintf("runuser -u %s -- consentgate …", u.Username)
			}
			return fmt.Errorf("key file %s belongs to user %d: run this as that user: %s", path, owner, as)
		}
		return fmt.Errorf("key file %s belongs to user %d, neither to this user (%d) nor to root: chown %d %s", path, owner, self, self, path)
	}
	return nil
}

// keepOwner gives f to the owner of the file that it takes the place of.
func keepOwner(f *os.File, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == uint32(os.Geteuid()) && stat.Gid == uint32(os.Getegid()) {
		return nil
	}
	return f.Chown(int(stat.Uid), int(stat.Gid))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
