package token

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

func testSlip(t *testing.T) Slip {
	t.Helper()
	who, err := consent.ParseAddress("zo\u00eb@example.org")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Slip{Who: who, Language: "pt", Made: at, Record: consent.Record{Scope: "newsletter", Version: 7,
		Mail: consent.Entry{State: consent.Subscribed, Time: at, Source: consent.FromPage, Notice: "2026-03/pt"},
		Open: consent.Entry{State: consent.Granted, Time: at, Source: consent.FromPage, Notice: "2026-03/pt"}}}
}

func TestSlip(t *testing.T) {
	ring := keyring.Ephemeral()
	want := testSlip(t)
	for purpose, life := range map[Purpose]time.Duration{Confirm: 7 * 24 * time.Hour, Undo: 30 * time.Minute} {
		s := NewSlips(ring, purpose)
		text := s.Seal(want)
		if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("%s: %q", purpose, text)
		}
		if got, err := s.Open(text, want.Made.Add(life-time.Second)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", purpose, got, err)
		}
		if _, err := s.Open(text, want.Made.Add(life)); !errors.Is(err, ErrExpired) {
			t.Errorf("%s: behind its time: %v", purpose, err)
		}
		if _, err := NewSlips(keyring.Ephemeral(), purpose).Open(text, want.Made); err != ErrInvalid {
			t.Errorf("%s: under another key file: %v", purpose, err)
		}
		for i := range len(text) * 6 { // every bit, and every cut
			b := []byte(text)
			b[i/6] = flip(b[i/6], i%6)
			if _, err := s.Open(string(b), want.Made); err != ErrInvalid {
				t.Fatalf("%s: bit %d flipped: %v", purpose, i, err)
			}
			if _, err := s.Open(text[:i/6], want.Made); err != ErrInvalid {
				t.Fatalf("%s: cut at %d: %v", purpose, i/6, err)
			}
		}
	}
}

// flip changes one bit of what a character of base64url stands for.
func flip(c byte, bit int) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1<<bit]
}

// What is good for one thing is good for no other.
func TestPurposesDoNotOpenEachOther(t *testing.T) {
	ring := keyring.Ephemeral()
	slip := testSlip(t)
	links, confirm, undo := New(ring), NewSlips(ring, Confirm), NewSlips(ring, Undo)
	link := links.Seal(Claims{Who: slip.Who, Scope: "newsletter", Language: "pt"})
	for name, err := range map[string]error{
		"a link as confirmation":   second(confirm.Open(link, slip.Made)),
		"a link as undo":           second(undo.Open(link, slip.Made)),
		"a confirmation as link":   second(links.Open(confirm.Seal(slip))),
		"a confirmation as undo":   second(undo.Open(confirm.Seal(slip), slip.Made)),
		"an undo as link":          second(links.Open(undo.Seal(slip))),
		"an undo as confirmation":  second(confirm.Open(undo.Seal(slip), slip.Made)),
		"a slip without a version": second(undo.Open(undo.Seal(Slip{Who: slip.Who, Record: consent.Record{Scope: "a"}}), slip.Made)),
	} {
		if err != ErrInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzSlip(f *testing.F) {
	f.Add("\x01a\x02en\x05a@b.c\x00" + "1\tu1763900000o\t\t")
	f.Fuzz(func(t *testing.T, plain string) {
		slip, err := parseSlip(plain)
		if err == nil && (slip.Who.IsZero() || slip.Record.Scope == "" || slip.Record.Version == 0) {
			t.Fatalf("%q is read as %+v", plain, slip)
		}
	})
}
