package rewrite

import (
	"bytes"
	"errors"
	"flag"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

var update = flag.Bool("update", false, "write the wanted copies anew")

const (
	testPrefix = "https://mail.example.org/u/"
	testLink   = testPrefix + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIjKlMnOpQrStUvWxYz"
)

func testOptions() Options { return Options{LinkPrefix: testPrefix, GuardPrefix: testGuard} }

func variant(open, click bool) Variant {
	return Variant{Open: open, Click: click, Link: testLink, OneClick: testLink, Language: "en"}
}

func render(t testing.TB, m *Message, v Variant) []byte {
	t.Helper()
	c, err := m.Render(v)
	if err != nil {
		t.Fatalf("Render: %v", err)
	}
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	if err != nil || n != int64(b.Len()) || n != c.Len() {
		t.Fatalf("WriteTo says %d, %v; wrote %d; Len says %d", n, err, b.Len(), c.Len())
	}
	return b.Bytes()
}

func parse(t testing.TB, src []byte) *Message {
	t.Helper()
	m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), testOptions())
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return m
}

// crlf makes every line end CRLF, as a client does that submits a file.
func crlf(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

// TestGolden compares the copies of testdata/*.eml with the ones that were read and found
// right: NAME.none.eml without any consent, NAME.open.eml, NAME.click.eml, NAME.both.eml,
// and NAME.guarded.eml with all consent and guarded.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../testdata/rewrite/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no messages in testdata/rewrite")
	}
	for _, file := range files {
		if strings.Contains(filepath.Base(file), ".want.") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".eml"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m := parse(t, crlf(src))
			for name, v := range map[string]Variant{"none": variant(false, false), "open": variant(true, false), "click": variant(false, true), "both": variant(true, true), "guarded": guarded(true, true)} {
				v.Language = m.Language()
				got := strings.ReplaceAll(string(render(t, m, v)), "\r\n", "\n")
				want := strings.TrimSuffix(file, ".eml") + "." + name + ".want.eml"
				if *update {
					if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
					continue
				}
				wanted, err := os.ReadFile(want)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(wanted), got); d != "" {
					t.Errorf("%s (-want +got):\n%s", want, d)
				}
			}
		})
	}
}

// plainVariant asks for nothing to be put in and has all consent.
var plainVariant = Variant{Open: true, Click: true}

// checkCopies states what holds for every message whatsoever.
func checkCopies(t testing.TB, src []byte) {
	m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), testOptions())
	if err != nil {
		return // only a header over the limit
	}
	// No edits: the same bytes.
	if len(m.fields) == 0 && len(m.removals) == 0 && len(m.signatures) == 0 && m.root.body > m.root.end {
		keep := true
		for _, tx := range m.texts {
			for _, e := range tx.edits {
				keep = keep && e.when&variantBit(true, true) == 0 || e.linked
			}
		}
		if keep {
			if got := render(t, m, plainVariant); !bytes.Equal(got, src) {
				t.Fatalf("without edits the copy differs: %s", cmp.Diff(string(src), string(got)))
			}
		}
	}
	for _, v := range []Variant{variant(false, false), variant(true, false), variant(false, true), variant(true, true), plainVariant, {},
		guarded(false, false), guarded(true, false), guarded(false, true), guarded(true, true)} {
		c, err := m.Render(v)
		if err != nil {
			continue
		}
		var b bytes.Buffer
		if n, err := c.WriteTo(&b); err != nil || n != c.Len() || n != int64(b.Len()) {
			t.Fatalf("WriteTo: %d, %v, Len %d", n, err, c.Len())
		}
		if !bareCR(src) { // never comes in by SMTP, and readers disagree on what it is
			checkOutside(t, m, v, b.Bytes())
			checkSevenBit(t, m, v, b.Bytes())
			checkGuarded(t, m, v, b.Bytes())
		}
	}
}

func bareCR(b []byte) bool {
	return bytes.Count(b, []byte("\r")) != bytes.Count(b, []byte("\r\n"))
}

// checkSevenBit states that a copy converted to 7bit has no other bytes in its body, and that its
// texts read the same.
func checkSevenBit(t testing.TB, m *Message, v Variant, eightBit []byte) {
	v.SevenBit = true
	c, err := m.Render(v)
	if errors.Is(err, ErrEightBit) {
		return
	}
	if err != nil {
		t.Fatalf("SevenBit: %v", err)
	}
	var b bytes.Buffer
	c.WriteTo(&b) // into memory
	got, err := Parse(Bytes(b.Bytes()), int64(b.Len()), m.rules, Options{})
	if err != nil {
		return
	}
	want, err := Parse(Bytes(eightBit), int64(len(eightBit)), m.rules, Options{})
	if err != nil {
		return
	}
	if len(got.texts) != len(want.texts) {
		t.Fatalf("SevenBit: %d text parts became %d", len(want.texts), len(got.texts))
	}
	for i, tx := range got.texts {
		if tx.enc == identity && hasEightBit(tx.raw) {
			t.Fatalf("SevenBit: part %s holds %q", tx.part.number, tx.raw)
		}
		// A line end at the end of quoted-printable may be the delimiter's.
		if a, b := bytes.TrimRight(tx.decoded(), "\r\n"), bytes.TrimRight(want.texts[i].decoded(), "\r\n"); !bytes.Equal(a, b) {
			t.Fatalf("SevenBit: part %s differs: %s", tx.part.number, cmp.Diff(string(b), string(a)))
		}
	}
}

