package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A part that is run alone leaves what the others wrote, and the matrix before them is made anew.
func TestSections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	text, err := sections(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range parts {
		text[i] = part + "\n\nfirst"
		if err := writeSections(file, text); err != nil {
			t.Fatal(err)
		}
		if text, err = sections(file); err != nil {
			t.Fatal(err)
		}
	}
	text[partRedis] = parts[partRedis] + "\n\nanew\n"
	if err := writeSections(file, text); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	top, rest, _ := strings.Cut(string(got), "\n\n"+parts[0])
	if want := "\n\nfirst\n\n" + parts[1] + "\n\nfirst\n\n" + parts[2] + "\n\nanew\n\n" + parts[3] + "\n\nfirst\n"; err != nil || rest != want {
		t.Errorf("%q, %v", rest, err)
	}
	if !strings.HasPrefix(top, "# Faults\n") || strings.Count(top, "**clock**") != 1 {
		t.Errorf("%q", top)
	}
}
