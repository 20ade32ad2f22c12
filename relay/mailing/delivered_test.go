package mailing

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

func everything(t *testing.T, text string) *rewrite.Message {
	t.Helper()
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), trackers.Default(), rewrite.Options{Everything: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sentCopy is a signed copy as serve keeps it.
func sentCopy(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "example.org", "gate")
	if err != nil {
		t.Fatal(err)
	}
	c, err := everything(t, "From: news@example.org\r\nTo: seed@example.com\r\nSubject: Hats\r\n"+
		"List-Unsubscribe: <https://mail.example.org/u/abc>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<html><body>\r\n"+
		"<img src=\"https://cdn.example.org/hat.png\" width=600 height=300>\r\n"+
		"<a href=\"https://shop.example.org/hat?size=5\">a hat</a>\r\n<a href=\"https://shop.example.org/cap\">a cap</a>\r\n"+
		"<a href=\"https://mail.example.org/u/abc\">unsubscribe</a>\r\n</body></html>\r\n").Render(rewrite.Variant{Open: true, Click: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.New([]*sign.Key{k}, sign.Options{}).Sign(c); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := c.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// summary is what a comparison says, short.
func summary(d *Delivered) string {
	var b strings.Builder
	for _, f := range d.Fetched {
		fmt.Fprintf(&b, "fetched %s\n", f.URL)
	}
	for _, f := range d.Counters {
		fmt.Fprintf(&b, "counter %s\n", f.URL)
	}
	for _, l := range d.Changed {
		fmt.Fprintf(&b, "changed %s to %s\n", l.Sent.URL, l.Received.URL)
	}
	for _, f := range d.Links {
		fmt.Fprintf(&b, "link %s\n", f.URL)
	}
	for _, f := range d.RemovedLinks {
		fmt.Fprintf(&b, "removed %s\n", f.URL)
	}
	for _, name := range d.Fields {
		fmt.Fprintf(&b, "field %s\n", name)
	}
	for _, s := range d.Signatures {
		fmt.Fprintf(&b, "signature %s gone=%v body=%v fields=%v\n", s.Domain, s.Gone, s.BodyHolds, s.Fields)
	}
	return b.String()
}

func TestCompareDelivered(t *testing.T) {
	sent := sentCopy(t)
	const body = "signature example.org gone=false body=false fields=[]\n"
	replace := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(sent) }
	for name, tt := range map[string]struct {
		received string
		tracked  bool
		want     string
	}{
		"as it was":          {"Received: from mx by mailbox; now\r\nAuthentication-Results: x\r\n" + sent, false, ""},
		"a pixel":            {replace("</body>", "<img src=\"https://px.example.net/o.gif\" width=1 height=1></body>"), true, "fetched https://px.example.net/o.gif\n" + body},
		"a picture":          {replace("</body>", "<img src=\"https://ads.example.net/banner.png\" width=600 height=90></body>"), true, "fetched https://ads.example.net/banner.png\n" + body},
		"every link counted": {replace("https://shop.example.org/", "https://click.example.net/?to="), true, "changed https://shop.example.org/hat?size=5 to https://click.example.net/?to=hat?size=5\nchanged https://shop.example.org/cap to https://click.example.net/?to=cap\n" + body},
		"a parameter more":   {replace("size=5", "size=5&amp;id=anna"), true, "changed https://shop.example.org/hat?size=5 to https://shop.example.org/hat?size=5&id=anna\n" + body},
		"a known counter":    {replace("</body>", "<a href=\"https://example.us1.list-manage.com/track/click?u=1&amp;id=2&amp;e=3\">x</a></body>"), true, "counter https://example.us1.list-manage.com/track/click?u=1&id=2&e=3\n" + body},
		"a ping":             {replace("/cap\"", "/cap\" ping=\"https://p.example.net/1\""), true, "counter https://p.example.net/1\n" + body},
		"another link":       {replace("</body>", "<a href=\"https://list.example.net/info\">about this list</a></body>"), false, "link https://list.example.net/info\n" + body},
		"unsubscribe gone": {replace("<a href=\"https://mail.example.org/u/abc\">unsubscribe</a>", "", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", ""), false,
			"removed https://mail.example.org/u/abc\nfield List-Unsubscribe-Post\nsignature example.org gone=false body=false fields=[list-unsubscribe-post]\n"},
		"the pair replaced": {replace("<https://mail.example.org/u/abc>\r\n", "<https://esp.example.net/u>\r\n"), false,
			"field List-Unsubscribe\nsignature example.org gone=false body=true fields=[list-unsubscribe]\n"},
		"subject":        {replace("Subject: Hats", "Subject: [list] Hats"), false, "signature example.org gone=false body=true fields=[subject]\n"},
		"folding only":   {replace("Subject: Hats", "Subject:\r\n  Hats"), false, ""},
		"signature gone": {sent[strings.Index(sent, "From:"):], false, "signature example.org gone=true body=true fields=[]\n"},
		"receipt asked":  {"Disposition-Notification-To: a@example.net\r\n" + sent, true, "fetched \n"},
		"encoded anew":   {replace("a hat", "a  hat"), false, ""}, // relaxed
	} {
		d, err := CompareDelivered(everything(t, sent), everything(t, tt.received))
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(d); got != tt.want || d.Tracked() != tt.tracked {
			t.Errorf("%s: tracked %v\n%swant %v\n%s", name, d.Tracked(), got, tt.tracked, tt.want)
		}
		if d.Alike < 0.7 {
			t.Errorf("%s: alike only %v", name, d.Alike)
		}
	}
	// More links than are aligned with care, and one of them changed.
	links := func(changed int) string {
		var b strings.Builder
		b.WriteString("From: a@example.org\r\nContent-Type: text/html\r\n\r\n")
		for i := range 3 * longest {
			if i == changed {
				b.WriteString("<a href=\"https://click.example.net/\">x</a>\r\n")
			} else {
				fmt.Fprintf(&b, "<a href=\"https://shop.example.org/%d\">x</a>\r\n", i)
			}
		}
		return b.String()
	}
	many, err := CompareDelivered(everything(t, links(-1)), everything(t, links(2*longest)))
	if want := fmt.Sprintf("changed https://shop.example.org/%d to https://click.example.net/\n", 2*longest); err != nil || summary(many) != want {
		t.Errorf("many links: %v\n%.500s", err, summary(many))
	}
	d, err := CompareDelivered(everything(t, sent), everything(t, "From: a@example.org\r\n\r\nsomething else\r\n"))
	if err != nil || d.Alike != 0 {
		t.Errorf("another message: %v, alike %v", err, d.Alike)
	}
}
