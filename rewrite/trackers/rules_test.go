package trackers

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// TestRulesOfTheFile runs every example through the whole set: no rule stands in the shadow
// of another, and a counter leads where the file says.
func TestRulesOfTheFile(t *testing.T) {
	var file struct {
		Rule []ruleText `toml:"rule"`
	}
	if _, err := toml.Decode(string(defaultRules), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Rule) < 200 {
		t.Fatalf("only %d rules", len(file.Rule))
	}
	r := Default()
	for _, want := range file.Rule {
		t.Run(want.Name, func(t *testing.T) {
			l, ok := r.Link(want.Example)
			open := r.Open(want.Example)
			switch want.Kind {
			case Click:
				if !ok || l.Rule == nil || l.Rule.Name != want.Name {
					t.Fatalf("Link finds %+v (%+v)", l.Rule, l)
				}
				if l.Destination != want.Destination || l.Opaque != (want.Destination == "") {
					t.Errorf("leads to %q (opaque %v), want %q", l.Destination, l.Opaque, want.Destination)
				}
				if open != l.Rule {
					t.Errorf("as a resource it is %+v", open)
				}
			case Open:
				if open == nil || open.Name != want.Name {
					t.Fatalf("Open finds %+v", open)
				}
				if l.Rule != nil {
					t.Errorf("a link to it is %+v", l)
				}
			case Spacer:
				if !r.Spacer(want.Example) || open != nil || ok {
					t.Errorf("spacer %v, open %+v, link %+v", r.Spacer(want.Example), open, l)
				}
			case Gateway:
				if ok || open != nil {
					t.Errorf("around an ordinary address: link %+v, open %+v", l, open)
				}
			}
		})
	}
}

// TestPathsSpelledOtherwise: browsers and servers resolve dots and doubled slashes, so that they
// must not hide a tracker.
func TestPathsSpelledOtherwise(t *testing.T) {
	var file struct {
		Rule []ruleText `toml:"rule"`
	}
	if _, err := toml.Decode(string(defaultRules), &file); err != nil {
		t.Fatal(err)
	}
	r := Default()
	for _, rule := range file.Rule {
		host := strings.Index(rule.Example, "://") + 3
		slash := strings.IndexByte(rule.Example[host:], '/')
		if slash < 0 || rule.Kind != Click && rule.Kind != Open {
			continue
		}
		for _, lead := range []string{"/./", "//", "/%2e/", "/a/../", "/.%2E/", "///"} {
			url := rule.Example[:host+slash] + lead + rule.Example[host+slash+1:]
			if open := r.Open(url); open == nil || open.Name != rule.Name {
				t.Errorf("%s: %+v, want %s", url, open, rule.Name)
			}
			if rule.Kind != Click {
				continue
			}
			if l, _ := r.Link(url); l.Destination != rule.Destination {
				t.Errorf("%s leads to %q, want %q", url, l.Destination, rule.Destination)
			}
		}
	}
}

