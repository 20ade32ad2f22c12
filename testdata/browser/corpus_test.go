package browser

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // text comes in UTF-8

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// corpus is mail that nobody here wrote; it is not part of the repository.
const corpus = "../../../shared/corpus"

const link = "https://mail.example.org/u/AbCdEfGhIjKlMnOpQrStUvWxYz"

// htmlOf returns the HTML that a reader shows, as go-message reads it; nil if there is none.
func htmlOf(text []byte) ([]byte, error) {
	e, err := message.Read(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var html []byte
	found := errors.New("found")
	err = e.Walk(func(_ []int, e *message.Entity, err error) error {
		if err != nil {
			return err
		}
		typ, _, _ := e.Header.ContentType()
		disposition, _, _ := e.Header.ContentDisposition()
		if typ != "text/html" || disposition == "attachment" {
			return nil
		}
		if html, err = io.ReadAll(e.Body); err != nil {
			return err
		}
		return found
	})
	if err != nil && err != found {
		return nil, err
	}
	return html, nil
}

// copyOf is the copy for a person without any consent.
func copyOf(text []byte, images rewrite.Images) ([]byte, error) {
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), trackers.Default(), rewrite.Options{LinkPrefix: "https://mail.example.org/u/", Images: images})
	if err != nil {
		return nil, err
	}
	c, err := m.Render(rewrite.Variant{Link: link, OneClick: link, Language: "en"})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = c.WriteTo(&b)
	return b.Bytes(), err
}

// mail is a message with HTML.
type mail struct {
	name string
	text []byte
	html []byte
}

func readCorpus(t *testing.T) []mail {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(corpus, "*", "*", "*"))
	if len(files) == 0 {
		t.Skipf("no corpus of real mail at %s: nothing to open", corpus)
	}
	var all []mail
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(file, "/html/") {
			text = append([]byte("MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"), text...)
		}
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		html, err := htmlOf(text)
		if err != nil || len(bytes.TrimSpace(html)) == 0 {
			continue // no HTML, or none that this reader finds
		}
		name, _ := filepath.Rel(corpus, file)
		all = append(all, mail{name, text, html})
	}
	if len(all) < 300 {
		t.Fatalf("%d messages with HTML only", len(all))
	}
	return all
}

// tabs is how many pages are open at once.
const tabs = 6

