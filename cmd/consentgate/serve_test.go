package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent/keyring"
)

// sink is a smarthost that keeps what it gets.
type sink struct {
	address string
	mails   chan []byte
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{mails: make(chan []byte, 10)}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return sinkSession{s}, nil }))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	return s
}

type sinkSession struct{ *sink }

func (sinkSession) Reset()                               {}
func (sinkSession) Logout() error                        { return nil }
func (sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (sinkSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mails <- text
	return err
}

// running is a gateway in this process.
type running struct {
	smtp, page, admin string // host:port
	smtps             string // "" unless listened on
	config            string
	reload            func()
	log               *bytes.Buffer
	stop              func() error
}

// start runs a gateway with the minimal configuration, extra lines under [unsubscribe] and tables
// behind it, and more lines under [smtp].
func start(t *testing.T, sink, store, extra string, smtp ...string) *running {
	t.Helper()
	dir := newState(t)
	return startWith(t, dir, fmt.Sprintf(`hostname = "gate.example.org"
key_file = "%[1]s/key"
[smtp]
listen = ["127.0.0.1:0"]
%[5]s
[smarthost]
urls = ["smtp://%[2]s"]
[delivery]
mode = "stateless"
spool_dir = "%[1]s/spool"
[consent]
store = "%[3]s"
[rewrite]
opaque_links = "keep"
[admin]
listen = "127.0.0.1:0"
[unsubscribe]
base_url = "https://mail.example.org/gate"
listen = "127.0.0.1:0"
%[4]s`, dir, sink, strings.ReplaceAll(store, "DIR", dir), extra, strings.Join(smtp, "\n")))
}

// newState makes a folder with a key file.
func newState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Create(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startWith runs a gateway with the configuration text.
func startWith(t *testing.T, dir, text string) *running {
	t.Helper()
	file := filepath.Join(dir, "consentgate.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{config: file, log: &bytes.Buffer{}}
	seen, log := newSeen(cfg, r.log)
	g := &gateway{cfg: cfg, log: log, seen: seen}
	if err := g.open(ring); err != nil {
		g.close()
		t.Fatal(err)
	}
	g.announce(t.Context())
	r.reload = func() { g.reload(file) }
	for _, a := range g.relay.Addrs() {
		switch a.Protocol {
		case "smtp":
			r.smtp = a.String()
		case "smtps":
			r.smtps = a.String()
		}
	}
	for _, s := range g.servers {
		switch s.what {
		case "unsubscribe":
			r.page = s.Addr().String()
		case "admin":
			r.admin = s.Addr().String()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		if closed := g.close(); err == nil {
			err = closed
		}
		return err
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the gateway ended with: %v", err)
		}
	})
	return r
}

// send hands mail over as a sender does and returns what the gateway answered, nil for 250.
func (r *running) send(t *testing.T, class string) error {
	t.Helper()
	mail := "From: Shop <news@example.org>\r\nTo: anna@example.net\r\nSubject: Sale\r\nX-Consent-Class: " + class +
		"\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello<img src=\"https://shop.us1.list-manage.com/track/open.php?u=1&amp;id=2&amp;e=3\" width=1 height=1></p>\r\n"
	c, err := smtp.Dial(r.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader(mail)); err != nil {
		return err
	}
	return c.Quit()
}

func (r *running) get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

var oneClick = regexp.MustCompile(`(?m)^List-Unsubscribe: <https://mail\.example\.org(/gate/u/[A-Za-z0-9_-]+)>\r$`)

// The configuration is read again: what may change does, the rest is named, and a file with a mistake
// changes nothing.
func TestReload(t *testing.T) {
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", "")
	edit := func(old, new string) {
		t.Helper()
		text, err := os.ReadFile(g.config)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), old) {
			t.Fatalf("the configuration does not hold %q", old)
		}
		if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pixel := func() bool {
		t.Helper()
		if err := g.send(t, "marketing"); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(<-smarthost.mails), "open.php")
	}
	if pixel() {
		t.Error("tracked without consent")
	}
	edit("[rewrite]\n", "[rewrite]\nallow_hosts = [\"shop.us1.list-manage.com\"]\n")
	edit("hostname = \"gate", "hostname = \"other")
	if _, err := keyring.Rotate(filepath.Join(filepath.Dir(g.config), "key"), false); err != nil {
		t.Fatal(err)
	}
	g.reload()
	if !pixel() {
		t.Error("the new allow_hosts does not hold")
	}
	edit("[rewrite]\nallow_hosts", "[rewrite]\nallow_host")
	g.reload()
	if !pixel() {
		t.Error("a file with a mistake changed something")
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	log := g.log.String()
	for _, want := range []string{"the configuration was read again", "some changes need a restart", `keys="[hostname key_file (what is in it)]"`, "what was in force stays", "allow_host: unknown key"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// A sender that logs in under TLS is bound by what its login may.
func TestServeLogin(t *testing.T) {
	dir := t.TempDir()
	roots := writeCertificate(t, dir)
	const hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI" // "secret"
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", "[[login]]\nname = \"shop\"\npassword_hash = \""+hash+"\"\nfrom_domains = [\"example.org\"]\n",
		`listen_tls = ["127.0.0.1:0"]`, `allow_networks = []`, `tls_cert = "`+dir+`/cert.pem"`, `tls_key = "`+dir+`/key.pem"`)

	var refused *smtp.SMTPError
	if err := g.send(t, "marketing"); !errors.As(err, &refused) || refused.Code != 530 {
		t.Errorf("without a login: %v", err)
	}
	secure := &tls.Config{RootCAs: roots, ServerName: "gate.example.org"}
	for name, dial := range map[string]func() (*smtp.Client, error){
		"STARTTLS": func() (*smtp.Client, error) { return smtp.DialStartTLS(g.smtp, secure) },
		"implicit": func() (*smtp.Client, error) { return smtp.DialTLS(g.smtps, secure) },
	} {
		c, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Auth(sasl.NewPlainClient("", "shop", "wrong")); !errors.As(err, &refused) || refused.Code != 535 {
			t.Errorf("%s: a wrong password: %v", name, err)
		}
		if err := c.Auth(sasl.NewPlainClient("", "shop", "secret")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for from, want := range map[string]int{"news@example.org": 0, "news@example.com": 550} {
			err := c.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader("From: "+from+"\r\nSubject: Sale\r\n\r\nHello\r\n"))
			if want == 0 && err != nil || want != 0 && (!errors.As(err, &refused) || refused.Code != want) {
				t.Errorf("%s: from %s: %v", name, from, err)
			}
		}
		if got := <-smarthost.mails; !bytes.Contains(got, []byte("with ESMTPSA id")) {
			t.Errorf("%s: %s", name, got)
		}
		c.Close()
	}
}

// writeCertificate makes cert.pem and key.pem for gate.example.org and returns who vouches for it.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"gate.example.org"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}

// The whole way: mail in, a signed copy without the pixel out, one click on its link, and the
// next mail to that person is refused.
func TestServe(t *testing.T) {
	dkimTable, public := dkimKey(t)
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", dkimTable)
	if status, said := g.get(t, g.admin+"/readyz"); status != 200 {
		t.Fatalf("/readyz: %d %s", status, said)
	}

	if err := g.send(t, "marketing"); err != nil {
		t.Fatal(err)
	}
	copy := <-smarthost.mails
	if bytes.Contains(copy, []byte("list-manage.com")) {
		t.Errorf("the pixel is still there:\n%s", copy)
	}
	checks, err := dkim.VerifyWithOptions(bytes.NewReader(copy), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{public}, nil }})
	if err != nil || len(checks) != 1 || checks[0].Err != nil {
		t.Errorf("DKIM: %v %+v", err, checks)
	}
	link := oneClick.FindSubmatch(copy)
	if link == nil {
		t.Fatalf("no List-Unsubscribe of ours:\n%s", copy)
	}

	// A GET changes nothing, below the path of the public address or with that taken off.
	for _, path := range []string{string(link[1]), strings.TrimPrefix(string(link[1]), "/gate")} {
		if status, _ := g.get(t, g.page+path); status != 200 {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	if status, _ := g.get(t, g.page+"/gate/u/forged"); status != 404 {
		t.Errorf("a forged token: %d", status)
	}
	if err := g.send(t, "marketing"); err != nil {
		t.Fatal(err)
	}
	<-smarthost.mails

	resp, err := http.PostForm("http://"+g.page+string(link[1]), url.Values{"List-Unsubscribe": {"One-Click"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("one click: %s", resp.Status)
	}
	if err := g.send(t, "marketing"); err == nil || !strings.Contains(err.Error(), "550") {
		t.Errorf("mail after the one click: %v, want 550", err)
	}
	if status, said := g.get(t, g.admin+"/v1/consent/default/anna@example.net"); status != 200 || !strings.Contains(said, `"mail":"unsubscribed"`) || !strings.Contains(said, `"source":"one-click"`) {
		t.Errorf("the API: %d %s", status, said)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(g.log.String(), "anna@example.net") {
		t.Errorf("an address in clear in the log:\n%s", g.log)
	}
	if strings.Contains(g.log.String(), "NOT SIGNED") {
		t.Error("signed copies are said to be unsigned")
	}
}

func dkimKey(t *testing.T) (table, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dkim.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	table = fmt.Sprintf("[dkim]\ndomain = \"example.org\"\nselector = \"gate\"\nkey_file = %q\n", file)
	return table, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// Redis is not there at start: the gateway runs all the same, says that it is not ready, defers
// marketing mail and sends transactional mail untracked.
func TestServeWithoutRedis(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	smarthost := newSink(t)
	g := start(t, smarthost.address, "redis://"+nobody+"/0", "")
	if status, said := g.get(t, g.admin+"/readyz"); status != 503 || !strings.Contains(said, "store") {
		t.Errorf("/readyz: %d %s", status, said)
	}
	if status, _ := g.get(t, g.admin+"/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	if err := g.send(t, "marketing"); err == nil || !strings.Contains(err.Error(), "451") {
		t.Errorf("marketing: %v, want 451", err)
	}
	if err := g.send(t, "transactional"); err != nil {
		t.Fatalf("transactional: %v", err)
	}
	if copy := <-smarthost.mails; bytes.Contains(copy, []byte("list-manage.com")) {
		t.Errorf("tracked without an answer of the store:\n%s", copy)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"the consent store does not answer", "COPIES ARE NOT SIGNED"} {
		if !strings.Contains(g.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, g.log)
		}
	}
}

func TestBelowBase(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	for _, tt := range []struct{ base, path, want string }{
		{"https://mail.example.org", "/u/abc", "/u/abc"},
		{"https://mail.example.org/gate", "/gate/u/abc", "/u/abc"},
		{"https://mail.example.org/gate", "/u/abc", "/u/abc"},
		{"https://mail.example.org/gate", "/gateway/u/abc", "/gateway/u/abc"},
	} {
		w := httptest.NewRecorder()
		belowBase(tt.base, echo).ServeHTTP(w, httptest.NewRequest("GET", tt.path, nil))
		if got := w.Body.String(); got != tt.want {
			t.Errorf("%s below %s: %s, want %s", tt.path, tt.base, got, tt.want)
		}
	}
}
