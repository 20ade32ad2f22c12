package web

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
)

func TestNetwork(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer   string
		fields []string
		want   string
	}{
		{"198.51.100.7:1234", nil, "198.51.100.0/24"},
		{"[2001:db8:1:2::3]:1234", nil, "2001:db8:1::/48"},
		{"[::ffff:198.51.100.7]:1234", nil, "198.51.100.0/24"},
		{"127.0.0.1:1234", nil, ""},
		{"[::1]:1234", nil, ""},
		{"@", nil, ""},
		// A stranger's word is nothing.
		{"198.51.100.7:1234", []string{"X-Forwarded-For", "203.0.113.9"}, "198.51.100.0/24"},
		{"198.51.100.7:1234", []string{"Forwarded", "for=203.0.113.9"}, "198.51.100.0/24"},
		// A proxy's is: the last that is no proxy.
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "203.0.113.9"}, "203.0.113.0/24"},
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "192.0.2.1, 203.0.113.9"}, "203.0.113.0/24"},
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "192.0.2.1, 203.0.113.9, 10.0.0.2"}, "203.0.113.0/24"},
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "192.0.2.1", "X-Forwarded-For", "203.0.113.9:443"}, "203.0.113.0/24"},
		{"[fd00::1]:1234", []string{"X-Forwarded-For", "[2001:db8:1:2::3]:99"}, "2001:db8:1::/48"},
		{"[fd00::1]:1234", []string{"X-Forwarded-For", "2001:db8:1:2::3%eth0"}, "2001:db8:1::/48"},
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "192.0.2.1, unknown"}, "10.0.0.0/24"},
		{"10.0.0.1:1234", []string{"X-Forwarded-For", ""}, "10.0.0.0/24"},
		{"10.0.0.1:1234", []string{"Forwarded", `proto=https;For="[2001:db8:1:2::3]:4711";by=10.0.0.1`}, "2001:db8:1::/48"},
		{"10.0.0.1:1234", []string{"Forwarded", "for=192.0.2.1, for=203.0.113.9;proto=http, for=10.9.9.9"}, "203.0.113.0/24"},
		{"10.0.0.1:1234", []string{"Forwarded", "for=203.0.113.9, for=_hidden"}, "10.0.0.0/24"},
		// One of the two is not the proxy's own.
		{"10.0.0.1:1234", []string{"X-Forwarded-For", "203.0.113.9", "Forwarded", "for=192.0.2.1"}, "10.0.0.0/24"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for i := 0; i < len(c.fields); i += 2 {
			r.Header.Add(c.fields[i], c.fields[i+1])
		}
		got := ""
		if p := network(r, trusted); p.IsValid() {
			got = p.String()
		}
		if got != c.want {
			t.Errorf("%s %q: %q, want %q", c.peer, c.fields, got, c.want)
		}
	}
}

// Who tries many links that do not open is slowed down; a true one from there still works.
func TestLimitsNeverHinderAnOptOut(t *testing.T) {
	s := newSite(t)
	wrong := 0
	for range 500 {
		if w := s.do("GET", "/u/x", "", ""); w.Code == 404 {
			wrong++
		} else if w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Fatalf("status %d", w.Code)
		}
	}
	if wrong != wrongFromOne[0].most {
		t.Errorf("%d links that do not open were answered", wrong)
	}
	if w := s.post(s.link("en"), "List-Unsubscribe=One-Click"); w.Code != 200 || s.record().Mail.State != consent.Unsubscribed {
		t.Errorf("status %d", w.Code)
	}
	for range 500 {
		if w := s.do("GET", s.link("en"), "", ""); w.Code != 200 {
			t.Fatalf("status %d", w.Code)
		}
	}
	s.now = s.now.Add(time.Minute)
	if w := s.do("GET", "/u/x", "", ""); w.Code != 404 {
		t.Errorf("a minute later: status %d", w.Code)
	}
}

func TestLimitIsBounded(t *testing.T) {
	l := newLimit[int](allowance{1, time.Minute})
	for key := range 3 * maxKeys {
		if wait := l.take(key, noon); wait != 0 {
			t.Fatalf("key %d waits %s", key, wait)
		}
		if wait := l.take(key, noon.Add(time.Second)); wait != 59*time.Second {
			t.Fatalf("key %d: %s", key, wait)
		}
	}
	if len(l.past) > maxKeys {
		t.Errorf("%d keys are kept", len(l.past))
	}
	l.forget(noon.Add(time.Hour))
	if len(l.past) != 0 {
		t.Errorf("%d keys are kept whose time is over", len(l.past))
	}
}

