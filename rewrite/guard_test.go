package rewrite

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

const testGuard = "https://t.example.org/t/"

// sealed stands in for a token of a length that real ones have.
func sealed(g Target) string {
	h := fnv.New64a()
	fmt.Fprint(h, g.Kind, g.URL, g.Destination)
	return fmt.Sprintf("%s%s-%016x%s", testGuard, g.Kind, h.Sum64(), strings.Repeat("x", 80+len(g.URL)*4/3))
}

func guarded(open, click bool) Variant {
	v := variant(open, click)
	v.Guard = sealed
	return v
}

// checkGuarded states of a guarded copy that a second look finds no tracker in it but those that
// are guarded or signed (or, in markup that reads differently once something is gone, in a copy without consent
// as well), and of a copy without consent that it is as any other.
func checkGuarded(t testing.TB, m *Message, v Variant, out []byte) {
	if v.Guard == nil {
		return
	}
	if !v.Open && !v.Click {
		v.Guard = nil
		if plain := render(t, m, v); !bytes.Equal(plain, out) {
			t.Fatalf("a copy without consent is changed by the guard (-without +with):\n%s", cmp.Diff(string(plain), string(out)))
		}
		return
	}
	if m.signed || m.unreadable != "" || m.frozen != 0 || strings.Contains(string(m.src.(Bytes)), "PGP SIGNED") {
		return
	}
	if left := trackersLeft(m, v, out); len(left) > 0 {
		none := v
		none.Open, none.Click, none.Guard = false, false, nil
		unread := func(f Finding) bool { return f.Kind == ClickTracker && f.Destination == "" } // these stay there
		if len(slices.DeleteFunc(trackersLeft(m, v, render(t, m, none)), unread)) == 0 {
			t.Fatalf("left in a guarded copy, open %v, click %v: %+v\n%s", v.Open, v.Click, left, out)
		}
	}
}

// trackersLeft is what a second look finds in a copy that a guarded one must not have.
func trackersLeft(m *Message, v Variant, copy []byte) []Finding {
	opts := m.opts
	opts.GuardPrefix = testGuard
	again, err := Parse(Bytes(copy), int64(len(copy)), m.rules, opts)
	if err != nil {
		return nil // the header grew over the limit
	}
	return slices.DeleteFunc(again.findings, func(f Finding) bool {
		switch {
		case f.Kind == Unsubscribe, f.Rule == "identifier", strings.HasPrefix(f.URL, testGuard), strings.Contains(f.URL, "unsubscribe_url"):
			return true
		}
		return f.Kind == OpenTracker && !v.Open || f.Kind == ClickTracker && !v.Click
	})
}

// TestGuardVectors: whatever the way to phone home, a guarded copy has the address nowhere, and where
// a picture does it has another.
func TestGuardVectors(t *testing.T) {
	const known, unknown = "https://open.convertkit-mail4.com/ab12cd34ef", "https://pictures.example.org/ab12cd34ef"
	for _, addr := range []string{known, known + "?a=1&amp;b=2", unknown, unknown + "?a=1&amp;b=2"} {
		opts := testOptions()
		if strings.HasPrefix(addr, unknown) {
			opts.Images = ImagesAllRemote
		}
		for _, v := range vectors {
			html := expand(v.html, addr)
			src := []byte("Content-Type: text/html\r\n\r\n<p>Hello</p>\r\n" + html)
			m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
			if err != nil {
				t.Fatal(err)
			}
			got := render(t, m, Variant{Open: true, Click: true, Guard: sealed})
			left := "ab12cd34ef"
			if strings.HasPrefix(v.name, "relative with base") || strings.HasPrefix(v.name, "base ") { // the base itself is not fetched
				left = "x.gif"
			}
			if bytes.Contains(got, []byte(left)) {
				t.Errorf("%s, %s: left:\n%s", v.name, opts.Images, got)
			}
			checkGuarded(t, m, Variant{Open: true, Click: true, Guard: sealed}, got)
		}
	}
}

