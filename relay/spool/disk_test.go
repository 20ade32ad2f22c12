package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var errPower = errors.New("the power is off")

// disk is a file system in memory that forgets what was not synced when its power is cut: the
// content of files, and names in folders. Folders themselves are durable at once.
type disk struct {
	t *testing.T

	mu      sync.Mutex
	folders map[string]*folder
	ops     int
	cut     int // the operation that the power fails at; 0 = never
	off     bool
	locked  bool
	room    int64 // bytes; <0 = without end
	syncs   int
	badSync func(n int) bool // says which syncs of files fail
}

type folder struct {
	now, durable map[string]*inode
	pending      []func(names map[string]*inode)
}

type inode struct {
	now, durable []byte
	pending      []func(data []byte, upTo int) []byte // upTo: of this write, the bytes that arrive; <0 = all
	broken       bool                                 // a sync failed
}

func newDisk(t *testing.T) *disk {
	return &disk{t: t, room: -1, folders: map[string]*folder{"/": newFolder()}}
}

func newFolder() *folder {
	return &folder{now: map[string]*inode{}, durable: map[string]*inode{}}
}

// begin counts an operation. With last the operation is the one that the power fails in.
func (d *disk) begin() (last bool, err error) {
	if d.off {
		return false, errPower
	}
	if d.ops++; d.ops == d.cut {
		d.off = true
		return true, nil
	}
	return false, nil
}

func powered(last bool) error {
	if last {
		return errPower
	}
	return nil
}

// restart makes d what it is after the power comes back. Of what was not synced, nothing is there if
// rng is nil, else any part.
func (d *disk) restart(rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off, d.locked, d.cut = false, false, 0
	for _, name := range slices.Sorted(maps.Keys(d.folders)) {
		f := d.folders[name]
		for _, change := range f.pending {
			if rng != nil && rng.IntN(2) == 0 {
				change(f.durable)
			}
		}
		f.pending = nil
		f.now = maps.Clone(f.durable)
		for _, name := range slices.Sorted(maps.Keys(f.now)) {
			f.now[name].restart(rng)
		}
	}
}

func (n *inode) restart(rng *rand.Rand) {
	data := n.durable
	for _, change := range n.pending {
		if rng == nil || rng.IntN(2) == 0 {
			continue
		}
		upTo := -1
		if rng.IntN(2) == 0 {
			upTo = rng.IntN(2000)
		}
		data = change(slices.Clone(data), upTo)
	}
	n.pending, n.durable, n.now, n.broken = nil, data, slices.Clone(data), false
}

// copy returns a disk of its own with what is on d now.
func (d *disk) copy() *disk {
	c := newDisk(d.t)
	for name, f := range d.folders {
		g := newFolder()
		for name, n := range f.now {
			m := &inode{now: slices.Clone(n.now), durable: slices.Clone(n.now)}
			g.now[name], g.durable[name] = m, m
		}
		c.folders[name] = g
	}
	return c
}

func (d *disk) folder(name string) (*folder, error) {
	if f := d.folders[name]; f != nil {
		return f, nil
	}
	return nil, os.ErrNotExist
}

// change does something to the names of a folder.
func (f *folder) change(c func(names map[string]*inode)) {
	c(f.now)
	f.pending = append(f.pending, c)
}

func (d *disk) used() (n int64) {
	for _, f := range d.folders {
		for _, i := range f.now {
			n += int64(len(i.now))
		}
	}
	return n
}

func (d *disk) names(dir string) []string {
	names, err := d.List(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return names
}

type unlock struct{ d *disk }

func (u unlock) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.d.locked = false
	return nil
}

func (d *disk) Lock(string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, ErrLocked
	}
	d.locked = true
	return unlock{d}, nil
}

func (d *disk) Mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.begin(); err != nil {
		return err
	}
	if d.folders[name] == nil {
		d.folders[name] = newFolder()
	}
	return nil
}

