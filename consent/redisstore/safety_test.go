package redisstore

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// lost checks that nothing works, and that nothing is written.
func lost(t *testing.T, what string, s *Store) {
	t.Helper()
	if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); !errors.Is(err, consent.ErrLost) || !errors.Is(err, consent.ErrUnreachable) || rs[0].Err == nil {
		t.Errorf("%s: Lookup: %+v, %v", what, rs, err)
	}
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 2))); !errors.Is(err, consent.ErrLost) || rs[0].Err == nil {
		t.Errorf("%s: Apply: %+v, %v", what, rs, err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: Ping: %v", what, err)
	}
	if _, err := s.Person(t.Context(), person(t, 1)); !errors.Is(err, consent.ErrLost) {
		t.Errorf("%s: Person: %v", what, err)
	}
	if _, err := s.Watch(t.Context()); !errors.Is(err, consent.ErrLost) {
		t.Errorf("%s: Watch: %v", what, err)
	}
}

func works(t *testing.T, what string, s *Store) {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("%s: Ping: %v", what, err)
	}
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil {
		t.Errorf("%s: Apply: %+v, %v", what, rs, err)
	}
	if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("%s: Lookup: %+v, %v", what, rs, err)
	}
}

func TestLostAcrossARestart(t *testing.T) {
	p := start(t, storetest.FreePort(t))
	ring := keyring.Ephemeral()
	dir := t.TempDir()
	gateway := func(name string) *Store {
		t.Helper()
		s, err := Open("redis://"+p.addr, ring, Options{Known: filepath.Join(dir, name), Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	works(t, "new", gateway("one"))
	works(t, "a second gateway", gateway("two"))
	if info, err := os.Stat(filepath.Join(dir, "one")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	works(t, "restarted", gateway("one"))

	flush(t, p)
	one, two := gateway("one"), gateway("two")
	lost(t, "emptied", one)
	if n := bare(t, p.addr).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written into a store that was lost", n)
	}
	// A gateway that never saw it begins anew; who knew the old data is not taken in.
	works(t, "a new gateway", gateway("three"))
	lost(t, "begun anew by another", one)
	lost(t, "begun anew by another", gateway("one"))

	// One accepts; who knew the same follows only where it was this one's loss that was accepted.
	flush(t, p)
	if err := one.AcceptStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, "accepted", one)
	works(t, "accepted elsewhere", two)
	works(t, "accepted, restarted", gateway("one"))
	works(t, "accepted elsewhere, restarted", gateway("two"))
	lost(t, "who knew other data", gateway("three"))
	if err := gateway("three").AcceptStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, "accepted what others began", gateway("three"))
	if rs, err := one.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("what was there before accepting: %+v, %v", rs, err)
	}

	// Another key file's store is not this one's loss, and a damaged file is said.
	flush(t, p)
	s, err := Open("redis://"+p.addr, keyring.Ephemeral(), Options{Known: filepath.Join(dir, "one"), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	works(t, "another key file", s)
	if err := one.AcceptStore(t.Context()); !errors.Is(err, consent.ErrForeign) {
		t.Errorf("accepting another key's store: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open("redis://"+p.addr, ring, Options{Known: filepath.Join(dir, "bad")}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
		if err == nil {
			s.Close()
		}
	}
}

// A Redis that answers and takes no change says so before anybody's opt-out fails; what it holds is found all the same.
func TestWritable(t *testing.T) {
	single := func(t *testing.T) (string, []*process) {
		p := start(t, storetest.FreePort(t))
		return "redis://" + p.addr, []*process{p}
	}
	cluster := func(t *testing.T) (string, []*process) {
		nodes := clusterOf3(t)
		return "redis+cluster://" + addrs(nodes), nodes
	}
	for name, servers := range map[string]func(*testing.T) (string, []*process){"single": single, "cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, nodes := servers(t)
			s, err := Open(url, keyring.Ephemeral(), Options{Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			last := bare(t, nodes[len(nodes)-1].addr) // of a cluster, one of three
			for _, fault := range []struct{ setting, value, back string }{
				{"maxmemory", "1mb", "0"},
				{"min-replicas-to-write", "1", "0"},
			} {
				if err := last.ConfigSet(t.Context(), fault.setting, fault.value).Err(); err != nil {
					t.Fatal(err)
				}
				if err := s.Writable(t.Context()); !errors.Is(err, consent.ErrUnwritable) || errors.Is(err, consent.ErrUnreachable) {
					t.Errorf("%s: %v", fault.setting, err)
				}
				if _, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); err != nil || s.Ping(t.Context()) != nil {
					t.Errorf("%s: Lookup: %v", fault.setting, err)
				}
				if err := last.ConfigSet(t.Context(), fault.setting, fault.back).Err(); err != nil {
					t.Fatal(err)
				}
				if err := s.Writable(t.Context()); err != nil {
					t.Errorf("%s is well again: %v", fault.setting, err)
				}
			}
			if name == "cluster" {
				// What is written to see that does not hide that a server was emptied.
				if err := last.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				s.Writable(t.Context())
				if emptied, err := s.emptied(t.Context()); !emptied {
					t.Errorf("emptied: %v, %v", emptied, err)
				}
			}
		})
	}
}

func TestEviction(t *testing.T) {
	p := start(t, storetest.FreePort(t), "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	ring := keyring.Ephemeral()
	opts := Options{Known: filepath.Join(t.TempDir(), "known"), Log: quiet}
	gateway := func() *Store {
		t.Helper()
		s, err := Open("redis://"+p.addr, ring, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	set := func(name, value string) {
		t.Helper()
		if err := bare(t, p.addr).ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := gateway()
	lost(t, "allkeys-lru", s)
	for _, policy := range []string{"volatile-lru", "noeviction"} {
		set("maxmemory-policy", policy)
		works(t, policy, s)
	}
	set("maxmemory-policy", "allkeys-random")
	lost(t, "allkeys-random, at start", gateway())
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) || !strings.Contains(err.Error(), "allkeys-random") {
		t.Errorf("Ping: %v", err)
	}
	lost(t, "allkeys-random", s)
	set("maxmemory", "0")
	works(t, "without a maxmemory", s)
	set("maxmemory", "100mb")
	if err := s.AcceptStore(t.Context()); err != nil {
		t.Errorf("AcceptStore: %v", err)
	}
	works(t, "accepted", s)
	works(t, "accepted, restarted", gateway())
}

// A server that does not say how it is set is warned of, and used.
func TestSettingsNotTold(t *testing.T) {
	addr, _ := server(t, "--rename-command", "INFO", "")
	var log bytes.Buffer
	s, err := Open("redis://"+addr, keyring.Ephemeral(), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	works(t, "without INFO", s)
	s.Close()
	if n := strings.Count(log.String(), "noeviction"); n != 1 {
		t.Errorf("%d warnings: %s", n, &log)
	}
}

// Redis as it is installed confirms what a crash loses; whoever did not choose that is told, once.
func TestNoAppendOnlyFile(t *testing.T) {
	for _, c := range []struct {
		appendonly string
		wait, want int
	}{{"no", 0, 1}, {"yes", 0, 0}, {"no", 1, 0}} {
		addr, _ := server(t, "--appendonly", c.appendonly)
		var log bytes.Buffer
		s, err := Open("redis://"+addr, keyring.Ephemeral(), Options{WaitReplicas: c.wait, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Ping(t.Context())
		s.Close()
		if n := strings.Count(log.String(), "append-only"); n != c.want {
			t.Errorf("appendonly %s, %d replicas: %d warnings, want %d: %s", c.appendonly, c.wait, n, c.want, &log)
		}
		if n := strings.Count(log.String(), "CONFIG SET appendonly yes"); n != c.want { // in its file alone it would empty the store
			t.Errorf("how to switch it on without a loss is said %d times, want %d: %s", n, c.want, &log)
		}
	}
}
