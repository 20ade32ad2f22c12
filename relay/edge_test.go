package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/smarthost"
)

func TestMailbox(t *testing.T) {
	tests := []struct {
		raw, want string // raw as go-smtp hands it over, without quotes; want "" = refused
		utf8      bool
	}{
		{raw: "joe@example.org", want: "joe@example.org"},
		{raw: "Joe+x=y.z@EXAMPLE.org", want: "Joe+x=y.z@EXAMPLE.org"},
		{raw: "a b@example.org", want: `"a b"@example.org`},
		{raw: "a> NOTIFY=NEVER@example.org", want: `"a> NOTIFY=NEVER"@example.org`},
		{raw: `a"b\c@example.org`, want: `"a\"b\\c"@example.org`},
		{raw: "a@b@example.org", want: `"a@b"@example.org`},
		{raw: "a,b@example.org", want: `"a,b"@example.org`},
		{raw: "joe@[127.0.0.1]", want: "joe@[127.0.0.1]"},
		{raw: "joe@[IPv6:::1]", want: "joe@[IPv6:::1]"},
		{raw: "joe@host_name.example.org", want: "joe@host_name.example.org"},
		{raw: "jöe@exämple.org", want: "jöe@exämple.org", utf8: true},
		{raw: "jöe@example.org"},
		{raw: "joe@exämple.org"},
		{raw: "j\xf6e@example.org", utf8: true},
		{raw: "joe\u0085@example.org", utf8: true}, // a C1 control
		{raw: "joe"},
		{raw: "@example.org"},
		{raw: "joe@"},
		{raw: "joe@.example.org"},
		{raw: "joe@example..org"},
		{raw: "joe@[127.0.0.1"},
		{raw: "joe@[]"},
		{raw: "joe@[a>b]"},
		{raw: "joe@exam\x00ple.org"},
		{raw: "joe@example.org\r"},
		{raw: "joe\r\nRSET@example.org"},
		{raw: "joe\n@example.org"},
		{raw: "jo\x7fe@example.org"},
		{raw: "joe@exam<ple.org"},
		{raw: `joe@"example.org`},
		{raw: "joe@exam(ple).org"},
		{raw: strings.Repeat("a", 320) + "@example.org"},
	}
	for _, tt := range tests {
		got, err := mailbox(tt.raw, tt.utf8)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v; want %q", tt.raw, got, err, tt.want)
		}
	}
	if _, err := mailbox("jöe@example.org", false); !errors.Is(err, errUTF8) {
		t.Errorf("%v", err)
	}
}

// Whatever passes stays between its angle brackets: the way out, which has a check of its own,
// takes it, and it reads back as the same address.
func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"joe@example.org", "a> NOTIFY=NEVER@x", `a"\@x`, "a@b@c", "ö@ö", "a@[::1]", "a@x\r\nDATA"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	next, err := smarthost.New(smarthost.Config{URLs: []string{"smtp://127.0.0.1:1"}, Hostname: "x"})
	if err != nil {
		f.Fatal(err)
	}
	ended, cancel := context.WithCancel(f.Context())
	cancel() // nothing is to be sent: addresses are looked at before that
	f.Fuzz(func(t *testing.T, raw string, utf8 bool) {
		got, err := mailbox(raw, utf8)
		if err != nil {
			return
		}
		if strings.ContainsAny(got, "\r\n\x00") || (!utf8 && !isASCII(got)) {
			t.Fatalf("%q -> %q", raw, got)
		}
		if _, err := next.Send(ended, smarthost.Envelope{From: got, To: got}, strings.NewReader(""), 0); errors.Is(err, smarthost.ErrAddress) {
			t.Fatalf("%q -> %q: the way out refuses it", raw, got)
		}
		if to, who, err := recipient(raw, utf8); err == nil {
			again, err := consent.ParseAddress(to)
			if err != nil || again != who {
				t.Fatalf("%q -> %q is %v, then %v (%v)", raw, to, who, again, err)
			}
		}
	})
}

var badLineEnds = regexp.MustCompile(`\r[^\n]|\r$|^\n|[^\r]\n|\x00`)

