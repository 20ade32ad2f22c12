//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package spool

import (
	"errors"
	"fmt"
	"io"
)

// Lock refuses: two processes at one spool would deliver all mail twice.
func (osFiles) Lock(string) (io.Closer, error) {
	return nil, fmt.Errorf("the spool needs a lock that this system does not have: %w", errors.ErrUnsupported)
}