// TestCorpus opens the original and the copies without consent of all mail with HTML.
func TestCorpus(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a thousand pages")
	}
	all := readCorpus(t)
	if n, _ := strconv.Atoi(os.Getenv("EVERY")); n > 1 {
		for i := range len(all) / n {
			all[i] = all[i*n]
		}
		all = all[:len(all)/n]
	}
	c := startChromium(t)
	var mu sync.Mutex
	looked, fetchedBefore, fetchedAfter, unlike := 0, 0, 0, map[string]bool{}
	t.Run("pages", func(t *testing.T) {
		for n := range tabs {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				b := c.newTab(t)
				for i := n; i < len(all); i += tabs {
					before, after, same := b.compare(all[i])
					mu.Lock()
					looked++
					fetchedBefore += before
					fetchedAfter += after
					if !same {
						unlike[all[i].name] = true
					}
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d messages; the originals fetched %d addresses, the copies with images = \"trackers\" %d, with \"all-remote\" none; %d look different", looked, fetchedBefore, fetchedAfter, len(unlike))
	for name := range unlike {
		if looksDifferent[name] == "" {
			t.Errorf("%s: the copy looks different, and the list has no reason", name)
		}
	}
	for name := range looksDifferent {
		if !unlike[name] {
			t.Errorf("%s: looks the same now; take it off the list", name)
		}
	}
}

// tolerance is the share of the pixels that may differ.
const tolerance = 0.002

// looksDifferent lists the mail whose copy without consent does not look like the original, and why.
var looksDifferent = map[string]string{}

// shown is a picture as the browser lays it out.
type shown struct {
	URL           string
	Width, Height float64
	Visible       bool
}

const pictures = `[...document.images].map(i => { const r = i.getBoundingClientRect(); return {URL: i.currentSrc || i.src, Width: r.width, Height: r.height,
	Visible: i.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})} })`

// compare opens a message and its copies. It returns how many addresses the original and the copy
// under "trackers" fetched, and whether the two look the same.
func (b *tab) compare(m mail) (before, after int, same bool) {
	b.t.Helper()
	original := b.open(document{m.html, "utf-8"})
	var layout []shown
	b.eval(pictures, &layout)
	first := b.screenshot()

	hidden := map[string]string{} // what the browser says of pictures that nobody sees
	for _, s := range layout {
		switch {
		case !strings.HasPrefix(s.URL, "http") || trackers.Default().Spacer(s.URL):
		case s.Width <= 3 && s.Height <= 3 || s.Width == 0 || s.Height == 0:
			hidden[s.URL] = fmt.Sprintf("%v x %v", s.Width, s.Height)
		case !s.Visible:
			hidden[s.URL] = "hidden"
		}
	}

	copyHTML := func(images rewrite.Images) []byte {
		copy, err := copyOf(m.text, images)
		if errors.Is(err, rewrite.ErrUnreadable) {
			return nil
		}
		if err != nil {
			b.t.Errorf("%s: %v", m.name, err)
			return nil
		}
		html, err := htmlOf(copy)
		if err != nil {
			b.t.Errorf("%s: the copy: %v", m.name, err)
		}
		return html
	}
	html := copyHTML(rewrite.ImagesTrackers)
	if html == nil {
		return len(original), 0, true // it does not leave
	}
	left := b.open(document{html, "utf-8"})
	for _, url := range left {
		if r := trackers.Default().Open(strings.TrimSuffix(url, " (connection)")); r != nil && !strings.HasSuffix(url, " (connection)") {
			b.t.Errorf("%s: the copy fetches %s, which is a known tracker (%s)", m.name, url, r.Name)
		}
		if why := hidden[url]; why != "" {
			b.t.Errorf("%s: the copy fetches %s, a picture that nobody sees (%s)", m.name, url, why)
		}
	}
	b.eval(`[...document.querySelectorAll('a[href^="https://mail.example.org/u/"]')].map(a => { (a.closest('div') || a).style.display = 'none'; return 0 })`, nil)
	second := b.screenshot()
	same = alike(b.t, first, second)
	if dir := os.Getenv("KEEP"); dir != "" && !same {
		base := filepath.Join(dir, strings.ReplaceAll(m.name, "/", "_"))
		os.WriteFile(base+".before.png", first, 0o644)
		os.WriteFile(base+".after.png", second, 0o644)
		os.WriteFile(base+".before.html", m.html, 0o644)
		os.WriteFile(base+".after.html", html, 0o644)
	}
	if all := b.open(document{copyHTML(rewrite.ImagesAllRemote), "utf-8"}); len(all) > 0 {
		b.t.Errorf("%s: with all-remote the copy fetches %q", m.name, all)
	}
	return len(original), len(left), same
}

// alike compares two screenshots.
func alike(t *testing.T, a, b []byte) bool {
	t.Helper()
	if bytes.Equal(a, b) {
		return true
	}
	var m [2]*image.NRGBA
	for i, raw := range [][]byte{a, b} {
		decoded, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		m[i] = image.NewNRGBA(decoded.Bounds())
		draw.Draw(m[i], m[i].Bounds(), decoded, image.Point{}, draw.Src)
	}
	if m[0].Bounds() != m[1].Bounds() {
		return false
	}
	differ := 0
	for i := 0; i < len(m[0].Pix); i += 4 {
		for k := range 3 {
			if c, d := m[0].Pix[i+k], m[1].Pix[i+k]; max(c, d)-min(c, d) > 16 {
				differ++
				break
			}
		}
	}
	return float64(differ) <= tolerance*width*height
}
