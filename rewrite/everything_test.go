package rewrite

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// TestEverything: with Options.Everything ordinary addresses are findings too, and the copies are
// the same.
func TestEverything(t *testing.T) {
	src := []byte("Content-Type: text/html\r\n\r\n" +
		`<img src="https://pictures.example.org/a.jpg"><p style="background:url(https://pictures.example.org/b.jpg)">` +
		`<a href="https://shop.example.org/">x</a> https://text.example.org/ <a href="mailto:a@example.org">m</a>` +
		`<iframe srcdoc="&lt;img src='https://pictures.example.org/c.jpg'&gt;"></iframe>` +
		`<img src="https://pictures.example.org/d.gif" width=1 height=1><a href="#top">t</a>` + "\r\n")
	opts := testOptions()
	opts.Everything = true
	all, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range all.Findings() {
		if f.Kind != Unsubscribe {
			got = append(got, fmt.Sprintf("%s %s %s %q", f.Kind, f.Vector, f.URL, f.Rule))
		}
	}
	want := []string{
		`open img src https://pictures.example.org/a.jpg ""`,
		`open p style url() https://pictures.example.org/b.jpg ""`,
		`click a href https://shop.example.org/ ""`,
		`click text link https://text.example.org/ ""`,
		`open srcdoc img src https://pictures.example.org/c.jpg ""`,
		`open img src https://pictures.example.org/d.gif "size"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, v := range []Variant{variant(false, false), variant(true, false), variant(false, true), variant(true, true)} {
		if a, b := render(t, all, v), render(t, parse(t, src), v); !bytes.Equal(a, b) {
			t.Errorf("the copies differ: %s", cmp.Diff(string(b), string(a)))
		}
	}
}
