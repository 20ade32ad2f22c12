package keyring

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Rotate puts a new secret into a key file: before the others, so that it is the current one, or behind them. The other
// lines, the owner and the mode stay. It returns how many secrets there are then. The file is the old or the new one
// whatever happens meanwhile; when Rotate returns nil the new one is on disk.
func Rotate(path string, behind bool) (secrets int, err error) {
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return 0, fmt.Errorf("%s is no key file", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	if _, err := parse(text); err != nil {
		return 0, fmt.Errorf("key file %s: %w", path, err)
	}
	text = withSecret(text, behind)
	ring, err := parse(text)
	if err != nil {
		return 0, fmt.Errorf("key file %s: with one more secret: %w", path, err)
	}
	return len(ring.secrets), replace(path, text, info)
}

// withSecret returns the text of a key file with one more secret.
func withSecret(text []byte, behind bool) []byte {
	line := fmt.Sprintf("secret %s\n", base64.RawURLEncoding.EncodeToString(random()))
	var b bytes.Buffer
	put := false
	for old := range bytes.Lines(text) {
		if word, _, _ := strings.Cut(strings.TrimSpace(string(old)), " "); word == "secret" && !put && !behind {
			b.WriteString(line)
			put = true
		}
		b.Write(old)
	}
	if !put {
		if !bytes.HasSuffix(text, []byte("\n")) {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.Bytes()
}

// replace puts text where the file at path is, with what info says of it.
func replace(path string, text []byte, info fs.FileInfo) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, keepOwner(f, info), f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}
