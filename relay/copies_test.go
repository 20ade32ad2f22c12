package relay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// The copies for one address are kept as the smarthost got them, the last ones, for its owner alone.
func TestCopiesAreKept(t *testing.T) {
	who, err := consent.ParseAddress("seed@example.com")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copies")
	b := start(t, func(c *Config, b *testbed) { c.KeepCopiesFor, c.CopiesDir = who, dir; c.Signer, _ = newSigner(b.t) })
	c := b.hello()
	if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("somebody else's copy was kept: %v", err)
	}
	for range maxCopies + 3 {
		if got := c.send("Seed@Example.com", newsletter); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	sent := b.sink.last(t).text
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != maxCopies {
		t.Fatalf("%d files, want %d: %v", len(files), maxCopies, err)
	}
	last, err := os.ReadFile(files[len(files)-1])
	if err != nil || string(last) != sent {
		t.Errorf("%v; the last one kept is not what the smarthost got:\n%s", err, last)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, files[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
}

// A folder that cannot be written costs no mail.
func TestCopiesCannotBeKept(t *testing.T) {
	who, err := consent.ParseAddress("seed@example.com")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *Config, b *testbed) { c.KeepCopiesFor, c.CopiesDir = who, filepath.Join(file, "copies") })
	if got := b.hello().send("seed@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if !strings.Contains(b.log.String(), "could not be kept") {
		t.Error("the log does not say so")
	}
}
