package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A systemd that has booted runs the units: the socket starts the service, which has no rights, its files have their
// modes, a reload says whether it was taken over, a gateway that hangs is started anew, one with a mistake is not.
//
// It boots this machine's systemd in namespaces of its own, with a root folder, a network and a part of the cgroup
// tree of its own. Since that is much to do to a machine it runs only where it is asked to: make boot.
func TestBoot(t *testing.T) {
	if os.Getenv("BOOT") == "" {
		t.Skip("make boot runs it")
	}
	withCgo := filepath.Join(filepath.Dir(binary), "with-cgo")
	build := exec.Command("go", "build", "-trimpath", "-o", withCgo, "./cmd/consentgate")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=1")
	said, err := build.CombinedOutput()
	t.Run("static", func(t *testing.T) { testBoot(t, binary, "Go\n") })
	t.Run("OpenSSL", func(t *testing.T) {
		if err != nil {
			t.Skipf("no C compiler: %v\n%s", err, said)
		}
		testBoot(t, withCgo, `"OpenSSL 3.`)
	})
}

// testBoot boots with a program that signs by what stands behind by= in its log.
func testBoot(t *testing.T, program, signer string) {
	unshare := inNamespace(t)
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		t.Skip(err)
	}
	tree := cgroup2(t)
	group, err := os.MkdirTemp(tree, "consentgate-boot-")
	if err != nil {
		t.Fatal(err)
	}
	// Cleanup, since the machine's own end is one.
	t.Cleanup(func() { // an empty group's folders go from the inside out
		var all []string
		filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			until(t, func() error { return os.Remove(all[i]) })
		}
	})
	root, out := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Dir(out), out} { // the service connects to the sink in it
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mails := startBoxes(t, out+"/sink")
	units, err := filepath.Abs("systemd")
	if err != nil {
		t.Fatal(err)
	}
	boot, err := filepath.Abs("testdata/boot.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The shell joins the group, and becomes unshare; with its processes the machine ends.
	// What hangs in it is ended by its own limits, long before this one.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, group,
		unshare, "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "bash", boot, root, program, units, out)
	cmd.WaitDelay = 10 * time.Second
	said, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(out + "/log")
	gateway, _ := os.ReadFile(out + "/consentgate.log")
	if !strings.HasSuffix(string(log), "\nend\n") {
		t.Errorf("the machine did not come to its end: %v (%v)", err, context.Cause(ctx))
	}
	// A machine in a container gives no more files than it has.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"by the socket: 220 gate.example.org ",
		"by the service: 220 gate.example.org ",
		"\nactive, Takes mail.\n",
		"\nby IPv6: 220 gate.example.org ",
		"\nMax core file size 0 ", fmt.Sprintf("\nMax open files %d ", min(65536, files.Max)), "\nUmask: 0007\n",
		"\nsent\n", "by=" + signer, "\nsubject=CN = gate.example.org\n",
		"\nCapEff: 0000000000000000\n", "\nCapBnd: 0000000000000000\n", "\nNoNewPrivs: 1\n", "\nSeccomp: 2\n",
		"\n/var/lib/consentgate 700 consentgate\n", "\n/var/lib/consentgate/key 600 consentgate\n", "\n/var/lib/consentgate/spool 700 consentgate\n",
		"\n/run/consentgate 750 consentgate\n", "\n/run/consentgate/smtp 770 consentgate\n",
		"\nanna@example.org in scope default\n",
		"\nStatusText=The configuration was read again.\n",
		"\nStatusText=The configuration was not taken over: it holds a mistake, which the log names. What was in force stays.\n",
		"\nafter a restart: 220 gate.example.org ",
		"\nNRestarts=1\nActiveState=active\nafter the watchdog: 220 gate.example.org ", ", another process: yes\n",
		"\nNRestarts=2\nActiveState=active\nafter a crash: 220 gate.example.org ",
		"\nstopped: success, status 0\n",
		"\nwith a mistake: 2\nActiveState=failed\n",
		"\nafter many starts: socket service-start-limit-hit\n", "\nmended: 220 gate.example.org ",
		"\nwithout its socket: 2, failed, restarted 0\n", "systemctl restart consentgate-smtp.socket consentgate\n",
	} {
		if !strings.Contains("\n"+string(log), want) {
			t.Errorf("it does not say %s", strconv.Quote(want))
		}
	}
	select {
	case mail := <-mails:
		if !strings.Contains(mail, "DKIM-Signature: ") || !strings.Contains(mail, "d=example.org;") {
			t.Errorf("the copy is not signed:\n%s", mail)
		}
	default:
		t.Error("the smarthost got no mail")
	}
	if t.Failed() { // without the stacks of what was made to crash
		var lines []string
		for line := range strings.Lines(string(gateway)) {
			if strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "consentgate") {
				lines = append(lines, line)
			}
		}
		t.Logf("%s\nthe machine:\n%s\nthe gateway:\n%s", said, log, strings.Join(lines, ""))
	}
}

// startBoxes is a smarthost behind a unix socket, which speaks LMTP to whoever has the password of boot.sh.
func startBoxes(t testing.TB, path string) <-chan string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// As Redis' socket: for a group, which the drop-in of the unit's head adds; 900 is that of boot.sh.
	if err := errors.Join(os.Chown(path, 0, 900), os.Chmod(path, 0o770)); err != nil {
		t.Fatal(err)
	}
	s := &sink{path, make(chan string, 10)}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &boxes{session: session{s}}, nil }))
	server.LMTP, server.AllowInsecureAuth = true, true
	ended := make(chan struct{})
	go func() { server.Serve(l); close(ended) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return s.mails
}

type boxes struct {
	session
	known bool
}

func (*boxes) AuthMechanisms() []string { return []string{sasl.Plain} }
func (b *boxes) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		b.known = user == "gate" && password == `se$cret & "so"; #x`
		if !b.known {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}
func (b *boxes) Mail(string, *smtp.MailOptions) error {
	if !b.known {
		return smtp.ErrAuthRequired
	}
	return nil
}

// cgroup2 is where the tree of control groups is.
func cgroup2(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(read(t, "/proc/mounts")) {
		if words := strings.Fields(line); words[2] == "cgroup2" {
			return words[1]
		}
	}
	t.Skip("there is no cgroup2 here")
	return ""
}
