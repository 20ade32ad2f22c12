package browser

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var resultsFile = flag.String("results", "", "write what was seen to this file, if all is well")

// seen is what the tests of this run saw.
var seen struct {
	chromium string
	corpus   results
	vectors  int
	passed   []string // the vectors that Chromium does not take
}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && *resultsFile != "" {
		if err := os.WriteFile(*resultsFile, []byte(page()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// results is what was seen of the corpus.
type results struct {
	pages, before, after, different int
}

func (r *results) add(v verdict) {
	r.pages++
	r.before += v.before
	r.after += v.after
	if v.different != "" {
		r.different++
	}
}

func (r *results) String() string {
	return fmt.Sprintf("%d messages with HTML: the originals fetch %d addresses; the copies without consent %d with images = \"trackers\", none of them a known tracker, and none with \"all-remote\". %d copies look different.",
		r.pages, r.before, r.after, r.different)
}

// page is what the run saw, for people.
func page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What Chromium fetches and shows\n\nWritten by `make browser`, with %s. The corpus is real newsletters and templates, and not part of this repository;\nevery %s message of it was opened.\n\n## Mail\n\n%s\n\n", seen.chromium, ordinal(every()), &seen.corpus)
	fmt.Fprintf(&b, "A copy looks different if over %d pixels of a window of %d x %d differ by over %d of 255 in a colour, or the page\nis over %d px higher or lower. Our footer is masked, addresses get pictures made up for them, and what is one pixel somewhere\nin a mail is one pixel everywhere in it.\n",
		tolerance, width, height, colourTolerance, heightTolerance)
	for _, list := range []struct {
		title   string
		reasons map[string]string
	}{{"Copies that look different", looksDifferent}, {"Pictures that stay though this window does not show them", fetchedUnseen}} {
		fmt.Fprintf(&b, "\n%s:\n\n| what | why |\n|---|---|\n", list.title)
		for _, name := range slices.Sorted(maps.Keys(list.reasons)) {
			fmt.Fprintf(&b, "| %s | %s |\n", name, list.reasons[name])
		}
	}
	fmt.Fprintf(&b, "\n## Ways to phone home\n\nOf the %d ways of [VECTORS.md](../../rewrite/VECTORS.md) Chromium takes %d when it opens the original, and none in a copy without\nconsent: neither to a known tracker with \"trackers\", nor to any address with \"all-remote\". It takes none of these in the\noriginal either (other readers do, or a printer, or a click):\n\n",
		seen.vectors, seen.vectors-len(seen.passed))
	slices.Sort(seen.passed)
	for _, name := range seen.passed {
		fmt.Fprintf(&b, "- %s\n", name)
	}
	return b.String()
}

func ordinal(n int) string {
	if n == 1 {
		return "single"
	}
	return fmt.Sprintf("%dth", n)
}
