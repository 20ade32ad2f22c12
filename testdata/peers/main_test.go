// Package peers runs the built gateway between programs that mail operators really have: in front
// of it Postfix (as relay, by LMTP, as content filter), smtp-source, swaks, curl, msmtp, Python's
// smtplib, Nodemailer and listmonk; behind it Postfix, Exim and smtp-sink by LMTP. Clients use TLS and
// log in where they can. What the gateway signs is verified by OpenDKIM and mailauth.
//
// Nothing here is imported; there are tests only. Postfix and Exim run with folders and loopback
// ports of their own; what else of them runs on the machine is not touched. What a machine lacks
// makes the tests that need it skip, and they say so; make need installs it on Debian.
package peers

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
	if os.Getenv(insideVariable) != "" { // it builds its own
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "consentgate-peers-")
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
	status := m.Run()
	if *recipesResults != "" {
		if err := writeResults(*recipesResults); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}
