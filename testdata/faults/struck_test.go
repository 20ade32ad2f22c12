package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program that is built so has a clock and a disk of its own, which do as the page says.
func TestStruckProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds parts of Go's standard library")
	}
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := overlayOf(filepath.Join(strings.TrimSpace(string(root)), "src"), filepath.Join(dir, "overlay"))
	if err != nil {
		t.Skip(err)
	}
	const source = `package main

import (
	"os"
	"syscall"
	"time"
)

func main() {
	f, _ := os.Create(os.Args[1])
	begun := time.Now()
	err := f.Sync()
	println(time.Now().Unix(), time.Since(begun).Milliseconds(), err != nil, syscall.Fdatasync(int(f.Fd())) == syscall.EIO)
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "program")
	if out, err := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", binary, filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	page, err := newFaultPage(filepath.Join(dir, "page"))
	if err != nil {
		t.Fatal(err)
	}
	defer page.close()
	run := func() (off time.Duration, slow int, failed string) {
		cmd := exec.Command(binary, filepath.Join(dir, "file"))
		cmd.Env = append(os.Environ(), page.env())
		out, err := cmd.CombinedOutput()
		words := strings.Fields(string(out))
		if err != nil || len(words) != 4 {
			t.Fatalf("%v\n%s", err, out)
		}
		unix, _ := strconv.ParseInt(words[0], 10, 64)
		slow, _ = strconv.Atoi(words[1])
		return time.Until(time.Unix(unix, 0)).Round(time.Hour), slow, words[2] + " " + words[3]
	}
	if off, _, failed := run(); off != 0 || failed != "false false" {
		t.Errorf("all is well, and the clock is %v off, syncs fail: %s", off, failed)
	}
	page.clock(6 * time.Hour)
	page.set(syncDelay, int64(40*time.Millisecond))
	page.set(syncError, int64(syscall.EIO))
	if off, slow, failed := run(); off != 6*time.Hour || slow < 40 || failed != "true true" {
		t.Errorf("the clock is %v off, a sync takes %d ms, syncs fail: %s", off, slow, failed)
	}
}

// Where Go's sources are others than expected that is said, and nothing built.
func TestOverlayOfAnotherGo(t *testing.T) {
	src := t.TempDir()
	var skip skipped
	if _, err := overlayOf(src, t.TempDir()); !errors.As(err, &skip) {
		t.Errorf("no sources: %v", err)
	}
	for _, e := range edits {
		file := filepath.Join(src, e.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("package x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := overlayOf(src, t.TempDir()); !errors.As(err, &skip) {
		t.Errorf("other sources: %v", err)
	}
}