// checkOutside states that outside of the edits nothing changed: the copy, parsed again, has in
// each text part the original's text with exactly the edits of its kind applied, and every
// other part byte for byte.
func checkOutside(t testing.TB, m *Message, v Variant, out []byte) {
	key := planKey{bit: variantBit(v.Open, v.Click), link: v.Link != "", list: v.OneClick != "", guard: v.Guard != nil}
	if key.link && !m.hasFooterPlace() && (m.signed || m.unreadable != "") {
		if src := m.src.(Bytes)[m.root.body:]; !bytes.Contains(out, src) {
			t.Fatalf("a wrapped body is not there byte for byte")
		}
		return
	}
	again, err := Parse(Bytes(out), int64(len(out)), m.rules, Options{LinkPrefix: "none:"})
	if err != nil {
		return // the header grew over the limit
	}
	ft, lang := m.opts.Footers.find(v.Language)
	key.lang = lang
	k := 0
	for _, tx := range m.texts {
		if key.guard && tx.part.doubtful { // a boundary that nobody names may be guessed otherwise in what is written in lines anew
			return
		}
		if tx.amp && (key.bit&withoutBoth != 0 || key.guard) {
			continue
		}
		if k >= len(again.texts) {
			t.Fatalf("text part %s is gone", tx.part.number)
		}
		got := again.texts[k]
		k++
		edits := tx.selected(key, map[int]Action{})
		utf8 := tx.charset.wide && len(edits) > 0
		if tx.footer && key.link && !tx.placed {
			e, up := tx.footerEdit(ft)
			edits = insertEdit(edits, e)
			utf8 = up || tx.charset.wide
		}
		var want []byte
		conv := func(b []byte) []byte {
			if utf8 && !tx.charset.wide && tx.charset.enc != nil {
				return tx.charset.decode(b)
			}
			return b
		}
		plain, done := tx.decoded(), 0
		for _, e := range edits {
			if e.start < done {
				t.Fatalf("edits overlap or are out of order in part %s: %+v", tx.part.number, edits)
			}
			want = append(want, conv(plain[done:e.start])...)
			for _, p := range e.pieces {
				if p.hole != noHole {
					want = append(want, v.values(m.targets)(p.hole)...)
				}
				want = append(want, p.lit...)
			}
			done = e.end
		}
		want = append(want, conv(plain[done:])...)
		have := got.decoded()
		if hasTargets(edits) && tx.enc == identity { // a line end at the end of quoted-printable may be the delimiter's
			have, want = bytes.TrimRight(have, "\r\n"), bytes.TrimRight(want, "\r\n")
		}
		if !bytes.Equal(have, want) {
			t.Fatalf("part %s, variant %v/%v: text differs (-want +got):\n%s", tx.part.number, v.Open, v.Click, cmp.Diff(string(want), string(got.decoded())))
		}
		if len(edits) == 0 && !bytes.Equal(got.raw, tx.raw) {
			t.Fatalf("part %s needs no edit and was encoded again", tx.part.number)
		}
	}
	if k != len(again.texts) {
		t.Fatalf("%d text parts became %d", k, len(again.texts))
	}
}

func TestCorpusProperties(t *testing.T) {
	files := corpus(t)
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			checkCopies(t, crlf(src))
		})
	}
}

