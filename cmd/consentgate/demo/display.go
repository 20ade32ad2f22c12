package demo

import (
	"encoding/base64"
	"html"
	"net/url"
	"strings"

	nethtml "golang.org/x/net/html"
)

// marks shows what a reader would not see: pixels as red labels, and what a link is as the
// colour of its outline.
const marks = `<style>
.cg-pixel,.cg-picture{display:inline-block;margin:6px 4px;padding:4px 10px;border-radius:99px;font:bold 13px/1.5 Arial,sans-serif;background:#c62828;color:#fff}
.cg-picture{background:#455a64}
a[data-cg]{outline:3px solid transparent;outline-offset:1px}
a[data-cg=counted]{outline-color:#e65100;outline-style:dashed}
a[data-cg=opaque]{outline-color:#c62828;outline-style:double}
a[data-cg=direct]{outline-color:#2e7d32}
a[data-cg=ours]{outline-color:#1565c0}
a[data-cg] img{outline:inherit;outline-offset:1px}
</style>`

// display returns the HTML of a message as a page may show it: pictures inside the mail are put
// in, the one known remote picture too, every other remote picture becomes a label with its
// address, and links lead nowhere but say where they would.
func display(v *view, base string) string {
	var b strings.Builder
	z := nethtml.NewTokenizer(strings.NewReader(v.html))
	for {
		kind := z.Next()
		if kind == nethtml.ErrorToken { // the end
			return b.String()
		}
		raw := string(z.Raw())
		if kind != nethtml.StartTagToken && kind != nethtml.SelfClosingTagToken {
			b.WriteString(raw)
			continue
		}
		switch t := z.Token(); t.Data {
		case "img":
			b.WriteString(picture(v, t))
		case "a":
			b.WriteString(anchor(t, base))
		case "body":
			b.WriteString(raw + marks)
		default:
			b.WriteString(raw)
		}
	}
}

// picture is an img element without anything that would be fetched.
func picture(v *view, t nethtml.Token) string {
	var src string
	var rest []nethtml.Attribute
	for _, a := range t.Attr {
		switch a.Key {
		case "src":
			src = a.Val
		case "srcset":
		default:
			rest = append(rest, a)
		}
	}
	k, _ := knownAddress(src)
	data, kind := []byte(nil), ""
	if id, ok := strings.CutPrefix(src, "cid:"); ok {
		for _, f := range v.files {
			if f.id == id {
				data, kind = f.data, f.kind
			}
		}
	} else if src == wayPictureURL {
		data, kind = wayPicture, "image/png"
	}
	switch {
	case src == transparent:
		return t.String()
	case data != nil:
		t.Attr = append(rest, nethtml.Attribute{Key: "src", Val: "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)})
		return t.String()
	case k.pixel:
		return `<span class="cg-pixel" title="` + html.EscapeString(src) + `">open pixel: ` + html.EscapeString(host(src)) + `</span>`
	}
	return `<span class="cg-picture">remote picture: ` + html.EscapeString(src) + `</span>`
}

// anchor is an a element that says where it would lead instead of leading there.
func anchor(t nethtml.Token, base string) string {
	var rest []nethtml.Attribute
	href := ""
	for _, a := range t.Attr {
		switch a.Key {
		case "href":
			href = a.Val
		case "ping", "title", "target":
		default:
			rest = append(rest, a)
		}
	}
	is := ""
	k, ok := knownAddress(href)
	switch {
	case strings.HasPrefix(href, base+"/u/"):
		is = "ours"
	case k.opaque:
		is = "opaque"
	case k.counter != "" || k.person && href != k.direct:
		is = "counted"
	case !ok || k.person || isDirect(href):
		is = "direct"
	}
	rest = append(rest, nethtml.Attribute{Key: "title", Val: href})
	if is != "" {
		rest = append(rest, nethtml.Attribute{Key: "data-cg", Val: is})
	}
	t.Attr = rest
	return t.String()
}

// isDirect reports whether an address is what a counter of the newsletter stands for.
func isDirect(url string) bool {
	for _, k := range addresses {
		if k.direct == url {
			return true
		}
	}
	return false
}

// host is the host of an address, or the address where it has none.
func host(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}
