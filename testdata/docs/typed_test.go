package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The lines that FAQ.md gives for another provider's suppression list, and for somebody who subscribes again, typed
// as they stand there: who was on the list gets no mail of any scope, then Ben gets that of his list again.
func TestLinesOfTheFAQ(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "consentgate"), "github.com/consentgate/consentgate/cmd/consentgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run("consentgate", "init", "--yes", "--config", "consentgate.toml", "--state", "state", "--hostname", "gate.example.org")
	if err := os.WriteFile(filepath.Join(dir, "suppressed.txt"), []byte("anna@example.org\r\nBen@example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := "{ echo address,scope,mail; sed 's/\\r$//; s/.*/\"&\",*,unsubscribed/' suppressed.txt; } > optouts.csv"
	if said := run("sh", "-ec", block(t, "../../deploy/FAQ.md", lines)); !strings.Contains(said, "2 lines: 2 would be changed") || !strings.Contains(said, "2 lines: 2 changed") {
		t.Errorf("the import said\n%s", said)
	}
	suppressed := func() bool {
		return strings.Contains(run("consentgate", "consent", "get", "ben@example.org", "--scope", "newsletter"), " unsubscribed ")
	}
	if !suppressed() {
		t.Error("who was on the list is not unsubscribed")
	}
	again, _, _ := strings.Cut(block(t, "../../deploy/FAQ.md", "consentgate consent set ben@example.org --scope newsletter --mail subscribed"), "\n")
	run("sh", "-ec", again)
	if !suppressed() {
		t.Error("an opt-out in * does not hold over the scope")
	}
	run("sh", "-ec", strings.Replace(again, "--scope newsletter", "--scope '*'", 1))
	if suppressed() {
		t.Error("who subscribed again is still unsubscribed")
	}
}
