package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// A copy looks the same if no more than tolerance pixels of the window differ, by more than
// colourTolerance of 255 in any of the three colours, and the page is as high but for heightTolerance
// CSS px: a picture of one pixel has a colour in the original and none in the copy.
const (
	tolerance       = 200
	colourTolerance = 16
	heightTolerance = 2
)

// verdict is what the browser says of a message's copies without consent.
type verdict struct {
	before, after int               // addresses fetched by the original, and by the copy under "trackers"
	problems      []string          // trackers that were asked, remote addresses under "all-remote"
	unseen        map[string]string // addresses of pictures that nobody sees, fetched by the copy: why nobody does
	different     string            // how the copy under "trackers" looks different; "" if it does not
}

// shown is a picture as the browser lays it out.
type shown struct {
	URL           string
	Width, Height float64
	Visible       bool
}

func (s shown) tiny() bool { return s.Width <= 3 && s.Height <= 3 }

const (
	pictures = `[...document.images].map(i => { const r = i.getBoundingClientRect(); return {URL: i.currentSrc || i.src, Width: r.width, Height: r.height,
	Visible: i.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})} })`
	// mask takes our footer out, which the original cannot have.
	mask = `[...document.querySelectorAll('a[href^="https://mail.example.org/u/"]')].map(a => { (a.closest('div') || a).style.display = 'none'; return 0 })`
	size = `document.documentElement.scrollHeight`
)

// look is what is compared.
type look struct {
	png    []byte
	height float64
}

func (b *tab) look() (l look) {
	b.t.Helper()
	b.eval(size, &l.height)
	l.png = b.screenshot()
	return l
}

// judge opens a message's HTML and that of its copies; a nil copy does not leave.
func (b *tab) judge(name string, html []byte, copyOf func(rewrite.Images) ([]byte, error)) (v verdict) {
	b.t.Helper()
	var copies [2][]byte
	for i, images := range []rewrite.Images{rewrite.ImagesTrackers, rewrite.ImagesAllRemote} {
		var err error
		if copies[i], err = copyOf(images); err != nil {
			v.problems = append(v.problems, err.Error())
			return v
		}
	}
	b.proxy.spacers(nil)
	v.before = asked(b.open(document{html, "utf-8"}))
	var layout []shown
	b.eval(pictures, &layout)
	if copies[0] == nil {
		return v
	}
	hidden, spacers := unseenOf(layout)
	if len(spacers) > 0 { // their true size, also where the mail stretches them
		b.proxy.spacers(spacers)
		b.open(document{html, "utf-8"})
	}
	first := b.look()

	left := b.open(document{copies[0], "utf-8"})
	v.after = asked(left)
	v.unseen = map[string]string{}
	for _, url := range left {
		if strings.HasSuffix(url, connection) {
			continue
		}
		if r := trackers.Default().Open(url); r != nil {
			v.problems = append(v.problems, fmt.Sprintf("the copy fetches %s, which is a known tracker (%s)", url, r.Name))
		} else if why := hidden[bare(url)]; why != "" {
			v.unseen[url] = why
		}
	}
	b.eval(mask, nil)
	second := b.look()
	if v.different = differ(first, second); v.different != "" { // once more, lest one was not yet painted
		b.open(document{html, "utf-8"})
		first = b.look()
		b.open(document{copies[0], "utf-8"})
		b.eval(mask, nil)
		second = b.look()
		v.different = differ(first, second)
	}
	if v.different != "" {
		b.keep(name, map[string][]byte{"before.png": first.png, "after.png": second.png, "before.html": html, "after.html": copies[0]})
	}
	if all := b.open(document{copies[1], "utf-8"}); len(all) > 0 {
		v.problems = append(v.problems, fmt.Sprintf("with all-remote the copy fetches %q", all))
	}
	return v
}

// asked is how many of what was noted are addresses asked for.
func asked(urls []string) (n int) {
	for _, url := range urls {
		if !strings.HasSuffix(url, connection) {
			n++
		}
	}
	return n
}

// unseenOf says, by their bare addresses, which remote pictures nobody sees at some place in a mail, and
// why, and which are spacers: of one pixel at one place at least.
func unseenOf(layout []shown) (hidden map[string]string, spacers map[string]bool) {
	hidden, spacers = map[string]string{}, map[string]bool{}
	for _, s := range layout {
		if !strings.HasPrefix(s.URL, "http") || trackers.Default().Spacer(s.URL) {
			continue
		}
		if s.tiny() && s.Width > 0 && s.Height > 0 {
			spacers[bare(s.URL)] = true
		}
		switch {
		case s.tiny() || s.Width == 0 || s.Height == 0:
			hidden[bare(s.URL)] = fmt.Sprintf("%v x %v", s.Width, s.Height)
		case !s.Visible:
			hidden[bare(s.URL)] = "hidden"
		}
	}
	return hidden, spacers
}

// bare is an address without its scheme, for a browser asks some hosts by https only, whatever the
// mail says.
func bare(url string) string {
	_, rest, _ := strings.Cut(url, ":")
	return rest
}

// keep writes what differs into the folder that KEEP names, for people to look at.
func (b *tab) keep(name string, files map[string][]byte) {
	b.t.Helper()
	dir := os.Getenv("KEEP")
	if dir == "" {
		return
	}
	for ext, data := range files {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "_")+"."+ext), data, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// differ says how two looks differ, "" if they are alike.
func differ(a, b look) string {
	if d := math.Abs(a.height - b.height); d > heightTolerance {
		return fmt.Sprintf("%v px high, %v before", b.height, a.height)
	}
	if bytes.Equal(a.png, b.png) {
		return ""
	}
	var m [2]*image.NRGBA
	for i, raw := range [][]byte{a.png, b.png} {
		decoded, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			return err.Error()
		}
		m[i] = image.NewNRGBA(decoded.Bounds())
		draw.Draw(m[i], m[i].Bounds(), decoded, image.Point{}, draw.Src)
	}
	if m[0].Bounds() != m[1].Bounds() {
		return fmt.Sprintf("a window of %v, %v before", m[1].Bounds(), m[0].Bounds())
	}
	n := 0
	var box image.Rectangle
	for i := 0; i < len(m[0].Pix); i += 4 {
		for k := range 3 {
			if c, d := m[0].Pix[i+k], m[1].Pix[i+k]; max(c, d)-min(c, d) > colourTolerance {
				n++
				x, y := i%m[0].Stride/4, i/m[0].Stride
				box = box.Union(image.Rect(x, y, x+1, y+1))
				break
			}
		}
	}
	if n > tolerance {
		return fmt.Sprintf("%d pixels, within %v", n, box)
	}
	return ""
}
