package rewrite

import (
	"slices"
	"strings"
	"testing"
)

func TestDecodeQP(t *testing.T) {
	for _, c := range []struct {
		raw, plain string
		at         []int // where each byte of plain begins in raw, and where plain ends
	}{
		{"", "", []int{0}},
		{"ab", "ab", []int{0, 1, 2}},
		{"=41=3db", "A=b", []int{0, 3, 6, 7}},
		{"a=\r\nb=\nc", "abc", []int{0, 4, 7, 8}},
		{"a= \t\r\nb", "ab", []int{0, 6, 7}},
		{"a \t\r\nb", "a\r\nb", []int{0, 3, 4, 5, 6}},
		{" \nb ", "\nb", []int{1, 2, 4}},
		{"=20 \r\n", " \r\n", []int{0, 4, 5, 6}},
		{"=4\r\n=g=", "=4\r\n=g", []int{0, 1, 2, 3, 4, 5, 7}},
		{"=\r\r\n", "=\r\r\n", []int{0, 1, 2, 3, 4}},
		{"\r\n=\r\n \r\n=", "\r\n\r\n", []int{0, 1, 6, 7, 9}},
		{strings.Repeat("x", 20) + "=3D" + strings.Repeat("y", 9), strings.Repeat("x", 20) + "=" + strings.Repeat("y", 9), nil},
	} {
		x := &text{enc: quotedPrintable, raw: []byte(c.raw)}
		x.plain, x.jumps = decodeQP(x.raw, nil, nil)
		var at []int
		for i := range len(x.plain) + 1 {
			at = append(at, x.rawAt(i))
		}
		if string(x.plain) != c.plain || c.at != nil && !slices.Equal(at, c.at) {
			t.Errorf("%q: %q at %v, want %q at %v", c.raw, x.plain, at, c.plain, c.at)
		}
	}
}
