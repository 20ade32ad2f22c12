package consent

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("x", 64)
	for in, want := range map[string]string{
		"anna@example.org":            "anna@example.org",
		"Anna.B+Tag@EXAMPLE.Org":      "anna.b+tag@example.org",
		"anna@example.org.":           "anna@example.org",
		"a..b.@example.org":           "a..b.@example.org", // not RFC 5321, but such mailboxes exist
		"!#$%&'*+/=?^_`{|}~-@x":       "!#$%&'*+/=?^_`{|}~-@x",
		`"Anna"@example.org`:          "anna@example.org",
		`"an\na"@example.org`:         "anna@example.org",
		`"anna b"@example.org`:        `"anna b"@example.org`,
		`"A@b"@example.org`:           `"a@b"@example.org`,
		`"a\"b\\c"@example.org`:       `"a\"b\\c"@example.org`,
		`""@example.org`:              `""@example.org`,
		`"<x> NOTIFY=NEVER"@x.org`:    `"<x> notify=never"@x.org`,
		"Ж@example.org":               "ж@example.org",
		"x@BÜCHER.example":            "x@xn--bcher-kva.example",
		"x@xn--bcher-kva.example":     "x@xn--bcher-kva.example",
		"x@例え。テスト":                    "x@xn--r8jz45g.xn--zckzah",
		"x@faß.example":               "x@xn--fa-hia.example",
		"x@my_host.example":           "x@my_host.example",
		"x@[192.0.2.1]":               "x@[192.0.2.1]",
		"x@[IPv6:2001:DB8:0:0::1]":    "x@[ipv6:2001:db8::1]",
		"x@[2001:db8::1]":             "x@[ipv6:2001:db8::1]",
		long + "@example.org":         long + "@example.org",
		"x@" + long[:63] + ".example": "x@" + long[:63] + ".example",
		"postmaster@localhost":        "postmaster@localhost",
	} {
		got, err := ParseAddress(in)
		if err != nil || got.String() != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", in, got, err, want)
			continue
		}
		if got.IsZero() || got.Domain() != want[strings.LastIndex(want, "@")+1:] {
			t.Errorf("%q: domain %q", in, got.Domain())
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, in := range []string{
		"", "@", "anna", "anna@", "@example.org", "a@b@c", "a b@example.org", "<a@example.org>", "a@example.org>",
		"a@exa mple.org", "a@example..org", "a@.example.org", "a@.", "a@..", "a@x..", "a@。", "a@x。。", "a@-。x..",
		`"a@example.org`, `a"@example.org`, `"a"b"@example.org`, `"a\"@example.org`, `"@example.org`, `a\b@example.org`,
		"a,b@example.org", "a;b@example.org", "a:b@example.org", "(a)@example.org",
		"a\x00@example.org", "a@exam\x00ple.org", "a\r\nb@example.org", "a@example.org\r\n", "a\tb@example.org", "a\x7f@example.org",
		"\"a\r\n\"@example.org", "\"a\x00\"@example.org", "a\u0085@example.org", "a\u2028@example.org",
		"a\xff@example.org", "a@\xff", "a@exämple/.org", "a@ex/ample.org", "a@ex%ample.org", "a@ex:25",
		"a@[192.0.2.1", "a@192.0.2.1]", "a@[192.0.2.300]", "a@[]", "a@[fe80::1%eth0]", "a@[example.org]",
		"a@" + strings.Repeat("x", 64) + ".org",
		"a@" + strings.Repeat("x.", 128) + "org",
		strings.Repeat("x", 320) + "@example.org",
		strings.Repeat("Ⱥ", 150) + "@example.org", // grows when lower-cased
	} {
		got, err := ParseAddress(in)
		if !errors.Is(err, ErrAddress) || !got.IsZero() {
			t.Errorf("ParseAddress(%q) = %q, %v; want an error", in, got, err)
			continue
		}
		if len(in) > 8 && strings.Contains(err.Error(), in) {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"Anna@Example.org", `"a\ b"@x`, "x@bücher.example", "x@[IPv6:::1]", "x@xn--a", "ß@x。", "@", "\"\\", "İ@x", "a@xn--0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ParseAddress(in)
		if err != nil {
			if !a.IsZero() || !errors.Is(err, ErrAddress) {
				t.Fatalf("%q: %q, %v", in, a, err)
			}
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q became %q, and that %q, %v", in, a, again, err)
		}
		if strings.ContainsAny(a.String(), "\x00\r\n\t") || len(a.String()) > maxMailbox {
			t.Fatalf("%q became %q", in, a)
		}
		for _, r := range a.Domain() {
			if r > 0x7e || r <= ' ' || strings.ContainsRune(`<>"\@`, r) {
				t.Fatalf("%q has the domain %q", in, a.Domain())
			}
		}
		if !strings.HasSuffix(a.Masked(), "•••@"+a.Domain()) {
			t.Fatalf("%q masked %q", in, a.Masked())
		}
	})
}

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{
		"marta@example.org":      "m•••@example.org",
		"m@example.org":          "m•••@example.org",
		"Жанна@example.org":      "ж•••@example.org",
		`"odd one"@example.org`:  `"•••@example.org`,
		"\u202eevil@example.org": "•••@example.org", // turns the line around
		"\u0301x@example.org":    "•••@example.org", // a mark without its letter
	} {
		a, err := ParseAddress(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if a.Masked() != want {
			t.Errorf("%q masked %q, want %q", in, a.Masked(), want)
		}
	}
	if got := (Address{}).Masked(); got != "•••" {
		t.Errorf("zero address masked %q", got)
	}
}

