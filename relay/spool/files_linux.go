package spool

import (
	"errors"
	"syscall"
)

// Sync leaves out what reading the data does not need, such as the time of the change.
func (f osFile) Sync() error {
	return f.retry(func(fd int) error { return syscall.Fdatasync(fd) })
}

func (f osFile) Allocate(size int64) error {
	err := f.retry(func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return f.fill(size)
	}
	return err
}

// retry does again what a signal broke off.
func (f osFile) retry(call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		for {
			if result = call(int(fd)); result != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, result)
}
