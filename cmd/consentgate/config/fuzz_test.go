package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzLoad: a file that is taken is taken again to the same effect, and with a key more that nobody knows
// it is not; a mistake names a line of the file, and none repeats a secret.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	for _, s := range []string{"", "hostname = 3", "[smtp]\nlisten = \"x\"", "[smarthost]\npassword = correct-horse-battery", "[smarthost]\npassword = [\"correct-horse-battery\"]", "[[login]]\nname = \"\"\n[[login]]\n",
		"[delivery]\nretry_for = \"-1h\"", "[consent]\nwhen_unset = {open = \"x\"}", "hostname = \"${NOBODY}\"", "[rewrite]\nopaque_links = \"keep\"\nimages=1\n", "[consent]\nstore = \"redis://u:correct-horse-battery@h h/0\""} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") || strings.Contains(text, "tls_cert") || strings.Contains(text, "dir") { // nothing of this machine is to be looked at
			return
		}
		path := filepath.Join(dir, "consentgate.toml")
		read := func(text string) (*Config, error) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return Load(path, func(name string) (string, bool) { return "x", name == "SEVEN" })
		}
		c, err := read(text)
		if err != nil {
			var all Mistakes
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("%q: %v", text, err)
			}
			lines := strings.Count(text, "\n") + 1
			for _, m := range all {
				if m.Line < 1 || m.Line > lines+1 || m.Wrong == "" || strings.ContainsRune(m.Error(), '\n') {
					t.Fatalf("%q has %d lines: %v", text, lines, m)
				}
				if strings.Contains(m.Error(), secret) && strings.Contains(text, "password") {
					t.Fatalf("%q: %v", text, m)
				}
			}
			return
		}
		again, err := read(text)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%q: a second time %v", text, err)
		}
		if _, err := read(text + "\n[nobody]\nknows = 1\n"); err == nil {
			t.Fatalf("%q: a key that nobody knows is taken", text)
		}
	})
}
