package boltstore

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// traces are all the ways in which somebody might stand in a file: the address as it came, folded,
// its parts, in hex and base64 at each of the three places where it may begin, and what stands in the
// store for it.
func traces(who consent.Address, mailbox string, stored ...string) map[string][]byte {
	all := map[string][]byte{}
	for _, s := range []string{mailbox, who.String(), mailbox[:bytes.IndexByte([]byte(mailbox), '@')], who.Domain()} {
		all["address "+s] = bytes.ToLower([]byte(s)) // what is searched is folded too
		all["hex "+s] = []byte(hex.EncodeToString([]byte(s)))
		for shift := range 3 {
			b := base64.StdEncoding.EncodeToString(append(make([]byte, shift), s...))
			all[fmt.Sprintf("base64 %s %d", s, shift)] = bytes.ToLower([]byte(b[(shift*8+5)/6 : len(b)-4]))
		}
	}
	for i, s := range stored {
		all[fmt.Sprintf("stored %d", i)] = bytes.ToLower([]byte(s))
	}
	return all
}

// stays returns which traces are in the file.
func stays(t *testing.T, path string, traces map[string][]byte) (found []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ToLower(text)
	for what, trace := range traces {
		if bytes.Contains(text, trace) {
			found = append(found, what)
		}
	}
	return found
}

// stored are all values of a person as they lie in the file.
func (s *Store) stored(t *testing.T, who consent.Address) (all []string) {
	t.Helper()
	if err := s.view(func(tx *bolt.Tx) error {
		h := readAll(tx, s.Key(who))
		all = append(all, h.Events...)
		all = append(all, h.Fields[consent.AddressField], h.Fields[consent.HeadField])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// Who is erased is not in the file's bytes any more, in no spelling, nor is what stood for them:
// not when the call returns, not in pages that bbolt holds free, not behind the neighbours that stay.
func TestErasedIsNotInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consent.db")
	s, err := Open(path, keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const mailbox = "Quentin.Zebra+Offers@Rare-Domain.example"
	who, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(notice string) {
		t.Helper()
		var changes []consent.Change
		for i := range 300 {
			changes = append(changes, consent.Change{Who: person(t, i), Scope: "news", Open: consent.Granted, Source: consent.FromImport, Notice: notice, Time: noon})
		}
		for i := range 40 { // enough for pages of its own
			changes = append(changes, consent.Change{Who: who, Scope: "news", Open: consent.Granted, Source: consent.FromPage,
				Notice: fmt.Sprintf("%s-%d", notice, i), Origin: "net 192.0.2.77/32", Time: noon})
		}
		rs, err := s.Apply(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	fill("first")
	early := s.stored(t, who)
	fill("second") // the pages of the first are rewritten, and some free
	all := traces(who, mailbox, append(early, s.stored(t, who)...)...)
	all["origin"] = []byte("192.0.2.77")
	if found := stays(t, path, all); len(found) < 80 {
		t.Fatalf("before, only %q of what is searched for: this test looks for the wrong things", found)
	}
	if err := s.Erase(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if found := stays(t, path, all); found != nil {
		t.Errorf("after Erase the file holds %q", found)
	}
	if rs, err := s.Lookup(t.Context(), "news", []consent.Address{person(t, 7)}); err != nil || rs[0].Scope.Open.Notice != "second" {
		t.Errorf("a neighbour: %+v, %v", rs, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found := stays(t, path, all); found != nil {
		t.Errorf("after Close the file holds %q", found)
	}
	s, err = Open(path, keyring.Ephemeral())
	if err == nil {
		s.Close()
		t.Error("another key opens it")
	}
}

// What retention deletes, and the address that somebody was renamed from, are gone likewise.
func TestPurgedAndRenamedAreNotInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consent.db")
	s, err := Open(path, keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply := func(who consent.Address, origin string, at time.Time) {
		t.Helper()
		c := consent.Change{Who: who, Scope: "news", Open: consent.Granted, Source: consent.FromPage, Notice: origin, Origin: origin, Time: at}
		if rs, err := s.Apply(t.Context(), []consent.Change{c}); err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
	}
	for i := range 50 {
		apply(person(t, i), "long-ago", noon)
		apply(person(t, i), "lately", noon.AddDate(2, 0, 0))
	}
	old := map[string][]byte{"what was long ago": []byte("long-ago")}
	if stays(t, path, old) == nil {
		t.Fatal("it is not there before: this test looks for the wrong thing")
	}
	if n, err := s.Purge(t.Context(), noon.AddDate(1, 0, 0)); n != 50 || err != nil {
		t.Fatalf("%d deleted, %v", n, err)
	}
	if found := stays(t, path, old); found != nil {
		t.Errorf("after Purge the file holds %q", found)
	}
	from, to := person(t, 3), person(t, 1000)
	values := s.stored(t, from)
	sealed := map[string][]byte{"sealed": bytes.ToLower([]byte(values[len(values)-2]))}
	if len(sealed["sealed"]) < 30 || stays(t, path, sealed) == nil {
		t.Fatalf("the sealed address is not there before: %q", sealed)
	}
	if err := s.Rename(t.Context(), from, to, consent.FromAPI, noon.AddDate(2, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if found := stays(t, path, sealed); found != nil {
		t.Errorf("after Rename the file holds %q", found)
	}
}
