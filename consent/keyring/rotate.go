package keyring

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Rotate puts a new secret into a key file: before the others, so that it is the current one, or behind them. The other
// lines, the owner and the mode stay. It returns how many secrets there are then. The file is the old or the new one
// whatever happens meanwhile; when Rotate returns nil the new one is on disk.
func Rotate(path string, behind bool) (secrets int, err error) {
	return change(path, func(text []byte) ([]byte, error) { return withSecret(text, behind), nil })
}

// ToFront is Rotate with the last secret of the file, which becomes the first.
func ToFront(path string) (secrets int, err error) { return change(path, lastToFront) }

// change puts what becomes of the text of a key file in its place.
func change(path string, f func([]byte) ([]byte, error)) (secrets int, err error) {
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
	// Made before the old text is read, so that of two at the same time neither loses the other's secret.
	next, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("key file: %s.new is there: the file is being changed by another, or that was broken off, and then delete it", path)
	} else if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	defer func() {
		next.Close() // a second time where all went well, which does nothing
		if err != nil {
			os.Remove(next.Name())
		}
	}()
	if info, err = os.Stat(path); err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	if err := checkReaders(path, info); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	if _, err := parse(text); err != nil {
		return 0, fmt.Errorf("key file %s: %w", path, err)
	}
	if text, err = f(text); err != nil {
		return 0, fmt.Errorf("key file %s: %w", path, err)
	}
	ring, err := parse(text)
	if err != nil {
		return 0, fmt.Errorf("key file %s: as it would be: %w", path, err)
	}
	_, err = next.Write(text)
	if err = errors.Join(err, keepOwner(next, info), next.Chmod(info.Mode().Perm()), next.Sync(), next.Close()); err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("key file: %w", err)
	}
	return len(ring.secrets), syncFolder(filepath.Dir(path))
}

// linesOf returns the lines of a key file, without their ends, and where those of its secrets stand, of which there is one.
func linesOf(text []byte) (lines [][]byte, secrets []int) {
	for line := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if word, _, _ := strings.Cut(strings.TrimSpace(string(line)), " "); word == "secret" {
			secrets = append(secrets, len(lines))
		}
		lines = append(lines, line)
	}
	return lines, secrets
}

func textOf(lines [][]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }

// withSecret returns the text of a key file with one more secret.
func withSecret(text []byte, behind bool) []byte {
	lines, secrets := linesOf(text)
	at := secrets[0]
	if behind {
		at = len(lines)
	}
	return textOf(slices.Insert(lines, at, fmt.Appendf(nil, "secret %s", base64.RawURLEncoding.EncodeToString(random()))))
}

// lastToFront returns the text of a key file with its last secret before the others.
func lastToFront(text []byte) ([]byte, error) {
	lines, secrets := linesOf(text)
	first, last := secrets[0], secrets[len(secrets)-1]
	if first == last {
		return nil, errors.New("it has one secret alone")
	}
	line := lines[last]
	return textOf(slices.Insert(slices.Delete(lines, last, last+1), first, line)), nil
}
