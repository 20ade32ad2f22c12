package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func address(t testing.TB, s string) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ordinary(t testing.TB) Claims {
	return Claims{Who: address(t, "first.lastname@mail.example.org"), Scope: "newsletter", Language: "de"}
}

// ring returns what a key file with one lookup line and these secrets holds.
func ring(t testing.TB, secrets ...byte) *keyring.Ring {
	t.Helper()
	text := "lookup " + strings.Repeat("A", 43) + "\n"
	for _, s := range secrets {
		text += "secret " + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(string(rune(s)), 32))) + "\n"
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := keyring.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoundTrip(t *testing.T) {
	s := New(keyring.Ephemeral())
	for _, c := range []Claims{
		ordinary(t),
		{Who: address(t, "a@b"), Scope: "*"},
		{Who: address(t, "ж@пример.example"), Scope: "x", Language: "zh-Hant-TW"},
		{Who: address(t, `"odd <one>"@example.org`), Scope: "orders", OneClick: "https://shop.example/u?id=1&x=é"},
		{Who: address(t, strings.Repeat("l", 200)+"@"+strings.Repeat("d.", 50)+"example"), Scope: consent.Scope(strings.Repeat("s", 128)),
			Language: strings.Repeat("x", 35), OneClick: "https://" + strings.Repeat("o", MaxOneClick-8)},
	} {
		token := s.Seal(c)
		if strings.Trim(token, alphabet) != "" || len(token) > maxToken {
			t.Errorf("token of %d characters, odd ones: %q", len(token), strings.Trim(token, alphabet))
		}
		if got, err := s.Open(token); err != nil || got != c {
			t.Errorf("Open = %+v, %v; want %+v", got, err, c)
		}
		if again := s.Seal(c); again != token {
			t.Error("the same claims gave another token")
		}
	}
}

func TestOrdinaryTokenIsShort(t *testing.T) {
	if token := New(keyring.Ephemeral()).Seal(ordinary(t)); len(token) >= 110 {
		t.Errorf("%d characters", len(token))
	}
}

func TestTokenShowsNothing(t *testing.T) {
	c := ordinary(t)
	raw, _ := decode(New(keyring.Ephemeral()).Seal(c))
	for _, part := range []string{"first", "example", "newsletter"} {
		if strings.Contains(string(raw), part) {
			t.Errorf("%q can be read in the token", part)
		}
	}
}

