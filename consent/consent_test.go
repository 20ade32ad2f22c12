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
	clicked, page := Entry{Unsubscribed, at, FromOneClick, ""}, Entry{Granted, at.Add(-time.Hour), FromPage, "2026-03"}
	all := func(s State) Entry { return Entry{s, at, FromPage, "privacy-2026-03-01"} }
	later := all(Denied)
	later.Time = at.Add(time.Second)
	for _, test := range []struct {
		text string
		want Record
	}{
		{"3\tu1763900000o\tg1763896400p2026-03\t", Record{Version: 3, Mail: clicked, Open: page}},
		{"1\ts1763900000pprivacy-2026-03-01\tg=\td=", Record{Version: 1, Mail: all(Subscribed), Open: all(Granted), Click: all(Denied)}},
		{"1\ts1763900000pprivacy-2026-03-01\t\td=", Record{Version: 1, Mail: all(Subscribed), Click: all(Denied)}},
		{"2\ts1763900000pprivacy-2026-03-01\tg=\td1763900001pprivacy-2026-03-01", Record{Version: 2, Mail: all(Subscribed), Open: all(Granted), Click: later}},
		{"2\tu1763900000o\tg1763896400p2026-03\tg=", Record{Version: 2, Mail: clicked, Open: page, Click: page}},
		{"", Record{}},
	} {
		test.want.Scope = "news"
		if got := RecordText(test.want); got != test.text {
			t.Errorf("RecordText = %q, want %q", got, test.text)
		}
		if got, err := ParseRecord("news", test.text); err != nil || got != test.want {
			t.Errorf("ParseRecord of %q = %+v, %v", test.text, got, err)
		}
	}
	if got, err := ParseRecord("news", "1\t\tg1763896400p2026-03\tg1763896400p2026-03"); err != nil || got != (Record{Scope: "news", Version: 1, Open: page, Click: page}) {
		t.Errorf("what could have been shorter is %+v, %v", got, err)
	}
	for _, text := range []string{"1\tu=\t\t", "1\t\tg=\t", "1\t\t\td=", "1\tu1o\tg=x\t", "1\tu1o\tg==\t", "1\tu1o\t=\t"} {
		if got, err := ParseRecord("news", text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("3\tu1763900000o\tg1763896400p2026-03\t")
	f.Add("1\ts1763900000p2026-03\tg=\td=")
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
		// What RecordText would not write is an entry in full where "=" would do, and nothing else.
		short := RecordText(r)
		again, err := ParseRecord("news", short)
		if err != nil || again != r || short != text && (len(short) >= len(text) || !strings.Contains(short, "=")) {
			t.Fatalf("%q is read as %+v, which is written %q and read as %+v, %v", text, r, short, again, err)
		}
	})
}
