package browser

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/consentgate/consentgate/rewrite"
)

// vectorsPage is the table of all ways to phone home, generated from the tests of package rewrite.
const vectorsPage = "../../rewrite/VECTORS.md"

const (
	knownTracker = "https://open.convertkit-mail4.com/ab12cd34ef"
	unknownHost  = "https://pictures.example.org/ab12cd34ef"
)

// vector is a way to phone home; in its HTML capitals that stand alone are the address, see expand.
type vector struct{ name, html string }

// readVectors reads the HTML table of VECTORS.md.
func readVectors(t *testing.T) []vector {
	t.Helper()
	page, err := os.ReadFile(vectorsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## HTML\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var all []vector
	for row := range strings.Lines(table) {
		cells := regexp.MustCompile(`^\| (.+?) \| ` + "`` (.+?) ``" + ` \| `).FindStringSubmatch(row)
		if cells == nil {
			continue
		}
		all = append(all, vector{cells[1], codeCell.ReplaceAllStringFunc(cells[2], func(s string) string {
			switch s[1] {
			case 'n':
				return "\n"
			case '|':
				return "|"
			}
			n, _ := strconv.ParseUint(s[2:], 16, 8)
			return string(rune(n))
		})})
	}
	if len(all) < 100 {
		t.Fatalf("%s: %d rows only are read", vectorsPage, len(all))
	}
	return all
}

// codeCell is what the page writes for what cannot stand in a table.
var codeCell = regexp.MustCompile(`\\(\||n|x[0-9a-f]{2})`)

// expand puts an address in the place of the capitals, as the page's makers do: T as it is, E in
// character references, R without its scheme, B so and with backslashes, U without slashes too, O
// with dots in its path.
func (v vector) expand(addr string) string {
	rest := strings.TrimPrefix(addr, "https:")
	host, path, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	var entities strings.Builder
	for _, c := range addr {
		fmt.Fprintf(&entities, "&#%d;", c)
	}
	by := map[string]string{"T": addr, "E": entities.String(), "R": rest, "B": strings.ReplaceAll(rest, "/", `\`),
		"U": strings.TrimPrefix(rest, "//"), "O": "//" + host + "/.//x/%2e%2E/" + path}
	return regexp.MustCompile(`\b[TERBUO]\b`).ReplaceAllStringFunc(v.html, func(s string) string { return by[s] })
}

// ofOriginal ends the addresses in an original, of which Chromium prefetches some so late that the copy is shown by then.
const ofOriginal = "-of-the-original"

// notFetched is how many ways of the table Chromium may pass over in an original: some are other
// readers' alone (VML, dynsrc, bgsound), some wait for a printer or a click.
const notFetched = 0.5

// TestVectors opens every way to phone home: which of them Chromium takes in the original, and that
// it takes none in a copy without consent, for a known tracker under "trackers" and for any address
// under "all-remote".
func TestVectors(t *testing.T) {
	all := readVectors(t)
	seen.vectors = len(all)
	c := startChromium(t)
	var mu sync.Mutex
	t.Run("vectors", func(t *testing.T) {
		for n := range tabs {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				b := c.newTab(t)
				b.must(b.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 600, "deviceScaleFactor": 2, "mobile": false}, nil)
				b.must(b.session, "Animation.setPlaybackRate", map[string]any{"playbackRate": 1}, nil) // what moves may fetch
				b.must(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
				for i := n; i < len(all); i += tabs {
					if !b.vector(all[i]) {
						mu.Lock()
						seen.passed = append(seen.passed, all[i].name)
						mu.Unlock()
					}
				}
			})
		}
	})
	t.Logf("%d ways to phone home; Chromium takes all but %q", len(all), seen.passed)
	if len(seen.passed) > int(notFetched*float64(len(all))) {
		t.Errorf("Chromium takes %d of %d ways only: is what it fetches seen?", len(all)-len(seen.passed), len(all))
	}
}

// carriers are elements that the style sheets of the table say something of.
const carriers = `<blockquote><p id=_t style="font-family:x">Hello <b>you</b> <a href="}">there</a></p></blockquote>` + "\r\n"

// vector opens a way to phone home and the copies without consent; fetched says that the original
// fetches.
func (b *tab) vector(v vector) (fetched bool) {
	b.t.Helper()
	text := func(addr string) []byte {
		html := v.expand(addr)
		if !strings.HasPrefix(html, "<frameset") { // which stands in the place of a body
			html = carriers + html
		}
		return []byte("MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html)
	}
	for images, addr := range map[rewrite.Images]string{rewrite.ImagesTrackers: knownTracker, rewrite.ImagesAllRemote: unknownHost} {
		html, err := htmlOf(text(addr + ofOriginal))
		if err != nil {
			b.t.Errorf("%s: %v", v.name, err)
			continue
		}
		if images == rewrite.ImagesTrackers {
			fetched = len(b.open(document{html, "utf-8"})) > 0
		}
		if html, err = copyHTML(text(addr), images); err != nil || html == nil {
			b.t.Errorf("%s, %s: no copy: %v", v.name, images, err)
			continue
		}
		left := slices.DeleteFunc(b.open(document{html, "utf-8"}), func(addr string) bool { return strings.Contains(addr, ofOriginal) })
		if len(left) > 0 {
			b.t.Errorf("%s, %s: the copy fetches %q:\n%s", v.name, images, left, html)
		}
	}
	return fetched
}
