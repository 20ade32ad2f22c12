//go:build !race

package buffer

// Spoils says whether what is given back is overwritten at once.
const Spoils = false
