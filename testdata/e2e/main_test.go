// Package e2e runs the built binary as an operator does: a real redis-server behind it, real
// senders (Python's smtplib, swaks) before it, and a smarthost that keeps every copy. It judges
// what leaves by readers that share no code with package rewrite: a MIME walk of its own and
// Python's email package.
//
// Nothing here is imported; there are tests only. go test ./... does not come into a folder named
// testdata, so make test names it: go test ./... ./testdata/e2e.
//
// What a machine lacks (redis-server, python3, swaks, the corpus) makes the tests that need it
// skip, and they say so.
package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is consentgate, built once for all tests; built with the race detector where GATEWAY_RACE
// is set.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "consentgate-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "consentgate")
	args := []string{"build", "-o", binary}
	if os.Getenv("GATEWAY_RACE") != "" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/consentgate/consentgate/cmd/consentgate")...)
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	if err := build.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out.Bytes())
		return 1
	}
	return m.Run()
}
