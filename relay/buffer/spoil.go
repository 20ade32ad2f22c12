//go:build !race

package buffer

const spoils = false