// TestOrdinary holds addresses that look somewhat like a counter, and are none.
func TestOrdinary(t *testing.T) {
	r := Default()
	for _, url := range []string{
		"https://www.example.org/",
		"https://www.example.org",
		"https://www.example.org/?s=shoes&utm_source=newsletter&utm_campaign=spring&mc_cid=12ab34cd56",
		"https://example.org/c/elephants-and-other-animals-that-live-in-the-savannah",
		"https://example.org/c/eJ",
		"https://example.org/c/eJwrongButLongEnoughToBeMistakenForAMailgunTokenByItsLookAlone00", // not email.…
		"https://example.org/o/eJ.png",
		"https://example.org/lnk/a/1/b/aGVsbG8gd29ybGQ",                  // base64 of "hello world"
		"https://example.org/lnk/AM8AAD6TDwc/1/H_gVqGi_Nd7A/not-base64!", // nor this
		"https://example.org/r/0123456789abcdef012345678",                // no ct
		"https://example.org/r/aB3/more/1",
		"https://example.org/link/to/some/page",
		"https://example.org/links/friends/family/pets",
		"https://example.org/links/friends/family/pets/cats",
		"https://example.org/link/9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d10",
		"https://example.org/l/de/shop/shoes",
		"https://example.org/t/topic-about-something/1234",
		"https://forum.example.org/t/a-long-topic-name-of-this-forum/another-long-name-here",
		"https://example.org/e/123/some-event/abcde/4567890", // go. and the like only
		"https://go.example.org/e/2026/conference",
		"https://example.org/go/partner-shop/13",
		"https://example.org/go/13/spring-sale.html",
		"https://example.org/click/here/now",
		"https://example.org/click.html?x=1&y=2",
		"https://example.org/open.html",
		"https://example.org/visit?ts=1&url=https://example.org/",
		"https://example.org/track/click/1/www.example.org?p=1",
		"https://example.org/track/order/12345",
		"https://track.example.org/shipment/AB12CD34",
		"https://track.example.org/de/parcel",
		"https://track.example.org/parcel/1Z999AA10123456784",
		"https://track.example.org/img/products/blue.png",
		"https://example.org/img/abcdef12/rtMuzogUauKN",
		"https://example.org/img/logo.png",
		"https://example.org/q/a~b/c",
		"https://example.org/f/a/b/c",
		"https://example.org/d?page=2",
		"https://example.org/d/d.gif",
		"https://example.org/u/click?a=1",
		"https://example.org/a/click?_t=1",
		"https://click.example.org/?qs=short",
		"https://click.example.org/",
		"https://click.example.org/products/shoes/aHR0cA",
		"https://view.example.org/?qs=0123456789abcdef0123456789abcdef0123456789abcdef",
		"https://example.org/?qs=0123456789abcdef0123456789abcdef0123456789abcdef",
		"https://example.org/trk?t=1",
		"https://example.org/redirect/2/about",
		"https://example.org/redirect/9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d10",
		"https://example.org/mo/photo_of_the_day.gif",
		"https://example.org/email/0123456789abcdef0123456789abcdef.gif", // a picture named by its MD5
		"https://example.org/email/header.gif",
		"https://example.org/s/c/shoes/red/12",
		"https://example.org/e/er?s=search",
		"https://example.org/e/c/eyJub3QiOiJhbiBhZGRyZXNzIn0/1234", // JSON without href
		"https://example.org/c/eyJ1cmwiOjF9",                       // url is no string
		"https://example.org/ctt?r=1",
		"https://example.org/ss/c/1/2/3",
		"https://example.org/ls/click?upn=1",
		"https://example.org/lt.php?s=search&l=de",
		"https://example.org/lists/",
		"https://example.org/campaign/spring/px.png",
		"https://example.org/4ABC-1DEF2/index.aspx",
		"https://example.org/a-really-long-slug-with-LOTS-of-words-in-it-that-goes-on-and-on-AAA-batteries",
		"https://www.google.com/search?q=https://example.org",
		"https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fexample.org%2F&data=1",
		"https://substack.com/@somebody",
		"https://example.substack.com/p/a-post",
		"https://mailchi.mp/example/spring",
		"https://a.kajabi.com/9/logo.png",
		// Other schemes and what is no address at all.
		"mailto:a@example.org?subject=mc_eid", "tel:+491234", "#top", "", "/lnk/a/1/b/aHR0cHM6Ly9leGFtcGxlLm9yZw",
		"javascript:alert(1)", "data:text/html,x", "cid:1@example.org", "{{ unsubscribe_url }}", "*|UNSUB|*", "https://", "http:///",
		"ftp://1a2b3.mjt.lu/lnk/a/1/b/aHR0cHM6Ly9leGFtcGxlLm9yZw",
		// The senders' own pages on the providers' hosts.
		"https://example.us12.list-manage.com/unsubscribe?u=1&id=2&e=3&c=4",
		"https://example.us12.list-manage.com/profile?u=1&id=2&e=3&c=4",
		"https://example.us12.list-manage.com/subscribe?u=1&id=2",
		"https://u123456.ct.sendgrid.net/asm/unsubscribe/?user_id=1&data=2",
		"https://u123456.ct.sendgrid.net/asm/?user_id=1&data=2",
		"https://links.example.org/wf/unsubscribe?upn=u001.abcdef",
		"https://email.example.org/u/eJwVxLEJwCAQBdBpUsvJIYIghkkVLCQWQkSw0uNb6M0Pj0",
		"https://1a2b3.mjt.lu/unsub2?m=1&b=2&e=3",
		"https://1a2b3.mjt.lu/nl2/abc/def.html?m=1",
		"https://r.example.org/mk/un/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
		"https://r.example.org/mk/mr/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
		"https://go.example.org/hs/manage-preferences/unsubscribe?d=1&_hsenc=2",
		"https://example.activehosted.com/proc.php?nl=1&c=2&act=unsub&e=3",
		"https://unsubscribe.convertkit-mail2.com/abcdefghij",
		"https://preferences.convertkit-mail2.com/abcdefghij",
		"https://example.cmail20.com/t/t-u-vnihtx-jktrukxhi-r/",
		"https://example.cmail20.com/t/t-e-vnihtx-jktrukxhi-r/",
		"https://click.example.org/unsub_center.aspx?qs=0123456789abcdef0123456789abcdef01234567",
		"https://click.example.org/profile_center.aspx?qs=0123456789abcdef0123456789abcdef01234567",
		"https://go.example.org/unsubscribe/u/123456/abcdef/123456789",
		"https://go.example.org/emailPreference/e/123456/abcdef/123456789",
		"https://go.example.org/UnsubscribePage.html?mkt_unsubscribe=1&mkt_tok=MTIzLUFCQy00NTYAAAG",
		"https://app.example.org/e/u?s=1&elq=2&unsubscribe=1",
		"https://links.example.org/e/encryptedUnsubscribe?_r=1&_s=2&_t=3",
		"https://mkt.example.org/email/unsubscribe/5c0f3a1b2d3e4123456789",
		"https://lists.example.org/subscription/9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d10/9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d11",
		"https://lists.example.org/lists/?p=unsubscribe&uid=0123456789abcdef0123456789abcdef",
		"https://news.example.org/unsubscribe/abc/def/ghi",
		"https://news.example.org/unsubscribe.html?x=a&m=b&mc=c&s=d&u=e",
		"https://news.example.org/tracking/unsubscribe?d=abcdefghijklmnopqrstuvwxyz012345",
		"https://links.mkt3337.com/luo?id=1",
		"https://link.example.org/u/gm.php?prm=aB3cD4eFgH_1_2_3_4",
		"https://link.example.org/u/un.php?par=aB3cD4eFgH_1_2_3_4",
		"https://news.example.org/4ABC-1DEF2-7GHI89-XYZ12-1/uns.aspx",
		"https://e.example.org/pub/optout/UnsubscribeOneStepConfirmAction?YES=1&_ri_=X0abc",
		"https://substack.com/action/disable_email?token=abc",
		"https://abcd.maillist-manage.com/ua/optout?od=1&rd=2",
		"https://blog.example.org/?mailpoet_router&endpoint=subscriptions&action=unsubscribe&data=abc",
		"https://blog.example.org/?mailpoet_page=subscriptions&mailpoet_router&endpoint=view_in_browser&action=view&data=abc",
	} {
		if l, ok := r.Link(url); ok {
			t.Errorf("link %s: %+v (%+v)", url, l, l.Rule)
		}
		if rule := r.Open(url); rule != nil {
			t.Errorf("open %s: %s", url, rule.Name)
		}
	}
}
