// Package backup drills what deploy/OPERATING.md says of backups, restores and keys, with the built program, a real Redis
// and a shell.
package backup

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestDrill(t *testing.T) {
	for _, program := range []string{"bash", "redis-server", "redis-cli", "curl", "python3", "openssl", "basenc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not to be found")
		}
	}
	binary := filepath.Join(t.TempDir(), "consentgate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/consentgate/consentgate/cmd/consentgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "./drill.sh", binary).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
