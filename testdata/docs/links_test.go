// Package docs checks what no compiler does: that the pages of the documentation lead where they say.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*?) *#*$`)
)

// Every relative link in every page leads to a file or folder that is there, and to a heading of it where it names one.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	pages := pages(t, root)
	checked := 0
	for path, text := range pages {
		if strings.Contains(text, "\n<<<<<<< ") || strings.Contains(text, "\n>>>>>>> ") {
			t.Errorf("%s: what a merge left to be decided", path)
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(fence.ReplaceAllString(text, ""), ""), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s is not there", path, target)
				continue
			}
			if anchor != "" && !anchors(pages[to])[anchor] {
				t.Errorf("%s: %s has no heading for #%s", path, to, anchor)
			}
		}
	}
	if len(pages) < 10 || checked < 20 {
		t.Errorf("only %d links in %d pages were found", checked, len(pages))
	}
}

// pages are all pages of the project, by path.
func pages(t *testing.T, root string) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "corpus") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			pages[path] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// anchors are those that GitHub makes of a page's headings.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`).ReplaceAllString(m[1], "$1"))
		all[name] = true
	}
	return all
}

func TestAnchors(t *testing.T) {
	got := anchors("# A page, of `code`\n```\n# none\n```\n## Linked [name](x.md) here\n")
	if len(got) != 2 || !got["a-page-of-code"] || !got["linked-name-here"] {
		t.Errorf("%v", got)
	}
}

// Every page is found by who begins at the front page, and follows links.
func TestEveryPageIsFound(t *testing.T) {
	root := filepath.Join("..", "..")
	reached := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = filepath.Join(path, "README.md") // what is shown of a folder
		}
		text, err := os.ReadFile(path)
		if err != nil || filepath.Ext(path) != ".md" || reached[path] {
			return
		}
		reached[path] = true
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(fence.ReplaceAllString(string(text), ""), ""), -1) {
			if file, _, _ := strings.Cut(m[1], "#"); file != "" && !strings.Contains(file, ":") {
				walk(filepath.Join(filepath.Dir(path), filepath.FromSlash(file)))
			}
		}
	}
	walk(filepath.Join(root, "README.md"))
	for path := range pages(t, root) {
		if !reached[path] {
			t.Errorf("no link leads from README.md to %s", path)
		}
	}
}

var namedTest = regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")

// A test that a page names, as `folder.TestName`, is there.
func TestNamedTests(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := 0
	for path, text := range pages(t, root) {
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			checked++
			if !hasTest(t, filepath.Join(root, filepath.FromSlash(m[1])), m[2]) {
				t.Errorf("%s names %s.%s, which is not there", path, m[1], m[2])
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d tests are named", checked)
	}
}
