package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 makes a header.
func v2(command, family byte, rest string) string {
	return string(binary.BigEndian.AppendUint16(append([]byte(proxyV2), 0x20|command, family), uint16(len(rest)))) + rest
}

func TestReadProxy(t *testing.T) {
	const addresses6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\xc3\x50\x00\x19"
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07"
	for header, want := range map[string]string{ // "" = refused, "-" = nobody
		"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n":       "192.0.2.7",
		"PROXY TCP6 2001:db8::7 2001:db8::1 50000 25\r\n":      "2001:db8::7",
		"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50000 25\r\n": "192.0.2.7",
		"PROXY UNKNOWN\r\n":                                       "-",
		"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2\r\n":               "-",
		"PROXY UNKNOWNS\r\n":                                      "",
		"PROXY TCP4 2001:db8::7 2001:db8::1 50000 25\r\n":         "",
		"PROXY TCP6 192.0.2.7 198.51.100.1 50000 25\r\n":          "",
		"PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n":             "",
		"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25 1\r\n":        "",
		"PROXY TCP4  192.0.2.7 198.51.100.1 50000 25\r\n":         "",
		"PROXY TCP4 192.0.2.7 198.51.100.1 50000 65536\r\n":       "",
		"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n":             "",
		"PROXY TCP4 192.0.2 198.51.100.1 50000 25\r\n":            "",
		"PROXY TCP6 fe80::1%eth0 2001:db8::1 50000 25\r\n":        "",
		"PROXY TCP4 192.0.2.7 nonsense 50000 25\r\n":              "",
		"PROXY UDP4 192.0.2.7 198.51.100.1 50000 25\r\n":          "",
		"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\n":            "",
		"PROXY UNKNOWN " + strings.Repeat("x", 107-14-2) + "\r\n": "-",
		"PROXY UNKNOWN " + strings.Repeat("x", 107-14-1) + "\r\n": "",
		"proxy TCP4 192.0.2.7 198.51.100.1 50000 25\r\n":          "",
		"EHLO x\r\n": "",
		"":           "",
		v2(1, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19"):              "192.0.2.7",
		v2(1, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19\x04\x00\x01x"): "192.0.2.7",
		v2(1, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00"):                  "",
		v2(1, 0x21, addresses6):                                         "2001:db8::7",
		v2(1, 0x21, mapped+addresses6[16:]):                             "192.0.2.7",
		v2(1, 0x21, addresses6[:35]):                                    "",
		v2(0, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19"): "-", // LOCAL: to be ignored
		v2(0, 0x00, ""):                                                 "-",
		v2(1, 0x00, ""):                                                 "-",
		v2(1, 0x12, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19"): "-", // UDP
		v2(1, 0x31, strings.Repeat("a", 216)):                           "-",
		v2(2, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19"): "",
		string(proxyV2) + "\x11\x11\x00\x00":                            "",
		string(proxyV2) + "\x21\x11\xff\xff":                            "",
		v2(1, 0x00, strings.Repeat("a", 4096)):                          "-",
		v2(1, 0x00, strings.Repeat("a", 4097)):                          "",
		string(proxyV2[:11]) + "X":                                      "",
	} {
		const next = "EHLO x\r\n"
		r := strings.NewReader(header + next)
		got, err := readProxy(iotest.HalfReader(r))
		switch {
		case want == "":
			if !errors.Is(err, errProxy) || got.IsValid() {
				t.Errorf("%q: %v, %v", header, got, err)
			}
			continue
		case err != nil || want == "-" && got.IsValid() || want != "-" && got != netip.MustParseAddr(want):
			t.Errorf("%q: %v, %v; want %s", header, got, err, want)
		}
		if rest, _ := io.ReadAll(r); string(rest) != next {
			t.Errorf("%q: left is %q", header, rest)
		}
		if _, err := readProxy(strings.NewReader(header[:len(header)-1])); !errors.Is(err, errProxy) {
			t.Errorf("%q, cut: %v", header, err)
		}
	}
}

// A check that only connects is told from a balancer that says something else, since it comes every second.
func TestReadProxyOfNothing(t *testing.T) {
	if _, err := readProxy(strings.NewReader("")); !errors.Is(err, errMute) || !errors.Is(err, errProxy) {
		t.Errorf("nothing at all: %v", err)
	}
	for _, some := range []string{"P", "PROXY ", "PROXY TCP4"} {
		if _, err := readProxy(strings.NewReader(some)); errors.Is(err, errMute) || !errors.Is(err, errProxy) {
			t.Errorf("%q: %v", some, err)
		}
	}
}

// Whatever comes, no more is read than the header, and an address never comes with an error.
func FuzzReadProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\nx"))
	f.Add([]byte(v2(1, 0x11, "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x00\x19")))
	f.Add([]byte(v2(0, 0, "")))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bytes.NewReader(text)
		got, err := readProxy(r)
		used := text[:len(text)-r.Len()]
		switch {
		case err != nil && got.IsValid():
			t.Fatalf("%q: %v with %v", text, got, err)
		case err != nil:
			return
		case got.Zone() != "" || got.Is4In6():
			t.Fatalf("%q: %v", text, got)
		case bytes.HasPrefix(used, proxyV1):
			if len(used) > maxProxyV1 || bytes.IndexByte(used, '\n') != len(used)-1 {
				t.Fatalf("%q: used %q", text, used)
			}
		case !bytes.HasPrefix(used, proxyV2) || len(used) != 16+int(binary.BigEndian.Uint16(used[14:])):
			t.Fatalf("%q: used %q", text, used)
		}
	})
}