// Text in any colour can be read on the page, in light and dark.
func TestColours(t *testing.T) {
	least := 21.0
	for r := 0; r < 256; r += 15 {
		for g := 0; g < 256; g += 15 {
			for b := 0; b < 256; b += 15 {
				c := rgb{float64(r), float64(g), float64(b)}
				p := Colour(c.String()).palette()
				least = min(least, contrast(p.brand, p.on))
				for _, s := range lightSurfaces {
					least = min(least, contrast(p.light, s))
				}
				for _, s := range darkSurfaces {
					least = min(least, contrast(p.dark, s))
				}
			}
		}
	}
	if least < 4.5 { // WCAG 2.2 §1.4.3
		t.Errorf("the least contrast is %.2f", least)
	}
	if c := contrast(black, white); c != 21 {
		t.Errorf("black on white has %v", c)
	}
	for _, s := range append(append([]rgb{}, lightSurfaces...), darkSurfaces...) { // they are what style says
		if !strings.Contains(style, s.String()+";") && !strings.Contains(style, s.String()+"}") && s != white {
			t.Errorf("the page has no surface %s", s)
		}
	}
	for text, want := range map[string]Colour{"#1D5A88": "#1d5a88", "#fc0": "#ffcc00", "": "", "red": "", "#12345": "", "1d5a88": "", "#1d5a8g": "", "#+12345": ""} {
		if got, err := ParseColour(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestLogo(t *testing.T) {
	dir := t.TempDir()
	const svg = `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect width="1" height="1"/></svg>`
	for _, c := range []struct{ name, content, kind string }{
		{"png", "\x89PNG\r\n\x1a\n", "image/png"},
		{"jpeg", "\xff\xd8\xff\xe0", "image/jpeg"},
		{"gif", "GIF89a", "image/gif"},
		{"webp", "RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"},
		{"svg", svg, "image/svg+xml"},
		{"cut svg", svg[:60], ""},
		{"other xml", `<html xmlns="http://www.w3.org/1999/xhtml"/>`, ""},
		{"text", "logo", ""},
		{"empty", "", ""},
		{"large", "GIF89a" + strings.Repeat("x", MaxLogo), ""},
	} {
		file := filepath.Join(dir, "logo")
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		logo, err := ReadLogo(file)
		if (err == nil) != (c.kind != "") || !strings.HasPrefix(string(logo), "data:"+c.kind) && c.kind != "" {
			t.Errorf("%s: %.40s, %v", c.name, logo, err)
		}
	}
	s := newSiteWith(t, PublicConfig{Logo: "data:image/gif;base64,R0lGODlhAQABAAAAACw="})
	w := s.do("GET", s.link("en"), "", "")
	if !strings.Contains(w.Header().Get("Content-Security-Policy"), "; img-src data:") || !strings.Contains(w.Body.String(), `alt="Shop &amp; Söhne &lt;GmbH&gt;"`) {
		t.Errorf("%s\n%s", w.Header().Get("Content-Security-Policy"), w.Body)
	}
}

func TestNotice(t *testing.T) {
	var all strings.Builder
	for _, tx := range texts {
		all.WriteString("[" + tx.Lang + "]\nIn " + tx.Lang + ".\n")
	}
	for _, c := range []struct{ name, text, wrong string }{
		{"plain", "2026-03\nOne\ntwo.\n\n\nThree.", ""},
		{"CRLF", "2026-03\r\nOne.\r\n\r\n[de]\r\nEins.\r\n", ""},
		{"every language", "v1\n" + all.String(), ""},
		{"no version", "\nOne.", "first line is not a version"},
		{"a text first", strings.Repeat("We count. ", 9) + "\n", "first line is not a version"},
		{"version not ASCII", "März\nOne.", "first line is not a version"},
		{"no text", "2026-03\n", "no text for [en]"},
		{"one language alone", "2026-03\n[de]\nEins.", "no text for [en]"},
		{"twice", "2026-03\nOne.\n[de]\nEins.\n[de]\nZwei.", "two texts for [de]"},
		{"unknown", "2026-03\nOne.\n[ja]\n一。", "no language [ja]"},
		{"empty", "2026-03\nOne.\n[de]\n\n[fr]\nUn.", "[de] is empty"},
		{"long", "2026-03\n" + strings.Repeat("x", maxNoticeText+1), "has over"},
		{"Latin-1", "2026-03\n\xfcber", "not UTF-8"},
	} {
		n, err := parseNotice(c.text)
		if (c.wrong == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %+v, %v", c.name, n, err)
		}
	}
	n, _ := parseNotice("2026-03\r\nOne\r\ntwo.\r\n\r\n\r\nThree.\r\n[de]\r\nEins.\r\n")
	for _, c := range []struct {
		t        *text
		want     string
		recorded string
	}{{&german, "Eins.", "2026-03/de"}, {&polish, "One two.|Three.", "2026-03/pl"}} {
		paragraphs, version, recorded := n.shown(c.t)
		if strings.Join(paragraphs, "|") != c.want || version != "2026-03" || recorded != c.recorded {
			t.Errorf("%s: %q, %s, %s", c.t.Lang, paragraphs, version, recorded)
		}
	}
	long := "2026-03-and-as-long-as-a-version-may-be-"
	if len(long) != maxNoticeVersion || consent.CheckNotice(askedFor+long+"/pt") != nil {
		t.Errorf("a version of %d bytes cannot be recorded", len(long))
	}
}
