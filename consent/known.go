package consent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Known is the file in which a gateway remembers the data that its store held last, by the random
// name that the data was given when it was begun (its epoch): a store that was emptied or exchanged while no
// gateway ran looks new else, and in a new one everybody counts as subscribed. It is one line,
// "FINGERPRINT EPOCH" and maybe "may-evict", for the operator accepted that the store may drop records.
type Known struct {
	Path  string // "" = nothing is remembered
	Print string // fingerprint of the lookup key; what was remembered under another does not count
}

// Load returns "" where nothing is known.
func (k Known) Load() (epoch string, mayEvict bool, err error) {
	if k.Path == "" {
		return "", false, nil
	}
	text, err := os.ReadFile(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	} else if err != nil {
		return "", false, fmt.Errorf("what is known of the consent store: %w", err)
	}
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return "", false, fmt.Errorf("what is known of the consent store: %s is damaged; delete it if the store holds what it should", k.Path)
	}
	if words[0] != k.Print {
		return "", false, nil
	}
	return words[1], len(words) == 3 && words[2] == "may-evict", nil
}

// Save replaces the file (mode 0600), so that it is whole or the old one.
func (k Known) Save(epoch string, mayEvict bool) error {
	if k.Path == "" {
		return nil
	}
	text := k.Print + " " + epoch
	if mayEvict {
		text += " may-evict"
	}
	f, err := os.CreateTemp(filepath.Dir(k.Path), ".known-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), k.Path)
	}
	return err
}