// TestGuardInPlace: what stands where in a guarded copy.
func TestGuardInPlace(t *testing.T) {
	const pixel = "https://open.convertkit-mail4.com/ab12cd34ef"
	const counter = "https://click.pstmrk.it/3s/www.example.org%2Foffer/abc/def/ghi"
	const opaque = "https://click.convertkit-mail4.com/abcdef/ghij/a1b2"
	p := func(addr string) string { return sealed(Target{Kind: OpenTracker, URL: addr}) }
	c := func(addr, dest string) string {
		return sealed(Target{Kind: ClickTracker, URL: addr, Destination: dest})
	}
	for _, x := range []struct{ name, html, want string }{
		{"img", `<img src="` + pixel + `" width=1>`, `<img src="` + p(pixel) + `" width=1>`},
		{"img without quotes", `<img src=` + pixel + ` width=1>`, `<img src=` + p(pixel) + ` width=1>`},
		{"references", `<img src="` + pixel + `?a=1&amp;b=2">`, `<img src="` + p(pixel+"?a=1&b=2") + `">`},
		{"protocol-relative", `<img src="` + pixel[6:] + `">`, `<img src="` + p(pixel) + `">`},
		{"backslashes", `<img src="https:\\open.convertkit-mail4.com\ab12cd34ef">`, `<img src="` + p(pixel) + `">`},
		{"srcset", `<img src="` + pixel + `" srcset="cid:a 1x, ` + pixel + `?a&amp;b 2x">`, `<img src="` + p(pixel) + `" srcset="cid:a 1x, ` + p(pixel+"?a&b") + ` 2x">`},
		{"two attributes", `<img lowsrc="` + pixel + `" src="` + pixel + `?2">`, `<img lowsrc="` + p(pixel) + `" src="` + p(pixel+"?2") + `">`},
		{"style on a pixel", `<img src="` + pixel + `" style="background:url('` + pixel + `?2')">`, `<img src="` + p(pixel) + `" style="background:url(` + p(pixel+"?2") + `)">`},
		{"background", `<td background='` + pixel + `'>`, `<td background='` + p(pixel) + `'>`},
		{"style with references", `<p style="color:red;background:url(&quot;` + pixel + `&quot;) no-repeat">x</p>`, `<p style="color:red;background:url(` + p(pixel) + `) no-repeat">x</p>`},
		{"image-set", `<p style="background:image-set('` + pixel + `' 1x)">x</p>`, `<p style="background:image-set('` + p(pixel) + `' 1x)">x</p>`},
		{"style element", `<style>p{background:url("` + pixel + `")}</style>`, `<style>p{background:url(` + p(pixel) + `)}</style>`},
		{"@import", `<style>@import "` + pixel + `";p{}</style>`, `<style>@import "data:,";p{}</style>`},
		{"VML", `<!--[if mso]><v:fill src="` + pixel + `"/><![endif]-->`, `<!--[if mso]><v:fill src="` + p(pixel) + `"/><![endif]-->`},
		{"VML link", `<!--[if mso]><v:roundrect href="` + counter + `"><![endif]-->`, `<!--[if mso]><v:roundrect href="` + c(counter, "https://www.example.org/offer") + `"><![endif]-->`},
		{"prefetch", `<link rel=dns-prefetch href="//x.example.org">x`, `x`},
		{"link", `<a href="` + counter + `" ping="https://p.example.org/">x</a>`, `<a href="` + c(counter, "https://www.example.org/offer") + `">x</a>`},
		{"link that cannot be read", `<a href=` + opaque + `>x</a>`, `<a href=` + c(opaque, "") + `>x</a>`},
		{"link with a percent sign", `<a href="` + opaque + `/100%/x#5%">x</a>`, `<a href="` + c(opaque+"/100%/x#5%", "") + `">x</a>`},
		{"named destination", `<a href="https://x.example.org/c" data-consent-href="https://y.example.org/">x</a>`, `<a href="` + c("https://x.example.org/c", "https://y.example.org/") + `">x</a>`},
		{"identifiers are no counter", `<a href="https://x.example.org/?mc_eid=abc">x</a>`, `<a href="https://x.example.org/?mc_eid=abc">x</a>`},
		{"link in text", `<p>see ` + counter + `.</p>`, `<p>see ` + c(counter, "https://www.example.org/offer") + `.</p>`},
		{"counted form", `<form action="` + counter + `">`, `<form action="https://www.example.org/offer">`},
		{"counted form that cannot be read", `<form action="` + opaque + `" method=post>`, `<form method=post>`},
		{"shown and a pixel", `<img src="https://x.example.org/a.png"><img src="https://x.example.org/a.png" width=1 height=1>`,
			`<img src="` + p("https://x.example.org/a.png") + `"><img src="` + p("https://x.example.org/a.png") + `" width=1 height=1>`},
		{"guarded before", `<img src="` + testGuard + `abc" width=1 height=1><a href="` + testGuard + `abc">x</a>`, `<img src="` + testGuard + `abc" width=1 height=1><a href="` + testGuard + `abc">x</a>`},
		{"JSON-LD", `<script type="application/ld+json">{"image":"` + pixel + `","url":"` + counter + `"}</script>`,
			`<script type="application/ld+json">{"image":"` + p(pixel) + `","url":"` + c(counter, "https://www.example.org/offer") + `"}</script>`},
		{"document in an attribute", `<iframe srcdoc="<a href=` + opaque + `>x</a>"></iframe>`, `<iframe></iframe>`},
	} {
		src := []byte("Content-Type: text/html\r\n\r\n" + x.html + "\r\n")
		opts := testOptions()
		opts.GuardPrefix = testGuard
		m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
		if err != nil {
			t.Fatal(err)
		}
		got := render(t, m, Variant{Open: true, Click: true, Guard: sealed})
		again := parse(t, got)
		if d := cmp.Diff(x.want, strings.TrimRight(string(again.texts[0].decoded()), "\r\n")); d != "" {
			t.Errorf("%s (-want +got):\n%s", x.name, d)
		}
		for line := range bytes.SplitSeq(got, []byte("\r\n")) {
			if again.texts[0].enc == quotedPrintable && len(line) > 76 {
				t.Errorf("%s: a line of %d characters", x.name, len(line))
			}
		}
	}
}

