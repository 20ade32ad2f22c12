package deploy_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.yaml.in/yaml/v4"
)

// instructions are those of the last stage of the Dockerfile, a word each.
func instructions(t testing.TB) [][]string {
	t.Helper()
	var all [][]string
	for line := range strings.Lines(read(t, "docker/Dockerfile")) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "FROM":
			all = [][]string{words}
		default:
			all = append(all, words)
		}
	}
	return all
}

// list reads the JSON form of an instruction, such as CMD ["serve"].
func list(t testing.TB, words []string) (args []string) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(strings.Join(words, " ")), &args); err != nil {
		t.Fatal(err)
	}
	return args
}

// image is what the Dockerfile makes: a root folder, and how it is run.
type image struct {
	root                       string
	user                       string
	entrypoint, command, check []string
	healthFlags                []string
	signal                     string
	ports                      []string
	volume                     string
}

// buildImage carries out the Dockerfile's last stage. What the first one makes is made by its own commands.
func buildImage(t testing.TB) image {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	im := image{root: dir + "/root"}
	for line := range strings.Lines(read(t, "docker/Dockerfile")) {
		if command, ok := strings.CutPrefix(line, "RUN mkdir "); ok {
			if said, err := exec.Command("sh", "-c", "mkdir "+strings.ReplaceAll(command, "/out", dir+"/out")).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, said)
			}
		}
	}
	all := instructions(t)
	if from := strings.Join(all[0], " "); from != "FROM scratch" {
		t.Fatalf("the image is %q", from)
	}
	for _, words := range all[1:] {
		args := words[1:]
		switch words[0] {
		case "COPY":
			owner := "0:0"
			for strings.HasPrefix(args[0], "--") {
				if o, ok := strings.CutPrefix(args[0], "--chown="); ok {
					owner = o
				}
				args = args[1:]
			}
			from, to := args[0], im.root+args[1]
			switch {
			case from == "/out/consentgate":
				from = binary
			case strings.HasPrefix(from, "/out/"):
				from = dir + from
			}
			if _, err := os.Stat(from); err != nil {
				t.Logf("%s is not on this machine, and left out", from)
				continue
			}
			// As an engine does: of a folder what is in it, into one that is made if need be, with a mode of its own.
			script := `umask 022
if [ -d "$1" ]; then mkdir -p "$2" && for f in "$1"/*; do
	[ ! -e "$f" ] || { cp -r -p "$f" "$2/" && chown -R "$3" "$2/${f##*/}"; } || exit 1
done
else mkdir -p "${2%/*}" && cp -p "$1" "$2" && chown "$3" "$2"; fi`
			if said, err := exec.Command("sh", "-c", script, "sh", from, to, owner).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", words, err, said)
			}
		case "USER":
			im.user = args[0]
		case "VOLUME":
			im.volume = args[0]
		case "EXPOSE":
			im.ports = args
		case "ENTRYPOINT":
			im.entrypoint = list(t, args)
		case "CMD":
			im.command = list(t, args)
		case "HEALTHCHECK":
			im.healthFlags = args[:slices.Index(args, "CMD")]
			im.check = list(t, args[slices.Index(args, "CMD")+1:])
		case "STOPSIGNAL":
			im.signal = args[0]
		default:
			t.Fatalf("%s is not understood here", words[0])
		}
	}
	return im
}

