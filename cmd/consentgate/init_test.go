//go:build unix

package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// With --user everything belongs to that user, what the test mail left too, and nobody else may read it.
func TestInitGivesFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	next := newSink(t)
	dir := t.TempDir()
	var out, wrong bytes.Buffer
	if status := run(context.Background(), []string{"init", "--yes", "--hostname", "gate.example.org", "--smarthost", "smtp://" + next.address, "--user", "nobody",
		"--test-mail", "reader@example.org", "--config", dir + "/etc/c.toml", "--state", dir + "/state"}, streams{strings.NewReader(""), &out, &wrong}); status != 0 {
		t.Fatalf("status %d: %s", status, wrong.String())
	}
	<-next.mails
	seen := map[string]bool{}
	check := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		seen[filepath.Base(path)] = true
		if uid := info.Sys().(*syscall.Stat_t).Uid; strconv.Itoa(int(uid)) != nobody.Uid {
			t.Errorf("%s belongs to %d", path, uid)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}
	for _, path := range []string{dir + "/state", dir + "/etc/c.toml"} {
		if err := filepath.WalkDir(path, check); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"key", "dkim.pem", "consent.db", "copies", "c.toml"} {
		if !seen[name] {
			t.Errorf("there is no %s", name)
		}
	}
	if want := " runuser -u nobody -- consentgate serve --config " + dir + "/etc/c.toml\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not said:\n%s", want, out.String())
	}
}
