package peers

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideVariable is set in the second run of this program, which has a network and folders of its own.
const insideVariable = "CONSENTGATE_FIRST_HOUR"

// The lines of the README that lead from nothing to a running gateway, as they stand there, typed by root on a
// machine with Postfix on port 25 and Redis on 6379. So that they find these ports free, and leave nothing
// behind in /etc, /usr/local and /var/lib, the test runs itself again with a network and mounts of its own.
func TestFirstHour(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		firstHour(t)
		return
	}
	t.Parallel()
	needsRoot(t, "Postfix")
	for _, program := range []string{"postfix", "redis-server", "useradd", "runuser", "ip"} {
		needs(t, program)
	}
	unshare := needs(t, "unshare")
	if said, err := finish(exec.Command(unshare, "--mount", "--net", "--propagation", "private", "true")); err != nil {
		t.Skipf("no mounts and no network of one's own are to be had here: %s", said)
	}
	cmd := exec.Command(unshare, "--mount", "--net", "--propagation", "private", os.Args[0], "-test.run", "^TestFirstHour$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	said, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("--- PASS: TestFirstHour")) {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("%s", said)
}

// readmeLines are the first block of the section, a command each.
func readmeLines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## From nothing to a running gateway\n\n")
	if !ok {
		t.Fatal("README.md has no such section")
	}
	block, _, _ := strings.Cut(section, "\n\n")
	if n := strings.Count(block, "\n") + 1; n > 10 {
		t.Errorf("it takes %d lines, more than ten", n)
	}
	return strings.Split(strings.ReplaceAll(strings.ReplaceAll(block, "\\\n", ""), "\n    ", "\n"), "\n")
}

// ownFolders covers what the lines write to by copies that end with this process.
func ownFolders(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	must := func(name string, args ...string) {
		t.Helper()
		if said, err := finish(exec.Command(needs(t, name), args...)); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, said)
		}
	}
	must("ip", "link", "set", "lo", "up")
	for _, at := range []string{"/etc", "/usr/local/bin"} {
		own := filepath.Join(dir, strings.ReplaceAll(at, "/", "_"))
		must("cp", "-a", at, own)
		must("mount", "--bind", own, at)
		t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
	}
	must("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
	t.Cleanup(func() { syscall.Unmount("/var/lib", syscall.MNT_DETACH) })
}

func firstHour(t *testing.T) {
	ownFolders(t)
	end := startSink(t)
	startPostfix(t, "25", "relayhost = [127.0.0.1]:"+end.port+"\n", "25 inet n - n - 10 smtpd\n")
	redis := start(t, exec.Command(needs(t, "redis-server"), "--port", "6379", "--bind", "127.0.0.1", "--dir", t.TempDir(), "--appendonly", "yes"))
	redis.ready(t, func() bool { return listens("127.0.0.1:6379") })

	home := t.TempDir() // such as that of root, which the gateway's user cannot look into
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	typed := func(t *testing.T, line string) *exec.Cmd {
		cmd := typed(t, line)
		if !strings.Contains(line, "go build") {
			cmd.Dir = home
		}
		return cmd
	}
	lines := readmeLines(t)
	serve := lines[len(lines)-1]
	said := ""
	for _, line := range lines[:len(lines)-1] {
		began := time.Now()
		out, err := typed(t, line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		t.Logf("%5.1f s  %s", time.Since(began).Seconds(), strings.Join(strings.Fields(line), " "))
		said += string(out)
	}
	for _, bad := range []string{"FAILED", "note:"} {
		if strings.Contains(said, bad) {
			t.Errorf("not all is well:\n%s", said)
		}
	}
	if !strings.HasSuffix(serve, " consentgate serve") {
		t.Fatalf("the last line is %q", serve)
	}
	gate := start(t, typed(t, "exec "+serve))
	gate.ready(t, func() bool { return strings.Contains(gate.log.text(), "consentgate is ready") })
	for _, bad := range []string{"level=WARN", "level=ERROR"} {
		if strings.Contains(gate.log.text(), bad) {
			t.Errorf("serve warns:\n%s", gate.log.text())
		}
	}

	// Somebody who agreed, and somebody who did not, through the real Postfix.
	if out, err := typed(t, "runuser -u consentgate -- consentgate consent set both@example.org --open granted --click granted").CombinedOutput(); err != nil {
		t.Fatalf("consent set: %v\n%s", err, out)
	}
	const from, name = "news@example.org", "gate._domainkey.example.org"
	_, record, ok := strings.Cut(said, "\n"+name+"\n")
	if !ok {
		t.Fatalf("init prints no record for %s:\n%s", name, said)
	}
	record, _, _ = strings.Cut(record, "\n")
	news := strings.Replace(letter, "<news@shop.example.net>", "<"+from+">", 1)
	for _, to := range []string{"none@example.org", "both@example.org"} {
		c := dial(t, "2525")
		if err := c.SendMail(from, []string{to}, strings.NewReader(news)); err != nil {
			t.Fatal(err)
		}
		m := end.await(t, from, to)
		tracked(t, m, to == "both@example.org")
		verify(t, m, name, record)
		for _, want := range []string{"\r\nList-Unsubscribe: <" + linkPrefix, "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "by postfix.example.org (Postfix)"} {
			if !strings.Contains(string(m.text), want) {
				t.Errorf("the copy for %s lacks %q:\n%s", to, want, m.text)
			}
		}
	}
	syscall.Kill(-gate.cmd.Process.Pid, syscall.SIGINT) // as Ctrl-C does, to serve and to runuser
	select {
	case <-gate.done:
	case <-time.After(40 * time.Second):
		t.Fatalf("serve has not ended 40 s after Ctrl-C:\n%s", gate.log.text())
	}
	if code := gate.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("serve ended with status %d:\n%s", code, gate.log.text())
	}
}

// typed is a line as root types it in the folder of the project.
func typed(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/bin:/usr/sbin:/sbin")
	return cmd
}

// listens reports whether something accepts connections there.
func listens(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
