package login

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/consentgate/consentgate/consent"
)

// "secret", cheap.
const cheap = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"

var (
	home     = netip.MustParseAddr("192.0.2.1")
	stranger = netip.MustParseAddr("198.51.100.1")
)

// desk has a login "shop" whose hashes are counted.
func desk(t *testing.T) (*Desk, *int) {
	t.Helper()
	d, err := New([]Login{{Name: "shop", Hash: cheap}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	computed := 0
	d.logins[0].verify = func(password string) bool {
		mu.Lock()
		defer mu.Unlock()
		computed++
		return password == "secret"
	}
	return d, &computed
}

func TestCheck(t *testing.T) {
	d, err := New([]Login{{Name: "shop", Hash: cheap}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Check(t.Context(), home, "shop", "secret")
	if err != nil || l.Name != "shop" {
		t.Fatalf("%v, %v", l, err)
	}
	for _, wrong := range [][2]string{{"shop", "Secret"}, {"shop", ""}, {"Shop", "secret"}, {"", "secret"}, {"nobody", "secret"}} {
		if l, err := d.Check(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(len(wrong[0]) + len(wrong[1]))}), wrong[0], wrong[1]); !errors.Is(err, ErrWrong) || l != nil {
			t.Errorf("%q: %v, %v", wrong, l, err)
		}
	}
	none, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Check(t.Context(), home, "shop", "secret"); !errors.Is(err, ErrWrong) || none.Offered() {
		t.Error(err)
	}
}

// A client that logs in for each message costs one hash, as long as its password is right.
func TestSeenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, computed := desk(t)
		for range 10 {
			if _, err := d.Check(t.Context(), home, "shop", "secret"); err != nil {
				t.Fatal(err)
			}
		}
		if *computed != 1 {
			t.Errorf("%d hashes for the same login, want 1", *computed)
		}
		d.Check(t.Context(), home, "shop", "wrong")
		d.Check(t.Context(), stranger, "shop", "secret")
		if *computed != 3 {
			t.Errorf("%d hashes, want one more for another password and one more for another place", *computed)
		}
	})
}

// Who guesses is slowed down, by place and by name, and the one who is known there is not.
func TestSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := desk(t)
		if _, err := d.Check(t.Context(), home, "shop", "secret"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		var waits []time.Duration
		for {
			before := time.Now()
			_, err := d.Check(t.Context(), stranger, "shop", "guess")
			if errors.Is(err, ErrBusy) {
				break
			}
			waits = append(waits, time.Since(before))
		}
		want := []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}
		if fmt.Sprint(waits) != fmt.Sprint(want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
		// The same name from elsewhere is slow for who failed there, and not for others: a stranger's
		// guesses lock nobody out. Another name from there is slow too.
		elsewhere := netip.MustParseAddr("203.0.113.9")
		if _, err := d.Check(t.Context(), netip.MustParseAddr("198.51.100.7"), "shop", "secret"); err != nil {
			t.Error("the right password from a new place:", err)
		}
		if _, err := d.Check(t.Context(), elsewhere, "shop", "guess"); !errors.Is(err, ErrWrong) {
			t.Error("the first guess from elsewhere:", err)
		}
		if _, err := d.Check(t.Context(), elsewhere, "shop", "guess"); !errors.Is(err, ErrBusy) {
			t.Error("the name is not slowed down:", err)
		}
		if _, err := d.Check(t.Context(), stranger, "other", "guess"); !errors.Is(err, ErrBusy) {
			t.Error("the place is not slowed down:", err)
		}
		// The right password is not believed sooner than a wrong one.
		if _, err := d.Check(t.Context(), stranger, "shop", "secret"); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		before := time.Now()
		if _, err := d.Check(t.Context(), home, "shop", "secret"); err != nil || time.Since(before) != 0 {
			t.Errorf("who is known there waited %v: %v", time.Since(before), err)
		}
		// It never ends: a thousand guesses at once get a few turns, the others none.
		var wg sync.WaitGroup
		var mu sync.Mutex
		looked := 0
		for range 1000 {
			wg.Go(func() {
				if _, err := d.Check(t.Context(), stranger, "shop", "guess"); errors.Is(err, ErrWrong) {
					mu.Lock()
					looked++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if looked > 2 {
			t.Errorf("%d guesses at once were looked at, %v after the first", looked, time.Since(begin))
		}
		// And it is forgotten.
		time.Sleep(forgetting + time.Minute) // of the bubble's clock
		before = time.Now()
		if _, err := d.Check(t.Context(), stranger, "shop", "secret"); err != nil || time.Since(before) != 0 {
			t.Errorf("an hour later: %v, %v", time.Since(before), err)
		}
	})
}

// A name that nobody has costs as much as a wrong password.
func TestUnknownNameIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, computed := desk(t)
		if _, err := d.Check(t.Context(), home, "nobody", "secret"); !errors.Is(err, ErrWrong) {
			t.Error(err)
		}
		if *computed != 1 {
			t.Errorf("%d hashes for an unknown name", *computed)
		}
	})
}

