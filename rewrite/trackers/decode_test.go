package trackers

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Makers of counters, as the providers write them.

func mailjetAround(dest string) string {
	return "https://1a2b3.mjt.lu/lnk/AM8AAD6TDwcAAAAA/3/H_gVqGi_Nd7AdmeieWY-iA/" + base64.RawURLEncoding.EncodeToString([]byte(dest))
}

func sesAround(dest string) string {
	return "https://abcd1234.r.eu-west-1.awstrack.me/L0/" + url.PathEscape(dest) + "/1/0102019a/sig=447"
}

func deflated(text string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func mailgunToken(stream []byte) string {
	return "https://email.mg.example.org/c/" + base64.RawURLEncoding.EncodeToString(stream)
}

func mailgunLink(dest string) string {
	return mailgunToken(deflated(url.Values{"d": {"example.org"}, "h": {"0123456789abcdef"}, "i": {"<1@example.org>"}, "l": {dest}, "r": {"reader@example.org"}}.Encode()))
}

func sparkpostField(tag byte, value string) []byte {
	if len(value) > 255 {
		return append(binary.LittleEndian.AppendUint16([]byte{2<<6 | tag}, uint16(len(value))), value...)
	}
	return append([]byte{1<<6 | tag, byte(len(value))}, value...)
}

func sparkpostLink(fields ...[]byte) string {
	b := []byte{0x46, 4, 1, 2, 3, 4, 0x3f}
	for _, f := range fields {
		b = append(b, f...)
	}
	return "https://go.example.org/f/a/veNgVG0s-nFt6rg5Lpbo-w~~/AAA-fAA~/" + strings.ReplaceAll(base64.URLEncoding.EncodeToString(b), "=", "~")
}

// opaque is what a counter gives whose destination is refused or cannot be read.
const opaque = "(opaque)"

// none is what an address gives that is no counter.
const none = "(no counter)"

func linkText(r *Rules, url string) string {
	l, ok := r.Link(url)
	switch {
	case !ok || l.Rule == nil:
		return none
	case l.Opaque && l.Destination != "":
		return opaque + " " + l.Destination
	case l.Opaque:
		return opaque
	}
	return l.Destination
}

func TestDecode(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	long := "https://www.example.org/" + strings.Repeat("a", 400)
	mg := func(q string) []byte { return deflated(q) }
	full := mg("l=https%3A%2F%2Fexample.org%2Fjobs&r=reader%40example.org&pad=0123456789012345678901234567890123456789")
	wrongSum := append([]byte(nil), full...)
	wrongSum[len(wrongSum)-1] ^= 1
	flushed := func() []byte { // the stream as it is after a sync flush, never closed
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		_, _ = w.Write([]byte("d=example.org&h=0123456789abcdef&l=https%3A%2F%2Fexample.org%2Fflushed"))
		_ = w.Flush()
		return b.Bytes()
	}()
	unused := sparkpostField(2, "0123456789") // long enough to be a token
	const jwt = "eyJhbGciOiJIUzI1NiJ9."
	for _, c := range []struct{ name, url, want string }{
		{"mailjet", mailjetAround("https://example.org/a?b=c#d"), "https://example.org/a?b=c#d"},
		{"mailjet padded", mailjetAround("x") + "==", opaque},
		{"std alphabet, padded", "https://1a2b3.mjt.lu/lnk/a/1/b/" + strings.ReplaceAll(b64([]byte("https://example.org/?>?>~~~")), "/", "%2F"), "https://example.org/?%3E?%3E~~~"},
		{"url alphabet", "https://1a2b3.mjt.lu/lnk/a/1/b/" + base64.URLEncoding.EncodeToString([]byte("https://example.org/?>?>~~~")), "https://example.org/?%3E?%3E~~~"},
		{"base64 cut by one", "https://1a2b3.mjt.lu/lnk/a/1/b/aHR0cHM6L", opaque},
		{"base64 with a foreign byte", "https://1a2b3.mjt.lu/lnk/a/1/b/aHR0c$M6Ly9", opaque},
		{"javascript", mailjetAround("javascript:alert(1)"), opaque},
		{"javascript, disguised", mailjetAround("java\nscript:alert(1)"), opaque},
		{"javascript on a vanity host", "https://mail.example.org/lnk/a/1/b/" + base64.RawURLEncoding.EncodeToString([]byte("javascript:alert(1)")), opaque},
		{"data", mailjetAround("data:text/html,x"), opaque},
		{"relative", sesAround("/senators/contact/"), opaque},
		{"empty host", mailjetAround("https:///"), opaque},
		{"no host", mailjetAround("https:example.org"), opaque},
		{"ftp", mailjetAround("ftp://example.org/"), opaque},
		{"nothing", "https://1a2b3.mjt.lu/lnk/a/1/b/", opaque},
		{"scheme-relative", mailjetAround("//example.org/a"), "https://example.org/a"},
		{"scheme in capitals", mailjetAround("HTTPS://Example.org/A"), "https://Example.org/A"},
		{"backslashes", mailjetAround(`https:\\example.org\a`), `https://example.org\a`},
		{"controls around and within", mailjetAround("\x00 \x1fhttps://exam\tple.org/\r\na \x00"), "https://example.org/a"},
		{"unsafe bytes", mailjetAround("https://example.org/é\"'<>` \x7f&%zz"), "https://example.org/%C3%A9%22%27%3C%3E%60%20%7F&%zz"},
		{"broken UTF-8", mailjetAround("https://example.org/\xff"), "https://example.org/%FF"},
		{"mailto", mailjetAround("MAILTO:a@example.org?subject=b c"), "mailto:a@example.org?subject=b%20c"},
		{"tel", mailjetAround("tel:+49 1"), "tel:+49%201"},
		{"mailto with nothing", mailjetAround("mailto:"), opaque},
		{"percent-encoded twice", sesAround("https%3A%2F%2Fexample.org%2Fa%2520b"), "https://example.org/a%20b"},
		{"percent-encoded four times", sesAround("https%25253A%25252F%25252Fexample.org"), opaque},
		{"colon not encoded", "https://abcd.r.us-east-1.awstrack.me/L0/https:%2F%2Fexample.org%2Fa%3Fb=c%26d/1/x/y=1", "https://example.org/a?b=c&d"},
		{"wrong percent signs stay", sesAround("https://example.org/100%") + "%zz", "https://example.org/100%"},
		{"a plus in a path is a plus", sesAround("https://example.org/a+b"), "https://example.org/a+b"},
		{"a plus in a query is a space", "https://us1.mailchimp.com/mctx/clicks?url=https%3A%2F%2Fexample.org%2F%3Fq%3Da+b%2Bc", "https://example.org/?q=a%20b+c"},
		{"parameter's name encoded", "https://us1.mailchimp.com/mctx/clicks?%75rl=https%3A%2F%2Fexample.org", "https://example.org"},
		{"overlong percent", "https://us1.mailchimp.com/mctx/clicks?url=" + strings.Repeat("%25", 2000), opaque},
		{"userinfo", mailjetAround("https://www.example.com@example.org/"), "https://www.example.com@example.org/"},

		{"mailgun", mailgunLink("https://example.org/jobs?id=7&x=é"), "https://example.org/jobs?id=7&x=%C3%A9"},
		{"mailgun, scheme-relative", mailgunLink("//example.org/jobs"), "https://example.org/jobs"},
		{"mailgun, no checksum", mailgunToken(full[:len(full)-4]), "https://example.org/jobs"},
		{"mailgun, half a checksum", mailgunToken(full[:len(full)-2]), "https://example.org/jobs"},
		{"mailgun, sync flush", mailgunToken(flushed), "https://example.org/flushed"},
		{"mailgun, wrong checksum", mailgunToken(wrongSum), opaque},
		{"mailgun, cut in the middle", mailgunToken(full[:len(full)-12]), opaque},
		{"mailgun, cut on another host", strings.Replace(mailgunToken(full[:len(full)-12]), "email.mg.", "www.", 1), none},
		{"mailgun, bomb", mailgunToken(mg("l=https%3A%2F%2Fexample.org&x=" + strings.Repeat("a", 1<<20))), opaque},
		{"mailgun, just small enough", mailgunToken(mg("l=https%3A%2F%2Fexample.org&x=" + strings.Repeat("a", 16<<10-len("l=https%3A%2F%2Fexample.org&x=")))), "https://example.org"},
		{"mailgun, no l", mailgunToken(mg("d=example.org&r=reader%40example.org&pad=0123456789")), opaque},

		{"postmark http", "https://click.pstmrk.it/2/example.org%2Fa/x/y/z", "http://example.org/a"},
		{"postmark https", "https://click.pstmrk.it/3ts/example.org%2Fa%3Fb%3D%2520/x/y/z/AQ/u/1/v", "https://example.org/a?b=%20"},
		{"postmark, no host", "https://click.pstmrk.it/3s/%2Fa/x/y/z", "https://a"}, // as browsers read https:///a
		{"postmark, empty", "https://click.pstmrk.it/3s/%2F/x/y/z", opaque},

		{"sparkpost", sparkpostLink(sparkpostField(4, "https://example.org/a")), "https://example.org/a"},
		{"sparkpost, wide length", sparkpostLink(sparkpostField(18, "reader@example.org"), sparkpostField(4, long)), long},
		{"sparkpost, no address", sparkpostLink(sparkpostField(18, "reader@example.org")), opaque},
		{"sparkpost, length beyond the end", sparkpostLink(unused, []byte{1<<6 | 4, 200, 'h'}), opaque},
		{"sparkpost, width 3", sparkpostLink(unused, []byte{3<<6 | 4, 1, 0, 0, 'h'}), opaque},
		{"sparkpost, ends in a length", sparkpostLink(unused, []byte{2<<6 | 4, 1}), opaque},

		{"mandrill, garbage", "https://mandrillapp.com/track/click/1/example.org?p=" + b64([]byte(`{"p":"{"}`)), opaque},
		{"mandrill, p no string", "https://mandrillapp.com/track/click/1/example.org?p=" + b64([]byte(`{"p":{"url":"https://example.org"}}`)), opaque},
		{"mandrill, spaces for plus", "https://mandrillapp.com/track/click/1/example.org?p=" + strings.ReplaceAll(b64([]byte(`{"p":"{\"url\":\"https://example.org/>>>\"}"}`)), "+", "%20"), "https://example.org/%3E%3E%3E"},
		{"activecampaign, encoded inside", "https://a.lt.acemlna.com/Prod/link-tracker?redirectUrl=" + url.QueryEscape(b64([]byte("https%3A%2F%2Fexample.org%2Fa"))) + "&sig=1", "https://example.org/a"},
		{"activecampaign, plain inside", "https://a.lt.acemlna.com/Prod/link-tracker?redirectUrl=" + url.QueryEscape(b64([]byte("https://example.org/a"))) + "&sig=1", "https://example.org/a"},
		{"drip, JSON alone", "https://t.dripemail2.com/c/" + b64([]byte(`{"url":"https://example.org/"}`)), "https://example.org/"},
		{"drip, JWT", "https://t.dripemail2.com/c/" + jwt + b64([]byte(`{"url":"https://example.org/"}`)) + ".sig", "https://example.org/"},
		{"drip, JSON null", "https://t.dripemail2.com/c/" + b64([]byte(`{"url":null}`)), opaque},
		{"drip, JSON list", "https://t.dripemail2.com/c/" + b64([]byte(`["https://example.org/"]`)), opaque},
		{"customer.io, deep JSON", "https://e.customeriomail.com/e/c/" + b64([]byte(`{"href":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`)), opaque},
		{"emarsys, whole address", "https://link.example.org/u/nrd.php?p=aB_1_2_3&d=" + url.QueryEscape(b64([]byte("https://example.org/uk"))), "https://example.org/uk"},
		{"emarsys, list of values", "https://link.example.org/u/nrd.php?p=aB_1_2_3&d=" + url.QueryEscape(b64([]byte("a"))+"|"+b64([]byte("www.example.org%2Fpolitik"))), opaque},
		{"streak, plain", "https://streaklinks.com/abc/https://example.org/a?b=c#d", "https://example.org/a?b=c#d"},
		{"streak, slashes folded", "https://streaklinks.com/abc/https:/example.org/a", "https://example.org/a"},
		{"streak, encoded", "https://streaklinks.com/abc/https%3A%2F%2Fexample.org%2Fa%3Fb", "https://example.org/a?b"},
		{"govdelivery, old", "https://links.govdelivery.com/track?type=click&enid=1&&&100&&&https://example.org/a?b=1&c=2#d", "https://example.org/a?b=1&c=2#d"},
		{"dynamics", "https://public-eur.mkt.dynamics.com/api/orgs/x/r/y?msdynmkt_target=%7B%22TargetUrl%22%3A%22https%253A%252F%252Fexample.org%252Feu%22%7D", "https://example.org/eu"},
		{"hubspot sales", "https://t.sidekickopen45.com/e1t/c/a?t=https%3A%2F%2Fexample.org%2F&si=1", "https://example.org/"},
	} {
		if got := linkText(Default(), c.url); got != c.want {
			t.Errorf("%s:\n%.300s\n got %.300s\nwant %.300s", c.name, c.url, got, c.want)
		}
	}
}

func TestProofpoint(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"https://urldefense.com/v3/__https://example.org/a*b__;Iw!!x!y$", "https://example.org/a#b"},
		{"https://urldefense.com/v3/__https:/example.org/a__;!!x!y$", "https://example.org/a"},
		{"https://urldefense.com/v3/__https://example.org/a**Ab*c__;PT09!!x!y$", "https://example.org/a==b=c"},
		{"https://urldefense.com/v3/__https://example.org/?q=1&r=2*x__;Iw!!x!y$", "https://example.org/?q=1&r=2#x"},
		{"https://urldefense.com/v3/__https://example.org/a**_b__;!!x!y$", ""},
		{"https://urldefense.com/v3/__https://example.org/a*__;!!x!y$", ""},
		{"https://urldefense.com/v3/__https://example.org/a", ""},
		{"https://urldefense.com/v3/", ""},
	} {
		a, ok := split(c.url)
		if !ok {
			t.Fatal(c.url)
		}
		if got, _ := decodeProofpoint3(a); got != c.want {
			t.Errorf("%s: %q, want %q", c.url, got, c.want)
		}
	}
	a, _ := split("https://urldefense.proofpoint.com/v2/url?u=http-3A__example.org_a-2Db-3Fc-3D-255F&d=x")
	if got, ok := decodeProofpoint2(a); !ok || got != "http://example.org/a-b?c=%5F" {
		t.Errorf("v2: %q", got)
	}
}

