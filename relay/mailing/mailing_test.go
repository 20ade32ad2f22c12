package mailing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// parse makes a Copy of HTML.
func parse(t testing.TB, html string, rules *trackers.Rules) Copy {
	t.Helper()
	text := []byte("Content-Type: text/html\r\n\r\n" + html)
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), rules, rewrite.Options{Everything: true})
	if err != nil {
		t.Fatal(err)
	}
	return Copy{Findings: m.Findings()}
}

func TestCompare(t *testing.T) {
	const page = `<p>Hello</p>EXTRA
<img src="https://pictures.example.org/hat.jpg" width=200 height=100>
<img src="https://cdn.example.org/hat/PERSON/1.png" width=200 height=100>
<img src="https://px.example.org/i/PERSON" alt="">
<img src="https://px.example.org/o/PERSON.gif" width=1 height=1>
<a href="https://go.example.org/c/PERSON?to=https%3A%2F%2Fshop.example.org%2Fhat">hat</a>
<a href="https://go.example.org/c/PERSON?to=https%3A%2F%2Fshop.example.org%2Fcoat">coat</a>
<a href="https://go.example.org/r/PERSON">more</a>
<a href="https://shop.example.org/sale?person=PERSON">sale</a>
<a href="https://shop.example.org/imprint">imprint</a>
<a href="https://shop.example.org/unsubscribe/PERSON">leave</a>
<a href="https://62zt.mjt.lu/lnk/PERSON/1/H_gVqGi_Nd7AdmeieWY-iA/aHR0cHM6Ly9zaG9wLmV4YW1wbGUub3JnL2E">known</a>`
	person := func(token, extra string) string {
		return strings.NewReplacer("PERSON", token, "EXTRA", extra).Replace(page)
	}
	one := person("aa11bb22cc33", "")
	two := person("dd44ee55ff66", `<a href="https://shop.example.org/only/for/you">x</a>`)
	three := person("0f1e2d3c4b5a", "")
	r := Compare([]Copy{parse(t, one, trackers.Default()), parse(t, two, trackers.Default()), parse(t, three, trackers.Default())})
	var got []string
	for _, p := range r.Personal {
		got = append(got, fmt.Sprintf("%s %s %v covered=%v rule=%d", p.Sort, strings.TrimPrefix(p.Finding.URL, "https://"), p.Differs, p.Covered, p.Rule))
	}
	want := []string{
		"picture cdn.example.org/hat/aa11bb22cc33/1.png [path segment 2] covered=false rule=0",
		"picture px.example.org/i/aa11bb22cc33 [path segment 2] covered=false rule=1",
		"pixel px.example.org/o/aa11bb22cc33.gif [path segment 2] covered=true rule=-1",
		"link go.example.org/c/aa11bb22cc33?to=https%3A%2F%2Fshop.example.org%2Fhat [path segment 2] covered=false rule=2",
		"link go.example.org/c/aa11bb22cc33?to=https%3A%2F%2Fshop.example.org%2Fcoat [path segment 2] covered=false rule=2",
		"link go.example.org/r/aa11bb22cc33 [path segment 2] covered=false rule=3",
		"link shop.example.org/sale?person=aa11bb22cc33 [parameter person] covered=false rule=4",
		"unsubscribe shop.example.org/unsubscribe/aa11bb22cc33 [path segment 2] covered=false rule=-1",
		"link 62zt.mjt.lu/lnk/aa11bb22cc33/1/H_gVqGi_Nd7AdmeieWY-iA/aHR0cHM6Ly9zaG9wLmV4YW1wbGUub3JnL2E [path segment 2] covered=true rule=-1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Same != 2 || r.Unpaired != 0 || r.Alike() != 1 {
		t.Errorf("same %d, unpaired %d", r.Same, r.Unpaired)
	}

	// With all of the proposals in force (the commented ones too), everything personal is covered.
	file := strings.ReplaceAll(strings.Join(r.Rules, "\n"), "\n# ", "\n")
	file = strings.ReplaceAll(file, "# [[", "[[")
	var lines []string
	for line := range strings.SplitSeq(file, "\n") {
		if strings.Contains(line, " = ") || strings.HasPrefix(line, "[[") {
			lines = append(lines, line)
		}
	}
	own, err := trackers.Load([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatalf("the proposals do not load together: %v\n%s", err, file)
	}
	all := trackers.Default().With(own)
	for _, html := range []string{one, two, three} {
		again := Compare([]Copy{parse(t, html, all), parse(t, person("998877665544", ""), all)})
		for _, p := range again.Personal {
			if !p.Covered && p.Sort != Unsubscribe {
				t.Errorf("not covered by its own proposal: %s", p.Finding.URL)
			}
			if strings.Contains(p.Finding.URL, "shop.example.org%2Fhat") && p.Finding.Destination != "https://shop.example.org/hat" {
				t.Errorf("destination %q", p.Finding.Destination)
			}
		}
	}
}

func TestAlignWithABlockMore(t *testing.T) {
	var a, b []rewrite.Finding
	for i := range 50 {
		f := rewrite.Finding{Kind: rewrite.ClickTracker, Vector: "a href", Part: "1", URL: fmt.Sprintf("https://shop.example.org/%s%d", strings.Repeat("x/", i%7), i)}
		a = append(a, f)
		if i == 20 {
			b = append(b, rewrite.Finding{Kind: rewrite.OpenTracker, Vector: "img src", Part: "1", URL: "https://shop.example.org/more"})
		}
		if i != 30 {
			b = append(b, f)
		}
	}
	for _, p := range align(a, b, shape) {
		if a[p.a].URL != b[p.b].URL && p.a != 30 {
			t.Errorf("%s beside %s", a[p.a].URL, b[p.b].URL)
		}
	}
	if n := len(align(a, b, shape)); n != 49 {
		t.Errorf("%d pairs", n)
	}
}

func TestStrangers(t *testing.T) {
	a := parse(t, `<a href="https://one.example.org/a">x</a><a href="https://one.example.org/b/c">x</a>`, trackers.Default())
	b := parse(t, `<img src="https://two.example.net/z.png"><img src="https://two.example.net/y/z.png">`, trackers.Default())
	if r := Compare([]Copy{a, b}); r.Alike() != 0 || len(r.Personal) != 0 {
		t.Errorf("%+v", r)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add(`<a href="https://a.example.org/x/1?u=2#3">x</a><img src="//b.example.org/%zz/{*}/1.gif">`, `<a href="https://a.example.org/x/2?u=3#4">x</a><img src="//b.example.org/%zy/{*}/2.gif">`)
	f.Add(`<a href="https://a.example.org:99/">`, `<a href="https://b.example.org:99/">`)
	f.Fuzz(func(t *testing.T, a, b string) {
		begin := time.Now()
		r := Compare([]Copy{parse(t, a, trackers.Default()), parse(t, b, trackers.Default())})
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("took %v for %d bytes", d, len(a)+len(b))
		}
		if _, err := trackers.Load([]byte(strings.Join(r.Rules, "\n"))); err != nil {
			t.Errorf("the proposals do not load together: %v\n%s", err, strings.Join(r.Rules, "\n"))
		}
	})
}
