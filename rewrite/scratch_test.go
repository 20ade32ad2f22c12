package rewrite

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

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

// TestNothingIsKept: no part of a message stays in the memory that the next parse gets, whatever it is found in.
func TestNothingIsKept(t *testing.T) {
	var all [][]byte
	files, err := filepath.Glob("../testdata/rewrite/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, crlf(src))
	}
	counted := "https://u1.ct.sendgrid.net/ls/click?upn=" + strings.Repeat("aB3", 20) + "&amp;b"
	for _, x := range vectors {
		html := "<html lang=fr-x-kept><a href='" + counted + "'>x</a><a data-consent-href=https://shop.example.org/kept href=https://u1.ct.sendgrid.net/ls/click?upn=x>y</a><img width=1 height=1 src=https://t.example.org/open>" + strings.ReplaceAll(x.html, "T", "https://www.google-analytics.com/collect?v=1&amp;t=event")
		all = append(all, message("Content-Type: text/html\n", html),
			message("Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n", strings.ReplaceAll(html, "=", "=3D")))
	}
	lent := 0
	for _, src := range all {
		for _, opts := range []Options{testOptions(), {LinkPrefix: testPrefix, Images: ImagesAllRemote, Everything: true}} {
			work := &scratch{}
			m := &Message{src: Bytes(src), size: int64(len(src)), rules: trackers.Default(), opts: opts, plans: map[planKey]*plan{}, work: work}
			if err := m.parse(); err != nil {
				t.Fatal(err)
			}
			m.settle()
			if cap(work.bytes) > 0 {
				lent++
			}
			m.rules = nil
			seen := map[unsafe.Pointer]bool{}
			var visit func(v reflect.Value, path string)
			visit = func(v reflect.Value, path string) {
				switch v.Kind() {
				case reflect.String:
					if v.Len() > 0 && work.lends(v.String()) {
						t.Errorf("%s is %q in memory that the next parse gets, of\n%s", path, v.String(), src)
					}
				case reflect.Pointer:
					if !v.IsNil() && !seen[v.UnsafePointer()] {
						seen[v.UnsafePointer()] = true
						visit(v.Elem(), path)
					}
				case reflect.Struct:
					for i := range v.NumField() {
						visit(v.Field(i), path+"."+v.Type().Field(i).Name)
					}
				case reflect.Slice:
					if v.Type().Elem().Kind() == reflect.Uint8 {
						if v.Len() > 0 && work.lends(unsafe.String((*byte)(v.UnsafePointer()), v.Len())) {
							t.Errorf("%s is %q in memory that the next parse gets, of\n%s", path, v.Bytes(), src)
						}
						return
					}
					for i := range v.Len() {
						visit(v.Index(i), path+"[]")
					}
				case reflect.Map:
					for k, x := range v.Seq2() {
						visit(k, path+" key")
						visit(x, path+" value")
					}
				}
			}
			visit(reflect.ValueOf(m), "")
		}
	}
	if lent < len(vectors) {
		t.Errorf("only %d of %d messages borrowed memory", lent, len(all))
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

// decoded is the text, also where the parse has given it up.
func (t *text) decoded() []byte {
	if t.lent {
		plain, _ := decodeQP(t.raw, nil, nil)
		return plain
	}
	return t.plain
}
