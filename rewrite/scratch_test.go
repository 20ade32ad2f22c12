package rewrite

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// TestNothingIsShared: what was said of a message stays true when the memory of its source and of its parse
// is used for others.
func TestNothingIsShared(t *testing.T) {
	counted := "https://u1.ct.sendgrid.net/ls/click?upn=" + strings.Repeat("aB3", 20)
	for _, encoding := range []string{"8bit", "quoted-printable"} {
		body := "<p>x <a href=" + counted + "&amp;a>y</a><img src=https://t.example.org/open width=1 height=1 alt=>"
		if encoding == "quoted-printable" {
			body = strings.ReplaceAll(body, "=", "=3D")
		}
		src := message("Content-Type: text/html\nContent-Transfer-Encoding: "+encoding+"\n", body)
		m := parse(t, src)
		before := render(t, m, variant(false, false))
		var urls []string
		for _, f := range m.Findings() {
			urls = append(urls, string([]byte(f.URL)))
		}
		for range 10 { // any of these may get the memory
			parse(t, message("Content-Type: text/html\n", "<a href="+counted+"&amp;other>y</a><img src=https://other.example.org/o height=1 width=1><p style='display:none'>"))
		}
		if after := render(t, m, variant(false, false)); !bytes.Equal(before, after) {
			t.Errorf("%s: a copy is another after other messages:\n%s\n%s", encoding, before, after)
		}
		clear(src)
		var again []string
		for _, f := range m.Findings() {
			again = append(again, f.URL)
		}
		if len(urls) < 4 || !reflect.DeepEqual(urls, again) {
			t.Errorf("%s: %q became %q once the source was gone", encoding, urls, again)
		}
	}
}

// TestScratchIsEmpty: a message is not kept alive by what the next parse gets.
func TestScratchIsEmpty(t *testing.T) {
	s := &scratch{findings: []Finding{{URL: "x"}, {URL: "y"}}[:1], edits: make([]edit, 0, mostScratch+1)}
	s.release()
	if got := s.findings[:cap(s.findings)]; len(got) != 2 || got[0].URL != "" || got[1].URL != "" || s.edits != nil {
		t.Errorf("%+v", s)
	}
	if _, err := Parse(Bytes("Subject: x\r\n\r\n"), 14, trackers.Default(), Options{}); err != nil {
		t.Error(err)
	}
}
