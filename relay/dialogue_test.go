package relay

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/rewrite"
)

// Each testdata/*.smtp is a dialogue, one step a line:
//
//	# comment
//	SERVER: discard           with which of the configurations below; the first step, if at all
//	TO: lmtp                  connect to the listener for that; smtp without it
//	TLS                       the client begins TLS
//	C: line                   the client says that, and CR LF
//	R: "raw\r\n"              the client says these bytes, quoted as in Go
//	S: regexp                 the server's next reply, its lines parted by \n, matches from its beginning
//	HANGUP                    the client closes
//	END                       the server closes
//	SINK: 2                   so many messages came to the smarthost so far
//	LAST: regexp              the last of them, with its envelope in front, holds that
//	NOT: regexp               and does not hold that
//	LOG: regexp, NOLOG: …     the log holds that, or not
//
// (?s) and (?m) are set in all of them.
var setups = map[string]func(*Config, *testbed){
	"":        nil,
	"discard": func(c *Config, _ *testbed) { c.Discard = true },
	"small":   func(c *Config, _ *testbed) { c.MaxMessageBytes = 2000 },
	"observe": func(c *Config, _ *testbed) { c.Observe = true; c.Rewrite.Opaque = rewrite.OpaqueReject },
	"all-remote": func(c *Config, _ *testbed) {
		c.Rewrite.Images, c.Rewrite.Signed, c.Rewrite.Position = rewrite.ImagesAllRemote, rewrite.SignedReject, rewrite.PositionTop
	},
	"stranger": func(c *Config, _ *testbed) { c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
	"marketing-only": func(c *Config, _ *testbed) {
		c.Classes = []consent.Class{consent.Marketing}
	},
	"transactional-only": func(c *Config, _ *testbed) {
		c.Classes = []consent.Class{consent.Transactional}
	},
	"store-down":           func(_ *Config, b *testbed) { b.store.err = errStoreDown },
	"store-down-untracked": func(c *Config, b *testbed) { b.store.err = errStoreDown; c.Policy.WhenUnreachable = consent.Send },
	"store-hangs": func(c *Config, b *testbed) {
		b.store.block = make(chan struct{})
		c.LookupTimeout = 20 * time.Millisecond
	},
	"store-short": func(c *Config, b *testbed) { b.store.short = true },
	"mailto":      func(c *Config, _ *testbed) { c.MailTo = "unsubscribe@gate.example.org" },
	"plain-sink": func(_ *Config, b *testbed) {
		b.sink = newSink(b.t, func(s *smtp.Server) { s.EnableDSN, s.EnableSMTPUTF8 = false, false })
	},
	"sink-down": func(_ *Config, b *testbed) {
		b.sink = newSink(b.t, nil)
		b.next = newNext(b.t, "127.0.0.1:1")
	},
	"all-ways": allWays,
	"logins":   logins,
	"logins-stranger": func(c *Config, b *testbed) {
		logins(c, b)
		c.AllowNetworks = nil
	},
	"balancer": func(c *Config, _ *testbed) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = append(c.AllowNetworks, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"))
	},
	"balancer-tls": func(c *Config, b *testbed) {
		allWays(c, b)
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	},
	"balancer-elsewhere": func(c *Config, _ *testbed) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	},
	"few":            func(c *Config, b *testbed) { allWays(c, b); c.MaxRecipients = 2 },
	"full-addresses": func(c *Config, _ *testbed) { c.FullAddresses = true },
}

func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".smtp"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, string(text))
		})
	}
}

func play(t *testing.T, script string) {
	lines := strings.Split(script, "\n")
	setup, protocol := "", "smtp"
	for _, line := range lines {
		if s, ok := strings.CutPrefix(line, "SERVER: "); ok {
			setup = s
		}
		if s, ok := strings.CutPrefix(line, "TO: "); ok {
			protocol = s
		}
	}
	change, ok := setups[setup]
	if !ok {
		t.Fatalf("no such server %q", setup)
	}
	b := start(t, change)
	c := b.dialTo(protocol)
	for i, line := range lines {
		step, arg, _ := strings.Cut(line, ":")
		arg = strings.TrimPrefix(arg, " ")
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("line %d, %s\n"+format, append([]any{i + 1, line}, args...)...)
		}
		match := func(text string) bool {
			re, err := regexp.Compile("(?sm)" + arg)
			if err != nil {
				fail("%v", err)
			}
			return re.MatchString(text)
		}
		last := func() string {
			all := b.sink.got()
			if len(all) == 0 {
				fail("the smarthost got nothing")
			}
			d := all[len(all)-1]
			return "<" + d.from + "> <" + d.to + ">\n" + strings.ReplaceAll(d.text, "\r\n", "\n")
		}
		switch {
		case line == "" || strings.HasPrefix(line, "#") || step == "SERVER" || step == "TO":
		case line == "TLS":
			c.handshake()
		case step == "C":
			c.raw(arg + "\r\n")
		case step == "R":
			raw, err := strconv.Unquote(arg)
			if err != nil {
				fail("%v", err)
			}
			c.raw(raw)
		case step == "S":
			got, err := c.reply()
			if re, bad := regexp.Compile(`(?s)\A(?:` + arg + `)`); err != nil || bad != nil || !re.MatchString(got) {
				fail("got %q, %v", got, err)
			}
		case line == "HANGUP":
			c.Close()
		case line == "END":
			if got, err := c.reply(); err == nil || (err != io.EOF && !strings.Contains(err.Error(), "reset")) {
				fail("got %q, %v", got, err)
			}
		case step == "SINK":
			if got := strconv.Itoa(len(b.sink.got())); got != arg {
				fail("%s messages: %+v", got, b.sink.got())
			}
		case step == "LAST":
			if got := last(); !match(got) {
				fail("not in:\n%s", got)
			}
		case step == "NOT":
			if got := last(); match(got) {
				fail("in:\n%s", got)
			}
		case step == "LOG":
			if got := b.log.String(); !match(got) {
				fail("not in:\n%s", got)
			}
		case step == "NOLOG":
			if got := b.log.String(); match(got) {
				fail("in:\n%s", got)
			}
		default:
			fail("no such step")
		}
	}
}
