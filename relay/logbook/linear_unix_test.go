//go:build unix

package logbook

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is long costs no more a byte: each text is masked at two lengths, 1 to 8. Quadratic work would take 64 times as
// long on the longer one; the bound leaves room. It is the processor's time that counts, so that a busy machine is no matter.
func TestLinear(t *testing.T) {
	fastest := func(text string) time.Duration {
		best := time.Hour
		for range 3 {
			begin := cpuTime(t)
			Mask(text)
			Mask(MaskKnown(text, "abcdef@example.org", 3))
			best = min(best, cpuTime(t)-begin)
		}
		return best
	}
	for _, unit := range []string{"@[", "@[a", "@", "@a", "@ ", "a@", "a@b ", "a@b@", "\"@a.b", "\\\"", "a@b.c\"", "\"\"@x.y ", "•••@y=", "x•••@y", "%25", "%2525", "%40", "%40%61", "a%40b%2e", "=40", "=40a", "=40ab.c", "=", "+40",
		"&#64;", "&#64", "&#0", "&commat;", "＠", "(at)", "x(at)b", "abcdef", "abcdef@", "abcdef =", "abcdef%40", "abcdef%2540", "abcdef%40b.c", "abcdef          ", "//", "http://", "http://abcdef", "http://x/abcdef", "?a=b&", "/abcdef="} {
		a, b := fastest(strings.Repeat(unit, 1<<14/len(unit))), fastest(strings.Repeat(unit, 1<<17/len(unit)))
		if b > 24*a && b > 20*time.Millisecond {
			t.Errorf("%q: 16 KB took %v of the processor, 128 KB %v", unit, a, b)
		}
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
