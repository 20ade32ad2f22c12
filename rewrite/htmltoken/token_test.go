package htmltoken

import (
	"fmt"
	"strings"
	"testing"
)

// dump writes the tokens of src one behind the other, parted by blanks:
//
//	"text"   raw"text"   <name attr attr="v" attr='v' attr=v/>   </name>   !--"comment"   !D"doctype"
//	?"bogus"   !["cdata"   and … behind what the input ended inside of
//
// Names and values are as written; an attribute with = and no value is shown as attr=∅.
func dump(src string) string {
	b := []byte(src)
	z := New(b)
	var t Token
	var out []string
	for z.Next(&t) {
		out = append(out, show(b, &t))
	}
	return strings.Join(out, " ")
}

func show(b []byte, t *Token) string {
	data := fmt.Sprintf("%q", b[t.DataStart:t.DataEnd])
	s := ""
	switch t.Kind {
	case Text:
		s = data
		if t.Raw {
			s = "raw" + data
		}
	case Comment:
		s = "!--" + data
	case Doctype:
		s = "!D" + data
	case Bogus:
		s = "?" + data
	case CDATA:
		s = "![" + data
	case EndTag:
		s = "</" + string(b[t.NameStart:t.NameEnd]) + ">"
	case StartTag:
		s = "<" + string(b[t.NameStart:t.NameEnd])
		for _, a := range t.Attrs {
			s += " " + string(b[a.NameStart:a.NameEnd])
			v := string(b[a.ValueStart:a.ValueEnd])
			switch {
			case !a.HasValue:
			case a.Quote != 0:
				s += "=" + string(a.Quote) + v + string(a.Quote)
			case v == "":
				s += "=∅"
			default:
				s += "=" + v
			}
		}
		if t.SelfClosing {
			s += "/"
		}
		s += ">"
	}
	if t.Unterminated {
		s += "…"
	}
	return s
}

