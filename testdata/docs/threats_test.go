package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// holder is a test as the threat model names it: `relay/sign.FuzzSign`, or a folder of its own, `testdata/hostile`.
var holder = regexp.MustCompile("`([a-z0-9/]+)(?:\\.((?:Test|Fuzz)\\w+))?`")

// Every line of the threat model names tests, and they are there.
func TestThreatsAreHeld(t *testing.T) {
	page, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "## Threat model\n")
	if !ok {
		t.Fatal("SECURITY.md has no threat model")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	rows := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 6 || strings.Contains(row, "---") || strings.TrimSpace(cells[4]) == "held by" {
			continue
		}
		rows++
		held := holder.FindAllStringSubmatch(cells[4], -1)
		if len(held) == 0 {
			t.Errorf("no test is named: %s", row)
		}
		for _, h := range held {
			dir := filepath.Join("..", "..", filepath.FromSlash(h[1]))
			if h[2] == "" {
				if _, err := os.Stat(dir); err != nil {
					t.Errorf("%s is not there", h[1])
				}
				continue
			}
			if !hasTest(t, dir, h[2]) {
				t.Errorf("%s has no %s", h[1], h[2])
			}
		}
	}
	if rows < 20 {
		t.Errorf("only %d lines were found", rows)
	}
}

// hasTest reports whether the tests of a folder have a function of that name.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
