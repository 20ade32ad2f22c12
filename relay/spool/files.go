package spool

import (
	"fmt"
	"io"
	"os"
	"runtime"
)

// files is what the spool uses of a file system. Tests have one that loses power.
type files interface {
	Lock(name string) (io.Closer, error) // ErrLocked where another process holds it
	Mkdir(name string) error             // mode 0700; nil where it is there
	Open(name string, flag int) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	List(dir string) ([]string, error)
	SyncDir(name string) error // makes the names in a folder durable
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	// Allocate makes the file size bytes long and sets the room apart, so that writing there
	// does not find the disk full. It is for new files.
	Allocate(size int64) error
}

type osFiles struct{}

type osFile struct{ *os.File }

// Mkdir refuses a folder in which others could put a segment of their own, and so send mail, or a link in
// a file's place.
func (osFiles) Mkdir(name string) error {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("folder %s has mode %04o, so others could put files of their own there: chmod 700 %s", name, mode, name)
	}
	return nil
}

func (osFiles) Open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) Rename(from, to string) error { return os.Rename(from, to) }
func (osFiles) Remove(name string) error     { return os.Remove(name) }

func (osFiles) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osFiles) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// fill is Allocate where the system has no call for it.
func (f osFile) fill(size int64) error {
	zeros := make([]byte, 64<<10)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return err
		}
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
