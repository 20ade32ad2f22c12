//go:build linux && !race

package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"io"
	"mime/quotedprintable"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// TestCost holds the steps of a message's way against bounds, so that a change that makes one dearer is
// seen. Allocations are counted. The processor's time is compared with that of something else that is
// done with the same message in turn, so that neither a slow nor a busy machine is a matter. The race
// detector changes both, so with it there is no such test.
func TestCost(t *testing.T) {
	text, err := os.ReadFile("../testdata/rewrite/newsletter.eml")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	const link = "https://mail.example.org/u/"
	variant := rewrite.Variant{Link: link + "x", OneClick: link + "y"}
	parse := func() *rewrite.Message {
		m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), trackers.Default(), rewrite.Options{LinkPrefix: link})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	render := func(m *rewrite.Message) *rewrite.Copy {
		c, err := m.Render(variant)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	parsed, signer := parse(), costSigner(t)
	lookup := cachedLookup(t)

	// The bounds of allocations and their bytes are a fifth or more over what was measured, since a collection of
	// garbage may empty a pool. The time is what was measured; twice as much fails.
	for _, step := range []struct {
		name   string
		times  int // done in a sample, to last as long as the reference
		allocs float64
		bytes  uint64
		ratio  float64
		do     func()
	}{
		{"Parse", 1, 450, 52 << 10, 1.3, func() { parse() }},
		{"Parse and the first copy", 1, 650, 144 << 10, 1.7, func() { render(parse()) }},
		{"another copy", 100, 7, 1000, 0.0026, func() { render(parsed) }},
		{"Sign with Ed25519", 2, 190, 28 << 10, 0.55, func() {
			if err := signer.Sign(render(parsed)); err != nil {
				t.Fatal(err)
			}
		}},
		{"Lookup in memory", 500, 2, 700, 0.0016, lookup},
	} {
		t.Run(step.name, func(t *testing.T) {
			const rounds = 100
			var before, after runtime.MemStats
			allocs := testing.AllocsPerRun(rounds, step.do)
			runtime.ReadMemStats(&before)
			for range rounds {
				step.do()
			}
			runtime.ReadMemStats(&after)
			size := (after.TotalAlloc - before.TotalAlloc) / rounds
			ratio := costRatio(t, text, step.times, step.do)
			t.Logf("%.0f allocations, %d bytes, %.4f of the reference's time", allocs, size, ratio)
			if allocs > step.allocs {
				t.Errorf("%.0f allocations, the bound is %.0f", allocs, step.allocs)
			}
			if size > step.bytes {
				t.Errorf("%d bytes allocated, the bound is %d", size, step.bytes)
			}
			if ratio > 2*step.ratio {
				t.Errorf("takes %.4f of the reference's time, it was %.4f", ratio, step.ratio)
			}
		})
	}
}

// costRatio is the processor's time of do, so many times in a sample, over that of the reference: SHA-256
// over the message and the standard library's reader of quoted-printable. It is the median of samples of
// both in turn.
func costRatio(t *testing.T, text []byte, times int, do func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var encoded bytes.Buffer
	w := quotedprintable.NewWriter(&encoded)
	w.Write(text)
	w.Close()
	reference := func() {
		sum := sha256.Sum256(text)
		runtime.KeepAlive(sum)
		if _, err := io.Copy(io.Discard, quotedprintable.NewReader(bytes.NewReader(encoded.Bytes()))); err != nil {
			t.Fatal(err)
		}
	}
	sample := func(n int, f func()) time.Duration {
		begin := threadTime(t)
		for range n {
			f()
		}
		return threadTime(t) - begin
	}
	const repeats = 8
	var ratios []float64
	for range 60 {
		mine, other := sample(repeats*times, do), sample(repeats, reference)
		ratios = append(ratios, float64(mine)/float64(times)/float64(max(other, 1)))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// threadTime is what this thread has used of the processor, by a clock that is finer than getrusage.
func threadTime(t *testing.T) time.Duration {
	const thread = 3 // CLOCK_THREAD_CPUTIME_ID
	var now syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, thread, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return time.Duration(now.Nano())
}

// costSigner signs for the newsletter's sender.
func costSigner(t *testing.T) *sign.Signer {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "shop.example", "s")
	if err != nil {
		t.Fatal(err)
	}
	return sign.New([]*sign.Key{key}, sign.Options{})
}

// cachedLookup looks one person up who is in memory.
func cachedLookup(t *testing.T) func() {
	inner := &costStore{told: make(chan consent.Told, 1)}
	inner.told <- consent.Told{UpTo: time.Now().Add(time.Hour)}
	store := cache.New(inner, cache.Options{TTL: time.Hour})
	t.Cleanup(func() { store.Close() })
	who, err := consent.ParseAddress("reader@example.org")
	if err != nil {
		t.Fatal(err)
	}
	people := []consent.Address{who}
	lookup := func() {
		if _, err := store.Lookup(t.Context(), "news", people); err != nil {
			t.Fatal(err)
		}
	}
	for asked := int64(-1); asked != inner.asked.Load(); runtime.Gosched() { // until the subscription stands
		asked = inner.asked.Load()
		lookup()
	}
	before := inner.asked.Load()
	t.Cleanup(func() {
		if n := inner.asked.Load() - before; n > 0 {
			t.Errorf("the store was asked %d times: what was measured is not the memory", n)
		}
	})
	return lookup
}

// costStore knows everybody, and never changes.
type costStore struct {
	consent.Store
	told  chan consent.Told
	asked atomic.Int64
}

func (s *costStore) Key(who consent.Address) consent.Key { return sha256.Sum256([]byte(who.String())) }

func (s *costStore) Lookup(_ context.Context, _ consent.Scope, people []consent.Address) ([]consent.Result, error) {
	s.asked.Add(1)
	return make([]consent.Result, len(people)), nil
}

func (s *costStore) Watch(context.Context) (<-chan consent.Told, error) { return s.told, nil }

func (s *costStore) Close() error { return nil }
