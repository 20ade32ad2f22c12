//go:build race

package buffer

// Spoils says whether what is given back is overwritten at once: under the race detector, so that tests see who still
// reads it.
const Spoils = true
