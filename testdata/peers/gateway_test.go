package peers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// linkPrefix is what each link of ours begins with, by the configuration of these tests.
	linkPrefix = "https://mail.example.org/u/"

	dkimDomain   = "shop.example.net"
	dkimSelector = "gate"

	// login is what everybody has to log in with.
	loginName, loginPassword = "shop", "secret"
	loginHash                = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"
)

// configuration is what each test begins with; DIR stands for the folder of the gateway. Nobody on
// the network may send without a login, those on this machine neither; a unix socket always may.
const configuration = `hostname = "gate.example.org"
key_file = "DIR/key"

[smtp]
listen = ["127.0.0.1:0", "unix:DIR/smtp"]
listen_tls = ["127.0.0.1:0"]
listen_lmtp = ["unix:DIR/lmtp"]
tls_cert = "CERT"
tls_key = "TLSKEY"
allow_networks = []

[[login]]
name = "` + loginName + `"
password_hash = "` + loginHash + `"
scopes = ["newsletter"]
from_domains = ["` + dkimDomain + `", "postfix.example.org"]

[smarthost]
urls = ["URL"]
connect_timeout = "5s"

[delivery]
mode = "cutthrough"
spool_dir = "DIR/state/spool"
first_retry = "1s"

[consent]
store = "file:DIR/state/consent.db"
default_scope = "newsletter"

[rewrite]
opaque_links = "keep"

[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"
chain = false

[dkim]
domain = "` + dkimDomain + `"
selector = "` + dkimSelector + `"
key_file = "DIR/dkim.pem"

[admin]
listen = "127.0.0.1:0"
`

// gateway is a running consentgate serve.
type gateway struct {
	*process
	authority
	dir         string
	smtp, smtps string // ports of 127.0.0.1
	admin, page string // addresses
	dkimRecord  string // what DNS would say at SELECTOR._domainkey.DOMAIN
}

// dkimKey is one for all tests: making it takes seconds under the race detector.
var dkimKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// startGateway runs serve with the smarthost at url, and with the edits, each a line of the
// configuration and what takes its place. It trusts the authority as a smarthost's, too. At the end
// of the test it is stopped, and must then end with status 0.
func startGateway(t testing.TB, url string, edits ...string) *gateway {
	t.Helper()
	text := configuration
	for i := 0; i < len(edits); i += 2 {
		if strings.Count(text, edits[i]+"\n") != 1 {
			t.Fatalf("the configuration has no line %q, or several", edits[i])
		}
		text = strings.Replace(text, edits[i]+"\n", edits[i+1]+"\n", 1)
	}
	g := serve(t, strings.Replace(text, "URL", url, 1))
	if g.smtps == "" {
		t.Fatalf("the log does not say where serve listens for TLS:\n%s", g.log.text())
	}
	return g
}

// serve runs serve with the configuration text, in which DIR, CERT and TLSKEY stand for the gateway's own.
func serve(t testing.TB, text string) *gateway {
	t.Helper()
	g := &gateway{authority: newAuthority(t), dir: folder(t)}
	if out, err := exec.Command(binary, "keygen", filepath.Join(g.dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	key, err := dkimKey()
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
	g.dkimRecord = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	text = strings.NewReplacer("DIR", g.dir, "CERT", g.cert, "TLSKEY", g.key).Replace(text)
	config := filepath.Join(g.dir, "consentgate.toml")
	for path, text := range map[string]string{
		config:                           text,
		filepath.Join(g.dir, "dkim.pem"): string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	cmd := exec.Command(binary, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+g.ca)
	g.process = start(t, cmd)
	t.Cleanup(func() {
		g.stop(t)
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("serve ended with status %d", code)
		}
		for _, bad := range []string{"DATA RACE", "panic while handling", "goroutine 1 ["} {
			if strings.Contains(g.log.text(), bad) {
				t.Errorf("the log of serve holds %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("serve said:\n%s", tail(g.log.text(), 25))
		}
	})
	g.ready(t, func() bool { return strings.Contains(g.log.text(), "consentgate is ready") })
	for _, m := range listening.FindAllStringSubmatch(g.log.text(), -1) {
		switch m[1] {
		case "smtp":
			g.smtp = m[2]
		case "smtps":
			g.smtps = m[2]
		case "admin":
			g.admin = "127.0.0.1:" + m[2]
		case "unsubscribe":
			g.page = "127.0.0.1:" + m[2]
		}
	}
	if g.smtp == "" || g.admin == "" {
		t.Fatalf("the log does not say where serve listens:\n%s", g.log.text())
	}
	return g
}

var listening = regexp.MustCompile(`msg=listening for=(\w+) address=127\.0\.0\.1:(\d+)`)

// agree records that a person agreed to opens and clicks.
func (g *gateway) agree(t testing.TB, address string) {
	t.Helper()
	g.put(t, address, `{"open":"granted","click":"granted"}`)
}

// put changes a person's record in the scope newsletter, over the API.
func (g *gateway) put(t testing.TB, address, change string) {
	t.Helper()
	req, err := http.NewRequest("PUT", "http://"+g.admin+"/v1/consent/newsletter/"+address, strings.NewReader(change))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("PUT of %s: %s %s", address, resp.Status, said)
	}
}

// queued says what waits in the spool.
func (g *gateway) queued(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(binary, "queue", "list", "--config", filepath.Join(g.dir, "consentgate.toml")).CombinedOutput()
	if err != nil {
		t.Fatalf("queue list: %v\n%s", err, out)
	}
	return string(out)
}

// freePort is a port of 127.0.0.1 that nothing listens on now. It is below those that systems give to
// clients: one of them may be taken meanwhile, or a client that tries it connect to itself.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20000 + mathrand.IntN(12000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// answers reports whether a mail server greets on a port of 127.0.0.1.
func answers(port string) bool {
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second)) // a Postfix whose service ends at once never greets
	hello := make([]byte, 4)
	_, err = io.ReadFull(c, hello)
	return err == nil && string(hello) == "220 "
}
