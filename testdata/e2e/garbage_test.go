package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What is no valid MIME is rewritten as far as it can be read. What cannot be read leaves with
// the link of its own for those who agreed to everything, and is refused with 554 5.6.0 and the
// reason for the others, so that nobody is tracked by way of a broken message (SPEC 11). It takes
// bounded time, and the gateway lives.
func TestGarbage(t *testing.T) {
	next := startSink(t)
	s := newSite(t, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`)
	g := s.start(t)
	g.agree(t, "default", "both@example.org", true, true)

	const (
		taken = `250 2\.0\.0 [0-9a-z]+-[0-9a-z]+$`
		html  = "<html><body><p>Hello</p>" + pixel + "</body></html>"
		mixed = "Content-Type: multipart/mixed; boundary=b\n\n"
	)
	refused := func(reason string) string { return `554 5\.6\.0 .*` + reason }
	part := func(typ, body string) string { return "--b\nContent-Type: " + typ + "\n\n" + body + "\n" }
	many := func(s string, n int) string { return strings.Repeat(s, n) }

	for i, tt := range []struct {
		name       string
		text       string // behind From; with LF
		none, both string // the answers for a person without consent and for one who agreed to all
		copy       copyKind
	}{
		{"no boundary parameter", "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n" + part("text/html", html) + "--b--\n", taken, taken, plain},
		{"the boundary never comes", mixed + "hello\n" + html + "\n", refused("wrong type or boundary"), taken, own},
		{"no closing boundary", mixed + part("text/html", html), taken, taken, plain},
		{"two boundaries", "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n" + part("text/html", html) + "--b--\n", refused("two boundaries"), taken, plain},
		{"two Content-Types", "Content-Type: text/plain\nContent-Type: text/html\n\n" + html + "\n", taken, taken, plain},
		{"an encoding of a multipart", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n" + part("text/html", html) + "--b--\n", taken, taken, plain},

		{"a charset nobody knows, HTML", "Content-Type: text/html; charset=x-klingon\n\n" + html + "\n", taken, taken, plain},
		{"a charset nobody knows, text", "Content-Type: text/plain; charset=x-klingon\n\nhello \xe4\xf6\xfc\n", taken, taken, plain},
		{"UTF-7", "Content-Type: text/html; charset=utf-7\n\n+ADw-p+AD4-Hello+ADw-/p+AD4-\n", taken, taken, plain},
		{"UTF-16 that is none", "Content-Type: text/html; charset=utf-16\n\n" + html + "\n", taken, taken, another},
		{"an encoding nobody knows", "Content-Type: text/html\nContent-Transfer-Encoding: x-yenc\n\n" + html + "\n", refused("unknown Content-Transfer-Encoding"), taken, plain},
		{"base64 that is none", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n!!!!" + base64.StdEncoding.EncodeToString([]byte(html)) + "=A=B\n", taken, taken, plain},
		{"quoted-printable that is none", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n=ZZ=\n=3" + html + "=\n", taken, taken, plain},
		{"8 bit without MIME fields, UTF-8", "\nGr\u00fc\u00dfe aus K\u00f6ln, https://shop.example.net/ \n", taken, taken, plain},
		{"8 bit without MIME fields, Latin-1", "Subject: Gr\xfc\xdfe\n\nGr\xfc\xdfe aus K\xf6ln\n", taken, taken, plain},
		{"8 bit HTML without MIME-Version", "Subject: Gr\xfc\xdfe\nContent-type: text/html\n\n<p>Gr\xfc\xdfe</p>" + pixel + "\n", taken, taken, plain},
		{"HTML without MIME fields", "\n" + html + "\n", taken, taken, stays},

		{"nested 1,000 deep", nest(1000, html), refused("nested too deep"), taken, own},
		{"nested 1,000 deep, never closed", strings.ReplaceAll(nest(1000, html), "--\n", "\n"), refused("nested too deep"), taken, own},
		{"messages in messages, 1,000 deep", "Content-Type: message/rfc822\n\n" + many("Content-Type: message/rfc822\n\n", 1000) + "Content-Type: text/html\n\n" + html + "\n", refused("stands in place of the body"), taken, stays},
		{"100,000 parts", mixed + many("--b\n\nx\n", 100_000) + part("text/html", html) + "--b--\n", refused("too many parts"), taken, plain},
		{"a million open tags", "Content-Type: text/html\n\n" + many(many("<div>", 20)+"\n", 50_000) + pixel + "\n", taken, taken, plain},
		{"tags that never end", "Content-Type: text/html\n\n" + many(many("<a b='", 20)+"\n", 20_000) + pixel + "\n", refused("too many attributes"), taken, plain},

		{"a header of 10 MiB", "X-Long: a\n" + many(" "+many("b", 70)+"\n", 10<<20/72) + "\nhello\n", refused("header is too long"), refused("header is too long"), plain},
		{"a header of 100,000 fields", many("X-Field: "+many("b", 90)+"\n", 100_000) + "\nhello\n", refused("header is too long"), refused("header is too long"), plain},
		{"a header line of 10 MiB", "X-Long: " + many("b", 10<<20) + "\n\nhello\n", refused("a line is longer than"), refused("a line is longer than"), plain},
		{"a part's header of 10 MiB", mixed + "--b\nX-Long: a\n" + many(" "+many("b", 70)+"\n", 10<<20/72) + "Content-Type: text/html\n\n" + html + "\n--b--\n", refused("a part's header is too long"), taken, plain},
		{"a line in the header that is none", "this is not a field\nContent-Type: text/html\n\n" + html + "\n", taken, taken, stays},
		{"no end of the header", "Content-Type: text/html\n", taken, taken, plain},
		{"100 hops", many("Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\n", 100) + "\nhello\n", `554 5\.4\.6 `, `554 5\.4\.6 `, plain},
		{"a NUL", "\nhel\x00lo\n", refused("a NUL"), refused("a NUL"), plain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := []byte("From: Shop <news@" + dkimDomain + ">\r\n" + strings.ReplaceAll(tt.text, "\n", "\r\n"))
			for _, p := range []struct{ name, want string }{{"none", tt.none}, {"both", tt.both}} {
				d := g.hello(t)
				d.from = fmt.Sprintf("g%d@bounce.example.net", i)
				before := time.Now()
				got := d.submit(p.name+"@example.org", text)
				if took := time.Since(before); took > 20*time.Second {
					t.Errorf("for %s: answered after %v", p.name, took)
				}
				d.Close()
				if !regexp.MustCompile("^(?:" + p.want + ")").MatchString(got) {
					t.Errorf("for %s: answered %q, want %q", p.name, got, p.want)
				}
				copy := next.get(path{d.from, p.name + "@example.org"})
				if !strings.HasPrefix(got, "250 ") {
					if copy != nil {
						t.Errorf("for %s: a copy left all the same", p.name)
					}
					g.logged(t, `level=WARN msg="message refused" .*from=g•••@bounce\.example\.net to=.*`+p.name[:1]+`•••@example\.org.* answer="?`+regexp.QuoteMeta(got[:9]))
					continue
				}
				if tt.copy == own {
					if n := bytes.Count(copy, []byte(linkPrefix)); n != 2 {
						t.Errorf("for %s: %d links, want one in the header and one in a part of its own", p.name, n)
					}
					continue
				}
				var gone []string
				if p.name == "none" && tt.copy == plain {
					gone = []string{pixelAddress}
				}
				for _, wrong := range judge(text, copy, gone, false, true, s.dkimRecord) {
					t.Errorf("for %s: %s", p.name, wrong)
				}
				if has, want := holds(copy, pixelHost), holds(text, pixelHost) && tt.copy != another && (p.name == "both" || tt.copy == stays); has != want {
					t.Errorf("for %s: the pixel in the copy: %v, want %v", p.name, has, want)
				}
			}
		})
	}
	g.await(t, 200)
}

// copyKind says what is special about the copies that leave.
type copyKind int

const (
	plain   copyKind = iota
	stays            // the pixel stays for all: it stands where no reader takes it for HTML, or in a message within
	own              // the body is as it was, and the link in a part of its own
	another          // read as its charset says, the text has no pixel
)

// holds reports whether a message has s in it, in clear or in a part's decoded text.
func holds(text []byte, s string) bool {
	found := bytes.Contains(text, []byte(s))
	if found {
		return true
	}
	parse(text).leaves(func(p *part) bool {
		found = found || bytes.Contains(p.body, []byte(s))
		return !found
	})
	return found
}

// nest puts HTML into n multiparts, one in the other.
func nest(n int, html string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%dx\n\n--b%dx\n", i, i)
	}
	b.WriteString("Content-Type: text/html\n\n" + html + "\n")
	for i := range n {
		fmt.Fprintf(&b, "--b%dx--\n", n-1-i)
	}
	return b.String()
}
