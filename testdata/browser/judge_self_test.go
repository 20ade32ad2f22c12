package browser

import (
	"slices"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite"
)

// TestJudge: the judge sees a tracker that passes, a picture that nobody sees, a remote address under
// "all-remote", and a change of the looks; and says nothing against a copy that is right.
func TestJudge(t *testing.T) {
	const (
		tracker = `<img src="` + knownTracker + `">`
		tiny    = `<img src="https://pictures.example.org/o.gif" width="1" height="1">`
		unseen  = `<div style="opacity:0"><img src="https://pictures.example.org/u.png" width="20" height="20"></div>`
		logo    = `<img src="https://pictures.example.org/logo.png" width="300" height="200">`
		text    = `<table width=600 height=300><tr><td bgcolor="#ddeeff" style="font:40px sans-serif">Good news</table>`
	)
	chromium := startChromium(t)
	for name, c := range map[string]struct {
		html, copy, all string
		problem         string // a part of one that must be named, "" if there must be none
		unseen          string // the address of a picture that must be named, "" if there must be none
		different       bool
	}{
		"as it should be":        {tracker + tiny + unseen + logo + text, logo + text, text, "", "", true}, // the empty line of what went
		"the same":               {logo + text, logo + text, text, "", "", false},
		"a footer":               {logo + text, logo + text + `<div><a href="` + link + `">Unsubscribe</a></div>`, text, "", "", false},
		"a tracker stays":        {tracker + text, tracker + text, text, knownTracker, "", false},
		"a pixel stays":          {tiny + text, tiny + text, text, "", "https://pictures.example.org/o.gif", false},
		"an unseen one stays":    {unseen + text, unseen + text, text, "", "https://pictures.example.org/u.png", false},
		"remote under all":       {logo + text, logo + text, logo + text, "all-remote", "", false},
		"a picture is gone":      {logo + text, `<img width="300" height="200" alt="">` + text, text, "", "", true},
		"a word is another":      {text, strings.Replace(text, "Good", "Bad", 1), text, "", "", true},
		"a line is gone":         {"<p>a</p>" + text, text, text, "", "", true},
		"the end is out of view": {`<div style="height:5000px">a</div>`, `<div style="height:4990px">a</div>`, "", "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := chromium.newTab(t).judge("self", []byte(c.html), func(i rewrite.Images) ([]byte, error) {
				if i == rewrite.ImagesAllRemote {
					return []byte(c.all), nil
				}
				return []byte(c.copy), nil
			})
			if named := slices.ContainsFunc(v.problems, func(p string) bool { return strings.Contains(p, c.problem) }); named != (c.problem != "") {
				t.Errorf("problems %q, want %q", v.problems, c.problem)
			}
			if len(v.unseen) > 0 != (c.unseen != "") || c.unseen != "" && v.unseen[c.unseen] == "" {
				t.Errorf("unseen %q, want %q", v.unseen, c.unseen)
			}
			if (v.different != "") != c.different {
				t.Errorf("different: %q", v.different)
			}
		})
	}
}

// TestJudgeMail: mail that leaves as it came is found out, the gateway's own copy of it is not.
func TestJudgeMail(t *testing.T) {
	mail := []byte("MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<html><body>" + `<img src="https://pictures.example.org/logo.png" width="300" height="200">` +
		`<p>Good news</p><img src="` + knownTracker + `" width="1" height="1"></body></html>`)
	b := startChromium(t).newTab(t)
	html, err := htmlOf(mail)
	if err != nil {
		t.Fatal(err)
	}
	asItCame := b.judge("self", html, func(rewrite.Images) ([]byte, error) { return html, nil })
	if len(asItCame.problems) != 2 || asItCame.before != asItCame.after {
		t.Errorf("a copy that is the original is judged %+v", asItCame)
	}
	ours := b.judge("self", html, func(i rewrite.Images) ([]byte, error) { return copyHTML(mail, i) })
	if len(ours.problems)+len(ours.unseen) > 0 || ours.different != "" || ours.after >= ours.before {
		t.Errorf("the gateway's copy is judged %+v", ours)
	}
}
