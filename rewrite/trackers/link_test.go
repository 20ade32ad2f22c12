package trackers

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const sendgridLink = "https://u1.ct.sendgrid.net/ls/click?upn=u001.abc-2Bdef"

func safelinksAround(dest string) string {
	return "https://eur01.safelinks.protection.outlook.com/?url=" + url.QueryEscape(dest) + "&data=1&reserved=0"
}

// TestSpellings holds one counter in the ways in which a browser takes it.
func TestSpellings(t *testing.T) {
	const dest = "https://www.example.org/spring?colour=green"
	rest := strings.TrimPrefix(mailjetLink, "https://1a2b3.mjt.lu")
	r := Default()
	for _, u := range []string{
		mailjetLink,
		"HTTPS://1A2B3.Mjt.LU" + rest,
		" \x00\n" + mailjetLink + "\x1f \t",
		"ht\ntps://1a2b3.m\tjt.lu\r" + rest,
		"//1a2b3.mjt.lu" + rest,
		`\\1a2b3.mjt.lu` + strings.ReplaceAll(rest, "/", `\`),
		`https:\/1a2b3.mjt.lu` + rest,
		"https:////1a2b3.mjt.lu" + rest,
		"https:1a2b3.mjt.lu" + rest,
		"http://1a2b3.mjt.lu:80" + rest,
		"https://1a2b3.mjt.lu:" + rest,
		"https://user:pass@1a2b3.mjt.lu" + rest,
		"https://www.example.com@1a2b3.mjt.lu" + rest,
		"https://1a2b3.mjt.lu." + rest,
		"https://1a2b3.%6d%4At.lu" + rest,
		"https://1a2b3.mjt%2Elu" + rest,
		"https://１ａ２ｂ３。ｍｊｔ．ｌｕ" + rest,
		"https://1a2b3.mj\u00adt.lu" + rest,
		mailjetLink + "?utm_source=x",
		mailjetLink + "#x",
		mailjetLink + "/",
		"https://1a2b3.mjt.lu/%6cnk" + strings.TrimPrefix(rest, "/lnk"),
	} {
		if got := linkText(r, u); got != dest {
			t.Errorf("%q: %s", u, got)
		}
	}
}

func TestNesting(t *testing.T) {
	around := func(n int, dest string) string {
		for range n {
			dest = mailjetAround(dest)
		}
		return dest
	}
	const dest = "https://example.org/a"
	for _, c := range []struct{ name, url, want string }{
		{"eight deep", around(8, dest), dest},
		{"nine deep", around(9, dest), opaque},
		{"fifty deep", func() string {
			u := dest
			for range 50 {
				u = sesAround(u)
			}
			return u
		}(), opaque},
		{"a shape that the provider does not write", strings.Repeat("https://click.pstmrk.it/3s/", 50), none},
		{"two providers", mailjetAround(sesAround(mailgunLink(dest))), dest},
		{"around what cannot be read", mailjetAround(sesAround(sendgridLink)), opaque + " " + sendgridLink},
		{"around a relative address", mailjetAround(sesAround("/senators")), opaque + " " + sesAround("/senators")},
		{"a gateway alone", safelinksAround(dest), none},
		{"a gateway around a counter", safelinksAround(mailjetAround(dest)), dest},
		{"gateways around a counter", safelinksAround(safelinksAround(mailjetAround(dest))), dest},
		{"a gateway around what cannot be read", safelinksAround(sendgridLink), opaque},
		{"a counter around a gateway", mailjetAround(safelinksAround(dest)), safelinksAround(dest)},
		{"a counter around a gateway around a counter", mailjetAround(safelinksAround(mailjetAround(dest))), dest},
		{"a counter around a gateway around what cannot be read", mailjetAround(safelinksAround(sendgridLink)), opaque + " " + safelinksAround(sendgridLink)},
		{"a gateway around nothing", safelinksAround("javascript:x"), none},
		{"a counter around mailto", mailjetAround("mailto:a@example.org"), "mailto:a@example.org"},
		{"a counter around the sender's own page", mailjetAround("https://example.org/unsubscribe?mc_eid=1"), "https://example.org/unsubscribe?mc_eid=1"},
		{"a counter around another's own page", mailjetAround("https://x.us1.list-manage.com/unsubscribe?u=1&id=2&e=3"), "https://x.us1.list-manage.com/unsubscribe?u=1&id=2&e=3"},
	} {
		start := time.Now()
		if got := linkText(Default(), c.url); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s: took %v", c.name, d)
		}
	}
}

func TestLinkSaysWhichCounter(t *testing.T) {
	r := Default()
	l, ok := r.Link(safelinksAround(mailjetAround(sesAround("https://example.org/?a=1&mc_eid=2&MKT%5Ftok=3&b=4"))))
	if !ok || l.Rule.Name != "mailjet-click" || l.Rule.Provider != "Mailjet" || l.Rule.Kind != Click {
		t.Fatalf("%+v", l)
	}
	if want := []string{"mc_eid", "MKT_tok"}; !slices.Equal(l.Identifiers, want) {
		t.Errorf("identifiers %q, want %q", l.Identifiers, want)
	}
	if got, want := r.StripIdentifiers(l.Destination), "https://example.org/?a=1&b=4"; got != want {
		t.Errorf("stripped %s, want %s", got, want)
	}
	l, ok = r.Link("https://example.org/?mc_eid=2")
	if !ok || l.Rule != nil || l.Opaque || l.Destination != "" || !slices.Equal(l.Identifiers, []string{"mc_eid"}) {
		t.Errorf("no counter: %v %+v", ok, l)
	}
}

func TestOpen(t *testing.T) {
	pixel := "https://1a2b3.mjt.lu/oo/AM8AAD6TDwcAAAAA/1b2c3d4e/e.gif"
	r := Default().WithHosts([]string{"good.example"}, []string{"bad.example"})
	for _, c := range []struct{ url, want string }{
		{pixel, "mailjet-open"},
		{"//1A2B3.mjt.lu/oo/AM8AAD6TDwcAAAAA/1b2c3d4e/e.gif", "mailjet-open"},
		{"https://ci5.googleusercontent.com/proxy/abc=s0-d-e1-ft#" + pixel, "mailjet-open"},
		{"https://ci5.googleusercontent.com/proxy/abc=s0-d-e1-ft#https://example.org/logo.png", ""},
		{"https://ci5.googleusercontent.com/proxy/abc=s0-d-e1-ft", ""},
		{sendgridLink, "sendgrid-click-ls"},
		{mailjetLink, "mailjet-click"},
		{"https://ts-svc.inxserver.com/transparent.gif", ""},
		{"https://bad.example/logo.png", "tracker_hosts"},
		{"https://img.bad.example/unsubscribe.png", "tracker_hosts"},
		{"https://good.example/wf/open?upn=u001.abc", ""},
		{"cid:logo@example.org", ""},
		{"data:image/gif;base64,R0lGODlhAQABAAAAACw=", ""},
		{"/images/logo.png", ""},
		{"", ""},
	} {
		got := ""
		if rule := r.Open(c.url); rule != nil {
			got = rule.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.url, got, c.want)
		}
	}
	if r.Spacer("https://example.org/transparent.gif") || !r.Spacer("//ts-svc.inxserver.com/transparent.gif") || r.Spacer("x") {
		t.Error("Spacer")
	}
}

func TestHosts(t *testing.T) {
	base := Default()
	r := base.WithHosts([]string{"Allowed.Example.", "*.bücher.example", "a b", ""}, []string{"t.example", "allowed.example"})
	for _, c := range []struct {
		url     string
		allowed bool
		link    string
	}{
		{"https://allowed.example/ls/click?upn=u001.x", true, none},
		{"https://sub.allowed.example/?mc_eid=1", true, none},
		{"https://notallowed.example/ls/click?upn=u001.x", false, opaque},
		{"https://xn--bcher-kva.example/lists/lt.php?tid=1", true, none},
		{"https://shop.BÜCHER.example/lists/lt.php?tid=1", true, none},
		{"https://t.example/anything", false, opaque},
		{"https://a.b.t.example", false, opaque},
		{"https://t.example/unsubscribe?u=1", false, none},
		{"https://unsubscribe.t.example/?u=1", false, none},
		{"https://t.example/x?unsubscribe=1", false, none},
		{"https://t.example/lnk/a/1/b/aHR0cHM6Ly9leGFtcGxlLm9yZw", false, "https://example.org"},
		{mailjetAround("https://t.example/a"), false, opaque + " https://t.example/a"},
		{mailjetAround("https://allowed.example/ls/click?upn=u001.x&mc_eid=1"), false, "https://allowed.example/ls/click?upn=u001.x&mc_eid=1"},
		{"mailto:x@allowed.example", false, none},
	} {
		if got := r.Allowed(c.url); got != c.allowed {
			t.Errorf("Allowed(%s) = %v", c.url, got)
		}
		if got := linkText(r, c.url); got != c.link {
			t.Errorf("%s: %s, want %s", c.url, got, c.link)
		}
	}
	if l, _ := r.Link(mailjetAround("https://allowed.example/?mc_eid=1")); l.Identifiers != nil {
		t.Errorf("identifiers on an allowed host: %q", l.Identifiers)
	}
	if u := "https://allowed.example/?mc_eid=1"; r.StripIdentifiers(u) != u {
		t.Error("stripped on an allowed host")
	}
	if base.Allowed("https://allowed.example/") || base.Open("https://t.example/") != nil {
		t.Error("WithHosts changed the rules that it was called on")
	}
}

func TestWith(t *testing.T) {
	more, err := Load([]byte(`
own_pages = ["kuendig"]
signatures = ["seal"]
[[rule]]
name = "own"
provider = "Own"
kind = "click"
hosts = ["*.mjt.lu"]
path = "/lnk/**"
example = "https://a.mjt.lu/lnk/x"
[[rule]]
name = "phplist-click"
provider = "Own"
kind = "click"
hosts = ["lists.example.org"]
path = "/lists/lt.php"
query = ["tid", "own"]
example = "https://lists.example.org/lists/lt.php?tid=1&own=2"
[[identifier]]
name = "who_*"
provider = "Own"
`))
	if err != nil {
		t.Fatal(err)
	}
	r := Default().WithHosts([]string{"good.example"}, nil).With(more.WithHosts(nil, []string{"bad.example"}))
	if l, ok := r.Link(mailjetLink); !ok || l.Rule.Name != "own" || !l.Opaque {
		t.Errorf("the operator's rule is not asked first: %+v", l)
	}
	if got := linkText(r, "https://other.example.org/lists/lt.php?tid=1"); got != none {
		t.Errorf("a rule of the same name still fires: %s", got)
	}
	if got := linkText(r, sendgridLink); got != opaque {
		t.Errorf("the default rules are gone: %s", got)
	}
	if !r.Allowed("https://good.example/") || r.Open("https://bad.example/") == nil {
		t.Error("hosts are lost")
	}
	for _, c := range []struct{ in, want string }{
		{"https://example.org/?WHO_is=1&mc_eid=2&a=3", "https://example.org/?a=3"},
		{"https://example.org/?who_is=1&seal=2", "https://example.org/?who_is=1&seal=2"},
		{"https://example.org/kuendigen?who_is=1", "https://example.org/kuendigen?who_is=1"},
	} {
		if got := r.StripIdentifiers(c.in); got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestStripIdentifiers(t *testing.T) {
	same := func(s string) [2]string { return [2]string{s, s} }
	for _, c := range [][2]string{
		{"https://example.org/?mc_eid=1", "https://example.org/"},
		{"https://example.org?mc_eid=1#a?b=c&mc_eid=2", "https://example.org#a?b=c&mc_eid=2"},
		{"https://example.org/?b=%20+&mc_eid=1&a=é&a=&&x#f", "https://example.org/?b=%20+&a=é&a=&&x#f"},
		{"https://example.org/?mc_eid=1&a", "https://example.org/?a"},
		{"https://example.org/?a&mc_eid", "https://example.org/?a"},
		{"https://example.org/?mc%5Feid=1&MC_EID=2&a=1", "https://example.org/?a=1"},
		{"https://example.org/?m\nc_eid=1&a=1", "https://example.org/?a=1"},
		{" //example.org/?_hsenc=1&_hsmi=2 ", " //example.org/?_hsmi=2 "},
		{"https://example.org/?a=1&a=2&vero_id=3&vero_conv=4&ck_subscriber_id=5&__s=6&_kx=7&ml_subscriber=8&ml_subscriber_hash=9&dm_i=10&dm_t=11&et_rid=12&elq=13&elqTrackId=14&oly_enc_id=15&oly_anon_id=16&bsft_uid=17&sfmc_sub=18&_bhlid=19&ss_email_id=20&wickedid=21&rb_clickid=22&mkt_tok=23", "https://example.org/?a=1&a=2"},
		same("https://example.org/?utm_source=a&utm_id=b&mc_cid=c&_hsmi=d&s_cid=e&elqCampaignId=f&fbclid=g"),
		same("https://example.org/?q=mc_eid&x=mc_eid=1"),
		same("https://example.org/mc_eid=1"),
		same("https://example.org/#?mc_eid=1"),
		same("https://example.org/#a?mc_eid=1"),
		same("https://example.org/"),
		same("/relative?mc_eid=1"),
		same("mailto:a@example.org?mc_eid=1"),
		same(""),
		same("?"),
		// Sealed.
		same("https://b.s3.amazonaws.com/f?X-Amz-Algorithm=a&X-Amz-Signature=b&mc_eid=1"),
		same("https://storage.googleapis.com/f?X-Goog-Signature=b&mc_eid=1"),
		same("https://d1.cloudfront.net/f?Expires=1&Signature=b&Key-Pair-Id=c&mc_eid=1"),
		same("https://x.blob.core.windows.net/f?se=1&sp=r&sig=b&mc_eid=1"),
		same("https://example.org/login?email=a&hmac=b&mc_eid=1"),
		// The sender's own pages.
		same("https://go.example.org/UnsubscribePage.html?mkt_unsubscribe=1&mkt_tok=1"),
		same("https://go.example.org/x?mkt_unsubscribe=1&mkt_tok=1"),
		same("https://unsubscribe.example.org/?mkt_tok=1"),
		same("https://example.org/email-preferences?elq=1"),
		same("https://example.org/konto/abmelden?mc_eid=1"),
		// A counter needs its parameters.
		same("https://app.example.org/e/er?s=1&lid=2&elqTrackId=3&elq=4"),
		same(safelinksAround("https://example.org/") + "&mc_eid=1"),
	} {
		got := Default().StripIdentifiers(c[0])
		if got != c[1] {
			t.Errorf("%q:\n got %q\nwant %q", c[0], got, c[1])
		}
		if again := Default().StripIdentifiers(got); again != got {
			t.Errorf("%q: a second time gives %q", c[0], again)
		}
	}
}

func TestWeb(t *testing.T) {
	for in, want := range map[string]string{
		"https://t.example.net/o.gif?a=1&b=2#c": "https://t.example.net/o.gif?a=1&b=2#c",
		"HTTP://t.example.net":                  "http://t.example.net",
		"//t.example.net/o":                     "https://t.example.net/o",
		`https:\\t.example.net\a\b?c\d`:         `https://t.example.net/a/b?c\d`,
		" https://t.example.net/a b\t'\"<>":     "https://t.example.net/a%20b%27%22%3C%3E",
		"https://t.example.net/ä":               "https://t.example.net/%C3%A4",
		"mailto:a@example.net":                  "",
		"tel:123":                               "",
		"ftp://t.example.net/":                  "",
		"javascript:alert(1)":                   "",
		"data:text/html,x":                      "",
		"/relative":                             "",
		"https:///":                             "",
		"":                                      "",
	} {
		if got, ok := Web(in); got != want || ok != (want != "") {
			t.Errorf("Web(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}
