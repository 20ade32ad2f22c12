package rewrite

import (
	"bytes"
	"testing"
)

// TestHasControl holds the one that looks at many bytes at once against one byte after the other.
func TestHasControl(t *testing.T) {
	for _, around := range []byte{' ', '!', '~', 0x7f, 0x80, 0x9f, 0xa0, 0xff, '\n'} {
		for c := range 256 {
			for at := range 70 {
				b := bytes.Repeat([]byte{around}, 70)
				b[at] = byte(c)
				if want := isControl(rune(c)); hasControl(b) != want {
					t.Fatalf("0x%02x at %d amid 0x%02x: %v", c, at, around, !want)
				}
			}
		}
	}
}
