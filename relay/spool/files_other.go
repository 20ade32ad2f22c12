//go:build !linux

package spool

func (f osFile) Allocate(size int64) error { return f.fill(size) }
