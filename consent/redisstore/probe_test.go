package redisstore

import (
	"errors"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// However often a server refused a connection, it is used again at once when it is back: it takes the probes
// no longer than their own pace.
func TestLongAway(t *testing.T) {
	port := freePort(t)
	p := start(t, port, "--appendonly", "yes")
	s := open(t, "redis://"+p.addr+"?pool_size=2", keyring.Ephemeral())
	works(t, "before", s)
	p.stop()
	atOnce(t, s)
	s.pause(t.Context(), 4*probeEvery) // refusals, more than the pool has places
	start(t, port, "--appendonly", "yes", "--dir", p.dir)
	back := time.Now()
	soon(t, "after it came back", func() error { return s.Ping(t.Context()) })
	if late := time.Since(back); late > 3*probeEvery {
		t.Errorf("used again %v after it was back", late)
	}
}

// BenchmarkLookupDead is what a lookup costs while the server is known not to answer.
func BenchmarkLookupDead(b *testing.B) {
	s := open(b, "redis://127.0.0.1:"+freePort(b), keyring.Ephemeral())
	people := []consent.Address{person(b, 1)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Lookup(b.Context(), "newsletter", people); !errors.Is(err, consent.ErrUnreachable) {
			b.Fatal(err)
		}
	}
}
