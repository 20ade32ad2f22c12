package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.yaml.in/yaml/v4"
)

const manifest = "kubernetes/sidecar.yaml"

// documents are those of the manifest, by kind.
func documents(t testing.TB) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	d := yaml.NewDecoder(strings.NewReader(read(t, manifest)))
	for {
		var one map[string]any
		if err := d.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[one["kind"].(string)] = one
	}
}

// at follows a path of names and numbers; nil where it leads nowhere.
func at(v any, steps ...any) any {
	for _, s := range steps {
		switch in := v.(type) {
		case map[string]any:
			v = in[fmt.Sprint(s)]
		case []any:
			v = in[s.(int)]
		default:
			return nil
		}
	}
	return v
}

// number is 0 where there is none.
func number(v any) int64 {
	n, _ := v.(int)
	return int64(n)
}

func words(v any) (all []string) {
	list, _ := v.([]any)
	for _, w := range list {
		all = append(all, fmt.Sprint(w))
	}
	return all
}

// The sidecar's configuration is one that the program takes, its files are where it looks for them, and
// its probes are verbs that there are.
func TestSidecar(t *testing.T) {
	docs := documents(t)
	im := buildImage(t)
	text := at(docs["ConfigMap"], "data", "consentgate.toml").(string)
	pod := at(docs["Deployment"], "spec", "template", "spec")
	gate := at(pod, "initContainers", 0)

	mounts := map[string]string{} // by volume
	for _, m := range at(gate, "volumeMounts").([]any) {
		mounts[at(m, "name").(string)] = at(m, "mountPath").(string)
	}
	volumes := map[string]any{}
	for _, v := range at(pod, "volumes").([]any) {
		volumes[at(v, "name").(string)] = v
		if mounts[at(v, "name").(string)] == "" {
			t.Errorf("the volume %v is not mounted", at(v, "name"))
		}
	}
	keys := t.TempDir()
	key, err := exec.Command("openssl", "genrsa", "2048").Output()
	if err != nil {
		t.Skipf("openssl: %v", err)
	}
	write(t, keys+"/dkim.pem", string(key), 0o600)
	cfg := load(t, strings.ReplaceAll(text, mounts["keys"]+"/dkim.pem", keys+"/dkim.pem"))
	if path.Dir(cfg.KeyFile) != mounts["keys"] || !strings.HasPrefix(cfg.Delivery.SpoolDir, mounts["state"]+"/") || path.Dir(path.Dir(cfg.Delivery.SpoolDir)) != mounts["state"] {
		t.Errorf("the key is %s and the control socket's folder that of %s, the volumes are %v", cfg.KeyFile, cfg.Delivery.SpoolDir, mounts)
	}
	if cfg.Delivery.Mode != "stateless" {
		t.Errorf("mode %s", cfg.Delivery.Mode)
	}
	if mounts["tmp"] != "/tmp" || im.user != fmt.Sprintf("%v:%v", at(gate, "securityContext", "runAsUser"), at(gate, "securityContext", "runAsGroup")) {
		t.Errorf("/tmp is not mounted, or the user is not the image's %s", im.user)
	}
	secret := regexp.MustCompile(`kubectl create secret generic (\S+) --from-file=key --from-file=dkim.pem\n`).FindStringSubmatch(read(t, manifest))
	if secret == nil {
		t.Fatal("the head does not make the Secret")
	}
	for _, w := range []struct {
		got, want any
		reason    string
	}{
		{at(volumes["config"], "configMap", "name"), at(docs["ConfigMap"], "metadata", "name"), "the ConfigMap is the one here"},
		{at(volumes["keys"], "secret", "secretName"), secret[1], "the Secret is the one that the head makes"},
		{at(gate, "restartPolicy"), "Always", "else it is no sidecar, and the sender waits for its end"},
		{at(gate, "securityContext", "allowPrivilegeEscalation"), false, "it needs no right"},
		{at(gate, "securityContext", "readOnlyRootFilesystem"), true, "it writes in its volumes alone"},
		{strings.Join(words(at(gate, "securityContext", "capabilities", "drop")), " "), "ALL", "it needs no right"},
		{at(gate, "securityContext", "runAsNonRoot"), true, "it is not root"},
		{at(pod, "securityContext", "seccompProfile", "type"), "RuntimeDefault", "what no service calls it does not call"},
		{at(pod, "automountServiceAccountToken"), false, "it has no business with the cluster"},
		{at(docs["Service"], "spec", "selector", "app"), at(docs["Deployment"], "spec", "template", "metadata", "labels", "app"), "the page is at these pods"},
	} {
		if w.want == nil || w.got != w.want {
			t.Errorf("%v, want %v: %s", w.got, w.want, w.reason)
		}
	}
	if at(pod, "securityContext", "runAsNonRoot") != nil {
		t.Error("the pod says of the sender's own container that it is not root, which is not the gateway's to say")
	}
	mebibytes := func(v any) int64 {
		var n int64
		var unit string
		if _, err := fmt.Sscanf(fmt.Sprint(v), "%d%s", &n, &unit); err != nil {
			t.Errorf("%v: %v", v, err)
		}
		return n * map[string]int64{"Mi": 1, "Gi": 1 << 10}[unit]
	}
	for _, w := range []struct {
		what       string
		got, least int64
		reason     string
	}{
		{"terminationGracePeriodSeconds", number(at(pod, "terminationGracePeriodSeconds")), 60, "30 s of the gateway begin when the sender has ended"},
		{"/tmp, MiB", mebibytes(at(volumes["tmp"], "emptyDir", "sizeLimit")), cfg.SMTP.MaxMessageBytes >> 20 * int64(cfg.Smarthost.MaxConnections), "the largest message on each way to the smarthost"},
		{"state, MiB", mebibytes(at(volumes["state"], "emptyDir", "sizeLimit")), 1, "a socket"},
		{"memory, MiB", mebibytes(at(gate, "resources", "limits", "memory")), 256, "229 MB with 1,000 connections, by make bench"},
		{"startupProbe, s in all", number(at(gate, "startupProbe", "periodSeconds")) * number(at(gate, "startupProbe", "failureThreshold")), 30, "a machine that is busy starts it slowly"},
		{"startupProbe, s", number(at(gate, "startupProbe", "timeoutSeconds")), int64(healthTime/time.Second) + 1, "the command takes as long as that"},
		{"livenessProbe, s", number(at(gate, "livenessProbe", "timeoutSeconds")), int64(healthTime/time.Second) + 1, "the command takes as long as that"},
		{"livenessProbe, s in all", number(at(gate, "livenessProbe", "periodSeconds")) * number(at(gate, "livenessProbe", "failureThreshold")), 90, "as patient as the watchdog of the unit"},
	} {
		if w.got < w.least {
			t.Errorf("%s: %d, want %d at least: %s", w.what, w.got, w.least, w.reason)
		}
	}
	args := words(at(gate, "args"))
	takes(t, args...)
	if config := args[len(args)-1]; path.Dir(config) != mounts["config"] || path.Base(config) != "consentgate.toml" {
		t.Errorf("the configuration is %s", config)
	}
	for _, probe := range []string{"startupProbe", "livenessProbe"} {
		command := words(at(gate, probe, "exec", "command"))
		if len(command) < 2 || command[0] != im.entrypoint[0] || !slices.Contains(command, "--live") {
			t.Fatalf("%s runs %v", probe, command)
		}
		takes(t, command[1:]...)
	}
	// The sender's server is the gateway's listener, and the page's port is a name that there is.
	var env []string
	for _, e := range at(pod, "containers", 0, "env").([]any) {
		env = append(env, fmt.Sprint(at(e, "value")))
	}
	if strings.Join(env, ":") != cfg.SMTP.Listen[0] {
		t.Errorf("the sender is told %v, and the gateway listens on %v", env, cfg.SMTP.Listen)
	}
	if port := at(gate, "ports", 0); fmt.Sprintf(":%v", at(port, "containerPort")) != cfg.Unsubscribe.Listen || at(docs["Service"], "spec", "ports", 0, "targetPort") != at(port, "name") {
		t.Errorf("the page's port is %v", port)
	}
}

