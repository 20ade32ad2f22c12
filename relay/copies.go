package relay

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/rewrite"
)

// maxCopies is how many copies are kept; the oldest goes.
const maxCopies = 20

// copies keeps the copies for one address as they left, to be held against what reaches that mailbox.
type copies struct {
	who consent.Address // "" = none are kept
	dir string          // made with mode 0700 when it is needed
	mu  sync.Mutex
}

// keep writes a copy that the smarthost has taken into a file of its own, with mode 0600.
func (c *copies) keep(id string, at time.Time, copy *rewrite.Copy) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(c.dir, at.UTC().Format("20060102T150405Z")+"-"+id+".eml")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = copy.WriteTo(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(name) // a part of a copy would only mislead
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.prune()
}

// prune removes the oldest copies over maxCopies. Their names sort by time.
func (c *copies) prune() error {
	all, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e fs.DirEntry) bool { return !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".eml") })
	for _, e := range all[:max(0, len(all)-maxCopies)] {
		if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