// The cases follow the order of the states of §13.2.5. Many are those of html5lib-tests (test1 to test4,
// contentModelFlags, escapeFlag, unicodeChars, domjs), written in the form of dump.
var tokenCases = []struct{ in, want string }{
	// Text and what opens no markup.
	{"", ``},
	{"a", `"a"`},
	{"a < b", `"a < b"`},
	{"<", `"<"`},
	{"<<", `"<<"`},
	{"<1", `"<1"`},
	{"< a>", `"< a>"`},
	{"<é>", `"<é>"`},
	{"<\x00a>", `"<\x00a>"`},
	{"<=a>", `"<=a>"`},
	{"<>x", `"<>x"`},
	{"<<a>", `"<" <a>`},
	{"</", `"</"`},
	{"a</", `"a</"`},
	{"&lt;a&gt;&#x3c", `"&lt;a&gt;&#x3c"`},
	{"a\x00b\r\nc", `"a\x00b\r\nc"`},
	{"\xff\xfe<a>\x80", `"\xff\xfe" <a> "\x80"`},

	// End tags.
	{"</a>", `</a>`},
	{"</A\n>", `</A>`},
	{"</a b='>'>c", `</a> "c"`},
	{"</a/>", `</a>`},
	{"</>x", `?"" "x"`},
	{"</ a>x", `?" a" "x"`},
	{"</1>x", `?"1" "x"`},
	{"</\x00>", `?"\x00"`},
	{"</<a>x", `?"<a" "x"`},
	{"</ a", `?" a"…`},
	{"</a", `</a>…`},
	{"</a b", `</a>…`},

	// Start tags and names.
	{"<a>", `<a>`},
	{"<IMG>", `<IMG>`},
	{"<a", `<a>…`},
	{"<a ", `<a>…`},
	{"<a/", `<a>…`},
	{"<a/>", `<a/>`},
	{"<a />", `<a/>`},
	{"<a/ >", `<a>`},
	{"<a//>", `<a/>`},
	{"<a<b>", `<a<b>`},
	{"<a\x00b>", "<a\x00b>"},
	{"<a=b>", `<a=b>`},
	{`<a"b">`, `<a"b">`},
	{"<h1:x-y>", `<h1:x-y>`},
	{"<a\tb\nc\fd\re f>", `<a b c d e f>`},
	{"<a\vb>", "<a\vb>"},
	{"<a\u00a0b>", "<a\u00a0b>"},

	// Attributes.
	{`<a b="c" d='e' f=g h>`, `<a b="c" d='e' f=g h>`},
	{`<img/src=x/onerror=y>`, `<img src=x/onerror=y>`},
	{`<img/src="x"/onerror=y>`, `<img src="x" onerror=y>`},
	{`<a b="c"d='e'f>`, `<a b="c" d='e' f>`},
	{`<a b = "c" d= e f =g>`, `<a b="c" d=e f=g>`},
	{"<a b\r\n=\r\n'c\r\nd'>", "<a b='c\r\nd'>"},
	{`<a b/c=d>`, `<a b c=d>`},
	{`<a b/=c>`, `<a b =c>`},
	{`<a =>`, `<a =>`},
	{`<a =b>`, `<a =b>`},
	{`<a ==b>`, `<a ==b>`},
	{`<a ="b">`, `<a ="b">`},
	{`<a b==c>`, `<a b==c>`},
	{`<a b=>c`, `<a b=∅> "c"`},
	{`<a b= >c`, `<a b=∅> "c"`},
	{`<a b=""c=''>`, `<a b="" c=''>`},
	{`<a b=c/>`, `<a b=c/>`},
	{`<a b=/>`, `<a b=/>`},
	{`<a b="c"/>`, `<a b="c"/>`},
	{`<a b=c />`, `<a b=c/>`},
	{`<a b='>' c=">">d`, `<a b='>' c=">"> "d"`},
	{`<a b='"' c="'">`, `<a b='"' c="'">`},
	{`<a b=c"d'e<f=g` + "`" + `>`, `<a b=c"d'e<f=g` + "`" + `>`},
	{`<a "b"='c' 'd">`, `<a "b"='c' 'd">`},
	{`<a b"c="d">`, `<a b"c="d">`},
	{`<a <b>`, `<a <b>`},
	{"<a b\x00c=\x00d \x00=\"\x00\">", "<a b\x00c=\x00d \x00=\"\x00\">"},
	{`<a b B=1 b=2>`, `<a b B=1 b=2>`},
	{`<a href="?a=1&amp;b=2&c">`, `<a href="?a=1&amp;b=2&c">`},
	{`<a b="c><d>`, `<a b="c><d>">…`},
	{`<a b='`, `<a b=''>…`},
	{`<a b=`, `<a b=∅>…`},
	{`<a b=  `, `<a b=∅>…`},
	{`<a b=c`, `<a b=c>…`},
	{`<a b`, `<a b>…`},
	{`<a b `, `<a b>…`},
	{`<a b="c"`, `<a b="c">…`},
	{`<br/ >`, `<br>`},
	{`<p a=1 a=/>`, `<p a=1 a=/>`},

	// Comments (§13.2.5.43 to §13.2.5.52).
	{"<!--a-->", `!--"a"`},
	{"<!---->b", `!--"" "b"`},
	{"<!-->b", `!--"" "b"`},
	{"<!--->b", `!--"" "b"`},
	{"<!--><img>-->", `!--"" <img> "-->"`},
	{"<!-----> b", `!--"-" " b"`},
	{"<!---->-->", `!--"" "-->"`},
	{"<!--a--!>b", `!--"a" "b"`},
	{"<!--!>-->", `!--"!>"`},
	{"<!---!>-->", `!--"-!>"`},
	{"<!----!>b", `!--"" "b"`},
	{"<!--a--!b-->", `!--"a--!b"`},
	{"<!--a--!-->b", `!--"a--!" "b"`},
	{"<!--a--!->b-->", `!--"a--!->b"`},
	{"<!--a--->b", `!--"a-" "b"`},
	{"<!--a-- >b-->", `!--"a-- >b"`},
	{"<!--a--b->-->", `!--"a--b->"`},
	{"<!--<!--a-->b-->", `!--"<!--a" "b-->"`},
	{"<!--<!-->b", `!--"<!" "b"`},
	{"<!--<!--!>b", `!--"<!" "b"`},
	{"<!--<!-a-->", `!--"<!-a"`},
	{"<!--<a b='-->'>", `!--"<a b='" "'>"`},
	{"<!--[if mso]><table><![endif]-->", `!--"[if mso]><table><![endif]"`},
	{"<!--[if !mso]><!--><b><!--<![endif]-->", `!--"[if !mso]><!" <b> !--"<![endif]"`},
	{"<![if !mso]><b><![endif]>", `?"[if !mso]" <b> ?"[endif]"`},
	{"<!--", `!--""…`},
	{"<!---", `!--""…`},
	{"<!----", `!--""…`},
	{"<!-----", `!--"-"…`},
	{"<!----!", `!--""…`},
	{"<!--a-", `!--"a"…`},
	{"<!--a--", `!--"a"…`},
	{"<!--a--!", `!--"a"…`},
	{"<!--a--!-", `!--"a--!"…`},
	{"<!--!", `!--"!"…`},
	{"<!--a<b>", `!--"a<b>"…`},

	// Bogus comments, doctypes, CDATA in HTML.
	{"<!", `?""…`},
	{"<!>a", `?"" "a"`},
	{"<!->a", `?"-" "a"`},
	{"<!-", `?"-"…`},
	{"<! --a-->b", `?" --a--" "b"`},
	{"<!a>b", `?"a" "b"`},
	{"<!a<b>c", `?"a<b" "c"`},
	{"<!ELEMENT p (#PCDATA)>", `?"ELEMENT p (#PCDATA)"`},
	{"<?xml version='1.0'?>a", `?"?xml version='1.0'?" "a"`},
	{"<?>a", `?"?" "a"`},
	{"<?", `?"?"…`},
	{"<?a?b", `?"?a?b"…`},
	{"<!DOCTYPE html>a", `!D" html" "a"`},
	{"<!docTYPE>a", `!D"" "a"`},
	{"<!doctypehtml>", `!D"html"`},
	{"<!DOCTYPE a PUBLIC \"-//W3C//DTD>\" 'b'>", `!D" a PUBLIC \"-//W3C//DTD" "\" 'b'>"`},
	{"<!DOCTYPE", `!D""…`},
	{"<!DOCTYPE h", `!D" h"…`},
	{"<!DOCTYP>", `?"DOCTYP"`},
	{"<!DOC", `?"DOC"…`},
	{"<![CDATA[a>b]]>", `?"[CDATA[a" "b]]>"`},
	{"<![CDATA[", `?"[CDATA["…`},

	// Raw text (§13.2.5.9 to §13.2.5.14).
	{"<style>a<b>c</style>d", `<style> raw"a<b>c" </style> "d"`},
	{"<STYLE>a</sTyLe>", `<STYLE> raw"a" </sTyLe>`},
	{"<style></style>", `<style> </style>`},
	{"<style/>a<b></style>", `<style/> raw"a<b>" </style>`},
	{"<style>a</style >b", `<style> raw"a" </style> "b"`},
	{"<style>a</style/x=\">\">b", `<style> raw"a" </style> "b"`},
	{"<style>a</style\n>b", `<style> raw"a" </style> "b"`},
	{"<style>a</styles>b</style>", `<style> raw"a</styles>b" </style>`},
	{"<style>a</ style></style>", `<style> raw"a</ style>" </style>`},
	{"<style><!--</style>-->", `<style> raw"<!--" </style> "-->"`},
	{"<style></title></style>", `<style> raw"</title>" </style>`},
	{"<style><</style>", `<style> raw"<" </style>`},
	{"<style></</style>", `<style> raw"</" </style>`},
	{"<style>a</style", `<style> raw"a</style"`},
	{"<style>a</style ", `<style> raw"a" </style>…`},
	{"<style>a</style x", `<style> raw"a" </style>…`},
	{"<style>a<", `<style> raw"a<"`},
	{"<style", `<style>…`},
	{"<style>", `<style>`},
	{"<style a='>'><b></style>", `<style a='>'> raw"<b>" </style>`},
	{"<title>a&amp;<b></title>", `<title> raw"a&amp;<b>" </title>`},
	{"<textarea><!--</textarea>", `<textarea> raw"<!--" </textarea>`},
	{"<xmp><a></xmp><iframe><a></iframe><noembed><a></noembed><noframes><a></noframes>",
		`<xmp> raw"<a>" </xmp> <iframe> raw"<a>" </iframe> <noembed> raw"<a>" </noembed> <noframes> raw"<a>" </noframes>`},
	{"<noscript><img></noscript>", `<noscript> <img> </noscript>`},
	{"<plaintext><a></plaintext>", `<plaintext> raw"<a></plaintext>"`},
	{"<styles><b></styles>", `<styles> <b> </styles>`},
	{"</style><b>", `</style> <b>`},

	// Scripts (§13.2.5.15 to §13.2.5.31).
	{"<script>a<b</script>c", `<script> raw"a<b" </script> "c"`},
	{"<script><!--</script>a", `<script> raw"<!--" </script> "a"`},
	{"<script><!--<script></script>--></script>a", `<script> raw"<!--<script></script>-->" </script> "a"`},
	{"<script><!--<script></script></script>a", `<script> raw"<!--<script></script>" </script> "a"`},
	{"<script><!--<SCRIPT\t</scrIPT/ x</script>a", `<script> raw"<!--<SCRIPT\t</scrIPT/ x" </script> "a"`},
	{"<script><!--<script>--></script>a", `<script> raw"<!--<script>-->" </script> "a"`},
	{"<script><!--<script>--!></script>a", `<script> raw"<!--<script>--!></script>a"`},
	{"<script><!--<scripts></script>a", `<script> raw"<!--<scripts>" </script> "a"`},
	{"<script><!--<script</script>a", `<script> raw"<!--<script" </script> "a"`},
	{"<script><!--><script></script>a", `<script> raw"<!--><script>" </script> "a"`},
	{"<script><!---><script></script>a", `<script> raw"<!---><script>" </script> "a"`},
	{"<script><!-<script></script>a", `<script> raw"<!-<script>" </script> "a"`},
	{"<script><!--a--><script></script>b", `<script> raw"<!--a--><script>" </script> "b"`},
	{"<script><!--a- -><script></script>b</script>", `<script> raw"<!--a- -><script></script>b" </script>`},
	{"<script><!--<script></script><script></script>a</script>b",
		`<script> raw"<!--<script></script><script></script>a" </script> "b"`},
	{"<script><!--</scripts></script>", `<script> raw"<!--</scripts>" </script>`},
	{"<script><!--<script>", `<script> raw"<!--<script>"`},
	{"<script>a</script", `<script> raw"a</script"`},
}

