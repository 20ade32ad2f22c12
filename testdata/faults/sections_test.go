package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A part that is run alone leaves what the others wrote.
func TestSections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	text, err := sections(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, section := range []string{"# Faults\n\nfirst", "## Redis\n\nsecond", "## Many gateways\n\nthird"} {
		text[i] = section
		if err := writeSections(file, text); err != nil {
			t.Fatal(err)
		}
		if text, err = sections(file); err != nil {
			t.Fatal(err)
		}
	}
	text[1] = "## Redis\n\nanew\n"
	if err := writeSections(file, text); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if want := "# Faults\n\nfirst\n\n## Redis\n\nanew\n\n## Many gateways\n\nthird\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}
