package htmltoken

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	xhtml "golang.org/x/net/html"
)

// newsletter makes the HTML of a newsletter with n items, in the manner of the tools that write them: nested
// tables, inline styles, long counted links, conditional comments, and a pixel.
func newsletter(n int) string {
	var b strings.Builder
	b.WriteString(`<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml" lang="en">
<head><meta http-equiv="Content-Type" content="text/html; charset=utf-8"><title>News &amp; offers</title>
<!--[if gte mso 9]><xml><o:OfficeDocumentSettings><o:AllowPNG/></o:OfficeDocumentSettings></xml><![endif]-->
<style type="text/css">
body{margin:0;padding:0} td>a:hover{color:#c00!important} .bg{background:url("https://img.example.org/bg.png")}
@media only screen and (max-width:480px){.wrap{width:100%!important}}
</style></head><body bgcolor=#ffffff><center>
<!--[if mso]><table width="600"><tr><td><![endif]-->
<table role="presentation" class='wrap' width="600" cellpadding="0" cellspacing="0" border="0">
`)
	for i := range n {
		fmt.Fprintf(&b, `<tr><td align="left" valign="top" style="padding:10px 20px;font-family:Arial,sans-serif;font-size:15px;line-height:22px;color:#333333">
<a href="https://click.example.org/ls/click?upn=u001.%040d&amp;c=%d" target="_blank" style="text-decoration:none"><img src="https://img.example.org/%d.jpg" width="560" height="240" alt="Item %d: 10 &lt; 20" border="0" style="display:block"/></a>
<h2 style="margin:0">Item %d</h2><p>Some words about this item, neither many nor few, with <b>weight</b> and <i>feeling</i>&nbsp;&mdash; and a&nbsp;price of &euro;&nbsp;12.<br>
<a href='https://click.example.org/ls/click?upn=u001.%040d' class=button>Read more</a></p></td></tr>
`, i, i, i, i, i, i+7)
	}
	b.WriteString(`</table>
<!--[if mso]></td></tr></table><![endif]--><![if !mso]><div></div><![endif]>
<p style="font-size:11px"><a href="https://example.org/unsubscribe">Unsubscribe</a></p>
<img src="https://open.example.org/o.gif?u=1234567890" width="1" height="1" style="display:none" alt=""></center></body></html>
`)
	return b.String()
}

func samples(b *testing.B, run func(b *testing.B, src []byte)) {
	b.Run("newsletter", func(b *testing.B) { run(b, []byte(newsletter(40))) })
	b.Run("news.html", func(b *testing.B) {
		src, err := os.ReadFile(benchFile())
		if err != nil {
			b.Skip("CONSENTGATE_BENCH_HTML names no file")
		}
		run(b, src)
	})
}

func BenchmarkTokens(b *testing.B) {
	samples(b, func(b *testing.B, src []byte) {
		b.SetBytes(int64(len(src)))
		b.ReportAllocs()
		z := New(nil)
		var t Token
		for b.Loop() {
			z.Reset(src)
			for z.Next(&t) {
			}
		}
	})
}

// BenchmarkXNet is the measure: the tokenizer of x/net, with attributes read.
func BenchmarkXNet(b *testing.B) {
	samples(b, func(b *testing.B, src []byte) {
		b.SetBytes(int64(len(src)))
		b.ReportAllocs()
		for b.Loop() {
			z := xhtml.NewTokenizer(bytes.NewReader(src))
			for {
				tt := z.Next()
				if tt == xhtml.ErrorToken {
					break
				}
				if tt == xhtml.StartTagToken || tt == xhtml.SelfClosingTagToken {
					_, more := z.TagName()
					for more {
						_, _, more = z.TagAttr()
					}
				}
			}
		}
	})
}

// hostile inputs of about n bytes each, against which the time must stay linear.
func hostile(n int) map[string][]byte {
	rep := func(s string) []byte { return bytes.Repeat([]byte(s), n/len(s)+1) }
	behind := func(prefix, s string) []byte { return append([]byte(prefix), rep(s)...) }
	half := func(open, end string) []byte {
		return append(bytes.Repeat([]byte(open), n/2/len(open)), bytes.Repeat([]byte(end), n/2/len(end))...)
	}
	names := func(prefix string) []byte {
		var b bytes.Buffer
		b.WriteString(prefix)
		for i := 0; b.Len() < n/2; i++ {
			fmt.Fprintf(&b, "<x%d>", i)
		}
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "</y%d>", i)
		}
		return b.Bytes()
	}
	return map[string][]byte{
		"lt":             rep("<"),
		"slash":          rep("</"),
		"comment open":   rep("<!--"),
		"comment dashes": behind("<!--a", "-"),
		"comment bang":   behind("<!--a", "--!"),
		"comments":       rep("<!-->"),
		"bang":           rep("<!"),
		"question":       rep("<?"),
		"tag open":       rep("<a "),
		"attributes":     behind("<a ", "b "),
		"equals":         behind("<a ", "="),
		"blanks":         behind("<a b", " "),
		"quotes":         rep(`<a b="`),
		"quote swap":     rep(`<a b="'>`),
		"style":          rep("<style>"),
		"style ends":     behind("<style>", "</style"),
		"style pairs":    rep("<style></style>"),
		"script":         rep("<script><!--<script>"),
		"script dashes":  behind("<script><!--", "--"),
		"script ends":    behind("<script><!--<script>", "</script "),
		"script both":    behind("<script><!--", "<script </script "),
		"title":          rep("<title><"),
		"cdata":          behind("<svg>", "<![CDATA["),
		"cdata ends":     behind("<svg><![CDATA[", "]]"),
		"cdata html":     rep("<![CDATA["),
		"doctype":        rep("<!doctype"),
		"div":            rep("<div>"),
		"div end":        half("<div>", "</p>"),
		"span end":       half("<span>", "</b>"),
		"b div":          rep("<b><div></b>"),
		"a":              half("<div>", "<a>"),
		"td":             half("<table><b>", "<td>"),
		"svg":            rep("<svg>"),
		"svg end":        half("<svg>", "</g>"),
		"svg break":      half("<svg>", "<p>"),
		"svg desc":       rep("<svg><desc>"),
		"foreign names":  names("<svg>"),
		"html names":     names(""),
		"long name":      behind("<", "a"),
		"font":           behind("<svg>", "<font a b c d e f>"),
	}
}

// TestAllocations: none a token, once the list of attributes has grown.
func TestAllocations(t *testing.T) {
	src := []byte(newsletter(5))
	z := New(src)
	n := testing.AllocsPerRun(10, func() {
		z.Reset(src)
		var tok Token
		for z.Next(&tok) {
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// benchFile names a file of HTML to measure and compare with, besides the newsletter made here.
func benchFile() string { return os.Getenv("CONSENTGATE_BENCH_HTML") }

func BenchmarkHostile(b *testing.B) {
	for name := range hostile(8) {
		for _, n := range []int{1 << 19, 1 << 20, 1 << 21} {
			src := hostile(n)[name]
			b.Run(fmt.Sprintf("%s/%dK", name, n>>10), func(b *testing.B) {
				b.SetBytes(int64(len(src)))
				z := New(nil)
				var t Token
				for b.Loop() {
					z.Reset(src)
					for z.Next(&t) {
					}
				}
			})
		}
	}
}