// Here the kind of a place hangs on the elements around it. In foreign content style is markup and CDATA is
// CDATA; in HTML style is raw text and CDATA a bogus comment.
var foreignCases = []struct{ in, want string }{
	{"<svg><style><a></style><![CDATA[<b>]]></svg><style><a></style>",
		`<svg> <style> <a> </style> !["<b>" </svg> <style> raw"<a>" </style>`},
	{"<math><title><a></title></math><title><a></title>", `<math> <title> <a> </title> </math> <title> raw"<a>" </title>`},
	{"<svg><![CDATA[a]]]><b>]]>", `<svg> !["a]" <b> "]]>"`},
	{"<svg><![CDATA[a]] >b", `<svg> !["a]] >b"…`},
	{"<svg><![CDATA[", `<svg> ![""…`},
	{"<svg><![cdata[a>b", `<svg> ?"[cdata[a" "b"`},
	{"<svg/><style><a></style>", `<svg/> <style> raw"<a>" </style>`},
	{"<svg><g/><style/><a/><script/><b></svg>", `<svg> <g/> <style/> <a/> <script/> <b> </svg>`},
	// HTML integration points: HTML rules for start tags, but CDATA as long as nothing is open inside.
	{"<svg><foreignObject><style><a></style></foreignObject><style><a></style>",
		`<svg> <foreignObject> <style> raw"<a>" </style> </foreignObject> <style> <a> </style>`},
	{"<svg><desc><![CDATA[<]]><div><![CDATA[>]]>", `<svg> <desc> !["<" <div> ?"[CDATA[" "]]>"`},
	{"<svg><title><style><a></style></title><style><a></style>", `<svg> <title> <style> raw"<a>" </style> </title> <style> <a> </style>`},
	{"<svg><FOREIGNOBJECT><p>a</FOREIGNOBJECT><style><a>", `<svg> <FOREIGNOBJECT> <p> "a" </FOREIGNOBJECT> <style> raw"<a>"`},
	{"<math><foreignObject><style><a>", `<math> <foreignObject> <style> <a>`},
	{"<math><mi><style><a></style></mi><style><a>", `<math> <mi> <style> raw"<a>" </style> </mi> <style> <a>`},
	{"<math><mi><mglyph><style><a>", `<math> <mi> <mglyph> <style> <a>`},
	{"<math><annotation-xml><style><a>", `<math> <annotation-xml> <style> <a>`},
	{"<math><annotation-xml encoding='Text/HTML'><style><a>", `<math> <annotation-xml encoding='Text/HTML'> <style> raw"<a>"`},
	{"<math><annotation-xml encoding=application/xhtml+xml><style><a>", `<math> <annotation-xml encoding=application/xhtml+xml> <style> raw"<a>"`},
	{"<math><annotation-xml><svg><desc><style><a>", `<math> <annotation-xml> <svg> <desc> <style> raw"<a>"`},
	{"<math><svg><desc><style><a>", `<math> <svg> <desc> <style> <a>`},
	// What breaks out.
	{"<svg><g><div><style><a>", `<svg> <g> <div> <style> raw"<a>"`},
	{"<svg><style><img><style><a>", `<svg> <style> <img> <style> raw"<a>"`},
	{"<svg><font><style><a>", `<svg> <font> <style> <a>`},
	{"<svg><font COLOR=red><style><a>", `<svg> <font COLOR=red> <style> raw"<a>"`},
	{"<svg></p><style><a>", `<svg> </p> <style> raw"<a>"`},
	{"<svg></br><style><a>", `<svg> </br> <style> raw"<a>"`},
	{"<svg><desc><svg><p><style><a></style></p></desc><style><a>",
		`<svg> <desc> <svg> <p> <style> raw"<a>" </style> </p> </desc> <style> <a>`},
	// End tags in foreign content.
	{"<div><svg><g></div><style><a>", `<div> <svg> <g> </div> <style> raw"<a>"`},
	{"<svg><g></div><style><a>", `<svg> <g> </div> <style> <a>`},
	{"<a><svg></a><style><a>", `<a> <svg> </a> <style> raw"<a>"`},
	{"<svg><g><path></SVG><style><a>", `<svg> <g> <path> </SVG> <style> raw"<a>"`},
	{"<table><tr><td><svg></td><td><style><a>", `<table> <tr> <td> <svg> </td> <td> <style> raw"<a>"`},
	{"<body><svg></body><style><a>", `<body> <svg> </body> <style> <a>`},
	{"<head><svg></head><style><a>", `<head> <svg> </head> <style> <a>`},
	{"<h1><svg></h2><style><a>", `<h1> <svg> </h2> <style> raw"<a>"`},
	{"<form><svg></form><style><a>", `<form> <svg> </form> <style> <a>`},
	{"<ul><li><ol><svg></li><style><a>", `<ul> <li> <ol> <svg> </li> <style> <a>`},
	{"<span><div><svg></span><style><a>", `<span> <div> <svg> </span> <style> <a>`},
	{"<a><svg><desc><a><style><a>", `<a> <svg> <desc> <a> <style> raw"<a>"`},
	{"<svg><desc><b></desc><style><a>", `<svg> <desc> <b> </desc> <style> raw"<a>"`},
	{"<b><div><svg></b><style><a>", `<b> <div> <svg> </b> <style> raw"<a>"`},
	{"<p>a<p>b<svg></p><style><a>", `<p> "a" <p> "b" <svg> </p> <style> raw"<a>"`},
	{"<tr><svg></tr><style><a>", `<tr> <svg> </tr> <style> <a>`},
}

