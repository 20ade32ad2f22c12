package deploy_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-smtp"
)

// A Docker engine builds the Dockerfile, and what comes of it runs as it says and as the compose file says: as its user, without
// rights, with a root folder that is read-only, a volume that the image's owner may write to, and a health check that the
// engine asks; and it ends in good order when the engine stops it.
//
// Where no engine answers, and this is root, one of this test's own is started from this machine's dockerd.
func TestEngine(t *testing.T) {
	if os.Getenv("DOCKER") == "" {
		t.Skip("make docker runs it")
	}
	docker := engine(t)
	base(t, docker)
	run := func(args ...string) string {
		t.Helper()
		said, err := docker(args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, said)
		}
		return strings.TrimSpace(string(said))
	}
	image := "consentgate-test:" + filepath.Base(t.TempDir()) + fmt.Sprint(os.Getpid())
	run("build", "--network", "host", "-f", "docker/Dockerfile", "-t", image, "..")
	defer docker("image", "rm", "-f", image).Run()
	volume := strings.ReplaceAll(image, ":", "-")
	defer docker("volume", "rm", "-f", volume).Run()

	// The network is this machine's, so that Redis and the smarthost are this test's; all else is the compose file's.
	sink := startSink(t)
	redisPort, smtpPort, pagePort, adminPort := freePort(t), freePort(t), freePort(t), freePort(t)
	config := filepath.Join(t.TempDir(), "consentgate.toml")
	write(t, config, onLoopback(t, redisPort, sink, smtpPort, pagePort, adminPort), 0o644)
	options := []string{"--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"-v", volume + ":/var/lib/consentgate", "-v", config + ":/etc/consentgate/consentgate.toml:ro"}
	with := func(command string, more ...string) []string {
		return append(append([]string{command}, options...), more...)
	}
	run(with("run", "--rm", image, "keygen", "/var/lib/consentgate/key")...)
	if said, err := docker(with("run", "--rm", image, "keygen", "/key")...).CombinedOutput(); err == nil || !strings.Contains(string(said), "read-only file system") {
		t.Errorf("the root folder is not read-only: %v %s", err, said)
	}
	gateway := run(with("run", "-d", "--health-interval", "1s", "--health-start-period", "1s", image)...)
	defer docker("rm", "-f", gateway).Run()
	health := func(want string) {
		t.Helper()
		until(t, func() error {
			if is := run("inspect", "-f", "{{.State.Health.Status}}", gateway); is != want {
				return fmt.Errorf("%s, want %s\n%s", is, want, run("logs", gateway))
			}
			return nil
		})
	}
	health("unhealthy") // there is no Redis yet
	begin(t, exec.Command(needs(t, "redis-server"), "--port", redisPort, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "yes"))
	health("healthy")

	client, err := smtp.Dial("127.0.0.1:" + smtpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader(largeMail)); err != nil {
		t.Fatalf("%v\n%s", err, run("logs", gateway))
	}
	if got := <-sink.mails; strings.Contains(got, "list-manage") || !strings.Contains(got, "https://mail.example.org/u/") {
		t.Errorf("the copy is not as it should be: %d bytes\n%s", len(got), got[:min(len(got), 2000)])
	}
	if said := run("exec", gateway, "/consentgate", "consent", "get", "anna@example.net"); !strings.Contains(said, "anna@example.net in scope default") {
		t.Errorf("consent get says %s", said)
	}
	run("stop", "--time", "40", gateway)
	if state := run("inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.Config.User}}", gateway); state != "0 false 65532:65532" {
		t.Errorf("ended with %s", state)
	}
	if log := run("logs", gateway); !strings.Contains(log, "consentgate has stopped") || strings.Contains(log, "no control socket") {
		t.Errorf("it did not stop in good order, or had no control socket:\n%s", log)
	}
}

// engine returns how to run the docker client.
func engine(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	client := needs(t, "docker")
	if exec.Command(client, "version").Run() == nil {
		return func(args ...string) *exec.Cmd { return exec.Command(client, args...) }
	}
	daemon := needs(t, "dockerd")
	if os.Geteuid() != 0 {
		t.Skip("no Docker engine answers, and only root can start one")
	}
	dir, err := os.MkdirTemp("", "consentgate-docker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Unmount(dir+"/exec/netns/default", 0) // which the engine leaves there
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// Where this process may not raise its limits, neither may the engine.
	write(t, dir+"/daemon.json", `{"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}, "nproc": {"Name": "nproc", "Soft": 1024, "Hard": 4096}}}`, 0o600)
	begin(t, exec.Command(daemon, "--config-file", dir+"/daemon.json", "-H", "unix://"+dir+"/socket", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "-p", dir+"/pid", "--bridge", "none", "--iptables=false"))
	docker := func(args ...string) *exec.Cmd {
		return exec.Command(client, append([]string{"-H", "unix://" + dir + "/socket"}, args...)...)
	}
	until(t, func() error {
		if said, err := docker("version").CombinedOutput(); err != nil {
			return fmt.Errorf("%v\n%s", err, said)
		}
		return nil
	})
	return docker
}

// base sees to it that the image which the Dockerfile builds on is there. Where it can be had from nowhere, this machine's
// Go, its certificates and busybox's shell stand in for it, which the log says.
func base(t *testing.T, docker func(...string) *exec.Cmd) {
	t.Helper()
	var name string
	for line := range strings.Lines(read(t, "docker/Dockerfile")) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "FROM" {
			name = words[1]
			break
		}
	}
	if docker("image", "inspect", name).Run() == nil || docker("pull", "-q", name).Run() == nil {
		return
	}
	busybox := needs(t, "busybox")
	cmd := docker("import", "-c", "ENV PATH=/usr/local/go/bin:/bin", "-c", "ENV GOTOOLCHAIN=local", "-", name)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = standIn(tar.NewWriter(in), busybox)
	if err := errors.Join(err, in.Close(), cmd.Wait()); err != nil {
		t.Fatalf("import: %v\n%s", err, said.String())
	}
	t.Logf("%s cannot be had here: an image with this machine's %s stands in for it", name, runtime.Version())
}

func standIn(w *tar.Writer, busybox string) error {
	add := func(path, name string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		head, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		head.Name = name
		if err := w.WriteHeader(head); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(strings.TrimSpace(string(out)))
	if err != nil {
		return err
	}
	for _, dir := range []string{"src", "bin", "pkg"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() && !d.Type().IsRegular() {
				return err
			}
			return add(path, "usr/local/go"+strings.TrimPrefix(path, root))
		}))
	}
	err = errors.Join(err, add(filepath.Join(root, "go.env"), "usr/local/go/go.env"), add(filepath.Join(root, "VERSION"), "usr/local/go/VERSION"),
		add("/etc/ssl/certs/ca-certificates.crt", "etc/ssl/certs/ca-certificates.crt"), add(busybox, "bin/busybox"))
	for _, program := range []string{"sh", "mkdir"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + program, Linkname: "busybox", Mode: 0o777}))
	}
	err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}), w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "root/", Mode: 0o700}))
	return errors.Join(err, w.Close())
}