func TestStrictLines(t *testing.T) {
	for text, want := range map[string]struct{ ok, missing, header8 bool }{
		"":                             {ok: true},
		"a\r\n":                        {ok: true},
		"a":                            {ok: true, missing: true},
		"a\r\n\r\nb\r\n.\r\n":          {ok: true},
		"a\n":                          {},
		"\n":                           {},
		"a\r":                          {missing: true},
		"a\rb":                         {missing: true},
		"a\r\r\n":                      {},
		"a\r\n\n":                      {},
		"a\x00":                        {missing: true},
		"\x00":                         {missing: true},
		"a: \xc3\xbc\r\n\r\nb\r\n":     {ok: true, header8: true},
		"a: b\r\n\r\n\xc3\xbc\r\n":     {ok: true},
		"\r\n\xc3\xbc\r\n":             {ok: true},
		"a\r\n b\r\n\r\n\xff\r\n":      {ok: true},
		"a\r\n\r\n\r\n\r\n\xff\r\n":    {ok: true},
		"a\r\nb: \xff\r\nc\r\n\r\nd\r": {missing: true, header8: true},
	} {
		// In one piece, and byte by byte.
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			b, err := receive(r, 1000, nil)
			if (err == nil) != want.ok {
				t.Errorf("%q: %v", text, err)
				continue
			}
			if err != nil {
				continue
			}
			wantSize := int64(len(text))
			if want.missing {
				wantSize += 2
			}
			if b.size != wantSize || b.header8Bit != want.header8 {
				t.Errorf("%q: size %d, header8Bit %v", text, b.size, b.header8Bit)
			}
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("a\r\n\r\nb\r\n"), 3)
	f.Add([]byte("a\r\n.\rb\n\x00"), 1)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = min(max(cut, 0), len(text))
		r := io.MultiReader(strings.NewReader(string(text[:cut])), strings.NewReader(string(text[cut:])))
		b, err := receive(r, 1<<20, nil)
		if bad := badLineEnds.Match(text); (err != nil) != bad {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			return
		}
		got := make([]byte, b.size)
		if _, err := b.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		want := string(text)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if string(got) != want {
			t.Fatalf("%q became %q", text, got)
		}
		head, _, _ := strings.Cut("\r\n"+string(text), "\r\n\r\n")
		if b.header8Bit != !isASCII(head) {
			t.Fatalf("%q: header8Bit %v", text, b.header8Bit)
		}
	})
}

func FuzzLostCR(f *testing.F) {
	f.Add([]byte("a\r\n.\rb"), 2)
	f.Add([]byte("\n.\r\n.\r\r\n"), 4)
	f.Add([]byte("\n\n..\r\n.\r"), 3)
	f.Add([]byte("\n.\r\xd1\xb4"), 0)
	f.Add([]byte("a\r\r\r\n.\r\n"), 0)
	f.Add([]byte("a\r\r\r\n.\r\n"), 2)
	swallowed, doubled := regexp.MustCompile(`(?s)\n\.\r[^\n]`), regexp.MustCompile(`\r\r\n\.\r\n`)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		text = append([]byte("DATA\r\n"), text...)
		cut = min(max(cut, 0), len(text))
		var l lostCR
		found := l.find(text[:cut])
		if found < 0 {
			if found = l.find(text[cut:]); found >= 0 {
				found += cut
			}
		}
		want := len(text)
		if at := swallowed.FindIndex(text); at != nil {
			want = at[0] + 3
		}
		if at := doubled.FindIndex(text); at != nil {
			want = min(want, at[1]-1)
		}
		if want == len(text) {
			want = -1
		}
		if found != want {
			t.Fatalf("%q cut at %d: %d, want %d", text, cut, found, want)
		}
		if found >= 0 {
			return
		}
		// go-smtp must see the end of the data where RFC 5321 §4.1.1.4 has it.
		if got, want := goSMTPEnd(text[4:]), bytes.Index(text, []byte("\r\n.\r\n"))-4; got != max(want, -1) {
			t.Fatalf("%q: go-smtp ends it at %d, want %d", text, got, want)
		}
	})
}

// goSMTPEnd is where the state machine of go-smtp's reader of DATA sees the end of the data, or -1.
func goSMTPEnd(text []byte) int {
	const (
		beginLine = iota
		dot
		dotCR
		cr
		inLine
	)
	state := beginLine
	for i, c := range text {
		switch {
		case state == dotCR && c == '\n':
			return i - 4
		case state == beginLine && c == '.':
			state = dot
		case state == dot && c == '\r':
			state = dotCR
		case state == cr && c == '\n':
			state = beginLine
		case (state == beginLine || state == inLine) && c == '\r':
			state = cr
		default:
			state = inLine
		}
	}
	return -1
}

func TestCleanHelo(t *testing.T) {
	for in, want := range map[string]string{
		"client.example.org": "client.example.org", "[127.0.0.1]": "[127.0.0.1]", "[IPv6:::1]": "[IPv6:::1]", "x_y": "x_y",
		"": "unknown", "a(b": "unknown", "a\rb": "unknown", "ä.example.org": "unknown", "a;b": "unknown",
		strings.Repeat("a", 300): "unknown",
	} {
		if got := cleanHelo(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What is checked in pieces is checked as byte by byte.
func FuzzStrictLines(f *testing.F) {
	for _, end := range falseEnds {
		f.Add("ä: x\r\n\r\nfirst\r\n\r\nü"+end+"second\r\n", uint8(3))
	}
	f.Fuzz(func(t *testing.T, data string, step uint8) {
		var want error
		last, body, eightBit := byte(0), strings.HasPrefix(data, "\r\n"), false
		for i := range len(data) {
			c := data[i]
			if last == '\r' && c != '\n' || c == '\n' && last != '\r' || c == 0 {
				want = errLineEnds
				break
			}
			eightBit = eightBit || c >= 0x80 && !body
			body = body || strings.HasSuffix(data[:i+1], "\r\n\r\n")
			last = c
		}
		var s strictLines
		var err error
		for rest := data; rest != "" && err == nil; {
			n := min(len(rest), int(step)+1)
			err, rest = s.check([]byte(rest[:n])), rest[n:]
		}
		if err != want || err == nil && (s.header8Bit != eightBit || s.last != last) {
			t.Fatalf("%.200q in steps of %d: %v, want %v; 8bit %v, want %v", data, int(step)+1, err, want, s.header8Bit, eightBit)
		}
	})
}
