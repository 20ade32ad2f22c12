package token

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

func ordinaryHit(t testing.TB, addr, dest string) Hit {
	return Hit{Who: address(t, "first.lastname@mail.example.org"), Scope: "newsletter", Purpose: consent.Click, URL: addr, Destination: dest}
}

const destination = "https://www.shop.example/spring/offers?utm_source=newsletter&utm_campaign=2026-03&product=4711"

// counters have the destination in their addresses as real ones do.
var counters = map[string]string{
	"percent-encoded": "https://click.example.net/r?u=" + url.QueryEscape(destination) + "&m=42",
	"plain in path":   "http://click.example.net/CL0/" + destination + "/1/0100018e-1/abc=77",
	"base64":          "https://click.example.net/lnk/AAAA/" + base64.RawURLEncoding.EncodeToString([]byte(destination)),
	"base64 of JSON": "https://click.example.net/track?p=" + base64.RawURLEncoding.EncodeToString(
		[]byte(`{"s":"abcdef","v":1,"p":"{\"u\":1,\"url\":\"`+strings.ReplaceAll(destination, "/", `\\\/`)+`\"}"}`)),
	"without its scheme": "https://click.example.net/3s/" + url.PathEscape(strings.TrimPrefix(destination, "https://")) + "/abc/def",
	"not at all":         "https://click.example.net/ls/click?upn=" + strings.Repeat("u001.Zk3", 60),
}

func TestHitRoundTrip(t *testing.T) {
	s := NewHits(keyring.Ephemeral())
	hits := []Hit{
		ordinaryHit(t, "https://a", ""),
		ordinaryHit(t, "http://a/%zz%4", "http://b"),
		ordinaryHit(t, "https://click.example.net/x", strings.Repeat("https://click.example.net/", 100)),
		{Who: address(t, "ж@пример.example"), Scope: "*", Purpose: consent.Open, URL: "https://t.example.net/o.gif?a=1&b=2#c"},
		{Who: address(t, "a@b"), Scope: "x", Purpose: consent.Click, URL: "https://t.example.net/", Language: "pt-BR"},
		{Who: address(t, strings.Repeat("l", 200)+"@"+strings.Repeat("d.", 50)+"example"), Scope: consent.Scope(strings.Repeat("s", 128)), Purpose: consent.Click,
			URL: "https://" + strings.Repeat("u", 1990), Destination: "https://" + strings.Repeat("Ab1", 660)},
	}
	for _, addr := range counters {
		hits = append(hits, ordinaryHit(t, addr, destination))
	}
	for _, h := range hits {
		tok := s.Seal(h)
		if strings.Trim(tok, alphabet) != "" || len(tok) > maxToken {
			t.Errorf("token of %d characters with others than %s: %q", len(tok), alphabet, tok)
		}
		if again := s.Seal(h); again != tok {
			t.Errorf("the same hit gives two tokens")
		}
		got, err := s.Open(tok)
		if err != nil || got != h {
			t.Errorf("Open: %+v, %v; want %+v", got, err, h)
		}
	}
}

// TestHitLength: a link grows by less than 200 characters over its address in base64, wherever the
// destination stands in it, and without one.
func TestHitLength(t *testing.T) {
	s := NewHits(keyring.Ephemeral())
	const base = "https://links.shop.example/t/"
	for name, addr := range counters {
		dest := destination
		if name == "not at all" {
			dest = ""
		}
		h := ordinaryHit(t, addr, dest)
		h.Language = "de"
		grown := len(base) + len(s.Seal(h)) - base64.RawURLEncoding.EncodedLen(len(addr))
		t.Logf("%s: %d", name, grown)
		if grown >= 200 {
			t.Errorf("%s: grown by %d characters", name, grown)
		}
	}
}

// TestHitPurpose: neither kind of token opens as the other, and a pixel's never as a link's.
func TestHitPurpose(t *testing.T) {
	ring := keyring.Ephemeral()
	links, hits := New(ring), NewHits(ring)
	if _, err := hits.Open(links.Seal(ordinary(t))); !errors.Is(err, ErrInvalid) {
		t.Error("an unsubscribe token opens as a hit")
	}
	tok := hits.Seal(ordinaryHit(t, "https://a.example/", ""))
	if _, err := links.Open(tok); !errors.Is(err, ErrInvalid) {
		t.Error("a hit opens as an unsubscribe token")
	}
	for i := range tok {
		forged := []byte(tok)
		forged[i] ^= 1
		if _, err := hits.Open(string(forged)); err == nil {
			t.Fatalf("a token opens with another character at %d", i)
		}
	}
	if _, err := NewHits(keyring.Ephemeral()).Open(tok); err == nil {
		t.Error("a token opens under another key")
	}
}

func TestHitRotation(t *testing.T) {
	tok := NewHits(ring(t, 'a')).Seal(ordinaryHit(t, "https://a.example/", ""))
	if _, err := NewHits(ring(t, 'b', 'a')).Open(tok); err != nil {
		t.Error("what a rotated secret made does not open")
	}
}

// TestHitNotWeb: what is no web address does not come out of a token.
func TestHitNotWeb(t *testing.T) {
	s := NewHits(keyring.Ephemeral())
	for _, h := range []Hit{
		ordinaryHit(t, "", ""), ordinaryHit(t, "https://", ""), ordinaryHit(t, "https://a.example/", "javascript:alert(1)"),
		ordinaryHit(t, "https://a.example/", "//b.example/"), {Scope: "x", URL: "https://a.example/"}, {Who: address(t, "a@b"), URL: "https://a.example/"},
	} {
		if got, err := s.Open(s.Seal(h)); err == nil {
			t.Errorf("%+v opens: %+v", h, got)
		}
	}
	if got, err := s.Open(s.Seal(ordinaryHit(t, "javascript:alert(1)", ""))); err == nil && !strings.HasPrefix(got.URL, "http://") {
		t.Errorf("opens: %+v", got)
	}
}

func FuzzParseHit(f *testing.F) {
	f.Add(appendHit(nil, ordinaryHit(f, counters["base64"], destination)))
	f.Add([]byte{7, 1, 'x', 3, 'a', '@', 'b', 1, 'c', 0, 3, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		h, err := parseHit(string(plain))
		if err != nil {
			return
		}
		if again, err := parseHit(string(appendHit(nil, h))); err != nil || again.URL != h.URL || again.Destination != h.Destination || again.Who != h.Who {
			t.Fatalf("%+v comes back as %+v, %v", h, again, err)
		}
	})
}

func BenchmarkHitSeal(b *testing.B) {
	s := NewHits(keyring.Ephemeral())
	h := ordinaryHit(b, counters["percent-encoded"], destination)
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(h)
	}
}

// BenchmarkHitSealUnlike: nothing of the destination stands in the counter's address.
func BenchmarkHitSealUnlike(b *testing.B) {
	s := NewHits(keyring.Ephemeral())
	h := ordinaryHit(b, "https://click.example.net/"+strings.Repeat("a1b2c3", 50), "https://shop.example.org/"+strings.Repeat("uvwxyz", 30))
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(h)
	}
}

func BenchmarkHitOpen(b *testing.B) {
	s := NewHits(keyring.Ephemeral())
	tok := s.Seal(ordinaryHit(b, counters["percent-encoded"], destination))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(tok); err != nil {
			b.Fatal(err)
		}
	}
}
