package logbook

import (
	"fmt"
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		"550 5.1.1 <jane.doe@example.org>: no such user":          "550 5.1.1 <j•••@example.org>: no such user",
		`"jane doe"@example.org was refused`:                      `"•••@example.org was refused`,
		`so "jane \" doe"@example.org`:                            `so "•••@example.org`,
		"https://x.example/?u=jane%40example.org&v=1":             "https://x.example/?u=j•••@example.org&v=1",
		"https://x.example/?r=anna%2540example.org":               "https://x.example/?r=a•••@example.org",
		"https://x.example/u/jane%252540example.org/x":            "https://x.example/u/j•••@example.org/x",
		"https://x.example/?a=1&u=jane=example.org@list.example":  "https://x.example/?a=1&u=j•••@list.example",
		"https://x.example/?u=jane@example.org&v=joe@example.net": "https://x.example/?u=j•••@example.org&v=j•••@example.net",
		"https://jane@example.org/":                               "https://j•••@example.org/",
		"jane%40b%C3%BCcher%2Eexample":                            "j•••@b%C3%BCcher%2Eexample",
		"bounce+jane=40example.org@list.example.net":              "b•••@list.example.net",
		"bounce+jane=example.org@list.example.net":                "b•••@list.example.net",
		"rfc822;jane+40example.org":                               "rfc822;j•••@example.org",
		"jane.doe&#64;example.org, jane.doe&#x0040;example.org":   "j•••@example.org, j•••@example.org",
		"jane.doe&commat;example.org":                             "j•••@example.org",
		"jane.doe＠example.org jane.doe﹫example.org":               "j•••@example.org j•••@example.org",
		"user jane.doe @example.org":                              "user j•••@example.org",
		"<perm.anna-maria.o's@example.org>":                       "<p•••@example.org>",
		"is 'jane@example.org' there":                             "is 'j•••@example.org' there",
		"JANE@EXAMPLE.ORG, joe@[192.0.2.1]":                       "J•••@EXAMPLE.ORG, j•••@[192.0.2.1]",
		"grüße@bücher.example":                                    "g•••@bücher.example",
		"a@b@c":                                                   "a•••@c",
		"jane.doe(at)example.org, jane (AT)example.org":           "j•••@example.org, j•••@example.org",
		"jane.doe%40localhost jane.doe=40localhost jane＠mx":       "j•••@localhost j•••@localhost j•••@mx",
		"rdns=40-1-2.mail.example.org x=40_a.b, jane=40163.com":   "rdns=40-1-2.mail.example.org x=40_a.b, j•••@163.com",
		"id=40fe12ab, ttl=40min, x+40fe12, %40localhost, 5%40 ab": "id=40fe12ab, ttl=40min, x+40fe12, %40localhost, 5%40 ab",
		"joe@[IPv6:2001:db8:1111:2222:3333:4444:255.255.255.255]": "j•••@[IPv6:2001:db8:1111:2222:3333:4444:255.255.255.255]",
		"x@[jane+40example.org], joe@[jane@example.org]":          "x@[j•••@example.org], joe@[j•••@example.org]",
		"j•••@example.org":                                        "j•••@example.org",
		"size=40 took 40s, code=4012, 50%40 x=40y, in=4012.5ms":   "size=40 took 40s, code=4012, 50%40 x=40y, in=4012.5ms",
		"127.0.0.1:25: connection refused, 550 at 40.example.org": "127.0.0.1:25: connection refused, 550 at 40.example.org",
		"all @home and @ 10.0.0.1, &#65; 100%":                    "all @home and @ 10.0.0.1, &#65; 100%",
		"":                                                        "",
	} {
		got := Mask(text)
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestMaskKnown(t *testing.T) {
	for _, tt := range []struct{ address, text, want string }{
		{"anna@example.org", "mailbox anna unknown, see https://x.example/?r=anna%2540example.org", "mailbox a••• unknown, see https://x.example/?r=a•••@example.org"},
		{"anna@example.org", "Johanna, annabel; ANNA: no", "Johanna, annabel; A•••: no"},
		{"anna@example.org", "anna=example.org", "a•••@example.org"},
		{"anna@example.org", "bounce-anna=example.org@list.example", "b•••@list.example"},
		{"anna@example.org", "anna @ Example.ORG", "a•••@Example.ORG"},
		{"anna@example.org", "mary.anna@example.net and joanna@example.org", "m•••@example.net and j•••@example.org"},
		{"al@example.org", "al al=example.org, al＠example.org: all", "al a•••@example.org, a•••@example.org: all"},
		{"550@example.org", "550 no: 550@example.org", "550 no: 5•••@example.org"},
		{"perm.anna-maria.o's@example.org", "<perm.anna-maria.o's@example.org>: no perm.anna-maria.o's here", "<p•••@example.org>: no p••• here"},
		{"s@example.org", "<perm.anna-maria.o's@example.org>", "<p•••@example.org>"},
		{"anna+news@example.org", "?r=anna%2Bnews%40example.org, anna%252Bnews, anna=2Bnews=40example.org, anna+2Bnews, anna&#43;news&#64;example.org", "?r=a•••@example.org, a•••, a•••@example.org, a•••, a•••@example.org"},
		{"jane.doe@example.org", "xjane.doex %6aane%2edoe", "xj•••x %•••"},
		{`"jane doe"@example.org`, `no "Jane Doe"@example.org`, `no "•••@example.org`},
		{"JÄNE@example.org", "jäne: unknown", "j•••: unknown"},
		{"jane.doe@example.org", "jane.doe＠jane.doe", "j•••@j•••"},
		{"jane.doe@example.org", "joe=40jane.doe", "j•••@j•••"},
		{"mail@example.org", "mail: <mail@example.org>, mail%40example.org, MAIL=example.org, see https://x.example/mail/?p=mail", "mail: <m•••@example.org>, m•••@example.org, M•••@example.org, see https://x.example/mail/?p=mail"},
		{"support@example.org", "Support <support@example.org>, https://support.example.net", "Support <s•••@example.org>, https://support.example.net"},
		{"max@example.org", "the max connections (max 5)", "the max connections (max 5)"},
		{"jane@example.org", "https://jane.example.net/jane/?u=jane&v=jane-x&jane=1 jane,https://jane.example,jane <http://jane>jane", "https://jane.example.net/j•••/?u=j•••&v=j•••-x&jane=1 j•••,https://jane.example,j••• <http://jane>j•••"},
		{"jane.doe@example.org", "https://x.example/xjane.doe/jane.does?jane%2Edoe=jane%2Edoe, /var/mail/jane.doe", "https://x.example/xjane.doe/jane.does?jane%2Edoe=j•••, /var/mail/j•••"},
		{"000100@example.org", "00010000100=example.org", "0•••@example.org"},
		{"", "no sender", "no sender"},
	} {
		if got := Mask(MaskKnown(tt.text, tt.address, 3)); got != tt.want {
			t.Errorf("%q for %q is\n%q, want\n%q", tt.text, tt.address, got, tt.want)
		}
	}
}

// Whatever stands around an address, it does not come through.
func FuzzMask(f *testing.F) {
	f.Add("550 <", "> no such user", 0)
	f.Add("x=", "&y", 1)
	f.Fuzz(func(t *testing.T, before, after string, how int) {
		signs := []string{"@", "%40", "=40", "+40", "%2540", "&#64;", "&#x40;", "＠"}
		sign := signs[(how%len(signs)+len(signs))%len(signs)]
		text := before + "janedoe" + sign + "example.org" + after
		got := Mask(text)
		if strings.Contains(got, "anedoe"+sign) {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}

// An address that is known does not come through, however it is encoded and whatever stands around it.
func FuzzMaskKnown(f *testing.F) {
	f.Add("anna", "mailbox ", " unknown", 0, 1)
	f.Add("perm.anna-maria.o's", "<", ">", 0, 0)
	f.Add("anna+a/b", "https://x.example/?r=", "&x", 3, 4)
	f.Add("an%41", "&#6", "", 2, 3)
	f.Fuzz(func(t *testing.T, local, before, after string, how, sign int) {
		local = strings.Map(func(r rune) rune { // RFC 5321 §4.1.2, Dot-string
			if r < 0x80 && (isAlnum(byte(r)) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", r)) {
				return r
			}
			return -1
		}, local)
		local = local[:min(len(local), 64)]
		if local == "" {
			return
		}
		// What stands before may not begin what decodes to something else with the address.
		before = strings.NewReplacer("%", "", "=", " ", "+", "", "&", "").Replace(before)
		encode := func(format string, times int) string {
			s := local
			for range times {
				var b strings.Builder
				for i := range len(s) {
					if isAlnum(s[i]) {
						b.WriteByte(s[i])
					} else {
						fmt.Fprintf(&b, format, s[i])
					}
				}
				s = b.String()
			}
			return s
		}
		ways := []string{local, encode("%%%02X", 1), encode("%%%02x", 2), encode("%%%02X", 3), encode("=%02X", 1), encode("+%02X", 1), encode("&#%d;", 1), encode("&#x%x;", 1), strings.ToUpper(local)}
		signs := []string{"@", "=", "%40", "%2540", "=40", "+40", "&#064;", "＠", " @", "@ "}
		encoded := ways[(how%len(ways)+len(ways))%len(ways)]
		around := before + after + " example.org" + after
		text := before + encoded + signs[(sign%len(signs)+len(signs))%len(signs)] + "example.org" + after
		if strings.Contains(local, "\uFFFD") || len(encoded) < 4 || strings.Contains(around, encoded[1:]) {
			encoded = text[len(before) : len(text)-len(after)] // too short to be looked for alone
		} else {
			encoded = encoded[1:] // the first character stays
		}
		if got := Mask(MaskKnown(text, local+"@example.org", 3)); strings.Contains(got, encoded) && !strings.Contains(around, encoded) {
			t.Errorf("%q becomes %q, which holds %q", text, got, encoded)
		}
	})
}

func BenchmarkMaskKnown(b *testing.B) {
	for name, text := range map[string]string{"plain": "OK: queued as 4D2F1A6C3B", "named": "<jane.doe@example.org>: queued as 4D2F1A6C3B"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Mask(MaskKnown(MaskKnown(text, "jane.doe@example.org", 3), "news@shop.example.net", 6))
			}
		})
	}
}
