//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
)

// giveAsFolder gives a file that root made to the owner of its folder, most likely the gateway's user.
func giveAsFolder(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		return os.Lchown(path, int(stat.Uid), int(stat.Gid))
	}
	return nil
}
