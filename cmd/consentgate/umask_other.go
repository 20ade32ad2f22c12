//go:build !unix

package main

// umask does nothing: this system has no such thing.
func umask(int) {}