func TestOverlongExtrasAreDropped(t *testing.T) {
	s := New(keyring.Ephemeral())
	c := ordinary(t)
	c.Language, c.OneClick = strings.Repeat("x", 36), "https://"+strings.Repeat("o", MaxOneClick)
	got, err := s.Open(s.Seal(c))
	if err != nil || got != (Claims{Who: c.Who, Scope: c.Scope}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDifferentClaimsShareNoNonce(t *testing.T) {
	s := New(keyring.Ephemeral())
	base := ordinary(t)
	seen := map[string]Claims{}
	for _, c := range []Claims{
		base,
		{Who: base.Who, Scope: "newslette", Language: "rde"}, // the same bytes, cut elsewhere
		{Who: base.Who, Scope: base.Scope},
		{Who: base.Who, Scope: base.Scope, Language: base.Language, OneClick: "https://a.example/"},
		{Who: address(t, "x"+base.Who.String()), Scope: base.Scope, Language: base.Language},
	} {
		raw, _ := decode(s.Seal(c))
		nonce := string(raw[:1+nonceSize])
		if other, ok := seen[nonce]; ok {
			t.Errorf("%+v and %+v share a nonce", c, other)
		}
		seen[nonce] = c
	}
}

func TestIncompleteClaimsDoNotOpen(t *testing.T) {
	s := New(keyring.Ephemeral())
	for _, c := range []Claims{{}, {Who: address(t, "a@example.org")}, {Scope: "newsletter"}} {
		if _, err := s.Open(s.Seal(c)); err != ErrInvalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestEveryBitCounts(t *testing.T) {
	s := New(ring(t, 'b', 'a'))
	c := ordinary(t)
	c.Scope = "newsletters" // a length whose base64 has unused bits in its last character
	token := s.Seal(c)
	if len(token)%4 == 0 {
		t.Fatalf("%d characters: no unused bits to test", len(token))
	}
	raw, _ := decode(token)
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if _, err := s.Open(base64.RawURLEncoding.EncodeToString(raw)); err != ErrInvalid {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	// In the text every other character at every place, so that the unused bits count as well.
	for i := range token {
		for _, r := range alphabet {
			if byte(r) == token[i] {
				continue
			}
			if _, err := s.Open(token[:i] + string(r) + token[i+1:]); err != ErrInvalid {
				t.Fatalf("character %d replaced by %c: %v", i, r, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	s := New(ring(t, 'a'))
	token := s.Seal(ordinary(t))
	for i := range token {
		if _, err := s.Open(token[:i]); err != ErrInvalid {
			t.Errorf("cut to %d characters: %v", i, err)
		}
		if _, err := s.Open(token[i:]); i > 0 && err != ErrInvalid {
			t.Errorf("beginning at %d: %v", i, err)
		}
		if _, err := s.Open(token[:i] + "\n" + token[i:]); err != ErrInvalid {
			t.Errorf("line break at %d: %v", i, err)
		}
	}
	for name, bad := range map[string]string{
		"padded":       token + "=",
		"longer":       token + "AAAA",
		"twice":        token + token,
		"spaces":       " " + token + " ",
		"std alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+/",
		"huge":         strings.Repeat("A", 1<<20),
		"zeros":        strings.Repeat("A", 100),
		"controls":     "\x00\x01",
		"not UTF-8":    "\xff\xfe",
	} {
		if got, err := s.Open(bad); err != ErrInvalid || got != (Claims{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestRotation(t *testing.T) {
	c := ordinary(t)
	old, rotated, foreign := New(ring(t, 'a')), New(ring(t, 'b', 'a')), New(ring(t, 'z', 'y'))
	before, after := old.Seal(c), rotated.Seal(c)
	if before == after {
		t.Error("the rotated ring still seals under the old secret")
	}
	for _, token := range []string{before, after} {
		if got, err := rotated.Open(token); err != nil || got != c {
			t.Errorf("rotated ring: %+v, %v", got, err)
		}
		if _, err := foreign.Open(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("foreign ring: %v", err)
		}
	}
	if _, err := old.Open(after); err != ErrInvalid {
		t.Errorf("old ring opened what the new secret made: %v", err)
	}
	if _, err := New(keyring.Ephemeral()).Open(before); err != ErrInvalid {
		t.Errorf("ephemeral ring: %v", err)
	}
}

// Links in mailboxes must open for ever, so the format of version 1 is fixed.
func TestTokensOfYesterdayOpen(t *testing.T) {
	const token = "AQbZr9eojRytxwx9_VoAGS4IlaSZAQSpcm93zE0XNeWZuP-CQ9iRRiaOobU4jVaMA4RQ7UEyMDE7h4qMcudu36Sz1ThZayFh9sHW1wPX0qZLZti6"
	want := Claims{Who: address(t, "anna@example.org"), Scope: "newsletter", Language: "de", OneClick: "https://shop.example/u/1"}
	s := New(ring(t, 'a'))
	if got, err := s.Open(token); err != nil || got != want {
		t.Errorf("%+v, %v; today's is %s", got, err, s.Seal(want))
	}
}

func TestConcurrentUse(t *testing.T) {
	s := New(ring(t, 'b', 'a'))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				c := Claims{Who: address(t, fmt.Sprintf("u%d.%d@example.org", g, i)), Scope: "s"}
				if got, err := s.Open(s.Seal(c)); err != nil || got != c {
					t.Errorf("%+v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	s := New(ring(f, 'b', 'a'))
	token := s.Seal(ordinary(f))
	f.Add(token)
	f.Add(token[:len(token)-1])
	f.Add(strings.Repeat("A", 64))
	f.Add("AQ")
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		c, err := s.Open(in)
		if err != nil {
			if err != ErrInvalid || c != (Claims{}) {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		if s.Seal(c) != in {
			t.Fatalf("%q opens but is not what Seal makes of %+v", in, c)
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	f.Add(string(appendClaims(nil, ordinary(f))))
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Add("\x01*\x00\x03a@b")
	f.Fuzz(func(t *testing.T, plain string) {
		if c, err := parseClaims(plain); err == nil && (c.Who.IsZero() || c.Scope == "") {
			t.Fatalf("%+v", c)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s := New(keyring.Ephemeral())
	c := ordinary(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(c)
	}
}

func BenchmarkOpen(b *testing.B) {
	s := New(keyring.Ephemeral())
	token := s.Seal(ordinary(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(token); err != nil {
			b.Fatal(err)
		}
	}
}
