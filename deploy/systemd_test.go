package deploy_test

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// settings are the values of a unit file, by name; a name may stand there several times.
func settings(t testing.TB, path string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(read(t, path)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			all[name] = append(all[name], value)
		}
	}
	return all
}

func one(t testing.TB, unit map[string][]string, name string) string {
	t.Helper()
	if len(unit[name]) != 1 {
		t.Fatalf("%s stands there %d times", name, len(unit[name]))
	}
	return unit[name][0]
}

// installed copies the units into a folder, with the program that was built in place of the installed one.
func installed(t testing.TB) (dir string, units []string) {
	t.Helper()
	dir = t.TempDir()
	for _, pattern := range []string{"*.service", "*.socket"} {
		files, err := filepath.Glob("systemd/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			write(t, filepath.Join(dir, filepath.Base(f)), strings.ReplaceAll(read(t, f), "/usr/local/bin/consentgate", binary), 0o644)
			units = append(units, filepath.Base(f))
		}
	}
	if len(units) < 3 {
		t.Fatalf("only %d units", len(units))
	}
	return dir, units
}

func TestUnit(t *testing.T) {
	unit := settings(t, "systemd/consentgate.service")
	start := strings.Fields(one(t, unit, "ExecStart"))
	takes(t, start[1:]...)
	if got, want := start[len(start)-1], "/etc/consentgate/consentgate.toml"; got != want {
		t.Errorf("the configuration is %s, want %s", got, want)
	}
	// The defaults of the configuration lie in the folder that the unit makes.
	cfg := load(t, minimal)
	state := "/var/lib/" + one(t, unit, "StateDirectory") + "/"
	for what, path := range map[string]string{"delivery.spool_dir": cfg.Delivery.SpoolDir, "consent.store": cfg.StoreFile()} {
		if !strings.HasPrefix(path, state) {
			t.Errorf("%s is %s, not below %s", what, path, state)
		}
	}
	for name, least := range map[string]time.Duration{
		"TimeoutStopSec":  31 * time.Second, // what is under way ends within 30 s
		"WatchdogSec":     31 * time.Second, // a disk may hang for a while
		"TimeoutStartSec": 5 * time.Minute,  // 14 GB of spool at 50 MB/s
	} {
		if d, err := time.ParseDuration(strings.Replace(one(t, unit, name), "min", "m", 1)); err != nil || d < least {
			t.Errorf("%s is %v, want %v at least (%v)", name, d, least, err)
		}
	}
	// Each sender has a connection, one to the smarthost and perhaps a file; readers come on top of that.
	if files, err := strconv.Atoi(one(t, unit, "LimitNOFILE")); err != nil || files < 10*cfg.SMTP.MaxConnections {
		t.Errorf("LimitNOFILE is %d with %d connections (%v)", files, cfg.SMTP.MaxConnections, err)
	}
	user := one(t, unit, "User")
	if !strings.Contains(read(t, "systemd/consentgate.sysusers.conf"), "\nu "+user+" ") {
		t.Errorf("sysusers does not make the user %q", user)
	}
	// The environment has passwords, so it is the file that tmpfiles keeps from others.
	environment := strings.TrimPrefix(one(t, unit, "EnvironmentFile"), "-")
	if !strings.Contains(read(t, "systemd/consentgate.tmpfiles.conf"), "\nz "+environment+" 0600 root root\n") {
		t.Errorf("tmpfiles does not see to %s", environment)
	}
	for _, w := range [][3]string{
		{"Type", "notify", "it is served when it says so, and a watchdog watches it"},
		{"ExecReload", "/bin/kill -HUP $MAINPID", "that signal reads the configuration again; another ends it"},
		{"Restart", "on-failure", "who crashes or hangs comes back"},
		{"RestartPreventExitStatus", "2", "no restart mends a mistake in the configuration"},
		{"Environment", "GOTRACEBACK=crash", "a crash ends by its signal, and not with that status"},
		{"LimitCORE", "0", "a core has mail in it"},
		{"Group", user, "tmpfiles lets this group read the configuration"},
		{"UMask", "0077", "what it writes before it sets its own is nobody else's"},
		{"RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX", "the smarthost and senders by IPv6; the control socket"},
		{"CapabilityBoundingSet", "", "no right of root's"},
		{"AmbientCapabilities", "", "nor that"},
		{"NoNewPrivileges", "yes", "nor by a program that it starts"},
		{"ProtectSystem", "strict", "it writes in its own folders"},
		{"ProtectHome", "yes", "nobody's home is its business"},
		{"PrivateTmp", "yes", "messages pass through /tmp"},
		{"PrivateDevices", "yes", "it needs no device"},
		{"PrivateUsers", "yes", "other users are none there"},
		{"ProtectProc", "invisible", "nor are their processes"},
		{"MemoryDenyWriteExecute", "yes", "what a message holds never becomes code"},
		{"SystemCallArchitectures", "native", "no other way around the filter"},
		{"SystemCallFilter", "@system-service;~@privileged @resources", "a service that serves a network, without what changes the machine"},
	} {
		if got := strings.Join(unit[w[0]], ";"); len(unit[w[0]]) == 0 || got != w[1] {
			t.Errorf("%s=%s, want %s: %s", w[0], got, w[1], w[2])
		}
	}
	for _, name := range strings.Fields(`ProtectClock ProtectControlGroups ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables
		RemoveIPC RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality`) {
		if !slices.Equal(unit[name], []string{"yes"}) {
			t.Errorf("%s is %v: what a relay never does, a hole in it is not to do either", name, unit[name])
		}
	}
	for file, port := range map[string]string{"consentgate-smtp.socket": "587", "consentgate-smtps.socket": "465"} { // RFC 6409, RFC 8314
		socket := settings(t, "systemd/"+file)
		if got := one(t, socket, "ListenStream"); got != port {
			t.Errorf("%s listens on %s", file, got)
		}
		if !slices.Contains(strings.Fields(one(t, socket, "WantedBy")), "consentgate.service") {
			t.Errorf("%s does not come back with the service", file)
		}
	}
}

