package buffer

import (
	"bytes"
	"testing"
)

func TestGet(t *testing.T) {
	for _, n := range []int{0, 1, least, least + 1, Max - 1, Max, Max + 1, 5 << 20} {
		for range 3 {
			b := Get(n)
			if len(b) != 0 || cap(b) < n || cap(b) < least {
				t.Errorf("Get(%d): %d of %d bytes", n, len(b), cap(b))
			}
			Put(b)
		}
	}
	Put(nil)
	if b := Get(0); cap(b) > Max {
		t.Errorf("%d bytes were kept", cap(b))
	}
}

// What reads a buffer that was given back is seen by the tests that run under the race detector.
func TestSpoils(t *testing.T) {
	if !Spoils {
		t.Skip("only under the race detector")
	}
	b := append(Get(3), "abc"...)
	Put(b)
	if bytes.Equal(b, []byte("abc")) {
		t.Error("it is still there")
	}
}
