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
			script := `mkdir -p "$(dirname "$2")" && cp -r -p "$1" "$2" && chown -R "$3" "$2"`
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
			im.check = list(t, args[slices.Index(args, "CMD")+1:])
		case "STOPSIGNAL":
		default:
			t.Fatalf("%s is not understood here", words[0])
		}
	}
	return im
}

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
	for url, service := range map[string]string{cfg.Consent.Store: "redis://redis:", cfg.Smarthost.URLs[0]: "smtp://mailpit:"} {
		if !strings.HasPrefix(url, service) {
			t.Errorf("%s does not lead to a service", url)
		}
	}
	if _, ok := file.Services["mailpit"]; !ok || gateway.DependsOn["redis"].Condition != "service_healthy" || len(redis.Healthcheck.Test) == 0 {
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
	config := strings.NewReplacer("redis:6379", "127.0.0.1:"+redisPort, "mailpit:1025", sink.address, `":2525"`, `"127.0.0.1:`+smtpPort+`"`, `":8080"`, `"127.0.0.1:`+pagePort+`"`,
		"172.30.25.0/24", "127.0.0.0/8").Replace(read(t, "docker/consentgate.toml")) + "[admin]\nlisten = \"127.0.0.1:" + adminPort + "\"\n"
	write(t, im.root+"/etc/consentgate/consentgate.toml", config, 0o644)

	// As an engine does it: read-only but for the volume and a fresh /tmp, and no right of root's.
	const enter = `set -e
mount --bind "$1" "$1"
mount --bind "$1$2" "$1$2"
mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
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
	mail := "From: news@example.org\r\nTo: anna@example.net\r\nSubject: Sale\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" +
		"<p>Hello<img src=\"https://shop.us1.list-manage.com/track/open.php?u=1&amp;id=2&amp;e=3\" width=1 height=1></p>\r\n" +
		strings.Repeat("<p>a line of a very long newsletter, with words and words</p>\r\n", 50000)
	client, err := smtp.Dial("127.0.0.1:" + smtpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader(mail)); err != nil {
		t.Fatalf("%v\n%s", err, gateway.log())
	}
	if got := <-sink.mails; strings.Contains(got, "list-manage") || !strings.Contains(got, "https://mail.example.org/u/") || len(got) < len(mail)-200 {
		t.Errorf("the copy is not as it should be: %d bytes\n%s", len(got), got[:min(len(got), 2000)])
	}
	gateway.stop()
	if !strings.Contains(gateway.log(), "consentgate has stopped") || strings.Contains(gateway.log(), "no control socket") {
		t.Errorf("it did not stop in good order, or had no control socket:\n%s", gateway.log())
	}
}

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