const minimal = `hostname = "gate.example.org"
key_file = "key"
[smarthost]
urls = ["smtp://127.0.0.1:25"]
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
`

// systemd itself takes the units, and finds little that the service could do beyond its job.
func TestSystemdAnalyze(t *testing.T) {
	analyze := needs(t, "systemd-analyze")
	dir, units := installed(t)
	for _, args := range [][]string{append([]string{"verify"}, units...), {"security", "--offline=true", "--threshold=13", "--no-pager", "consentgate.service"}} {
		for i := range args {
			if strings.Contains(args[i], ".s") {
				args[i] = "./" + args[i]
			}
		}
		cmd := exec.Command(analyze, args...)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		if err != nil || args[0] == "verify" && len(bytes.TrimSpace(said)) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, said)
		}
	}
}

// systemd makes the user, and the folders with their modes.
func TestSysusersTmpfiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	sysusers, tmpfiles := needs(t, "systemd-sysusers"), needs(t, "systemd-tmpfiles")
	root := t.TempDir()
	write(t, root+"/etc/consentgate/consentgate.toml", minimal, 0o644)
	for _, c := range []struct {
		program, kind string
		args          []string
	}{{sysusers, "sysusers", nil}, {tmpfiles, "tmpfiles", []string{"--create"}}} {
		write(t, root+"/usr/lib/"+c.kind+".d/consentgate.conf", read(t, "systemd/consentgate."+c.kind+".conf"), 0o644)
		if said, err := exec.Command(c.program, append(c.args, "--root="+root, "consentgate.conf")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.program, err, said)
		}
	}
	if users := read(t, root+"/etc/passwd"); !strings.Contains(users, "consentgate:x:") || !strings.Contains(users, ":/var/lib/consentgate:/usr/sbin/nologin") {
		t.Errorf("users:\n%s", users)
	}
	for path, want := range map[string]os.FileMode{"/etc/consentgate": 0o750, "/etc/consentgate/consentgate.toml": 0o640, "/var/lib/consentgate": 0o700} {
		info, err := os.Stat(root + path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		if owned := info.Sys().(*syscall.Stat_t); path == "/var/lib/consentgate" && owned.Uid == 0 {
			t.Errorf("%s belongs to root", path)
		}
	}
}

// The sockets have the names that the configuration in their heads asks for, and what systemd hands over under
// a name is served.
func TestSocketActivation(t *testing.T) {
	activate := needs(t, "systemd-socket-activate")
	for file, key := range map[string]string{"consentgate-smtp.socket": "listen", "consentgate-smtps.socket": "listen_tls"} {
		unit := settings(t, "systemd/"+file)
		name := one(t, unit, "FileDescriptorName")
		if text := read(t, "systemd/"+file); !strings.Contains(text, `"systemd:`+name+`"]`) || !strings.Contains(text, "#   "+key+" = [") {
			t.Errorf("%s does not say how to name systemd:%s in smtp.%s", file, name, key)
		}
		if service := one(t, unit, "Service"); service != "consentgate.service" {
			t.Errorf("%s is for %s", file, service)
		}
	}
	dir := t.TempDir()
	if said, err := exec.Command(binary, "keygen", dir+"/key").CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, said)
	}
	write(t, dir+"/consentgate.toml", strings.NewReplacer(`"key"`, `"`+dir+`/key"`, "[smarthost]", "[smtp]\nlisten = [\"systemd:smtp\"]\n[smarthost]").Replace(minimal)+
		"listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[delivery]\nspool_dir = \""+dir+"/state/spool\"\n[consent]\nstore = \"file:"+dir+"/state/consent.db\"\n", 0o600)
	// Started without the socket it does not try again and again: status 2.
	alone, err := exec.Command(binary, "serve", "--config", dir+"/consentgate.toml").CombinedOutput()
	if ended, ok := err.(*exec.ExitError); !ok || ended.ExitCode() != 2 || !strings.Contains(string(alone), "systemctl restart consentgate-smtp.socket consentgate\n") {
		t.Errorf("without its socket: %v\n%s", err, alone)
	}
	port := freePort(t)
	cmd := exec.Command(activate, "--fdname=smtp", "-l", "127.0.0.1:"+port, binary, "serve", "--config", dir+"/consentgate.toml")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	// The first connection starts the program, and is answered by it.
	var conn net.Conn
	until(t, func() (err error) { conn, err = net.Dial("tcp", "127.0.0.1:"+port); return err })
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if greeting, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(greeting, "220 gate.example.org ") {
		t.Errorf("greeted with %q, %v", greeting, err)
	}
}
