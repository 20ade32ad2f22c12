package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// A gateway whose clock and whose disk go wrong, and nobody else's: it is built with two changes to Go's standard
// library. time.Now adds some seconds to what the system says (what is monotonic in it stays), and fsync and
// fdatasync take longer or fail. How much is read from a page of memory that is shared with this program through
// a file, which the environment variable FAULT_PAGE names. The changes are made to the sources of the Go that is
// here, which stay as they are: go build -overlay takes the changed ones instead.

const pageVariable = "FAULT_PAGE"

// faultPage is the page, from this side.
type faultPage struct {
	file   string
	memory []byte

	mu sync.Mutex
}

// The page's places, of 8 bytes each.
const (
	clockSeconds = iota // added to the wall clock
	syncDelay           // nanoseconds that each sync takes longer
	syncError           // errno that each sync fails with; 0 = it works
	places
)

func newFaultPage(file string) (*faultPage, error) {
	if err := os.WriteFile(file, make([]byte, 8*places), 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	memory, err := syscall.Mmap(int(f.Fd()), 0, 8*places, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return &faultPage{file: file, memory: memory}, err
}

func (p *faultPage) close() error { return syscall.Munmap(p.memory) }

func (p *faultPage) set(place int, value int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*(*int64)(unsafe.Pointer(&p.memory[8*place])) = value
}

// clock sets the gateway's clock so far from the right time.
func (p *faultPage) clock(off time.Duration) { p.set(clockSeconds, int64(off/time.Second)) }

func (p *faultPage) env() string { return pageVariable + "=" + p.file }

const syscallSource = `package syscall

import (
	"sync/atomic"
	"unsafe"
)

var faults *[3]atomic.Int64

func init() {
	name, ok := Getenv("` + pageVariable + `")
	if !ok {
		return
	}
	fd, err := Open(name, O_RDONLY|O_CLOEXEC, 0)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	b, err := Mmap(fd, 0, 24, PROT_READ, MAP_SHARED)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	Close(fd)
	faults = (*[3]atomic.Int64)(unsafe.Pointer(&b[0]))
}

// FaultSeconds is what the clock is off.
func FaultSeconds() int64 {
	if faults == nil {
		return 0
	}
	return faults[0].Load()
}

func faultSync() error {
	if faults == nil {
		return nil
	}
	if d := faults[1].Load(); d > 0 {
		t := NsecToTimespec(d)
		Nanosleep(&t, nil)
	}
	if e := faults[2].Load(); e != 0 {
		return Errno(e)
	}
	return nil
}
`

const timeSource = `package time

import "syscall"

func faultSeconds() int64 { return syscall.FaultSeconds() }
`

// edits are what is changed in files of the standard library, each once.
var edits = []struct{ file, old, new string }{
	{"time/time.go", "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0", "\tsec, nsec, mono := runtimeNow()\n\tsec += faultSeconds()\n\tif mono == 0"},
	{"syscall/zsyscall_linux_" + runtime.GOARCH + ".go", "func Fsync(fd int) (err error) {\n", "func Fsync(fd int) (err error) {\n\tif err = faultSync(); err != nil {\n\t\treturn\n\t}\n"},
	{"syscall/zsyscall_linux_" + runtime.GOARCH + ".go", "func Fdatasync(fd int) (err error) {\n", "func Fdatasync(fd int) (err error) {\n\tif err = faultSync(); err != nil {\n\t\treturn\n\t}\n"},
}

// buildStruck builds that gateway. The error is a skipped where this Go's sources are not as they have to be.
func buildStruck(ctx context.Context, dir string) (string, error) {
	if runtime.GOOS != "linux" {
		return "", skipped("a clock and a disk of the gateway's own are made for Linux only")
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	overlay, err := overlayOf(filepath.Join(strings.TrimSpace(string(out)), "src"), filepath.Join(dir, "overlay"))
	if err != nil {
		return "", err
	}
	return goBuild(ctx, filepath.Join(dir, "consentgate-struck"), "-overlay", overlay)
}

// overlayOf writes the changed files into dir, and returns the file that names them.
func overlayOf(src, dir string) (string, error) {
	texts := map[string]string{
		filepath.Join(src, "syscall/faults_struck.go"): syscallSource,
		filepath.Join(src, "time/faults_struck.go"):    timeSource,
	}
	for _, e := range edits {
		file := filepath.Join(src, e.file)
		text, ok := texts[file]
		if !ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", skipped(fmt.Sprintf("this Go is not as expected: %v", err))
			}
			text = string(b)
		}
		if strings.Count(text, e.old) != 1 {
			return "", skipped(fmt.Sprintf("this Go is not as expected: %s has not once %q", e.file, e.old))
		}
		texts[file] = strings.Replace(text, e.old, e.new, 1)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for file, text := range texts {
		replace[file] = filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(file, src+"/"), "/", "-"))
		if err := os.WriteFile(replace[file], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}