// TestHuge runs every rule's example blown up to a megabyte: nothing takes long.
func TestHuge(t *testing.T) {
	r := Default()
	for _, filler := range []string{"a", "%", "%25", "/", "&a=", "*", "~", "-", "{", "A1-", "_1", "eyJ", "\x00", "é", "__;"} {
		pad := strings.Repeat(filler, (1<<20)/len(filler))
		for _, head := range []string{
			"https://1a2b3.mjt.lu/lnk/a/1/b/", "https://example.org/", "https://email.example.org/c/eJ", "https://go.example.org/f/a/x~/y~/Rg",
			"https://mandrillapp.com/track/click/1/x?p=", "https://t.dripemail2.com/c/", "https://urldefense.com/v3/__", "https://streaklinks.com/a/",
			"https://example.org/mo/abcdef_1_", "https://example.org/go/1/", "https://example.org/?", "https://", "https://www.", "https://é",
			"https://example.org/u/nrd.php?p=", "https://links.govdelivery.com/track?type=click&", "https://x.y.z/t/t-l-", "mailto:",
		} {
			start := time.Now()
			r.Link(head + pad)
			r.Open(head + pad)
			r.StripIdentifiers(head + pad)
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("%s + 1 MB of %q: %v", head, filler, d)
			}
		}
	}
}