func TestParseScope(t *testing.T) {
	for in, want := range map[string]Scope{
		"newsletter": "newsletter", "News.Letter_2-x": "news.letter_2-x", "*": AnyScope, "0": "0", ".": ".", "..": "..",
		strings.Repeat("S", 128): Scope(strings.Repeat("s", 128)),
	} {
		if got, err := ParseScope(in); err != nil || got != want {
			t.Errorf("ParseScope(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "**", "a b", "a/b", "a*", "ä", "a\x00", "a\n", "\x01", "[", "@", "`", "{", strings.Repeat("s", 129)} {
		if got, err := ParseScope(in); err == nil || got != "" {
			t.Errorf("ParseScope(%q) = %q, want an error", in, got)
		}
	}
	for c := 0; c < 256; c++ {
		_, err := ParseScope("x" + string([]byte{byte(c)}))
		ok := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", rune(c)) && c < 128
		if (err == nil) != ok {
			t.Errorf("byte %#x in a scope: %v", c, err)
		}
	}
}

func TestParseClassAndState(t *testing.T) {
	for in, want := range map[string]Class{"marketing": Marketing, "Transactional": Transactional, "": "", "other": ""} {
		if got, err := ParseClass(in); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseClass(%q) = %q, %v", in, got, err)
		}
	}
	all := []State{"", Unset, Granted, Denied, Subscribed, Unsubscribed, "odd", "GRANTED"}
	valid := map[Purpose]string{Mail: " subscribed unsubscribed ", Open: " granted denied unset ", Click: " granted denied unset ", "odd": ""}
	for p, states := range valid {
		for _, s := range all {
			ok := s != "" && strings.Contains(states, " "+string(s)+" ")
			if got, err := ParseState(p, string(s)); (err == nil) != ok || (ok && got != s) {
				t.Errorf("ParseState(%s, %q) = %q, %v", p, s, got, err)
			}
		}
	}
}

func TestRecordText(t *testing.T) {
	at := time.Unix(1763900000, 0).UTC()
	r := Record{Scope: "news", Version: 3,
		Mail: Entry{Unsubscribed, at, FromOneClick, ""}, Open: Entry{Granted, at.Add(-time.Hour), FromPage, "2026-03"}}
	const text = "3\tu1763900000o\tg1763896400p2026-03\t"
	if got := RecordText(r); got != text {
		t.Errorf("RecordText = %q, want %q", got, text)
	}
	if got, err := ParseRecord("news", text); err != nil || got != r {
		t.Errorf("ParseRecord = %+v, %v", got, err)
	}
	if got, err := ParseRecord("news", ""); err != nil || got != (Record{Scope: "news"}) {
		t.Errorf("ParseRecord of nothing = %+v, %v", got, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("3\tu1763900000o\tg1763896400p2026-03\t")
	f.Add("1\t\t\tn1c ~")
	f.Add("18446744073709551615\ts253402300799i\t\t")
	f.Add("\t\t\t")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecord("news", text)
		if err != nil {
			if r != (Record{}) {
				t.Fatalf("%q: %+v beside an error", text, r)
			}
			return
		}
		if text != "" && RecordText(r) != text {
			t.Fatalf("%q is read as %+v, which is written %q", text, r, RecordText(r))
		}
	})
}
