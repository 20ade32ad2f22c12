package e2e

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A gateway that cannot start says why in one line that says what to do, and ends: with status 2
// where its configuration is wrong, with 1 where something else is (SPEC 3, 11).
func TestMistakes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	free := `listen = ["127.0.0.1:0"]`
	for _, tt := range []struct {
		name   string
		edits  []string           // of the configuration
		spoil  func(s site) error // the folder
		status int
		want   string // standard error; DIR and FILE stand for the folder and the file in it, TAKEN for the port
	}{
		{"unknown key", []string{free, free + "\nmax_message_byte = 5"}, nil, 2,
			`FILE:6: smtp\.max_message_byte: unknown key; did you mean max_message_bytes\?`},
		{"unknown table", []string{`[smtp]`, "[smpt]"}, nil, 2,
			`FILE:4: smpt: unknown .*did you mean smtp\?`},
		{"needed key missing", []string{`hostname = "gate.example.org"`, ``}, nil, 2,
			`FILE:1: hostname: is needed and missing; add hostname = "gate\.example\.org"`},
		{"needed key of a table missing", []string{`opaque_links = "keep"`, ``}, nil, 2,
			`FILE:\d+: rewrite\.opaque_links: is needed and missing; add .*"keep".*`},
		{"wrong type", []string{free, `listen = 2525`}, nil, 2,
			`FILE:5: smtp\.listen: .*`},
		{"no TOML", []string{`[smtp]`, `[smtp`}, nil, 2,
			`FILE:[45]: .*`},
		{"no configuration at all", nil, func(s site) error { return os.Remove(s.config) }, 2,
			`consentgate: configuration file: open FILE: no such file or directory`},
		{"a folder for a configuration", nil, func(s site) error {
			if err := os.Remove(s.config); err != nil {
				return err
			}
			return os.Mkdir(s.config, 0o700)
		}, 2, `consentgate: configuration file: .*FILE.* is a directory`},
		{"garbage for a configuration", nil, func(s site) error {
			return os.WriteFile(s.config, bytes.Repeat([]byte{0, 0xff, '\n'}, 1000), 0o600)
		}, 2, `FILE:1: .*`},
		{"an empty configuration", nil, func(s site) error { return os.WriteFile(s.config, nil, 0o600) }, 2,
			`(FILE:1: [a-z._]+: [^\n]+\n?)+`},

		{"key file that others may read", nil, func(s site) error { return os.Chmod(filepath.Join(s.dir, "key"), 0o644) }, 2,
			`FILE:2: key_file: key file DIR/key has mode 0644, so others may use it: chmod 600 DIR/key`},
		{"no key file", nil, func(s site) error { return os.Remove(filepath.Join(s.dir, "key")) }, 2,
			`FILE:2: key_file: key file DIR/key does not exist: make one with "consentgate keygen DIR/key", .*`},
		{"a key file cut short", nil, func(s site) error { return os.Truncate(filepath.Join(s.dir, "key"), 20) }, 2,
			`FILE:2: key_file: key file DIR/key: .*`},
		{"no DKIM key", nil, func(s site) error { return os.Remove(filepath.Join(s.dir, "dkim.pem")) }, 2,
			`.*dkim.*key_file.*DIR/dkim\.pem.*no such file.*`},
		{"a DKIM key that is none", nil, func(s site) error {
			return os.WriteFile(filepath.Join(s.dir, "dkim.pem"), []byte("hello\n"), 0o600)
		}, 2, `.*DIR/dkim\.pem.*PEM.*`},

		{"smtp port taken", []string{free, `listen = ["TAKEN"]`}, nil, 1,
			`consentgate: listen on TAKEN: listen tcp TAKEN: bind: address already in use: stop the program that holds it, or change smtp\.listen`},
		{"admin port taken", []string{"[admin]\n" + `listen = "127.0.0.1:0"`, "[admin]\n" + `listen = "TAKEN"`}, nil, 1,
			`consentgate: listen tcp TAKEN: bind: address already in use: stop the program that holds it, or change admin\.listen`},
		{"page's port taken", []string{`base_url = "https://mail.example.org"` + "\n" + `listen = "127.0.0.1:0"`,
			`base_url = "https://mail.example.org"` + "\n" + `listen = "TAKEN"`}, nil, 1,
			`consentgate: listen tcp TAKEN: bind: address already in use: stop the program that holds it, or change unsubscribe\.listen`},
		{"an address of another machine", []string{free, `listen = ["192.0.2.1:2525"]`}, nil, 1,
			`consentgate: listen on 192\.0\.2\.1:2525: .*cannot assign requested address: change smtp\.listen`},
		{"a store that is none", nil, func(s site) error {
			if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(s.dir, "state", "consent.db"), bytes.Repeat([]byte("hello\n"), 10_000), 0o600)
		}, 1, `consentgate: .*DIR/state/consent\.db.*`},
		{"a store of another kind", []string{`store = "file:DIR/state/consent.db"`, `store = "mysql://127.0.0.1:3306/"`}, nil, 2,
			`FILE:\d+: consent\.store: .*redis://.*`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			edits := make([]string, len(tt.edits))
			for i, e := range tt.edits {
				edits[i] = strings.ReplaceAll(e, "TAKEN", taken.Addr().String())
			}
			s := newSite(t, edits...)
			if tt.spoil != nil {
				if err := tt.spoil(s); err != nil {
					t.Fatal(err)
				}
			}
			status, stderr := s.fail(t)
			want := strings.NewReplacer("FILE", regexp.QuoteMeta(s.config), "DIR", regexp.QuoteMeta(s.dir),
				"TAKEN", regexp.QuoteMeta(taken.Addr().String())).Replace(tt.want)
			if status != tt.status || !regexp.MustCompile(`^(?:`+want+`)\n$`).MatchString(stderr) {
				t.Errorf("status %d and %q,\nwant %d and %s", status, stderr, tt.status, want)
			}
		})
	}
}

// fail runs serve, which must end by itself, and returns its status and standard error.
func (s site) fail(t testing.TB) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", s.config)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("serve runs on:\n%s", stderr.String())
	}
	if err == nil || stdout.Len() > 0 {
		t.Errorf("serve ended with %v and said %q on standard output", err, stdout.String())
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}
