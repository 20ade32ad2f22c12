//go:build race

package buffer

// spoils says that what was given back is overwritten, so that tests under the race detector see who still reads it.
const spoils = true
