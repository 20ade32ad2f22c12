package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// eximConf is Exim as smarthost: a login is needed, by TLS; a file says whether it takes mail for
// "later". All that it takes goes on to one port.
const eximConf = `exim_path = EXIM
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/spool/pid
primary_hostname = exim.example.org
qualify_domain = exim.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = STARTTLS : TLS
tls_on_connect_ports = TLS
tls_advertise_hosts = *
tls_certificate = CERT
tls_privatekey = KEYFILE
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
host_lookup =
rfc1413_query_timeout = 0s
deliver_drop_privilege
keep_environment =
add_environment =
acl_smtp_rcpt = rcpt
acl_smtp_data = accept

begin acl
rcpt:
  deny
    local_parts = unknown
    message = 550 5.1.1 WORDS
  defer
    local_parts = later
    condition = ${if exists{DIR/open}{no}{yes}}
    message = 450 4.7.1 greylisted, come again
  accept
    authenticated = *
    control = dkim_disable_verify
  deny
    message = log in first

begin routers
end:
  driver = manualroute
  transport = end
  route_list = * 127.0.0.1
  self = send
  host_find_failed = defer

begin transports
end:
  driver = smtp
  port = END
  allow_localhost
  hosts_try_fastopen =
  hosts_try_chunking =

begin retry
* * F,1h,1s

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{gate}}{eq{$auth3}{opensesame}}}}
  server_set_id = $auth2
`

// loginOnly takes the place of the authenticator above, for those that offer nothing better.
const loginOnly = `login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{gate}}{eq{$auth2}{opensesame}}}}
  server_set_id = $auth1
`

// Exim as smarthost, by STARTTLS and by implicit TLS, with its certificate checked, logged in by
// PLAIN and by LOGIN.
func TestEximBehind(t *testing.T) {
	t.Parallel()
	program := unpackExim(t)
	for _, c := range []struct{ mode, scheme, authenticators string }{
		{"cutthrough", "smtp+starttls", ""},
		{"spool", "smtps", loginOnly},
	} {
		t.Run(c.mode+" "+c.scheme, func(t *testing.T) {
			end := startSink(t)
			starttls, secure := freePort(t), freePort(t)
			port := map[string]string{"smtp+starttls": starttls, "smtps": secure}[c.scheme]
			g := startGateway(t, c.scheme+"://localhost:"+port, `mode = "cutthrough"`, `mode = "`+c.mode+`"`,
				`connect_timeout = "5s"`, "connect_timeout = \"5s\"\nusername = \"gate\"\npassword = \"opensesame\"")
			conf := eximConf
			if c.authenticators != "" {
				before, _, _ := strings.Cut(conf, "plain:\n")
				conf = before + c.authenticators
			}
			dir := startExim(t, program, starttls, strings.NewReplacer("EXIM", program, "STARTTLS", starttls, "TLS", secure,
				"CERT", g.cert, "KEYFILE", g.key, "WORDS", noSuchPerson, "END", end.port).Replace(conf))
			open := func() { write(t, filepath.Join(dir, "open"), "") }
			smarthost{end: end, refused: noSuchPerson, spool: c.mode == "spool", no8Bit: true, open: open}.check(t, g)
		})
	}
}

// eximUser is the number of the user that Exim runs as; nobody else has it.
const eximUser = 64999

// startExim runs Exim with a configuration in which DIR stands for the folder that it returns. The
// user that the program was built for exists in its own view of the machine only.
func startExim(t testing.TB, program, port, conf string) (dir string) {
	t.Helper()
	dir = folder(t)
	for _, name := range []string{"spool", "log"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, name), eximUser, eximUser); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "exim.conf")
	write(t, config, strings.ReplaceAll(conf, "DIR", dir))
	run := start(t, inView(t, program, "-bdf", "-q1s", "-C", config))
	t.Cleanup(func() {
		run.stop(t)
		if text, _ := os.ReadFile(filepath.Join(dir, "log", "mainlog")); t.Failed() {
			t.Logf("Exim said:\n%s%s", tail(string(text), 40), tail(run.log.text(), 20))
		}
	})
	run.ready(t, func() bool { return answers(port) })
	return dir
}

// inView is a command that sees the user Debian-exim, which only Debian's package would make.
func inView(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	script := ""
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("Debian-exim:x:%[1]d:%[1]d::/nonexistent:/usr/sbin/nologin\n", eximUser),
		"group":  fmt.Sprintf("Debian-exim:x:%d:\n", eximUser),
	} {
		text, err := os.ReadFile("/etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text)+line)
		script += fmt.Sprintf("mount --bind '%s/%s' /etc/%s && ", dir, name, name)
	}
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", script + `exec "$@"`, "sh"}, args...)...)
}

// unpackExim fetches Debian's Exim, which cannot be installed beside Postfix, into a folder, and
// returns the program. Where that cannot be done it skips the test.
func unpackExim(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it fetches Exim")
	}
	needsRoot(t, "Exim")
	dir := folder(t)
	fetch := exec.Command(needs(t, "apt-get"), "download", "-qq", "-o", "APT::Sandbox::User=root", "exim4-daemon-light")
	fetch.Dir = dir
	if said, err := finish(fetch); err != nil {
		t.Skipf("apt-get cannot fetch exim4-daemon-light here: %v %s", err, tail(said, 3))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("apt-get fetched %q, %v", found, err)
	}
	if said, err := finish(exec.Command("dpkg", "-x", found[0], dir)); err != nil {
		t.Fatalf("dpkg: %v\n%s", err, said)
	}
	program := filepath.Join(dir, "usr/sbin/exim4")
	config := filepath.Join(dir, "empty.conf")
	write(t, config, "")
	if said, err := finish(inView(t, program, "-C", config, "-bV")); err != nil {
		t.Skipf("Exim does not start here: %v %s", err, tail(said, 3))
	}
	return program
}
