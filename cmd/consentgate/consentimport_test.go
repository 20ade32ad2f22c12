package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// verb runs consentgate in a folder with a configuration of its own, as the user would.
func verb(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "consentgate" // which is how testscript.Main tells which command it is
	cmd.Dir = dir
	return cmd
}

// newFolder makes a folder with a configuration, a key file and no gateway.
func newFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`hostname = "gate.example.org"
key_file = "%[1]s/key"
[smarthost]
urls = ["smtp://127.0.0.1:1"]
[delivery]
mode = "stateless"
spool_dir = "%[1]s/state/spool"
[consent]
store = "file:%[1]s/state/consent.db"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "consentgate.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := verb(t, dir, "keygen", "key").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// Where it cannot be kept how far an import is, that is said once, and all goes in; nobody is sent to --resume then.
func TestImportWithoutState(t *testing.T) {
	dir := newFolder(t)
	var lines bytes.Buffer
	for i := range 9000 {
		fmt.Fprintf(&lines, `{"address":"p%d@example.org","scope":"news","open":"denied"}`+"\n", i)
	}
	file := filepath.Join(dir, "people.ndjson")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file+".resume.new", 0o700); err != nil { // in the way, which holds for root as well
		t.Fatal(err)
	}
	out, err := verb(t, dir, "consent", "import", "people.ndjson").CombinedOutput()
	if err != nil || strings.Count(string(out), "cannot be kept") != 1 || !strings.Contains(string(out), "9000 lines: 9000 changed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// An import that is killed goes on where it was, and in the end all is in; the export too.
func TestKilledImportGoesOn(t *testing.T) {
	const people = 16_000
	dir := newFolder(t)
	var lines bytes.Buffer
	for i := range people {
		fmt.Fprintf(&lines, "{\"address\":\"p%d@example.org\",\"open\":\"granted\"}\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "people.ndjson"), lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "people.ndjson.resume")
	killed := killWhen(t, verb(t, dir, "consent", "import", "people.ndjson", "--scope", "news"), state)
	if !killed {
		t.Skip("the import was over before it could be killed")
	}
	out, err := verb(t, dir, "consent", "import", "people.ndjson", "--scope", "other", "--resume").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the flags are not those of the import that ended") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = verb(t, dir, "consent", "import", "people.ndjson", "--scope", "news", "--resume").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "going on behind line ") || !strings.Contains(string(out), fmt.Sprintf("%d lines: ", people)) || !strings.Contains(string(out), " 0 bad\n") {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(string(out), "behind line 0\n") {
		t.Errorf("it began again: %s", out)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", state, err)
	}

	part := filepath.Join(dir, "all.ndjson.resume")
	args := []string{"consent", "export", "--with-addresses", "-o", "all.ndjson"}
	if killed := killWhen(t, verb(t, dir, args...), part); killed {
		if out, err := verb(t, dir, append(args, "--format", "csv")...).CombinedOutput(); err == nil || !strings.Contains(string(out), "use the same") {
			t.Errorf("%v: %s", err, out)
		}
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		var state map[string]any
		if err := json.Unmarshal(text, &state); err != nil {
			t.Fatal(err)
		}
		state["cursor"] = "nowhere"
		if err := writeState(part, state); err != nil {
			t.Fatal(err)
		}
		if out, err := verb(t, dir, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "all.ndjson.resume") {
			t.Errorf("%v: %s", err, out)
		}
		if err := os.WriteFile(part, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err = verb(t, dir, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "going on behind ") {
			t.Fatalf("%v: %s", err, out)
		}
	} else {
		t.Log("the export was over before it could be killed")
	}
	text, err := os.ReadFile(filepath.Join(dir, "all.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		seen[line] = true
	}
	if len(seen) != people || bytes.Count(text, []byte("\n")) != people {
		t.Errorf("%d lines, %d different ones, of %d people", bytes.Count(text, []byte("\n")), len(seen), people)
	}
}

// killWhen starts a command, kills it as soon as a file is there, and reports whether it was not over by then.
func killWhen(t *testing.T, cmd *exec.Cmd, file string) bool {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	for look := time.NewTicker(time.Millisecond); ; {
		select {
		case err := <-over:
			if err != nil {
				t.Fatalf("%v: %s", err, &out)
			}
			return false
		case <-look.C:
			if _, err := os.Stat(file); err == nil {
				cmd.Process.Kill()
				return <-over != nil
			}
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	p := newProgress(&out, func() time.Time { return now }, 1000, 100)
	p.at(200, 10)
	if out.Len() > 0 {
		t.Errorf("it says something at once: %q", &out)
	}
	now = now.Add(10 * time.Second)
	p.at(400, 500)
	now = now.Add(10 * time.Second)
	p.at(700, 1500)
	if want := " 40%, 500 lines, 50/s, 20s left\n 70%, 1500 lines, 75/s, 10s left\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
	out.Reset()
	p.terminal = true
	now = now.Add(time.Second)
	p.at(1000, 2100)
	p.clear()
	p.clear()
	if want := "\r[########################] 100%, 2100 lines, 100/s, 0s left\r                                                           \r"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
	out.Reset()
	p = newProgress(&out, func() time.Time { return now }, 0, 0)
	now = now.Add(10 * time.Second)
	p.at(400, 500)
	if want := "500 lines, 50/s\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}
