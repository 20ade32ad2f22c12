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

// What was in the folder of --state before stays whose it was; a folder that the user could not use is refused before anything
// is written; and a link to a folder is followed.
func TestInitGivesNothingElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	owner := func(path string) int {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	for name, c := range map[string]struct {
		folder int // whose it is
		full   bool
		want   string
	}{
		"empty":     {0, false, ""},
		"its own":   {uid, true, ""},
		"root's":    {0, true, "holds other things and does not belong to nobody"},
		"a third's": {12345, false, "belongs to user 12345, neither to this user nor to nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			real, state := dir+"/real", dir+"/state"
			if err := os.Mkdir(real, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(real, state); err != nil {
				t.Fatal(err)
			}
			if c.full {
				if err := os.WriteFile(real+"/id_rsa", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(real, c.folder, c.folder); err != nil {
				t.Fatal(err)
			}
			var out, wrong bytes.Buffer
			status := run(context.Background(), []string{"init", "--yes", "--hostname", "gate.example.org", "--smarthost", "smtp://127.0.0.1:1", "--user", "nobody",
				"--config", dir + "/c.toml", "--state", state}, streams{strings.NewReader(""), &out, &wrong})
			if (status == 0) != (c.want == "") || !strings.Contains(wrong.String(), c.want) {
				t.Fatalf("status %d: %s", status, wrong.String())
			}
			if c.full && owner(real+"/id_rsa") != 0 {
				t.Error("another's file is given away")
			}
			if c.want != "" {
				if _, err := os.Stat(dir + "/c.toml"); err == nil || owner(real) != c.folder {
					t.Error("it was refused, and something is changed")
				}
				return
			}
			for _, path := range []string{real, real + "/key", real + "/dkim.pem", dir + "/c.toml"} {
				if owner(path) != uid {
					t.Errorf("%s belongs to %d", path, owner(path))
				}
			}
		})
	}
}