// The image has what the program looks for, and is built of all that it needs by a Go that can.
func TestDockerfile(t *testing.T) {
	im := buildImage(t)
	text := read(t, "docker/Dockerfile")
	for path, mode := range map[string]os.FileMode{"/consentgate": 0o755, "/var/lib/consentgate": os.ModeDir | 0o700, "/tmp": os.ModeDir | os.ModeSticky | 0o777} {
		info, err := os.Stat(im.root + path)
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, want %v (%v)", path, info, mode, err)
		}
	}
	// Where Go looks first, and where the golang image has them: without them no smarthost proves who it is.
	const roots = "/etc/ssl/certs/ca-certificates.crt"
	if !strings.Contains(text, "\nCOPY --from=build "+roots+" "+roots+"\n") {
		t.Errorf("%s is not copied to where Go looks for it", roots)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	from := regexp.MustCompile(`(?m)^FROM golang:([0-9.]+)-\S+ AS build$`).FindStringSubmatch(text)
	if from == nil || from[1] != version {
		t.Errorf("it is built from %v, and go.mod wants Go %s", from, version)
	}
	copied, built := strings.Index(text, "\nCOPY . .\n"), strings.Index(text, "go build")
	if modules := strings.Index(text, "\nCOPY go.mod go.sum "); modules < 0 || modules > strings.Index(text, "go mod download") || copied < 0 || copied > built {
		t.Error("not all is copied before it is used")
	}
	// Go notes whether files differ from the commit, so nothing may be missing that git knows.
	git := strings.Fields(read(t, "../.gitignore"))
	for line := range strings.Lines(read(t, "../.dockerignore")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !slices.Contains(git, "/"+line+"/") {
			t.Errorf(".dockerignore leaves out %s, which git does not ignore", line)
		}
	}
	if im.signal != "" && im.signal != "SIGTERM" {
		t.Errorf("it is stopped by %s, and ends in good order by SIGTERM", im.signal)
	}
	limits := map[string]string{}
	for _, w := range im.healthFlags {
		name, value, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		limits[name] = value
	}
	if d, err := time.ParseDuration(limits["timeout"]); err != nil || d <= healthTime {
		t.Errorf("a health check may take %s, and the command gives the gateway %v", limits["timeout"], healthTime)
	}
	if limits["retries"] < "2" || len(limits["retries"]) > 1 {
		t.Errorf("unhealthy after %s answers", limits["retries"])
	}
}

// healthTime is what "consentgate health" gives the gateway to answer.
const healthTime = 15 * time.Second

func TestStatic(t *testing.T) {
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs a loader, which an image from scratch does not have")
		}
	}
}

type composeFile struct {
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Ports       []string
		Volumes     []string
		Tmpfs       []string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		StopGrace   string   `yaml:"stop_grace_period"`
		Networks    []string
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		Healthcheck struct{ Test []string }
	}
	Networks map[string]struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
	Volumes map[string]any
}

