package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// systemd takes the hourly export, as narrow as the service, and its commands do what they say: nothing without a gateway
// that is ready, what people refused in a file for each run that nobody else may read, what a stopped run left goes, and
// the last 48 stay.
func TestExport(t *testing.T) {
	unit, service := settings(t, "systemd/consentgate-export.service"), settings(t, "systemd/consentgate.service")
	for name, want := range service {
		switch {
		case strings.HasPrefix(name, "Protect"), strings.HasPrefix(name, "Private"), strings.HasPrefix(name, "Restrict"),
			strings.HasPrefix(name, "System"), strings.HasPrefix(name, "Cap"), name == "User", name == "Group", name == "UMask", name == "StateDirectoryMode", name == "NoNewPrivileges", name == "EnvironmentFile":
			if got := unit[name]; strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%s is %q, of the service %q", name, got, want)
			}
		}
	}

	dir := t.TempDir()
	out := dir + "/out"
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		said, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, said)
		}
		return string(said)
	}
	run(binary, "keygen", dir+"/key")
	admin := freePort(t)
	write(t, dir+"/gate.toml", strings.NewReplacer(`"key"`, `"`+dir+`/key"`, "[smarthost]", "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[smarthost]").Replace(minimal)+
		"listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:"+admin+"\"\n[delivery]\nspool_dir = \""+dir+"/state/spool\"\n[consent]\nstore = \"file:"+dir+"/state/consent.db\"\n", 0o600)
	run(binary, "consent", "set", "anna@example.org", "--mail", "unsubscribed", "--config", dir+"/gate.toml")
	run(binary, "consent", "set", "ben@example.org", "--open", "granted", "--config", dir+"/gate.toml")
	for i := range 50 {
		write(t, fmt.Sprintf("%s/withdrawn-20200101T0000%02dZ.ndjson", out, i), "", 0o600)
	}
	write(t, out+"/withdrawn-20200102T000000Z.ndjson.part", "", 0o600)
	write(t, out+"/mine", "", 0o600)
	shell := func(name string) string {
		t.Helper()
		// $$ and %% are systemd's for $ and %.
		line, ok := strings.CutPrefix(one(t, unit, name), "/bin/sh -ec '")
		line, whole := strings.CutSuffix(line, "'")
		if rest := strings.NewReplacer("$$", "", "%%", "").Replace(line); !ok || !whole || strings.ContainsAny(rest, "$%'") {
			t.Fatalf("%s=%s is not one shell command, or has a $ or %% that systemd takes for its own", name, line)
		}
		return strings.NewReplacer("$$", "$", "%%", "%", "/usr/local/bin/consentgate", binary,
			"/etc/consentgate/consentgate.toml", dir+"/gate.toml", "/var/lib/consentgate-export", out).Replace(line)
	}
	before := exec.Command("/bin/sh", "-ec", shell("ExecStartPre"))
	if said, err := before.CombinedOutput(); err == nil {
		t.Errorf("no gateway runs, so what is in the store may be an old copy, and it is exported all the same: %s", said)
	}
	gateway := exec.Command(binary, "serve", "--config", dir+"/gate.toml")
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		gateway.Process.Signal(syscall.SIGTERM)
		gateway.Wait()
	}()
	until(t, func() error { return exec.Command(binary, "health", "--config", dir+"/gate.toml").Run() })
	for _, name := range []string{"ExecStartPre", "ExecStart", "ExecStartPost"} {
		run("/bin/sh", "-ec", shell(name))
	}
	files, err := filepath.Glob(out + "/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 49 || filepath.Base(files[0]) != "mine" {
		t.Fatalf("%d files are left, want 48 and one that is not the export's: %q", len(files), files)
	}
	last := files[len(files)-1]
	if text := read(t, last); !strings.Contains(text, "anna@example.org") || strings.Contains(text, "ben@example.org") {
		t.Errorf("%s holds %s", last, text)
	}
	if info, err := os.Stat(last); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", last, info.Mode(), err)
	}

	analyze := needs(t, "systemd-analyze")
	units, _ := installed(t)
	write(t, units+"/consentgate-export.timer", read(t, "systemd/consentgate-export.timer"), 0o644)
	for _, args := range [][]string{{"verify", "./consentgate-export.timer", "./consentgate-export.service"},
		{"security", "--offline=true", "--threshold=20", "--no-pager", "./consentgate-export.service"}, {"calendar", one(t, settings(t, "systemd/consentgate-export.timer"), "OnCalendar")}} {
		cmd := exec.Command(analyze, args...)
		cmd.Dir = units
		if said, err := cmd.CombinedOutput(); err != nil || args[0] == "verify" && len(said) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args, err, said)
		}
	}
}
