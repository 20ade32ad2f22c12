package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const maxFile = 64 << 10

// Create writes a new key file with fresh random keys, mode 0600. It never overwrites: where
// path exists in any form, it fails. When it returns nil, the file and its name in its folder
// are on disk.
func Create(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is never overwritten: choose another name, or move it away if no store was begun with it", path)
	}
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
			err = fmt.Errorf("key file %s: %w", path, err)
		}
	}()
	if _, err = f.Write(format(Ephemeral())); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Load reads a key file. It refuses one that others than its owner may use, or whose owner is
// neither the user of this process nor root; links are followed and what they lead to is
// checked. Errors are one line and say what to do.
func Load(path string) (*Ring, error) {
	f, err := openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, linkErr := os.Readlink(path); linkErr == nil {
			return nil, fmt.Errorf("key file %s is a link to %s, which does not exist", path, target)
		}
		return nil, fmt.Errorf("key file %s does not exist: make one with \"consentgate keygen %s\", or bring back the one that the store was begun with", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, so that it cannot be exchanged behind the check
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if err := checkAccess(path, info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("key file %s is over %d KiB: that is no key file", path, maxFile>>10)
	}
	ring, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return ring, nil
}