// The compose file fits the Dockerfile, the configuration beside it and the program.
func TestCompose(t *testing.T) {
	var file composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	im := buildImage(t)
	cfg := load(t, read(t, "docker/consentgate.toml"))
	gateway, redis := file.Services["gateway"], file.Services["redis"]
	if _, err := os.Stat(filepath.Join("docker", gateway.Build.Context, gateway.Build.Dockerfile)); err != nil {
		t.Errorf("the Dockerfile: %v", err)
	}
	takes(t, append(im.command, "--config", "x")...)
	takes(t, im.check[1:]...)
	takes(t, "keygen", "/var/lib/consentgate/key")
	for _, address := range append(cfg.SMTP.Listen, cfg.Unsubscribe.Listen) {
		port := strings.TrimPrefix(address, ":")
		if !slices.Contains(im.ports, port) || !slices.Contains(gateway.Ports, "127.0.0.1:"+port+":"+port) {
			t.Errorf("port %s is not exposed, or not published on this machine alone", port)
		}
	}
	if host, _, _ := net.SplitHostPort(cfg.Admin.Listen); host != "127.0.0.1" {
		t.Errorf("the API listens on %s", cfg.Admin.Listen)
	}
	if !strings.HasPrefix(cfg.KeyFile, im.volume+"/") || !strings.HasPrefix(cfg.Delivery.SpoolDir, im.volume+"/") || !slices.Contains(gateway.Volumes, "state:"+im.volume) {
		t.Errorf("what is kept is not in the volume: %s, %s", cfg.KeyFile, cfg.Delivery.SpoolDir)
	}
	if !slices.Contains(gateway.Volumes, "./consentgate.toml:/etc/consentgate/consentgate.toml:ro") || !slices.Contains(gateway.Tmpfs, "/tmp") || !gateway.ReadOnly {
		t.Error("the configuration is not mounted where it is found, or /tmp is no tmpfs, or the root is not read-only")
	}
	if fmt.Sprint(gateway.CapDrop, gateway.SecurityOpt) != "[ALL] [no-new-privileges:true]" {
		t.Errorf("rights: %v %v", gateway.CapDrop, gateway.SecurityOpt)
	}
	if d, err := time.ParseDuration(gateway.StopGrace); err != nil || d <= 30*time.Second {
		t.Errorf("stop_grace_period %q", gateway.StopGrace)
	}
	if len(cfg.SMTP.AllowNetworks) != 1 || cfg.SMTP.AllowNetworks[0].String() != file.Networks["mail"].IPAM.Config[0].Subnet {
		t.Errorf("allow_networks are %v, and the network is %v", cfg.SMTP.AllowNetworks, file.Networks)
	}
	// The ports that Redis and Mailpit have unless they are told otherwise, and Mailpit's page on this machine alone.
	for url, service := range map[string]string{cfg.Consent.Store: "redis://redis:6379/0", cfg.Smarthost.URLs[0]: "smtp://mailpit:1025"} {
		if url != service {
			t.Errorf("%s does not lead to a service", url)
		}
	}
	mailpit, ok := file.Services["mailpit"]
	if !slices.Equal(mailpit.Ports, []string{"127.0.0.1:8025:8025"}) || len(redis.Ports) > 0 {
		t.Errorf("Mailpit is published at %v, Redis at %v", mailpit.Ports, redis.Ports)
	}
	// Redis keeps what was confirmed, in the folder that its image works in, which is a volume.
	for _, w := range []string{"--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"} {
		if !strings.Contains(strings.Join(redis.Command, " "), w) {
			t.Errorf("Redis runs without %s", w)
		}
	}
	if _, ok := file.Volumes["redis"]; !ok || !slices.Equal(redis.Volumes, []string{"redis:/data"}) {
		t.Errorf("what Redis keeps is not in a volume: %v", redis.Volumes)
	}
	for name, s := range map[string]string{"redis": redis.Image, "mailpit": mailpit.Image} {
		if !strings.Contains(s, ":") {
			t.Errorf("%s is whatever version there is on that day", name)
		}
	}
	// An answer that is an error is no PONG, though redis-cli ends with 0.
	if test := redis.Healthcheck.Test; len(test) != 2 || test[0] != "CMD-SHELL" {
		t.Errorf("Redis' health check is %v", test)
	} else {
		dir := t.TempDir()
		for answer, healthy := range map[string]bool{"PONG": true, "LOADING Redis is loading the dataset in memory": false, "": false} {
			write(t, dir+"/redis-cli", "#!/bin/sh\necho '"+answer+"'\n", 0o755)
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(test[1], "$$", "$"))
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			if err := cmd.Run(); (err == nil) != healthy {
				t.Errorf("Redis that answers %q: %v", answer, err)
			}
		}
	}
	if !ok || gateway.DependsOn["redis"].Condition != "service_healthy" || len(redis.Healthcheck.Test) == 0 {
		t.Error("mailpit is not there, or Redis is not waited for")
	}
}

