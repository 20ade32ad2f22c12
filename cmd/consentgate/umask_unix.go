//go:build unix

package main

import "syscall"

// umask sets which permissions new files and sockets of this process do not get.
func umask(mask int) { syscall.Umask(mask) }
