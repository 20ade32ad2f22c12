package rewrite

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// OwnRules names every rule that the code names.
func TestOwnRules(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	own := OwnRules()
	found := map[string]bool{ruleRemote: true}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:\bRule: |\.Rule(?:, \w+\.\w+)* = )"([^"]+)"`).FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		_, tells, _ := strings.Cut(string(text), "\nfunc tellsOf(")
		tells, _, _ = strings.Cut(tells, "\n}\n")
		for _, m := range regexp.MustCompile(`return "([^"]+)"`).FindAllStringSubmatch(tells, -1) {
			found[m[1]] = true
		}
	}
	for rule := range found {
		if !slices.Contains(own, rule) {
			t.Errorf("%s is missing", rule)
		}
	}
	for _, rule := range own {
		if !found[rule] {
			t.Errorf("%s is none", rule)
		}
	}
}