// TestPlaceholderCounted: a counter around {{unsubscribe_url}} goes where nobody may be counted, or may not be later.
func TestPlaceholderCounted(t *testing.T) {
	for _, counter := range []string{
		"https://click.pstmrk.it/3s/{{unsubscribe_url}}/abc/def/ghi", // where a scheme is put before what it leads to
		"https://click.convertkit-mail4.com/abcdef/ghij/a1b2?to=%7B%7Bunsubscribe_url%7D%7D",
	} {
		for _, html := range []string{`<p>x <a href="` + counter + `">no more</a></p>`, `<p>no more: ` + counter + `</p>`} {
			for name, v := range map[string]Variant{"none": variant(false, false), "open": variant(true, false), "guarded": guarded(true, true)} {
				m := parse(t, []byte("Content-Type: text/html\r\n\r\n"+html+"\r\n"))
				want := strings.Replace(html, counter, testLink, 1)
				if got := strings.TrimRight(string(parse(t, render(t, m, v)).texts[0].decoded()), "\r\n"); got != want {
					t.Errorf("%s, %s: %s", counter, name, got)
				}
			}
		}
	}
}

// TestPlaceholderNamed: where the sender says where a link leads, it leads there.
func TestPlaceholderNamed(t *testing.T) {
	const html = `<a href="https://click.convertkit-mail4.com/abcdef/ghij/a1b2?to={{unsubscribe_url}}" data-consent-href="https://shop.example.org/stop">x</a>`
	m := parse(t, []byte("Content-Type: text/html\r\n\r\n"+html+"\r\n"))
	for name, v := range map[string]Variant{"none": variant(false, false), "guarded": guarded(true, true)} {
		if got := string(parse(t, render(t, m, v)).texts[0].decoded()); !strings.HasPrefix(got, `<a href="https://shop.example.org/stop">x</a>`) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestGuardByPurpose: each purpose is guarded by itself, receipts and AMP do not stay, and Guard is asked
// once for an address.
func TestGuardByPurpose(t *testing.T) {
	const pixel, counter = "https://open.convertkit-mail4.com/ab12cd34ef", "https://click.pstmrk.it/3s/www.example.org%2Foffer/abc/def/ghi"
	src := []byte("Return-Receipt-To: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\n" + counter + "\r\n" +
		"--b\r\nContent-Type: text/x-amp-html\r\n\r\n<html amp4email>\r\n" +
		"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		b64(`<img src="`+pixel+`"><a href="`+counter+`">x</a><a href="`+counter+`">y</a>`) + "\r\n--b--\r\n")
	m := parse(t, src)
	for _, x := range []struct {
		open, click bool
		asked       string
		receipt     bool
	}{{true, true, "click open", false}, {true, false, "open", false}, {false, true, "click", false}} {
		var asked []string
		v := Variant{Open: x.open, Click: x.click, Guard: func(g Target) string {
			asked = append(asked, string(g.Kind))
			return sealed(g)
		}}
		got := string(render(t, m, v))
		if strings.Join(asked, " ") != x.asked {
			t.Errorf("open %v, click %v: asked for %q", x.open, x.click, asked)
		}
		if strings.Contains(got, "Receipt") || strings.Contains(got, "amp4email") {
			t.Errorf("a receipt or AMP stays:\n%s", got)
		}
		var guarded int
		c, _ := m.Render(v)
		for _, o := range c.Outcomes() {
			if o.Action == Guarded {
				guarded++
			}
		}
		if want := map[string]int{"click open": 4, "open": 1, "click": 3}[x.asked]; guarded != want {
			t.Errorf("open %v, click %v: %d outcomes guarded, want %d", x.open, x.click, guarded, want)
		}
	}
}

// TestGuardCorpus holds real mail to the properties of guarded copies.
func TestGuardCorpus(t *testing.T) {
	places := 0
	for _, file := range corpus(t) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(Bytes(crlf(src)), int64(len(crlf(src))), trackers.Default(), testOptions())
		if err != nil {
			continue
		}
		c, err := m.Render(guarded(true, true))
		if err != nil {
			continue
		}
		for _, o := range c.Outcomes() {
			if o.Action == Guarded {
				places++
			}
		}
	}
	if places < 1000 {
		t.Errorf("only %d places guarded in the whole corpus", places)
	}
}

// FuzzGuarded looks for HTML of which a guarded copy would keep a tracker.
func FuzzGuarded(f *testing.F) {
	const known = "https://open.convertkit-mail4.com/ab12cd34ef"
	for _, v := range vectors {
		f.Add(expand(v.html, known), false)
	}
	f.Add(`<a href="https://click.pstmrk.it/3s/www.example.org%2Foffer/abc/def/ghi" ping=x>x</a><form action=https://click.pstmrk.it/3s/x.example/a/b/c>`, true)
	f.Fuzz(func(t *testing.T, html string, all bool) {
		src := []byte("Content-Type: text/html\r\n\r\n" + html)
		if bareCR(src) {
			return
		}
		opts := testOptions()
		if all {
			opts.Images = ImagesAllRemote
		}
		m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, consent := range []variants{0b00, 0b01, 0b10, 0b11} { // without a footer, whose place may be in odd CSS
			v := Variant{Open: consent&1 != 0, Click: consent&2 != 0, Guard: sealed}
			c, err := m.Render(v)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			c.WriteTo(&b) // into memory
			checkOutside(t, m, v, b.Bytes())
			checkGuarded(t, m, v, b.Bytes())
		}
	})
}
