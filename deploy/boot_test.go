package deploy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
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
	unshare := inNamespace(t)
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		t.Skip(err)
	}
	tree := cgroup2(t)
	group, err := os.MkdirTemp(tree, "consentgate-boot-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // an empty group's folders go from the inside out
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
	}()
	root, out := t.TempDir(), t.TempDir()
	units, err := filepath.Abs("systemd")
	if err != nil {
		t.Fatal(err)
	}
	boot, err := filepath.Abs("testdata/boot.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The shell joins the group, and becomes unshare; with its processes the machine ends.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, group,
		unshare, "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "bash", boot, root, binary, units, out)
	said, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(out + "/log")
	if !strings.HasSuffix(string(log), "\nend\n") {
		t.Fatalf("the machine did not come to its end: %v\n%s\n%s", err, said, log)
	}
	for _, want := range []string{
		"by the socket: 220 gate.example.org ",
		"by the service: 220 gate.example.org ",
		"\nactive, Takes mail.\n",
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
	} {
		if !strings.Contains("\n"+string(log), want) {
			t.Errorf("it does not say %s", strconv.Quote(want))
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", said, log)
	}
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