// corpus lists real mail that is not part of the project: the files in the folders of ../shared/corpus/mail,
// or of the folder that MAIL_CORPUS names. Tests skip where there is none.
func corpus(t testing.TB) []string {
	dir := os.Getenv("MAIL_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus/mail"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if len(files) == 0 {
		t.Skip("no corpus of real mail beside the checkout (../shared/corpus), nor where MAIL_CORPUS says")
	}
	return files
}

func FuzzCopies(f *testing.F) {
	files, _ := filepath.Glob("../testdata/rewrite/*.eml")
	for _, file := range files {
		if src, err := os.ReadFile(file); err == nil && !strings.Contains(file, ".want.") {
			f.Add(crlf(src))
		}
	}
	for _, s := range []string{"", "\r\n", "a: b", "From x\r\na: b\r\n\r\nx", "Content-Type: text/html\r\n\r\n<img width=1 height=1 src=http://x.example/>",
		"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/html\r\n\r\nx <img height=3D0 src=3D\"http://a.example/=\r\nb\"> \r\n=3D=",
		"Content-Transfer-Encoding: base64\r\nContent-Type: text/html; charset=utf-16\r\n\r\nPGltZz4=\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) { checkCopies(t, src) })
}

// oneByte is a source that is not in memory.
type fileSource struct{ r *bytes.Reader }

func (s fileSource) ReadAt(p []byte, off int64) (int, error) { return s.r.ReadAt(p, off) }

// TestSourceNotInMemory checks that a message read through an io.ReaderAt gives the same copy.
func TestSourceNotInMemory(t *testing.T) {
	src := []byte("From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n" +
		"<p>hello <img src=\"https://x.example.org/o.gif\" width=1 height=1></p>\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 20000) + "\r\n--b--\r\n")
	mem := parse(t, src)
	m, err := Parse(fileSource{bytes.NewReader(src)}, int64(len(src)), trackers.Default(), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Variant{variant(false, false), variant(true, true)} {
		if a, b := render(t, mem, v), render(t, m, v); !bytes.Equal(a, b) {
			t.Errorf("copies differ for %+v", v)
		}
	}
	short := fileSource{bytes.NewReader(src[:len(src)-10])}
	if _, err := Parse(short, int64(len(src)), trackers.Default(), testOptions()); err == nil {
		t.Error("a source shorter than said gives no error")
	}
}

func message(fields, body string) []byte {
	return crlf([]byte("From: news@example.org\nTo: a@example.org\nSubject: x\nMIME-Version: 1.0\n" + fields + "\n" + body))
}

func TestOpenTrackers(t *testing.T) {
	for _, c := range []struct {
		name, html string
		gone       bool
	}{
		{"size", `<img src="https://x.example.org/o" width="1" height="1">`, true},
		{"size, unquoted", `<img src=https://x.example.org/o width=1 height=1>`, true},
		{"size with spaces and px", `<IMG SRC = "https://x.example.org/o" WIDTH = " 1px" HEIGHT='0'>`, true},
		{"three by one", `<img width=3 height=1 src="https://x.example.org/o">`, true},
		{"one side 0", `<img height=0 src="https://x.example.org/o">`, true},
		{"style", `<img style="width:1px;height:1px" src="https://x.example.org/o">`, true},
		{"style with comment and important", `<img style="wi/**/dth:1px; HEIGHT : 1px !important" src="https://x.example.org/o">`, true},
		{"max", `<img style="max-height:0;max-width:0" src="https://x.example.org/o">`, true},
		{"display none", `<img style="display:none" src="https://x.example.org/o">`, true},
		{"hidden by parent", `<p style='display:none;visibility:hidden'><img src='https://x.example.org/img/a/b' alt=''></p>`, true},
		{"hidden by box without height", `<div style="max-height:0;overflow:hidden"><b><img src='https://x.example.org/img/a/b'></b></div>`, true},
		{"known host", `<img src="https://open.convertkit-mail4.com/qwertyuiop" style="border:0 none;display:block">`, true},
		{"known path", `<img src="https://0abc.mjt.lu/oo/AAAAAAA/0123abcd/e.gif" height="40" width="40">`, true},
		{"protocol-relative", `<img src="//x.example.org/o" width=1 height=1>`, true},
		{"entities", `<img src="ht&#9;tps&colon;//x.example.org/o" width=1 height=1>`, true},
		{"srcset", `<img src="cid:x" srcset="https://x.example.org/o 1x, https://x.example.org/p 2x" width=1 height=1>`, true},
		{"conditional comment", `<!--[if mso]><img src="https://x.example.org/o" width="1" height="1"><![endif]-->`, true},
		{"unterminated", `<img src="https://x.example.org/o" width="1" height="1"`, true},
		{"relative with base", `<base href="https://x.example.org/"><img src="o.gif" width=1 height=1>`, true},
		{"after a hidden cell", `<table><tr><td style="display:none">a<td><img src="https://x.example.org/pic.png" width=200></table>`, false},
		{"picture", `<img src="https://x.example.org/pic.png" width="600" height="200">`, false},
		{"picture without size", `<img src="https://x.example.org/pic.png">`, false},
		{"line", `<img src="https://x.example.org/line.png" width="600" height="1">`, false},
		{"style beats attribute", `<img src="https://x.example.org/pic.png" width="1" style="width:100%;height:auto">`, false},
		{"cid", `<img src="cid:pixel" width="1" height="1">`, false},
		{"data", `<img src="data:image/gif;base64,R0lGOD" width="1" height="1">`, false},
		{"relative without base", `<img src="o.gif" width="1" height="1">`, false},
		{"shown on telephones", `<style>@media (max-width:600px){.mob{display:block!important}}</style><img class="mob" style="display:none" src="https://x.example.org/pic.png" width=300>`, false},
		{"invisible, and a block", `<img style="visibility:hidden;display:block" src="https://x.example.org/o">`, true},
		{"hidden by a style sheet", `<style>.o { display : none }</style><img class="a o" src="https://x.example.org/o" width=300>`, true},
		{"hidden by a style sheet, by id", `<style media=""><!-- img#o{visibility:hidden} --></style><img id=o src="https://x.example.org/o" width=300>`, true},
		{"no height by a style sheet", `<style>a{color:red}@media all{img[class="o"]{/*x*/height:0px !important}}</style><img class=o style="height:20px" src="https://x.example.org/o">`, true},
		{"hidden by a style sheet of the parent", `<style>@import "x";div.o{max-height:0;overflow:hidden}</style><div class=o><img src="https://x.example.org/o" width=300></div>`, true},
		{"hidden by a style sheet everywhere", `<style>.o{width:1px;height:1px}@media (max-width:600px){.o{display:none !important}}</style><img class=o src="https://x.example.org/o">`, true},
		{"hidden by a style sheet, shown on telephones", `<style>.m{max-height:0;height:0}@media (max-width:600px){.m{max-height:none!important;height:auto!important}}</style><img class="m" src="https://x.example.org/pic.png" width=300>`, false},
		{"hidden on telephones only", `<style>@media (max-width:600px){.d{display:none!important}}</style><img class="d" src="https://x.example.org/pic.png" width=300>`, false},
		{"hidden in the style sheet of telephones only", `<style media="(max-width:600px)">.d{display:none!important}</style><img class="d" src="https://x.example.org/pic.png" width=300>`, false},
		{"hidden in Outlook only", `<!--[if mso]><style>.h{display:none}</style><![endif]--><img class="h" src="https://x.example.org/pic.png" width=300>`, false},
		{"hidden elsewhere by a style sheet", `<style>div .p,.p:hover,p.p{display:none}</style><img class="p" src="https://x.example.org/pic.png" width=300>`, false},
		{"hidden by a rule in a rule, on telephones", `<style>@media (max-width:600px){p{color:red;& b{color:red}}.p{display:none}}</style><img class="p" src="https://x.example.org/pic.png" width=300>`, false},
		{"style beats style sheet", `<style>.p{display:none;height:0}</style><img class="p" style="display:block;height:20px" src="https://x.example.org/pic.png">`, false},
		{"in a comment", `<!-- <img src="https://x.example.org/o" width="1" height="1"> -->`, false},
		{"size by class", `<style>p{} .x, img.y{width:1px;height:1px}</style><img class="z x" src="https://x.example.org/o">`, true},
		{"size by id", `<style>#x{width:1px;height:1px}</style><img id=x src="https://x.example.org/o">`, true},
		{"hidden by class", `<style>.x{display:none}</style><img class=x src="https://x.example.org/o">`, true},
		{"hidden by class in Outlook alone", `<!--[if mso]><style>.x{display:none}</style><![endif]--><img class=x src="https://x.example.org/pic.png">`, false},
		{"hidden by class on telephones alone", `<style>@media (max-width:600px){.x{display:none}}</style><img class=x src="https://x.example.org/pic.png">`, false},
		{"hidden by class, shown on telephones", `<style>.x{display:none} @media (max-width:600px){.x{display:block}}</style><img class=x src="https://x.example.org/pic.png">`, false},
		{"hidden by class elsewhere", `<style>.a .x{display:none} .x:hover{display:none}</style><img class=x src="https://x.example.org/pic.png">`, false},
		{"one side 1, nothing of the other", `<img height=1 src="https://x.example.org/o">`, true},
		{"line as wide as its cell", `<img height=1 width="100%" src="https://x.example.org/line.png">`, false},
		{"exponent", `<img style="width:1e0px;height:+1px" src="https://x.example.org/o">`, true},
		{"em", `<img style="width:1em;height:1em" src="https://x.example.org/icon.png">`, false},
		{"calc", `<img style="width:calc(1px);height:calc(1px)" src="https://x.example.org/o">`, true},
		{"what is no length does not count", `<img style="width:1px;height:1px;width:bogus;height:9zz" src="https://x.example.org/o">`, true},
		{"important beats what follows", `<img style="width:1px!important;height:1px!important;width:600px;height:400px" src="https://x.example.org/o">`, true},
		{"declarations in a string", `<img style="width:1px;height:1px;content:';width:600px;height:400px;'" src="https://x.example.org/o">`, true},
		{"declarations behind a bracket that is open", `<img style="background:url(a;width:1px;height:1px" src="https://x.example.org/o">`, true},
		{"what is no display does not count", `<img style="display:none;display:foo" src="https://x.example.org/o">`, true},
		{"logical sides", `<img style="inline-size:1px;block-size:1px" src="https://x.example.org/o">`, true},
		{"off the page", `<img style="position:absolute;left:-9999px" src="https://x.example.org/o">`, true},
		{"clipped", `<img style="position:absolute;clip:rect(0 0 0 0)" src="https://x.example.org/o">`, true},
		{"scaled to nothing", `<img style="transform:scale(0)" src="https://x.example.org/o">`, true},
		{"transparent in old readers", `<img style="filter:alpha(opacity=0)" src="https://x.example.org/o">`, true},
		{"in a tiny box", `<div style="width:1px;height:1px;overflow:hidden"><img src="https://x.example.org/o"></div>`, true},
		{"behind a tiny cell", `<table><tr><td width=1 height=1 background="https://x.example.org/o"></td></tr></table>`, true},
		{"behind a thin cell", `<table><tr><td height=1 background="https://x.example.org/line.png"></td></tr></table>`, false},
		{"behind a tiny box, by a style sheet", `<style>#t{width:1px;height:1px;background:url(https://x.example.org/o)}</style><div id=t></div>`, true},
		{"behind what is hidden", `<div style="display:none"><table background="https://x.example.org/o"></table></div>`, true},
		{"tiny video", `<video width=1 height=1 src="https://x.example.org/o" poster="https://x.example.org/o"></video>`, true},
		{"tiny object", `<object width=1 height=1 data="https://x.example.org/o"></object>`, true},
		{"tiny button", `<input type=image width=1 height=1 src="https://x.example.org/o">`, true},
		{"tiny SVG", `<svg width=1 height=1><image href="https://x.example.org/o"/></svg>`, true},
		{"tiny VML", `<!--[if mso]><v:rect style="width:1px;height:1px"><v:fill src="https://x.example.org/o"/></v:rect><![endif]-->`, true},
		{"VML behind a button", `<!--[if mso]><v:rect style="width:600px;height:200px"><v:fill src="https://x.example.org/pic.png"/></v:rect><![endif]-->`, false},
		{"source of a tiny picture", `<picture><source srcset="https://x.example.org/o"><img width=1 height=1 src="cid:a"></picture>`, true},
		{"source of a picture", `<picture><source srcset="https://x.example.org/pic.png"><img width=100 src="cid:a"></picture>`, false},
		{"sound that nobody sees", `<bgsound src="https://x.example.org/o">`, true},
		{"sound with controls", `<audio controls src="https://x.example.org/song.mp3"></audio>`, false},
		{"file of another machine", `<img src="file://x.example.org/o">`, true},
		{"file of this machine", `<img src="file:///C:/pic.png">`, false},
		{"other protocol", `<embed src="rtsp://x.example.org/o">`, true},
		{"shown elsewhere", `<img src="https://x.example.org/o" width="468" height="10"><img src="https://x.example.org/o" width=1 height=1>`, true},
		{"spacer", `<img src="https://ts-svc.inxserver.com/transparent.gif" width="1" height="1">`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, message("Content-Type: text/html\n", "<p>Hello</p>"+c.html))
			with, without := string(render(t, m, variant(true, false))), string(render(t, m, variant(false, true)))
			if !strings.Contains(with, c.html) {
				t.Errorf("with consent to opens it must stay:\n%s", with)
			}
			for _, s := range []string{"example.org/o", "example.org/img/a/b", "convertkit", "mjt.lu", "o.gif"} {
				if c.gone && strings.Contains(without, s) {
					t.Errorf("without consent %q must go:\n%s", s, without)
				}
			}
			if !c.gone && !strings.Contains(without, c.html) {
				t.Errorf("it must stay:\n%s", without)
			}
		})
	}
}

func TestClickTrackers(t *testing.T) {
	const counter = "https://0abc.mjt.lu/lnk/AAAAAAAAAAA/1/abcdefghijklmnopqrstuv/aHR0cHM6Ly9zaG9wLmV4YW1wbGUvYT9iPTEmYz0y" // https://shop.example/a?b=1&c=2
	for _, c := range []struct{ name, html, want string }{
		{"href", `<a href="` + counter + `">x</a>`, `<a href="https://shop.example/a?b=1&amp;c=2">x</a>`},
		{"unquoted", `<a class=b href=` + counter + ` id=c>x</a>`, `<a class=b href="https://shop.example/a?b=1&amp;c=2" id=c>x</a>`},
		{"single quotes", `<a href='` + counter + `'>x</a>`, `<a href='https://shop.example/a?b=1&amp;c=2'>x</a>`},
		{"shown text", `<a href="` + counter + `">` + counter + `</a>`, `<a href="https://shop.example/a?b=1&amp;c=2">https://shop.example/a?b=1&amp;c=2</a>`},
		{"area", `<map><area href="` + counter + `"></map>`, `<map><area href="https://shop.example/a?b=1&amp;c=2"></map>`},
		{"vml in a conditional comment", `<!--[if mso]><v:roundrect href="` + counter + `"></v:roundrect><![endif]-->`, `<!--[if mso]><v:roundrect href="https://shop.example/a?b=1&amp;c=2"></v:roundrect><![endif]-->`},
		{"identifier", `<a href="https://shop.example/?a=1&amp;mc_eid=0123456789&amp;b=2#f">x</a>`, `<a href="https://shop.example/?a=1&amp;b=2#f">x</a>`},
		{"ping", `<a ping="https://p.example.org/" href="https://shop.example/">x</a>`, `<a href="https://shop.example/">x</a>`},
		{"data-consent-href", `<a href="https://r.example.org/ls/click?upn=u001.abc" data-consent-href="https://shop.example/z">x</a>`, `<a href="https://shop.example/z">x</a>`},
		{"twice", `<a href="https://shop.example/" href="` + counter + `">x</a>`, `<a href="https://shop.example/" href="https://shop.example/a?b=1&amp;c=2">x</a>`},
		{"in SVG, another prefix", `<svg><a x:href="` + counter + `">x</a></svg>`, `<svg><a x:href="https://shop.example/a?b=1&amp;c=2">x</a></svg>`},
		{"conditional comment, upper case", `<!--[IF MSO]><a href="` + counter + `">x</a><![ENDIF]-->`, `<!--[IF MSO]><a href="https://shop.example/a?b=1&amp;c=2">x</a><![ENDIF]-->`},
		{"mailto", `<a href="mailto:a@example.org">x</a>`, ""},
		{"anchor", `<a href="#top">x</a>`, ""},
		{"template", `<a href="{{ shop_url }}">x</a>`, ""},
		{"campaign parameters", `<a href="https://shop.example/?utm_source=a&utm_medium=b&copy=1">x</a>`, ""},
		{"signed", `<a href="https://s3.example/x?X-Amz-Signature=ab&mc_eid=1">x</a>`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, message("Content-Type: text/html\n", "<p>Hello</p>"+c.html+"<p>"))
			with, without := string(render(t, m, variant(false, true))), string(render(t, m, variant(true, false)))
			if c.want == "" {
				c.want = c.html
			}
			if !strings.Contains(without, "<p>Hello</p>"+c.want+"<p>") {
				t.Errorf("without consent want %s, got:\n%s", c.want, without)
			}
			kept := strings.ReplaceAll(c.html, ` data-consent-href="https://shop.example/z"`, "")
			if !strings.Contains(with, kept) {
				t.Errorf("with consent want %s, got:\n%s", kept, with)
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		m := parse(t, message("Content-Type: text/plain\n", "See <"+counter+">, or ("+counter+").\nBye\n"))
		got := string(render(t, m, variant(true, false)))
		if !strings.Contains(got, "See <https://shop.example/a?b=1&c=2>, or (https://shop.example/a?b=1&c=2).\r\nBye") {
			t.Errorf("got:\n%s", got)
		}
	})
}

func TestOpaqueLinks(t *testing.T) {
	const opaque = "https://u1.ct.sendgrid.net/ls/click?upn=u001.abcdef-2Bxyz"
	src := message("Content-Type: text/html\n", `<a class="b" href="`+opaque+`">shop</a>`)
	for o, want := range map[Opaque]string{"": `<a class="b" href="` + opaque + `">shop</a>`, OpaqueKeep: `href="` + opaque, OpaqueUnlink: `<a class="b">shop</a>`} {
		opts := testOptions()
		opts.Opaque = o
		m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(render(t, m, variant(true, false))); !strings.Contains(got, want) {
			t.Errorf("%q: want %s in\n%s", o, want, got)
		}
	}
	opts := testOptions()
	opts.Opaque = OpaqueReject
	m, _ := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
	if _, err := m.Render(variant(true, false)); err == nil {
		t.Error("reject: no error")
	}
	render(t, m, variant(false, true))
}

func TestHeaderFields(t *testing.T) {
	m := parse(t, crlf([]byte("From: a@example.org\nBcc: secret@example.org,\n more@example.org\nX-Consent-Scope: news\nList-Unsubscribe: <https://s.example/u>\n"+
		"List-Unsubscribe-Post: List-Unsubscribe=One-Click\nDisposition-Notification-To: a@example.org\nSubject:   kept  \n as it is\nContent-Type: text/plain\n\nhi\n")))
	if got := m.Fields("x-consent-scope"); len(got) != 1 || got[0] != "news" {
		t.Errorf("Fields: %q", got)
	}
	got := string(render(t, m, variant(false, false)))
	want := "From: a@example.org\r\nSubject:   kept  \r\n as it is\r\nContent-Type: text/plain\r\nList-Unsubscribe: <" + testLink +
		">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nhi\r\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s", got)
	}
	v := variant(true, false)
	v.OneClick = ""
	calendar := parse(t, message("Content-Type: text/calendar\n", "BEGIN:VCALENDAR\n"))
	if got := string(render(t, calendar, v)); !strings.Contains(got, "\r\nList-Unsubscribe: <"+testLink+">\r\n\r\nBEGIN") {
		t.Errorf("without a text part the field is the link, got\n%s", got)
	}
	got = string(render(t, m, v))
	if strings.Contains(got, "List-Unsubscribe") {
		t.Errorf("a receipt cannot be unsubscribed from, got\n%s", got)
	}
	v.Link = ""
	got = string(render(t, m, v))
	if !strings.Contains(got, "List-Unsubscribe: <https://s.example/u>\r\n") || !strings.Contains(got, "Disposition-Notification-To") || strings.Contains(got, "secret") {
		t.Errorf("without a pair of ours, got\n%s", got)
	}
	v = variant(true, false)
	v.MailTo = "mailto:unsubscribe@gate.example.org?subject=x"
	if got := string(render(t, m, v)); !strings.Contains(got, ">,\r\n <mailto:unsubscribe@gate.example.org?subject=x>\r\n") {
		t.Errorf("mailto, got\n%s", got)
	}
}

