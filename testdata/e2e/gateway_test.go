package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// linkPrefix is what each link of ours begins with, by the configuration of these tests.
	linkPrefix = "https://mail.example.org/u/"

	dkimDomain   = "shop.example.net"
	dkimSelector = "gate"
)

// site is a folder with what a gateway needs: key file, DKIM key, configuration.
type site struct {
	dir, config string
	dkimRecord  string // what DNS would say at SELECTOR._domainkey.DOMAIN
}

// configuration is what each test begins with; DIR stands for the site's folder.
const configuration = `hostname = "gate.example.org"
key_file = "DIR/key"

[smtp]
listen = ["127.0.0.1:0"]

[smarthost]
urls = ["smtp://127.0.0.1:1"]

[delivery]
mode = "cutthrough"
spool_dir = "DIR/state/spool"

[consent]
store = "file:DIR/state/consent.db"

[rewrite]
opaque_links = "keep"

[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"

[dkim]
domain = "` + dkimDomain + `"
selector = "` + dkimSelector + `"
key_file = "DIR/dkim.pem"

[admin]
listen = "127.0.0.1:0"
`

// newSite makes the key file with keygen, a fresh RSA-2048 key, and the configuration with the
// edits, each a line as it stands above and what takes its place.
func newSite(t testing.TB, edits ...string) site {
	t.Helper()
	dir := t.TempDir()
	s := site{dir: dir, config: filepath.Join(dir, "consentgate.toml")}
	if out, err := exec.Command(binary, "keygen", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.dkimRecord = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	s.write(t, "dkim.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))

	text := configuration
	for i := 0; i < len(edits); i += 2 {
		if strings.Count(text, edits[i]+"\n") != 1 {
			t.Fatalf("the configuration has no line %q, or several", edits[i])
		}
		text = strings.Replace(text, edits[i]+"\n", edits[i+1]+"\n", 1)
	}
	s.write(t, "consentgate.toml", []byte(strings.ReplaceAll(text, "DIR", dir)))
	return s
}

func (s site) write(t testing.TB, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// gateway is a running consentgate serve.
type gateway struct {
	smtp, page, admin string // addresses

	cmd  *exec.Cmd
	done chan struct{}
	log  *journal
}

// start runs serve and waits until it says that it is ready. It is stopped with SIGTERM at the
// end of the test, and must then end with status 0.
func (s site) start(t testing.TB) *gateway {
	t.Helper()
	g := &gateway{done: make(chan struct{}), log: &journal{ready: make(chan struct{})}}
	g.cmd = exec.Command(binary, "serve", "--config", s.config)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		g.cmd.Wait()
		close(g.done)
	}()
	t.Cleanup(func() { g.stop(t) })
	select {
	case <-g.log.ready:
	case <-g.done:
		t.Fatalf("serve ended at once:\n%s", g.log.text())
	case <-time.After(30 * time.Second):
		t.Fatalf("serve is not ready after 30 s:\n%s", g.log.text())
	}
	for _, m := range listening.FindAllStringSubmatch(g.log.text(), -1) {
		switch m[1] {
		case "smtp":
			g.smtp = m[2]
		case "unsubscribe":
			g.page = m[2]
		case "admin":
			g.admin = m[2]
		}
	}
	if g.smtp == "" || g.page == "" || g.admin == "" {
		t.Fatalf("the log does not say where serve listens:\n%s", g.log.text())
	}
	return g
}

var listening = regexp.MustCompile(`msg=listening for=(\w+) address=(127\.0\.0\.1:\d+)`)

// stop ends the gateway. Calling it again does nothing.
func (g *gateway) stop(t testing.TB) {
	t.Helper()
	select {
	case <-g.done:
	default:
		g.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-g.done:
	case <-time.After(40 * time.Second):
		g.cmd.Process.Kill()
		<-g.done
		t.Errorf("serve had not ended 40 s after SIGTERM")
	}
	log := g.log.text()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("serve ended with status %d:\n%s", code, tail(log, 40))
	}
	for _, bad := range []string{"DATA RACE", "panic while handling", "goroutine 1 ["} {
		if i := strings.Index(log, bad); i >= 0 {
			t.Errorf("the log of serve holds %q:\n%s", bad, tail(log[max(0, i-2000):min(len(log), i+4000)], 60))
		}
	}
}

// journal keeps a log and notes when it says "ready".
type journal struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	once  sync.Once
	ready chan struct{}
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf.Write(p)
	if bytes.Contains(j.buf.Bytes()[max(0, j.buf.Len()-len(p)-64):], []byte("consentgate is ready")) {
		j.once.Do(func() { close(j.ready) })
	}
	return len(p), nil
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// agree records what a person agreed to, over the API: "granted" or "denied" for each purpose.
func (g *gateway) agree(t testing.TB, scope, address string, open, click bool) {
	t.Helper()
	word := map[bool]string{true: "granted", false: "denied"}
	body := fmt.Sprintf(`{"open":%q,"click":%q}`, word[open], word[click])
	status, answer := g.call(t, "PUT", "/v1/consent/"+scope+"/"+address, body)
	if status != http.StatusOK {
		t.Fatalf("PUT of %s: %d %s", address, status, answer)
	}
}

// call asks the admin listener.
func (g *gateway) call(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+g.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// await asks until /readyz has the status, and fails the test if it does not within 20 s.
func (g *gateway) await(t testing.TB, status int) string {
	t.Helper()
	var got int
	var answer string
	for range every(t, 50*time.Millisecond, 20*time.Second) {
		if got, answer = g.call(t, "GET", "/readyz", ""); got == status {
			return answer
		}
	}
	t.Fatalf("/readyz says %d %q after 20 s, want %d", got, answer, status)
	return ""
}

// every yields now and then at each tick, until limit is over.
func every(t testing.TB, tick, limit time.Duration) func(func() bool) {
	return func(yield func() bool) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for yield() {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// freeAddress is an address that nothing listens on now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startRedis runs a redis-server on address, without persistence, until stop is called or the
// test ends.
func startRedis(t testing.TB, address string) (stop func()) {
	t.Helper()
	server := needs(t, "redis-server")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	for range every(t, 10*time.Millisecond, 20*time.Second) {
		if ping(address) == nil {
			return stop
		}
	}
	stop()
	t.Fatalf("redis-server did not come up:\n%s", out.String())
	return nil
}

func ping(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+PONG") {
		err = errors.New(line)
	}
	return err
}

// needs returns the path of a program, and skips the test where it is missing.
func needs(t testing.TB, program string) string {
	t.Helper()
	p, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not in PATH; this test needs a real one (make test installs it on Debian)", program)
	}
	return p
}
