//go:build !linux

package spool

import "errors"

func (osFile) Allocate(int64) error { return errors.ErrUnsupported }
