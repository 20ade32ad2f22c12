package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mainCF is Postfix without DNS, without mail of its own, that trusts this machine.
const mainCF = `compatibility_level = 3.6
config_directory = DIR/etc
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = COMMANDS
daemon_directory = DAEMONS
maillog_file = DIR/maillog
maillog_file_prefixes = DIR
myhostname = postfix.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
local_transport = error:no local mail
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
minimal_backoff_time = 2s
maximal_backoff_time = 2s
queue_run_delay = 1s
biff = no
`

const masterCF = `pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 100 smtp
relay unix - - n - 100 smtp
lmtp unix - - n - 100 lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// postfix is one with configuration, queue and ports of its own.
type postfix struct {
	dir string
}

// startPostfix runs it until the test ends, with these lines more in main.cf and master.cf. One of
// the services listens on port, or port is "".
func startPostfix(t testing.TB, port, main, master string) *postfix {
	t.Helper()
	needsRoot(t, "Postfix")
	program, postconf := needs(t, "postfix"), needs(t, "postconf")
	said, err := finish(exec.Command(postconf, "-dh", "command_directory", "daemon_directory"))
	places := strings.Fields(said)
	if err != nil || len(places) != 2 {
		t.Fatalf("postconf: %v\n%s", err, said)
	}
	p := &postfix{folder(t)}
	main = strings.NewReplacer("DIR", p.dir, "COMMANDS", places[0], "DAEMONS", places[1]).Replace(mainCF) + main
	write(t, p.dir+"/etc/main.cf", lastOfEach(main))
	write(t, p.dir+"/etc/master.cf", masterCF+master)
	for _, name := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.own(t, filepath.Join(p.dir, "data"))
	// "postfix check" lays out the queue. The master is started without "postfix start-fg", which
	// would stand between as a shell.
	if said, err := finish(exec.Command(program, "-c", p.dir+"/etc", "check")); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, said)
	}
	run := start(t, exec.Command(places[1]+"/master", "-c", p.dir+"/etc", "-s"))
	t.Cleanup(func() {
		run.stop(t)
		if t.Failed() {
			t.Logf("Postfix said:\n%s", tail(p.log(t), 40))
		}
	})
	run.ready(t, func() bool {
		if port == "" {
			return strings.Contains(p.log(t), "daemon started")
		}
		return answers(port)
	})
	return p
}

// lastOfEach leaves of each parameter in a main.cf, all on one line, its last line, of which Postfix would warn in each process.
func lastOfEach(main string) string {
	var kept []string
	at := map[string]int{}
	for line := range strings.Lines(main) {
		name, _, _ := strings.Cut(line, " =")
		if i, ok := at[name]; ok {
			kept[i] = ""
		}
		at[name] = len(kept)
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

// own gives a file to Postfix's own user.
func (p *postfix) own(t testing.TB, path string) {
	t.Helper()
	u, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func (p *postfix) log(t testing.TB) string {
	text, err := os.ReadFile(filepath.Join(p.dir, "maillog"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// sendmail hands a message over as programs on the same machine do, with LF.
func (p *postfix) sendmail(t testing.TB, text, from string, args ...string) {
	t.Helper()
	cmd := exec.Command(needs(t, "sendmail"), append([]string{"-C", p.dir + "/etc", "-i", "-f", from}, args...)...)
	cmd.Stdin = bytes.NewReader([]byte(strings.ReplaceAll(text, "\r\n", "\n")))
	if said, err := finish(cmd); err != nil {
		t.Fatalf("sendmail: %v\n%s", err, said)
	}
}

// empty waits until nothing is in the queue any more.
func (p *postfix) empty(t testing.TB) {
	t.Helper()
	queue := ""
	for range every(t, 50*time.Millisecond, 20*time.Second) {
		var err error
		if queue, err = finish(exec.Command(needs(t, "postqueue"), "-c", p.dir+"/etc", "-p")); err != nil {
			t.Fatalf("postqueue: %v\n%s", err, queue)
		}
		if strings.Contains(queue, "queue is empty") {
			return
		}
	}
	t.Errorf("Postfix still holds mail:\n%s", queue)
}

// gate is the line of master.cf for a way from Postfix into the gateway.
func gate(name, program string, options ...string) string {
	line := name + " unix - - n - 10 " + program
	for _, o := range options {
		line += fmt.Sprintf("\n  -o %s", o)
	}
	return line + "\n"
}