func TestFooterPlace(t *testing.T) {
	for _, c := range []struct {
		name, fields, body string
		links              int    // in the decoded texts
		before             string // stands right before the footer
	}{
		{"html", "Content-Type: text/html\n", "<html><body><p>x</p></body></html>\n", 1, "<p>x</p>"},
		{"no body tag", "Content-Type: text/html\n", "<p>x</p>", 1, "<p>x</p>"},
		{"no end", "Content-Type: text/html\n", "<html><body><p>x", 1, "<p>x"},
		{"body end in a comment", "Content-Type: text/html\n", "<p>x</p><!-- </body> --><i>y</i>", 1, "<i>y</i>"},
		{"unclosed comment", "Content-Type: text/html\n", "<p>x</p><!-- </body>", 1, "<p>x</p>"},
		{"unclosed title", "Content-Type: text/html\n", "<p>x</p><title>y", 1, "<p>x</p>"},
		{"unclosed hidden box", "Content-Type: text/html\n", `<p>x</p><div style="display:none">y</body>`, 1, "y</div>"},
		{"unclosed link", "Content-Type: text/html\n", `<p><a href="https://shop.example/">y</body>`, 1, "y</a>"},
		{"quoted-printable", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n", "<p>x=3D</p>=\n</body>", 1, "<p>x=</p>"},
		{"base64", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n", "PHA+eDwvcD48L2JvZHk+\n", 1, "<p>x</p>"},
		{"utf-16", "Content-Type: text/html; charset=utf-16le\nContent-Transfer-Encoding: base64\n", "PABwAD4AeAA8AC8AcAA+AA==\n", 1, "<p>x</p>"},
		{"plain", "Content-Type: text/plain\n", "x\n", 1, "x\r\n\r\n"},
		{"plain without type", "", "x", 1, "x\r\n\r\n"},
		{"nothing", "", "", 1, ""},
		{"alternative", "Content-Type: multipart/alternative; boundary=b\n", "--b\nContent-Type: text/plain\n\nx\n--b\nContent-Type: text/html\n\n<p>x</p>\n--b--\n", 2, ""},
		{"mixed with two texts", "Content-Type: multipart/mixed; boundary=b\n", "--b\n\nx\n--b\nContent-Type: text/html\n\n<p>y</p>\n--b--\n", 1, "x\r\n\r\n"},
		{"missing close delimiter", "Content-Type: multipart/mixed; boundary=b\n", "--b\n\nx\n", 1, "x\r\n\r\n"},
		{"boundary that is a prefix", "Content-Type: multipart/mixed; boundary=b\n", "--b\nContent-Type: multipart/alternative; boundary=b-inner\n\n--b-inner\n\nx\n--b-inner--\n--b--\n", 1, "x\r\n\r\n"},
		{"related", "Content-Type: multipart/related; boundary=b\n", "--b\nContent-Type: text/html\n\n<p>x</p></body>\n--b\nContent-Type: image/png\n\nz\n--b--\n", 1, "<p>x</p>"},
		{"attachment first", "Content-Type: multipart/mixed; boundary=b\n", "--b\nContent-Disposition: attachment\n\nx\n--b\n\ny\n--b--\n", 1, "y\r\n\r\n"},
		{"signed", "Content-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"\n", "--b\n\nx\n--b\nContent-Type: application/pgp-signature\n\nz\n--b--\n", 1, ""},
		{"encrypted", "Content-Type: multipart/encrypted; boundary=b\n", "--b\n\nx\n--b--\n", 0, ""},
		{"forwarded message", "Content-Type: multipart/mixed; boundary=b\n", "--b\nContent-Type: message/rfc822\n\nSubject: x\n\nhi\n--b--\n", 0, ""},
		{"placeholder in html", "Content-Type: text/html\n", `<p>x</p><a href="{{unsubscribe_url}}">stop</a></body>`, 1, `<a href="`},
		{"placeholder percent-encoded", "Content-Type: text/html\n", `<p>x</p><a href="%7B%7Bunsubscribe_url%7D%7D">stop</a></body>`, 1, `<a href="`},
		{"placeholder in text", "Content-Type: text/plain\n", "stop: {{ unsubscribe_url }}\nbye\n", 1, "stop: "},
		{"placeholder hidden", "Content-Type: text/html\n", `<!-- {{unsubscribe_url}} --><p>x</p>`, 2, ""},
		{"header without end", "Content-Type: text/plain\n", "", 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, message(c.fields, c.body))
			out := render(t, m, variant(false, false))
			again := parse(t, out)
			var all []byte
			for _, tx := range again.texts {
				all = append(all, tx.decoded()...)
			}
			if got := bytes.Count(all, []byte(testLink)); got != c.links {
				t.Errorf("%d links, want %d:\n%s", got, c.links, out)
			}
			if i := bytes.Index(all, []byte(testLink)); c.before != "" && i >= 0 {
				b := all[:i]
				if j := bytes.LastIndex(b, []byte("<div lang")); j >= 0 {
					b = b[:j]
				}
				if j := bytes.LastIndex(b, []byte("__________")); j >= 0 {
					b = b[:j]
				}
				if !bytes.HasSuffix(b, []byte(c.before)) {
					t.Errorf("the footer does not stand behind %q:\n%s", c.before, all)
				}
			}
			for _, line := range bytes.Split(out, []byte("\r\n")) {
				if len(line) > 998 {
					t.Errorf("a line of %d characters", len(line))
				}
			}
			// Put through again, it gains nothing.
			v := variant(false, false)
			v.Linked = make([]bool, len(again.OwnLinks()))
			for i := range v.Linked {
				v.Linked[i] = testPrefix+again.OwnLinks()[i].Token == testLink
			}
			if twice := render(t, again, v); !bytes.Equal(twice, out) {
				t.Errorf("a second passage changes the copy (-once +twice):\n%s", cmp.Diff(string(out), string(twice)))
			}
		})
	}
}

// The spool keeps a waiting message's language, and must not keep all its HTML with it.
func TestLanguageKeepsNoText(t *testing.T) {
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n, size = 50, 200 << 10
	before := memory()
	var kept []string
	for range n {
		src := message("Content-Type: text/html; charset=utf-8\n", "<html lang=de><body>"+strings.Repeat("<p>text</p>\n", size/12)+"</body></html>\n")
		kept = append(kept, parse(t, src).Language())
	}
	if grown := int64(memory()) - int64(before); grown > n*size/4 {
		t.Errorf("%d languages keep %d KiB alive", n, grown>>10)
	}
	if kept[n-1] != "de" {
		t.Errorf("language %q", kept[n-1])
	}
	runtime.KeepAlive(kept)
}

func TestFooterLanguages(t *testing.T) {
	if err := DefaultFooters("Example & Söhne").Check(); err != nil {
		t.Fatal(err)
	}
	for _, fields := range []string{"Content-Type: text/plain; charset=us-ascii\n", "Content-Type: text/plain; charset=iso-8859-1\n", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n", ""} {
		for lang := range footerWords {
			for _, body := range []string{"hello\n", "h\xe9llo\n"} {
				src := message(fields, body)
				m := parse(t, src)
				v := variant(false, false)
				v.Language = lang + "-XX"
				again := parse(t, render(t, m, v))
				got := string(findCharset(again.root.typ.params["charset"]).decode(again.texts[0].decoded()))
				want := footerWords[lang].link
				if !strings.Contains(got, want) && !strings.Contains(got, toASCII(want)) {
					t.Errorf("%q %s: no %q in\n%s", fields, lang, want, got)
				}
				if body == "hello\n" && !strings.Contains(got, want) {
					t.Errorf("%q %s: written without accents though the text is ASCII:\n%s", fields, lang, got)
				}
			}
		}
	}
}

func TestLinkThatDoesNotFit(t *testing.T) {
	m := parse(t, message("", "x"))
	for _, bad := range []string{"https://x.example/\r\nBcc: x", "https://x.example/ y", "https://x.example/\">", strings.Repeat("a", MaxLink+1)} {
		v := variant(false, false)
		v.Link = bad
		if _, err := m.Render(v); err == nil {
			t.Errorf("%.30q is taken", bad)
		}
	}
}

func TestAMPGoesAsAWhole(t *testing.T) {
	m := parse(t, message("Content-Type: multipart/alternative; boundary=b\n", "--b\n\nx\n--b\nContent-Type: text/x-amp-html\n\n<html amp4email><amp-img src=\"https://x.example.org/o\"></amp-img></html>\n--b\nContent-Type: text/html\n\n<p>x</p>\n--b--\n"))
	if got := string(render(t, m, variant(true, false))); strings.Contains(got, "amp-img") || strings.Count(got, "--b\r\n") != 2 {
		t.Errorf("AMP is left, or the delimiters are wrong:\n%s", got)
	}
	if got := string(render(t, m, variant(true, true))); !strings.Contains(got, "amp-img") || strings.Count(got, testLink) != 4 {
		t.Errorf("with both consents AMP stays, with a link:\n%s", got)
	}
}

// A tag has as many attributes as nobody looks at, wherever it stands: what is behind them must not leave.
func TestManyAttributes(t *testing.T) {
	tag := func(n int, between string) string {
		return "<img" + strings.Repeat(between+"a=b\n", n-3) + " src=https://t.example.org/o.gif width=1 height=1>"
	}
	for name, of := range map[string]func(n int) []byte{
		"HTML": func(n int) []byte { return message("Content-Type: text/html\n", "<p>x</p>"+tag(n, " ")+"<p>y</p>\n") },
		"a document in an attribute": func(n int) []byte {
			return message("Content-Type: text/html\n", "<p>x</p><iframe srcdoc=\""+html.EscapeString(tag(n, " "))+"\"></iframe>\n")
		},
		"a calendar": func(n int) []byte {
			return message("Content-Type: text/calendar\n", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nX-ALT-DESC;FMTTYPE=text/html:"+strings.ReplaceAll(tag(n, " "), "\n", "")+"\nEND:VEVENT\nEND:VCALENDAR\n")
		},
		"a type without a boundary": func(n int) []byte { return message("Content-Type: multipart/mixed\n", "<p>x</p>"+tag(n, " ")+"\n") },
		"control characters":        func(n int) []byte { return message("Content-Type: text/html\n", "<p>x</p>"+tag(n, " \x01")+"\n") },
	} {
		for n, most := range map[int]bool{100: false, htmltoken.MaxAttrs: false, htmltoken.MaxAttrs + 1: true} {
			m := parse(t, of(n))
			_, err := m.Render(variant(false, false))
			switch {
			case most && !errors.Is(err, ErrUnreadable), err != nil && !errors.Is(err, ErrUnreadable):
				t.Errorf("%s, %d attributes: %v", name, n, err)
			case err == nil && strings.Contains(string(render(t, m, variant(false, false))), "o.gif"):
				t.Errorf("%s, %d attributes: the tracker is left", name, n)
			}
			if got := string(render(t, m, variant(true, true))); !strings.Contains(got, "o.gif") {
				t.Errorf("%s, %d attributes: a copy with consent lacks the picture", name, n)
			}
		}
	}
}

func TestManyParts(t *testing.T) {
	src := message("Content-Type: multipart/mixed; boundary=b\n", strings.Repeat("--b\n\nx\n", 3*maxParts))
	m := parse(t, src)
	if _, err := m.Render(variant(true, false)); !errors.Is(err, ErrUnreadable) {
		t.Errorf("what nobody looked at may hold trackers: %v", err)
	}
	render(t, m, variant(true, true))
	src = message("Content-Type: multipart/mixed; boundary=b\n", strings.Repeat("--b\nContent-Type: multipart/mixed; boundary=b\n\n", 100))
	render(t, parse(t, src), variant(true, true))
}