// The image runs as its user with a root folder that is read-only, with the Redis that the compose file starts;
// its health check tells whether it is ready; a message too large for memory passes.
func TestImageRuns(t *testing.T) {
	unshare := inNamespace(t)
	server := needs(t, "redis-server")
	var file composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	im := buildImage(t)
	sink := startSink(t)
	redisPort, smtpPort, pagePort, adminPort := freePort(t), freePort(t), freePort(t), freePort(t)
	config := onLoopback(t, redisPort, sink, smtpPort, pagePort, adminPort)
	write(t, im.root+"/etc/consentgate/consentgate.toml", config, 0o644)

	// As an engine does it: read-only but for the volume and a fresh /tmp, and no right of root's.
	const enter = `set -e
mount --bind "$1" "$1"
mount --bind "$1$2" "$1$2"
mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=$(stat -c %a "$1/tmp") tmpfs "$1/tmp"
root=$1 user=$3
shift 3
exec chroot --userspec="$user" --groups= "$root" "$@"`
	command := func(args ...string) *exec.Cmd {
		return exec.Command(unshare, append([]string{"--mount", "sh", "-c", enter, "sh", im.root, im.volume, im.user}, args...)...)
	}
	if said, err := command(im.entrypoint[0], "keygen", im.volume+"/key").CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, said)
	}
	if said, err := command(append(im.entrypoint, "keygen", "/key")...).CombinedOutput(); err == nil || !bytes.Contains(said, []byte("read-only file system")) {
		t.Errorf("the root folder is not read-only: %v %s", err, said)
	}
	// As under systemd, where a folder outside of its own is read-only as well.
	write(t, im.root+"/etc/consentgate/elsewhere.toml", config+"[delivery]\nspool_dir = \"/srv/spool\"\n", 0o644)
	if said, err := command(append(im.entrypoint, "serve", "--config", "/etc/consentgate/elsewhere.toml")...).CombinedOutput(); err == nil || !bytes.Contains(said, []byte("unless its ReadWritePaths= names another folder")) {
		t.Errorf("a spool where nothing can be written: %v\n%s", err, said)
	}
	gateway := begin(t, command(append(im.entrypoint, im.command...)...))
	check := func() (string, error) {
		said, err := command(im.check...).CombinedOutput()
		return string(said), err
	}
	until(t, func() error {
		if said, err := check(); err == nil || !strings.HasPrefix(said, "store: ") {
			return fmt.Errorf("healthy without Redis, or not there: %v %s", err, said)
		}
		return nil
	})
	redisArgs := append(file.Services["redis"].Command[1:], "--port", redisPort, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	begin(t, exec.Command(server, redisArgs...))
	until(t, func() error {
		if said, err := check(); err != nil || said != "ready\n" {
			return fmt.Errorf("%v %s", err, said)
		}
		return nil
	})
	client, err := smtp.Dial("127.0.0.1:" + smtpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader(largeMail)); err != nil {
		t.Fatalf("%v\n%s", err, gateway.log())
	}
	if got := <-sink.mails; strings.Contains(got, "list-manage") || !strings.Contains(got, "https://mail.example.org/u/") || len(got) < len(largeMail)-200 {
		t.Errorf("the copy is not as it should be: %d bytes\n%s", len(got), got[:min(len(got), 2000)])
	}
	gateway.stop()
	if !strings.Contains(gateway.log(), "consentgate has stopped") || strings.Contains(gateway.log(), "no control socket") {
		t.Errorf("it did not stop in good order, or had no control socket:\n%s", gateway.log())
	}
}

// onLoopback is the configuration of the compose file for a gateway beside this test's own Redis and smarthost.
func onLoopback(t testing.TB, redisPort string, sink *sink, smtpPort, pagePort, adminPort string) string {
	t.Helper()
	return strings.NewReplacer("redis:6379", "127.0.0.1:"+redisPort, "mailpit:1025", sink.address, `":2525"`, `"127.0.0.1:`+smtpPort+`"`, `":8080"`, `"127.0.0.1:`+pagePort+`"`,
		"172.30.25.0/24", "127.0.0.0/8").Replace(read(t, "docker/consentgate.toml")) + "[admin]\nlisten = \"127.0.0.1:" + adminPort + "\"\n"
}

// largeMail is over what stays in memory.
var largeMail = "From: news@example.org\r\nTo: anna@example.net\r\nSubject: Sale\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" +
	"<p>Hello<img src=\"https://shop.us1.list-manage.com/track/open.php?u=1&amp;id=2&amp;e=3\" width=1 height=1></p>\r\n" +
	strings.Repeat("<p>a line of a very long newsletter, with words and words</p>\r\n", 50000)

// inNamespace returns unshare, which runs a program with mounts of its own; where that may not be, the test is skipped.
func inNamespace(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a root folder of one's own needs root")
	}
	unshare := needs(t, "unshare")
	if err := exec.Command(unshare, "--mount", "true").Run(); err != nil {
		t.Skipf("unshare --mount: %v", err)
	}
	return unshare
}

// process is a program of this test, which is ended with it.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  *os.File
	done sync.Once
}

func begin(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, out: out}
	t.Cleanup(p.stop)
	return p
}

// stop ends it, as an engine does; it must end with status 0.
func (p *process) stop() {
	p.done.Do(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			p.t.Errorf("%s ended with %v:\n%s", p.cmd.Path, err, p.log())
		}
		p.out.Close()
	})
}

func (p *process) log() string {
	text, _ := os.ReadFile(p.out.Name())
	return string(text)
}

// sink is a smarthost that keeps what it gets.
type sink struct {
	address string
	mails   chan string
}

func startSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{l.Addr().String(), make(chan string, 10)}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{s}, nil }))
	ended := make(chan struct{})
	go func() { server.Serve(l); close(ended) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return s
}

type session struct{ *sink }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mails <- string(text)
	return err
}
