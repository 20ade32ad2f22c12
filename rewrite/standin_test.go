package rewrite

import (
	"bytes"
	"strings"
	"testing"
)

// TestStandIns: a pixel that may hold the layout open leaves its box, and no address. One that says
// nothing of its size goes as a whole.
func TestStandIns(t *testing.T) {
	const pixel, known, picture = "https://x.example.org/o.gif", "https://open.convertkit-mail4.com/qwertyuiop", "https://x.example.org/pic.png"
	for name, c := range map[string]struct{ html, want string }{
		"pixel":                    {`<img src="` + pixel + `" width="1" height="1">`, `<img src="@" width="1" height="1">`},
		"unquoted":                 {`<img src=` + pixel + ` width=1 height=1>`, `<img src="@" width=1 height=1>`},
		"closed, by style":         {`<IMG srC='` + pixel + `' style="width:1px;height:1px;display:block" />`, `<IMG srC='@' style="width:1px;height:1px;display:block" />`},
		"other ways out":           {`<img src="cid:a" srcset="` + pixel + ` 1x" lowsrc=` + pixel + ` longdesc="` + pixel + `" width=1 height=1>`, `<img src="cid:a" width=1 height=1>`},
		"style of a pixel":         {`<img src="` + pixel + `" width=1 height=1 style="background:url(` + pixel + `)">`, `<img src="@" width=1 height=1 style="background:url(data:,)">`},
		"src twice":                {`<img src="` + pixel + `" src="` + pixel + `" width=1 height=1>`, `<img src="@" src="@" width=1 height=1>`},
		"known, sized":             {`<img src="` + known + `" width="600" height="1">`, `<img src="@" width="600" height="1">`},
		"known, of no size":        {`a<img src="` + known + `" style="border:0">b`, `ab`},
		"spacer of the same pixel": {`<img src="` + pixel + `" width=600 height=1><img src="` + pixel + `" width=1 height=1>`, `<img src="@" width=600 height=1><img src="@" width=1 height=1>`},
		"same pixel, of no size": {`<img src="` + pixel + `" border=0>,<img src="` + pixel + `"><img src="` + pixel + `" width=1 height=1>`,
			"<img\r\nsrc=\"@\" width=\"1\" height=\"1\"\r\n border=0>,<img\r\nsrc=\"@\" width=\"1\" height=\"1\"\r\n><img src=\"@\" width=1 height=1>"},
		"same pixel, in percent": {`<img src="` + pixel + `" width="100%"><img src="` + pixel + `" width=1 height=1>`, `<img src="@" width="100%"><img src="@" width=1 height=1>`},
		"hidden":                 {`<img src="` + picture + `" width=100 style="visibility:hidden">`, `<img src="@" width=100 style="visibility:hidden">`},
		"not closed":             {`<img width=1 height=1 src="` + pixel, `<img width=1 height=1 src="@`},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, append(message("Content-Type: text/html\n", "<p>x</p>"), c.html...))
			v := variant(false, true)
			v.Link, v.OneClick = "", ""
			_, got, _ := strings.Cut(string(render(t, m, v)), "<p>x</p>")
			if want := strings.ReplaceAll(c.want, "@", standIn); strings.Trim(got, "\r\n") != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestStandInLines: a stand-in is longer than many an address, and yet no line gets over 998 bytes
// (RFC 5322 §2.1.1) that was not.
func TestStandInLines(t *testing.T) {
	pixel := `<img src=//x.eu/o width=1 height=1>`
	for n := 1; n <= 998/len(pixel); n++ {
		m := parse(t, message("Content-Type: text/html\n", strings.Repeat(pixel, n)+"\n"))
		got := render(t, m, variant(false, false))
		for line := range bytes.Lines(got) {
			if len(line) > 998+2 {
				t.Fatalf("%d pixels: a line of %d bytes", n, len(line))
			}
		}
		if k := bytes.Count(got, []byte(standIn)); k != n {
			t.Fatalf("%d pixels: %d stand-ins", n, k)
		}
	}
}