func TestTokens(t *testing.T) {
	for _, tc := range tokenCases {
		if got := dump(tc.in); got != tc.want {
			t.Errorf("%q\ngot  %s\nwant %s", tc.in, got, tc.want)
		}
		checkCover(t, []byte(tc.in))
	}
}

func TestForeign(t *testing.T) {
	for _, tc := range foreignCases {
		if got := dump(tc.in); got != tc.want {
			t.Errorf("%q\ngot  %s\nwant %s", tc.in, got, tc.want)
		}
		checkCover(t, []byte(tc.in))
	}
}

// TestDeep: beyond 256 open elements the outermost are forgotten, but the place is still known for what it is.
func TestDeep(t *testing.T) {
	for _, tc := range []struct {
		in  string
		raw bool
	}{
		{strings.Repeat("<div>", 1000) + "<svg>", false},
		{strings.Repeat("<div>", 1000) + "<svg></svg>", true},
		{"<svg>" + strings.Repeat("<g>", 1000), false},
		{"<svg>" + strings.Repeat("<g>", 1000) + "<desc>", true},
		{"<svg>" + strings.Repeat("<g>", 200) + "</svg>", true},
		{"<svg>" + strings.Repeat("<g>", 1000) + "<p>", true},
		{strings.Repeat("<p>", 1000) + "<svg></p>", true},
		{"<div><svg>" + strings.Repeat("<g>", 1000) + "</div>", false}, // the div is forgotten
	} {
		z := New([]byte(tc.in + "<style>"))
		var tok Token
		for z.Next(&tok) {
		}
		if got := z.raw != ""; got != tc.raw {
			t.Errorf("%.40s…: raw is %v", tc.in, got)
		}
	}
}

