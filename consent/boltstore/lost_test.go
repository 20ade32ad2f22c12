package boltstore

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// A file that is gone, or another, when the gateway starts again is not a store in which everybody is
// subscribed.
func TestLostAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	path, known := filepath.Join(dir, "consent.db"), filepath.Join(dir, "store.known")
	ring := keyring.Ephemeral()
	out := consent.Change{Who: person(t, 1), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon}
	gateway := func() *Store {
		t.Helper()
		s, err := OpenKnown(path, ring, known, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	works := func(what string, s *Store) {
		t.Helper()
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s: Ping: %v", what, err)
		}
		if rs, err := s.Apply(t.Context(), []consent.Change{out}); err != nil || rs[0].Err != nil {
			t.Errorf("%s: Apply: %+v, %v", what, rs, err)
		}
	}
	lost := func(what string, s *Store) {
		t.Helper()
		is := func(call string, err error) {
			t.Helper()
			if !errors.Is(err, consent.ErrLost) || !errors.Is(err, consent.ErrUnreachable) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %s: %v", what, call, err)
			}
		}
		rs, err := s.Lookup(t.Context(), "news", []consent.Address{out.Who})
		is("Lookup", err)
		is("Lookup", rs[0].Err)
		rs, err = s.Apply(t.Context(), []consent.Change{out})
		is("Apply", err)
		is("Apply", rs[0].Err)
		is("Ping", s.Ping(t.Context()))
		is("Erase", s.Erase(t.Context(), out.Who))
		_, err = s.Person(t.Context(), out.Who)
		is("Person", err)
		_, err = s.Watch(t.Context())
		is("Watch", err)
		_, err = s.Purge(t.Context(), noon)
		is("Purge", err)
	}

	// A store of a version that gave its data no name is known from now on.
	old, err := Open(path, ring)
	if err != nil {
		t.Fatal(err)
	}
	works("without a memory", old)
	old.Close()
	first := gateway()
	works("new to the gateway", first)
	first.Close()
	if info, err := os.Stat(known); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again := gateway()
	works("restarted", again)
	again.Close()

	kept := filepath.Join(dir, "kept.db")
	if err := os.Rename(path, kept); err != nil {
		t.Fatal(err)
	}
	s := gateway()
	lost("the file is gone", s)
	s.Close()
	s = gateway()
	lost("the file is gone, restarted", s)
	s.Close()
	if err := os.Rename(kept, path); err != nil {
		t.Fatal(err)
	}
	s = gateway()
	works("it was brought back", s)
	s.Close()

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s = gateway()
	lost("gone for good", s)
	if err := s.AcceptStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	works("accepted", s)
	s.Close()
	s = gateway()
	works("accepted, restarted", s)

	// Deleted while it is open, and accepted.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) {
		t.Errorf("deleted while open: %v", err)
	}
	if err := s.AcceptStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	works("accepted while open", s)
	s.Close()
	s = gateway()
	works("accepted while open, restarted", s)
	s.Close()

	if err := os.WriteFile(known, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenKnown(path, ring, known, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged memory: %v", err)
		if err == nil {
			s.Close()
		}
	}
}
