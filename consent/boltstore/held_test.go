package boltstore

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// What AcceptStore would go on with is counted: in a file that is not the known one, in one that was put in its place, and
// where there is none; and none is made.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	ring := keyring.Ephemeral()
	fill := func(path string, n int) {
		t.Helper()
		s, err := Open(path, ring)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range n {
			if rs, err := s.Apply(t.Context(), []consent.Change{{Who: person(t, i), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon}}); err != nil || rs[0].Err != nil {
				t.Fatal(rs, err)
			}
		}
	}
	path, known := filepath.Join(dir, "consent.db"), filepath.Join(dir, "store.known")
	if err := (consent.Known{Path: known, Print: ring.Fingerprint()}).Save("another", false); err != nil {
		t.Fatal(err)
	}
	fill(path, 3)
	s, err := OpenKnown(path, ring, known, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	held := func(want int64) {
		t.Helper()
		if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) {
			t.Fatal(err)
		}
		if n, err := s.Held(t.Context()); n != want || err != nil {
			t.Errorf("%d, %v, not %d", n, err, want)
		}
	}
	held(3)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	held(0)
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made")
	}
	fill(path, 2)
	held(2)
	if err := s.AcceptStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(t.Context()); n != 2 || err != nil {
		t.Error(n, err)
	}
}