func TestOffsets(t *testing.T) {
	src := []byte(`x<a  b = "c&amp;d" e='f'g=h i= j>`)
	z := New(src)
	var tok Token
	z.Next(&tok)
	z.Next(&tok)
	want := []Attr{
		{NameStart: 5, NameEnd: 6, ValueStart: 10, ValueEnd: 17, Quote: '"', HasValue: true, End: 18},
		{NameStart: 19, NameEnd: 20, ValueStart: 22, ValueEnd: 23, Quote: '\'', HasValue: true, End: 24},
		{NameStart: 24, NameEnd: 25, ValueStart: 26, ValueEnd: 27, HasValue: true, End: 27},
		{NameStart: 28, NameEnd: 29, ValueStart: 31, ValueEnd: 32, HasValue: true, End: 32},
	}
	if tok.Start != 1 || tok.NameStart != 2 || tok.NameEnd != 3 || tok.End != len(src) || fmt.Sprint(tok.Attrs) != fmt.Sprint(want) {
		t.Errorf("got %+v", tok)
	}
	for _, tc := range []struct {
		in   string
		want Attr
	}{
		{"<a bc>", Attr{NameStart: 3, NameEnd: 5, ValueStart: 5, ValueEnd: 5, End: 5}},
		{"<a bc  =  >", Attr{NameStart: 3, NameEnd: 5, ValueStart: 8, ValueEnd: 8, HasValue: true, End: 8}},
		{"<a bc=''>", Attr{NameStart: 3, NameEnd: 5, ValueStart: 7, ValueEnd: 7, Quote: '\'', HasValue: true, End: 8}},
		{"<a bc='d", Attr{NameStart: 3, NameEnd: 5, ValueStart: 7, ValueEnd: 8, Quote: '\'', HasValue: true, End: 8}},
	} {
		z.Reset([]byte(tc.in))
		z.Next(&tok)
		if len(tok.Attrs) != 1 || tok.Attrs[0] != tc.want {
			t.Errorf("%s: got %+v", tc.in, tok.Attrs)
		}
	}
}

