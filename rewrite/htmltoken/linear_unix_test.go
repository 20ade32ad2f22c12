//go:build unix

package htmltoken

import (
	"syscall"
	"testing"
	"time"
)

// TestLinear reads each hostile input at two lengths, 1 to 8. Quadratic work would take 64 times as long on
// the longer one; the bound leaves room. It is the
// processor's time that counts, so that a busy machine is no matter.
func TestLinear(t *testing.T) {
	z := New(nil)
	fastest := func(src []byte) time.Duration {
		best := time.Hour
		for range 3 {
			var tok Token
			begin := cpuTime(t)
			z.Reset(src)
			for z.Next(&tok) {
			}
			best = min(best, cpuTime(t)-begin)
		}
		return best
	}
	short, long := hostile(1<<14), hostile(1<<17)
	for name := range short {
		a, b := fastest(short[name]), fastest(long[name])
		if b > 24*a && b > 20*time.Millisecond {
			t.Errorf("%s: %d bytes took %v of the processor, %d bytes %v", name, len(short[name]), a, len(long[name]), b)
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
