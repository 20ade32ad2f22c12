package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "consent.db")
		return func(ring *keyring.Ring) (consent.Store, error) {
			s, err := Open(path, ring)
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	})
}

// The suite passes with a memory before the store too.
func TestStoreWithCache(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "consent.db")
		return func(ring *keyring.Ring) (consent.Store, error) {
			s, err := Open(path, ring)
			if err != nil {
				return nil, err
			}
			return cache.New(s, cache.Options{TTL: time.Hour}), nil
		}
	})
}

func person(t testing.TB, i int) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(fmt.Sprintf("Person%d@example.org", i))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "consent.db")
	s, err := Open(path, keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
}

// The other process is this test binary, called again.
func TestHeldByAnotherProcess(t *testing.T) {
	if path := os.Getenv("BOLTSTORE_HOLD"); path != "" {
		s, err := Open(path, keyring.Ephemeral())
		fmt.Println("held", err)
		fmt.Scanln() // until the parent closes standard input
		if err == nil {
			s.Close()
		}
		return
	}
	path := filepath.Join(t.TempDir(), "consent.db")
	holder := exec.Command(os.Args[0], "-test.run=^TestHeldByAnotherProcess$")
	holder.Env = append(os.Environ(), "BOLTSTORE_HOLD="+path)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer stdin.Close()
	var word, outcome string
	if _, err := fmt.Fscan(stdout, &word, &outcome); err != nil || outcome != "<nil>" {
		t.Fatal("holder:", word, outcome, err)
	}
	begin := time.Now()
	_, err = Open(path, keyring.Ephemeral())
	if err == nil || !strings.Contains(err.Error(), "a gateway is running") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %v to find out", d)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign")
	update(t, foreign, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("other")); return err })
	older := filepath.Join(dir, "older")
	update(t, older, func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return b.Put([]byte("layout"), []byte("1"))
	})
	for path, want := range map[string]string{
		write("text", strings.Repeat("no database\n", 1000)): "no store of consentgate",
		foreign:                         "another program",
		older:                           `layout "1"`,
		dir:                             "is a directory",
		filepath.Join(dir, "text", "x"): "not a directory",
	} {
		if s, err := Open(path, keyring.Ephemeral()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
			if err == nil {
				s.Close()
			}
		}
	}
}

func update(t *testing.T, path string, f func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(f); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGarbageIsThatPersonsError(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, b := person(t, 1), person(t, 2)
	for _, scope := range []consent.Scope{"news", consent.AnyScope} {
		for _, text := range []string{"garbage", "1\tx1o\t\t", "\x00"} {
			if err := s.db.Update(func(tx *bolt.Tx) error {
				k := s.Key(a)
				return tx.Bucket(recordsBucket).Put(append(k[:], scope...), []byte(text))
			}); err != nil {
				t.Fatal(err)
			}
			rs, err := s.Lookup(t.Context(), "news", []consent.Address{a, b})
			if err != nil || rs[0].Err == nil || rs[0].Scope.Scope != "" || rs[1].Err != nil {
				t.Errorf("Lookup: %+v, %v", rs, err)
			}
			change := consent.Change{Who: a, Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon}
			other := change
			other.Who = b
			rs, err = s.Apply(t.Context(), []consent.Change{change, other})
			if err != nil || rs[0].Err == nil || rs[1].Err != nil {
				t.Errorf("Apply: %+v, %v", rs, err)
			}
		}
	}
}

func TestNoAddressInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consent.db")
	s, err := Open(path, keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	change := consent.Change{Who: person(t, 12345), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon}
	if _, err := s.Apply(t.Context(), []consent.Change{change}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "news") {
		t.Error("the scope is not in the file: this test looks at the wrong thing")
	}
	for _, part := range []string{"erson12345", "example.org"} {
		if strings.Contains(string(text), part) {
			t.Errorf("%q stands in the file", part)
		}
	}
}

func TestWhatHoldsCostsNoCommit(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	change := []consent.Change{{Who: person(t, 1), Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon}}
	commit := func() (id int) {
		t.Helper()
		if rs, err := s.Apply(t.Context(), change); err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
		s.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil })
		return id
	}
	first := commit()
	if again := commit(); again != first {
		t.Errorf("transaction %d, then %d", first, again)
	}
}

func BenchmarkLookup(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var people []consent.Address
	var changes []consent.Change
	for i := range 100 {
		people = append(people, person(b, i))
		changes = append(changes, consent.Change{Who: people[i], Scope: "newsletter", Open: consent.Granted, Source: consent.FromAPI, Time: noon})
	}
	if _, err := s.Apply(context.Background(), changes); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rs, err := s.Lookup(context.Background(), "newsletter", people[:n]); err != nil || rs[n-1].Scope.Version != 1 {
					b.Fatal(rs, err)
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			c := consent.Change{Who: person(b, i), Scope: "newsletter", Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon}
			if rs, err := s.Apply(context.Background(), []consent.Change{c}); err != nil || rs[0].Err != nil {
				b.Error(rs, err)
				return
			}
		}
	})
}

// A file that was cut, as by a full disk or a broken copy, is an error and never a crash, nor a
// store in which everybody counts as subscribed.
func TestCutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consent.db")
	ring := keyring.Ephemeral()
	s, err := Open(path, ring)
	if err != nil {
		t.Fatal(err)
	}
	var people []consent.Address
	var changes []consent.Change
	for i := range 2000 {
		people = append(people, person(t, i))
		changes = append(changes, consent.Change{Who: people[i], Scope: "news", Mail: consent.Unsubscribed, Source: consent.FromAPI, Time: noon})
	}
	if _, err := s.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100, 4096, 8192, 16384, 65536, len(whole) / 2, len(whole) - 4096} {
		cut := filepath.Join(t.TempDir(), "cut.db") // a new name: after a failed Open the lock of the old may stay
		if err := os.WriteFile(cut, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut, ring)
		if err != nil {
			continue
		}
		rs, err := s.Lookup(t.Context(), "news", people)
		if err == nil {
			for i, r := range rs {
				if r.Err == nil && r.Scope.Mail.State != consent.Unsubscribed {
					t.Fatalf("cut to %d bytes of %d: person %d counts as subscribed", size, len(whole), i)
				}
			}
		}
		s.Close()
	}
}

// Whether a disk that hangs takes a change is not waited for longer than was asked for, and tried once at a time.
func TestWritableHangs(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tx, err := s.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := s.Writable(ctx); !errors.Is(err, consent.ErrUnwritable) {
			t.Errorf("while another writes for ever: %v", err)
		}
		cancel()
	}
	first := s.trying
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Writable(ctx); !errors.Is(err, context.Canceled) || s.trying != first {
		t.Errorf("given up: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Writable(t.Context()); err != nil {
		t.Errorf("well again: %v", err)
	}
}