func TestAstray(t *testing.T) {
	for in, want := range map[string]bool{
		`<a b="c'<" d='"' e=f g>`: false,
		`<a">`:                    false, // the name of the tag
		`<a "=c>`:                 true,
		`<a b"c>`:                 true,
		`<a 'b=c>`:                true,
		`<a b<c=d>`:               true,
		`<a b=c"d"e>`:             true,
		`<a b=c<d`:                true,
		`<a b="c"">`:              true,
		`</a b">`:                 false, // it has no attributes
	} {
		var tok Token
		New([]byte(in)).Next(&tok)
		if tok.Astray != want {
			t.Errorf("%s: %v", in, tok.Astray)
		}
	}
}

func TestNames(t *testing.T) {
	src := []byte(`<ImG SRC=1 src=2 Width="3">text`)
	z := New(src)
	var tok Token
	z.Next(&tok)
	if !tok.Is(src, "img") || tok.Is(src, "im") || tok.Is(src, "imgs") || tok.Is(src, "a") {
		t.Error("Is")
	}
	if a, ok := tok.Attr(src, "src"); !ok || string(src[a.ValueStart:a.ValueEnd]) != "1" {
		t.Error("the first src does not win")
	}
	if a, ok := tok.Attr(src, "width"); !ok || a.Quote != '"' {
		t.Error("width")
	}
	if _, ok := tok.Attr(src, "height"); ok {
		t.Error("height")
	}
	z.Next(&tok)
	if tok.Is(src, "") || tok.Is(src, "img") {
		t.Error("a text has no name")
	}
	for _, tc := range []struct {
		name, lower string
		want        bool
	}{
		{"a", "a", true}, {"A", "a", true}, {"", "", true}, {"a", "", false}, {"ab", "a", false},
		{"H1", "h1", true}, {"@", "`", false}, {"[", "{", false}, {"\u212a", "k", false}, {"I", "\u0131", false},
		{"\x00", " ", false}, {"\x11", "1", false},
	} {
		if got := EqualFold([]byte(tc.name), tc.lower); got != tc.want {
			t.Errorf("EqualFold(%q, %q) = %v", tc.name, tc.lower, got)
		}
	}
}