func (d *disk) Open(name string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	base := filepath.Base(name)
	n := f.now[base]
	if flag&os.O_CREATE == 0 || n != nil {
		if d.off {
			return nil, errPower
		}
		switch {
		case n == nil:
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		case flag&os.O_EXCL != 0:
			return nil, os.ErrExist
		case flag&os.O_TRUNC != 0:
			n.truncate(0)
		}
		return &diskFile{d, n, name}, nil
	}
	last, err := d.begin()
	if err != nil {
		return nil, err
	}
	n = &inode{}
	f.change(func(names map[string]*inode) { names[base] = n })
	return &diskFile{d, n, name}, powered(last)
}

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(filepath.Dir(from))
	if err != nil {
		return err
	}
	g, err := d.folder(filepath.Dir(to))
	if err != nil {
		return err
	}
	a, b := filepath.Base(from), filepath.Base(to)
	n := f.now[a]
	if n == nil {
		return os.ErrNotExist
	}
	last, err := d.begin()
	if err != nil {
		return err
	}
	if f != g { // in one step, so it is durable at once here
		for _, names := range []map[string]*inode{f.now, f.durable} {
			delete(names, a)
		}
		g.now[b], g.durable[b] = n, n
		return powered(last)
	}
	f.change(func(names map[string]*inode) {
		delete(names, a)
		names[b] = n
	})
	return powered(last)
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	if f.now[base] == nil {
		return os.ErrNotExist
	}
	last, err := d.begin()
	if err != nil {
		return err
	}
	f.change(func(names map[string]*inode) { delete(names, base) })
	return powered(last)
}

func (d *disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(dir)
	if err != nil {
		return nil, err
	}
	if d.off {
		return nil, errPower
	}
	return slices.Sorted(maps.Keys(f.now)), nil
}

func (d *disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(name)
	if err != nil {
		return err
	}
	last, err := d.begin()
	if last || err != nil {
		return errPower
	}
	for _, change := range f.pending {
		change(f.durable)
	}
	f.pending = nil
	return nil
}

type diskFile struct {
	d    *disk
	n    *inode
	name string
}

func (n *inode) truncate(size int64) {
	change := func(data []byte, _ int) []byte {
		if int64(len(data)) > size {
			return data[:size]
		}
		return append(data, make([]byte, size-int64(len(data)))...)
	}
	n.now = change(n.now, -1)
	n.pending = append(n.pending, change)
}

// grow says whether there is room for the file to be size bytes long.
func (f *diskFile) grow(size int64) error {
	if more := size - int64(len(f.n.now)); more > 0 && f.d.room >= 0 && f.d.used()+more > f.d.room {
		return &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return nil
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off {
		return 0, errPower
	}
	return bytes.NewReader(f.n.now).ReadAt(p, off)
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.n.broken {
		f.d.t.Errorf("%s is written to after a failed sync", f.name)
	}
	last, err := f.d.begin()
	if err == nil {
		err = f.grow(off + int64(len(p)))
	}
	if err != nil {
		return 0, err
	}
	p = slices.Clone(p)
	change := func(data []byte, upTo int) []byte {
		if upTo < 0 || upTo > len(p) {
			upTo = len(p)
		}
		if need := off + int64(upTo) - int64(len(data)); need > 0 {
			data = append(data, make([]byte, need)...)
		}
		copy(data[off:], p[:upTo])
		return data
	}
	f.n.now = change(f.n.now, -1)
	f.n.pending = append(f.n.pending, change)
	return len(p), powered(last)
}

func (f *diskFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	last, err := f.d.begin()
	if err != nil {
		return err
	}
	f.n.truncate(size)
	return powered(last)
}

func (f *diskFile) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	last, err := f.d.begin()
	if err == nil {
		err = f.grow(size)
	}
	if err != nil {
		return err
	}
	f.n.truncate(max(size, int64(len(f.n.now))))
	return powered(last)
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.n.broken {
		f.d.t.Errorf("%s is synced after a failed sync", f.name)
	}
	last, err := f.d.begin()
	if last || err != nil {
		return errPower
	}
	if f.d.syncs++; f.d.badSync != nil && f.d.badSync(f.d.syncs) {
		f.n.broken = strings.HasSuffix(f.name, segmentTail)
		return &os.PathError{Op: "sync", Path: f.name, Err: syscall.EIO}
	}
	f.n.durable, f.n.pending = slices.Clone(f.n.now), nil
	return nil
}

func (f *diskFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.now)), nil
}

func (f *diskFile) Close() error { return nil }

func (d *disk) String() string {
	var b strings.Builder
	for _, dir := range slices.Sorted(maps.Keys(d.folders)) {
		for _, name := range slices.Sorted(maps.Keys(d.folders[dir].now)) {
			fmt.Fprintf(&b, "%s %d\n", filepath.Join(dir, name), len(d.folders[dir].now[name].now))
		}
	}
	return b.String()
}