// The sidecar runs as its container does: a read-only root, folders of its own in memory, and keys that are root's and
// that its group may read. Its probe says that it lives while Redis does not answer, and marketing mail is deferred.
func TestSidecarRuns(t *testing.T) {
	im := buildImage(t)
	unshare := inNamespace(t)
	docs := documents(t)
	gate := at(docs["Deployment"], "spec", "template", "spec", "initContainers", 0)
	text := at(docs["ConfigMap"], "data", "consentgate.toml").(string)
	smtpPort, pagePort, adminPort := freePort(t), freePort(t), freePort(t)
	for _, p := range [][2]string{{`"127.0.0.1:2525"`, `"127.0.0.1:` + smtpPort + `"`}, {`":8080"`, `"127.0.0.1:` + pagePort + `"`}, {"redis:6379", "127.0.0.1:1"}, {"smtp+starttls://smarthost.example.org:587", "smtp://127.0.0.1:1"}} {
		if !strings.Contains(text, p[0]) {
			t.Fatalf("the configuration does not hold %s", p[0])
		}
		text = strings.ReplaceAll(text, p[0], p[1])
	}
	const keys = "/run/secrets/consentgate"
	write(t, im.root+"/etc/consentgate/consentgate.toml", text+"[admin]\nlisten = \"127.0.0.1:"+adminPort+"\"\n", 0o644)
	if err := os.MkdirAll(im.root+keys, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, make := range [][]string{{binary, "keygen", im.root + keys + "/key"}, {needs(t, "openssl"), "genrsa", "-out", im.root + keys + "/dkim.pem", "2048"}} {
		if said, err := exec.Command(make[0], make[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", make, err, said)
		}
	}
	mode := os.FileMode(at(docs["Deployment"], "spec", "template", "spec", "volumes", 1, "secret", "defaultMode").(int))
	group := at(docs["Deployment"], "spec", "template", "spec", "securityContext", "fsGroup").(int)
	for _, f := range []string{"/key", "/dkim.pem"} {
		if err := errors.Join(os.Chown(im.root+keys+f, 0, group), os.Chmod(im.root+keys+f, mode)); err != nil {
			t.Fatal(err)
		}
	}
	// An emptyDir has this mode.
	const enter = `set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=2777,gid=$3 tmpfs "$1/var/lib/consentgate"
mount -t tmpfs -o mode=2777,gid=$3 tmpfs "$1/tmp"
root=$1 user=$2 group=$3
shift 3
exec chroot --userspec="$user" --groups="$group" "$root" "$@"`
	command := func(args []string) *exec.Cmd {
		return exec.Command(unshare, append([]string{"--mount", "sh", "-c", enter, "sh", im.root, im.user, fmt.Sprint(group)}, args...)...)
	}
	gateway := begin(t, command(append(im.entrypoint, words(at(gate, "args"))...)))
	until(t, func() error {
		if said, err := command(words(at(gate, "livenessProbe", "exec", "command"))).CombinedOutput(); err != nil || string(said) != "ok\n" {
			return fmt.Errorf("%v %s\n%s", err, said, gateway.log())
		}
		return nil
	})
	client, err := smtp.Dial("127.0.0.1:" + smtpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader("From: news@example.org\r\nSubject: Sale\r\n\r\nHello\r\n"))
	if refused, ok := err.(*smtp.SMTPError); !ok || refused.Code != 451 {
		t.Errorf("without Redis: %v", err)
	}
	gateway.stop()
	if log := gateway.log(); strings.Contains(log, "no control socket") || strings.Contains(log, "NOT SIGNED") {
		t.Errorf("no control socket, or no key:\n%s", log)
	}
}

// kubectl, which knows all fields of these kinds and drops others, keeps every one. Only what it changes does it read
// like that, so each kind is changed in some way that adds something.
func TestKubectl(t *testing.T) {
	kubectl := needs(t, "kubectl")
	docs := documents(t)
	for kind, change := range map[string][]string{
		"Deployment": {"set", "serviceaccount", "test"},
		"Service":    {"set", "selector", "app=shop"},
	} {
		text, err := yaml.Marshal(docs[kind])
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), kind+".yaml")
		write(t, file, string(text), 0o600)
		read := func() map[string]any {
			args := append(slices.Clone(change[:2]), "--local", "-o", "json", "-f", file)
			out, err := exec.Command(kubectl, append(args, change[2:]...)...).Output()
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			var got map[string]any
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%s: %v\n%s", kind, err, out)
			}
			return got
		}
		kept(t, kind, docs[kind], read())
		// It does drop what it does not know, or this proves nothing.
		write(t, file, strings.Replace(string(text), "spec:\n", "spec:\n    nonsense: 1\n", 1), 0o600)
		if at(read(), "spec", "nonsense") != nil {
			t.Errorf("%s: kubectl keeps a field that it does not know", kind)
		}
	}
}

// kept complains of what is in want and not in got.
func kept(t *testing.T, where string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		for name, w := range want {
			g, ok := at(got, name), false
			if m, isMap := got.(map[string]any); isMap {
				_, ok = m[name]
			}
			if !ok {
				t.Errorf("kubectl does not know %s.%s", where, name)
				continue
			}
			kept(t, where+"."+name, w, g)
		}
	case []any:
		if list, ok := got.([]any); !ok || len(list) != len(want) {
			t.Errorf("%s is %v", where, got)
			return
		}
		for i := range want {
			kept(t, fmt.Sprintf("%s[%d]", where, i), want[i], at(got, i))
		}
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%s is %v, and kubectl reads %v", where, want, got)
		}
	}
}

// No file here stays without a word in the overview.
func TestOverview(t *testing.T) {
	text := read(t, "README.md")
	for _, dir := range []string{"systemd", "docker", "kubernetes"} {
		files, err := filepath.Glob(dir + "/*")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, f := range files {
			if !strings.Contains(text, filepath.Base(f)) {
				t.Errorf("README.md does not name %s", f)
			}
		}
	}
}