func TestRawText(t *testing.T) {
	src := []byte("a<b></style><b>")
	z := New(src)
	z.RawText("style")
	var tok Token
	z.Next(&tok)
	if !tok.Raw || tok.End != 4 {
		t.Errorf("got %+v", tok)
	}
	z.Reset([]byte("<style><b>"))
	z.Next(&tok)
	z.RawText("")
	z.Next(&tok)
	if tok.Kind != StartTag {
		t.Errorf("got %+v", tok)
	}
	z.Reset([]byte("<style>"))
	z.Next(&tok)
	z.Reset([]byte("<b>"))
	if !z.Next(&tok) || tok.Kind != StartTag {
		t.Error("Reset keeps raw text")
	}
	z.Reset([]byte("<svg>"))
	z.Next(&tok)
	z.Reset([]byte("<style><b>"))
	z.Next(&tok)
	if z.Next(&tok); !tok.Raw {
		t.Error("Reset keeps foreign content")
	}
}

// TestEverySuffix reads all short inputs over the bytes that matter to a comment, a script and a tag, so that
// no meeting of them is left out, and holds them against the oracle of FuzzTokens.
func TestEverySuffix(t *testing.T) {
	for _, set := range []struct {
		prefix  string
		letters []string
		n       int
	}{
		{"<!--", strings.Split("- ! > a <", " "), 6},
		{"<a", []string{" ", "/", "=", `"`, "'", ">", "b"}, 5},
		{"<style>", []string{"<", "/", "style", ">", " "}, 5},
		{"<script>", []string{"<", "/", "script", ">", "!--", "-"}, 5},
		{"", []string{"<", "/", "!", "?", "-", "a", ">"}, 5},
		{"<svg>", []string{"<![CDATA[", "]", ">", "</svg>", "<p>"}, 5},
	} {
		var walk func(s string, n int)
		walk = func(s string, n int) {
			checkCover(t, []byte(s))
			if err := compare([]byte(s)); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			if n > 0 {
				for _, l := range set.letters {
					walk(s+l, n-1)
				}
			}
		}
		walk(set.prefix, set.n)
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[Kind]string{Text: "Text", Bogus: "Bogus", CDATA: "CDATA", 99: "Kind(?)"} {
		if k.String() != want {
			t.Errorf("%d is %s", k, k)
		}
	}
}