// Only some hashes are computed at a time; who waits too long is told to come back.
func TestTooManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := desk(t)
		release := make(chan struct{})
		d.logins[0].verify = func(string) bool { <-release; return true }
		var wg sync.WaitGroup
		for i := range cap(d.computing) {
			wg.Go(func() {
				if _, err := d.Check(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "shop", "secret"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := d.Check(t.Context(), stranger, "shop", "secret"); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Check(ended, stranger, "shop", "secret"); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		close(release)
		wg.Wait()
	})
}

// What is remembered has an end.
func TestBounded(t *testing.T) {
	d, _ := desk(t)
	for i := range 2 * maxSeen {
		d.remember(d.mark("place", "shop", fmt.Sprint(i)))
	}
	if len(d.seen) != maxSeen {
		t.Errorf("%d marks", len(d.seen))
	}
	// No two triples run into the same mark.
	if d.mark("a", "bc", "d") == d.mark("ab", "c", "d") {
		t.Error("the parts of a mark are not kept apart")
	}
}

func TestPlace(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8:0:0:ffff::9": "2001:db8::/64", "2001:db8:0:1::1": "2001:db8:0:1::/64"} {
		if got := placeOf(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if placeOf(netip.Addr{}) == "" {
		t.Error("a peer without an address has no place")
	}
}

func TestMay(t *testing.T) {
	d, err := New([]Login{
		{Name: "shop", Hash: cheap, Scopes: []consent.Scope{"orders"}, Classes: []consent.Class{consent.Marketing}, FromDomains: []string{"Shop.example", "bücher.example"}},
		{Name: "free", Hash: cheap},
	})
	if err != nil {
		t.Fatal(err)
	}
	shop, free := &d.logins[0].Login, &d.logins[1].Login
	for what, got := range map[string]bool{
		"scope":               shop.MayClaim("orders") && !shop.MayClaim("other") && free.MayClaim("other"),
		"class":               shop.MaySend(consent.Marketing) && !shop.MaySend(consent.Transactional) && free.MaySend(consent.Transactional),
		"From domain":         shop.MayBeFrom("shop.example") && shop.MayBeFrom("xn--bcher-kva.example") && free.MayBeFrom("any.example"),
		"another From domain": !shop.MayBeFrom("evil.example") && !shop.MayBeFrom("a.shop.example") && !shop.MayBeFrom("example"),
	} {
		if !got {
			t.Error(what)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, logins := range map[string][]Login{
		"twice":   {{Name: "shop", Hash: cheap}, {Name: "shop", Hash: cheap}},
		"no name": {{Hash: cheap}},
		"hash":    {{Name: "shop", Hash: "secret"}},
		"domain":  {{Name: "shop", Hash: cheap, FromDomains: []string{"a b"}}},
	} {
		if _, err := New(logins); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHash(t *testing.T) {
	hash := Hash("correct horse")
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Error(hash)
	}
	verify, err := parseHash(hash)
	if err != nil || !verify("correct horse") {
		t.Error(err)
	}
	old, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if verify, err = parseHash(string(old)); err != nil || !verify("secret") || verify("other") {
		t.Error("bcrypt", err)
	}
	// From the tests of the reference implementation, src/test.c.
	verify, err = parseHash("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	if err != nil || !verify("password") || verify("passwore") {
		t.Error("made by another program", err)
	}
}

func TestCheckHash(t *testing.T) {
	for _, bad := range []string{
		"", "secret", "$argon2id$", "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=18$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=0$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=300$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1,x=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$",
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA", // a key that every password has one time in 16 million
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$A!AAAAAAAAAAAAAAAAAAAA",
		"$2a$04$tooshort", "$2b$99$" + strings.Repeat("a", 53), "$1$md5crypt",
	} {
		if err := CheckHash(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
