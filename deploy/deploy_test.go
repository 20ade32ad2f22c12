// Package deploy_test holds what packages the program against the program: that verbs, paths, ports and users
// fit together, and that the program runs as the files here run it.
package deploy_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

// binary is built by the Dockerfile's own command, once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "consentgate-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "consentgate")
	file, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)$`).FindSubmatch(file)
	if command == nil {
		fmt.Fprintln(os.Stderr, "the Dockerfile has no RUN with go build")
		return 1
	}
	build := exec.Command("sh", "-c", strings.Replace(string(command[1]), "/out/consentgate", binary, 1))
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", command[1], err, said)
		return 1
	}
	return m.Run()
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

var keyFile = regexp.MustCompile(`(?m)^key_file = "(.*?)"`)

// load checks a configuration as the program does, with a key file where it says that there is one.
func load(t testing.TB, text string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	if said, err := exec.Command(binary, "keygen", dir+"/key").CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, said)
	}
	key := keyFile.FindStringSubmatch(text)
	if key == nil {
		t.Fatal("the configuration names no key file")
	}
	text = strings.Replace(text, key[0], `key_file = "`+dir+`/key"`, 1)
	path := filepath.Join(dir, "consentgate.toml")
	write(t, path, text, 0o600)
	cfg, err := config.Load(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	cfg.KeyFile = key[1]
	return cfg
}

// takes fails unless the program knows that verb with those flags: --help behind them is understood.
func takes(t testing.TB, args ...string) {
	t.Helper()
	if said, err := exec.Command(binary, append(args, "--help")...).CombinedOutput(); err != nil || !bytes.Contains(said, []byte("Usage: consentgate "+args[0])) {
		t.Errorf("consentgate %s is not understood: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// needs returns the path of a program, and skips the test where it is missing.
func needs(t testing.TB, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not here", program)
	return ""
}

// until calls f now and then, up to 20 s, until it says nil; else the test fails with what it said last.
func until(t testing.TB, f func() error) {
	t.Helper()
	var err error
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if err = f(); err == nil {
			return
		}
		<-tick.C
	}
	t.Fatalf("still after 20 s: %v", err)
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
