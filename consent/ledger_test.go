package consent

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent/keyring"
)

func secret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// ring is that of a key file with these secrets, the current one first.
func ring(t *testing.T, lookup string, secrets ...string) *keyring.Ring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	text := "lookup " + lookup + "\nsecret " + strings.Join(secrets, "\nsecret ") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := keyring.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Secrets rotate: what an old one sealed opens while it stands in the file, is sealed anew by the next
// change, and needs the old one no more then. Nothing but the address depends on them.
func TestRotatedSecrets(t *testing.T) {
	lookup, old, now := secret(), secret(), secret()
	b := newBook(t, ring(t, lookup, old), "anna@example.org")
	month(b, t)
	sealed := b.Fields[AddressField]

	with := func(secrets ...string) *book {
		c := b.clone()
		c.Ledger = NewLedger(ring(t, lookup, secrets...))
		return c
	}
	address := func(b *book) string {
		t.Helper()
		p, err := b.Person(&b.Held)
		if err != nil {
			return err.Error()
		}
		return p.Address.String()
	}
	change := Change{Scope: "news", Open: Granted, Source: FromAPI, Time: day0}
	for _, secrets := range [][]string{{now, old}, {secret(), now, old}} {
		c := with(secrets...)
		if c.Held.Key != NewLedger(ring(t, lookup, secrets...)).Key(c.who) {
			t.Error("the person has another key")
		}
		if got := address(c); got != "anna@example.org" {
			t.Errorf("under an old secret: %s", got)
		}
		if s := c.flaw(); s != "" {
			t.Errorf("the history: %s", s)
		}
		c.apply(t, change)
		if c.Fields[AddressField] == sealed {
			t.Error("a change seals nothing anew")
		}
		c.Ledger = NewLedger(ring(t, lookup, secrets[0])) // the old ones are taken out
		if got := address(c); got != "anna@example.org" {
			t.Errorf("sealed anew: %s", got)
		}
		if s := c.flaw(); s != "" {
			t.Errorf("the history, without the old secrets: %s", s)
		}
	}

	// An old secret was taken out too early: said in these words, and mended by the next change.
	c := with(now)
	if got := address(c); !strings.Contains(got, "was an old one removed?") {
		t.Errorf("without the secret: %s", got)
	}
	if r := c.Held.result("news"); r.Err != nil || r.Scope.Open.State != Denied {
		t.Errorf("a lookup needs no address: %+v", r)
	}
	if u, err := c.Erase(&c.Held); err != nil || u.Fields["news"] != "" {
		t.Errorf("an erasure needs no address: %+v, %v", u, err)
	}
	c.apply(t, change)
	if got := address(c); got != "anna@example.org" {
		t.Errorf("after the next change: %s", got)
	}
	// Somebody else's key file opens nothing, and finds nobody.
	c = b.clone()
	c.Ledger = NewLedger(ring(t, secret(), old))
	if c.Held.Key == c.Ledger.Key(c.who) || c.flaw() == "" {
		t.Error("another lookup key finds the person, or believes the history")
	}
	// What is sealed is bound to its person.
	other := newBook(t, ring(t, lookup, old), "ben@example.org")
	month(other, t)
	other.Fields[AddressField] = sealed
	if got := address(other); !strings.Contains(got, "no secret of the key file opens") {
		t.Errorf("another's sealed address: %s", got)
	}
}
