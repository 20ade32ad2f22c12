//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
)

// giveAsFolder gives a file that root makes to the owner of its folder, most likely the gateway's user. The open file is
// given, since its name may lead elsewhere by then: the folder is not root's.
func giveAsFolder(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		return f.Chown(int(stat.Uid), int(stat.Gid))
	}
	return nil
}

// ownerOf returns the owner of a file.
func ownerOf(info os.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
