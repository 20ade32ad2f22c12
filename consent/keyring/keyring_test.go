package keyring

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func line(word string, fill byte) string {
	return word + " " + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)) + "\n"
}

func TestDerivedKeysAreFixedAndApart(t *testing.T) {
	ring, err := parse([]byte(line("lookup", 1) + line("secret", 2) + line("secret", 3)))
	if err != nil {
		t.Fatal(err)
	}
	tokens, seals, webhooks := ring.Token(), ring.Seal(), ring.Webhook()
	if len(tokens) != 2 || len(seals) != 2 || len(webhooks) != 2 {
		t.Fatalf("%d, %d and %d keys for two secrets", len(tokens), len(seals), len(webhooks))
	}
	seen := map[string]string{}
	for name, key := range map[string][]byte{
		"lookup": ring.Lookup(), "history": ring.History(), "token 0": tokens[0], "token 1": tokens[1],
		"seal 0": seals[0], "seal 1": seals[1], "webhook 0": webhooks[0], "webhook 1": webhooks[1],
		"raw lookup": ring.lookup, "raw secret 0": ring.secrets[0], "raw secret 1": ring.secrets[1],
	} {
		if len(key) != 32 {
			t.Errorf("%s has %d bytes", name, len(key))
		}
		if other, ok := seen[string(key)]; ok {
			t.Errorf("%s and %s are the same key", name, other)
		}
		seen[string(key)] = name
	}
	// These must never change: a store or a link of years ago depends on them. Worked out apart,
	// by the steps of RFC 5869.
	enc := base64.RawURLEncoding.EncodeToString
	for _, c := range []struct{ name, got, want string }{
		{"lookup", enc(ring.Lookup()), "PzWfDQR96XtFrOqlBSxREu6mxhFICGnUDUZdj7qOsCM"},
		{"fingerprint", ring.Fingerprint(), "ADwyt6sAeSHZQm6DuZn0sA"},
		{"history", enc(ring.History()), "aAQbWJ-jLZ9iHbMfzzI-S4Nm_fHvXmxelfddyfLxE5w"},
		{"token", enc(tokens[0]), "XX3GngxGRxv9NhqG-n2dVQUwDb_BUQV-CFJHHKLOa34"},
		{"seal", enc(seals[0]), "KcwZJLO5IT-eRwMKaGlsDz-Cb4UCZdp6uAvWjsc5Trk"},
		{"older seal", enc(seals[1]), "DFPnj3EjdRPayuibzWmVz_1AZDz-32S4LiW9E5QLsq4"},
		{"webhook", enc(webhooks[0]), "5i9juNbyLVDNSUAhTY8-nL7Uj7LVN-rhhF3DksXr5Y0"},
	} {
		if c.got != c.want {
			t.Errorf("%s = %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestRotationKeepsLookup(t *testing.T) {
	old, err := parse([]byte(line("lookup", 1) + line("secret", 2)))
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := parse([]byte("# new one first\n" + line("secret", 9) + line("secret", 2) + line("lookup", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old.Lookup(), rotated.Lookup()) || old.Fingerprint() != rotated.Fingerprint() {
		t.Error("the lookup key changed with a secret")
	}
	if !bytes.Equal(old.Token()[0], rotated.Token()[1]) || bytes.Equal(old.Token()[0], rotated.Token()[0]) {
		t.Error("the old token key is not the second of the rotated ring")
	}
}

func TestEphemeralIsFresh(t *testing.T) {
	a, b := Ephemeral(), Ephemeral()
	if bytes.Equal(a.Lookup(), b.Lookup()) || a.Fingerprint() == b.Fingerprint() || bytes.Equal(a.Token()[0], b.Token()[0]) {
		t.Error("two ephemeral rings share a key")
	}
}

func TestParseRefuses(t *testing.T) {
	good := line("lookup", 1) + line("secret", 2)
	many := line("lookup", 1)
	for i := range maxSecrets + 1 {
		many += line("secret", byte(10+i))
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "no lookup line"},
		{"no secret", line("lookup", 1), "no secret line"},
		{"no lookup", line("secret", 1), "no lookup line"},
		{"two lookups", good + line("lookup", 3), "line 3 is a second lookup line"},
		{"repeated secret", good + line("secret", 2), "line 3 repeats"},
		{"unknown word", good + line("seal", 3), "line 3 begins with neither"},
		{"PEM", "-----BEGIN PRIVATE KEY-----\n", "line 1 begins with neither"},
		{"short", "lookup QUJD\n", "line 1"},
		{"no value", "lookup\n", "line 1"},
		{"long", strings.Replace(good, "lookup ", "lookup AAAA", 1), "line 1"},
		{"padding", strings.Replace(good, "\n", "=\n", 1), "line 1"},
		{"unused bits set", "lookup " + strings.Repeat("A", 42) + "B\n", "line 1"},
		{"inner space", "lookup " + strings.Repeat("A", 20) + " " + strings.Repeat("A", 23) + "\n", "line 1"},
		{"too many", many, "more than 16 secrets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ring, err := parse([]byte(c.text))
			if err == nil || ring != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "AAAA") {
				t.Error("the error shows what may be a key")
			}
		})
	}
}

func TestParseAcceptsWindowsLineEnds(t *testing.T) {
	if _, err := parse([]byte(strings.ReplaceAll("# c\n\n"+line("lookup", 1)+line("secret", 2), "\n", "\r\n"))); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line("lookup", 1) + line("secret", 2)))
	f.Add(format(Ephemeral()))
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(format(ring))
		if err != nil || !bytes.Equal(format(again), format(ring)) {
			t.Fatalf("a ring does not survive its own text: %v", err)
		}
	})
}

func TestCreateThenLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	ring, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if err := Create(path); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("second Create: %v", err)
	}
	after, _ := os.ReadFile(path)
	if !bytes.Equal(before, after) || !bytes.Equal(before, format(ring)) {
		t.Error("the file changed")
	}
}

func TestCreateRefusesDanglingLinkAndMissingFolder(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Skip(err)
	}
	if err := Create(link); err == nil {
		t.Error("wrote through a link")
	}
	if err := Create(filepath.Join(dir, "none", "key")); err == nil {
		t.Error("made a key in no folder")
	}
}

func TestEqual(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	read := func() *Ring {
		t.Helper()
		ring, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	was := read()
	if !was.Equal(read()) || was.Equal(Ephemeral()) {
		t.Error("a key file read twice differs, or another is the same")
	}
	if n, err := Rotate(path, false); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if now := read(); was.Equal(now) || !bytes.Equal(now.Lookup(), was.Lookup()) || !bytes.Equal(now.Token()[1], was.Token()[0]) {
		t.Error("the new secret is not first")
	}
	for range maxSecrets - 2 {
		if _, err := Rotate(path, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Rotate(path, true); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}

// Of many that rotate at once each keeps its secret, or says that it did not put one in.
func TestRotateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := Rotate(path, false); err == nil {
				done.Add(1)
			} else if !strings.Contains(err.Error(), "is being changed by another") {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ring, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(ring.secrets)); n != 1+done.Load() || n < 2 {
		t.Errorf("%d said that they did, and there are %d secrets", done.Load(), n)
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("a file is left behind")
	}
}
