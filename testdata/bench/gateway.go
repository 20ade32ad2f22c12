package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/testdata/process"
)

// selector is that of the DKIM key, of the gateway and of the peer alike.
const selector = "bench"

// site is what a gateway needs: the program, its keys, its configuration, a Redis.
type site struct {
	dir, binary         string
	static              string // the same program without cgo; "" where binary was given
	configuration       func(mode, spool string) string
	gateways            int // served so far
	dkimKey             *rsa.PrivateKey
	signedBy            string // as the log says
	ring                *keyring.Ring
	redis               *process.Process
	redisAddr, redisURL string
}

// configuration is that of an operator who set what is needed and left the rest, but for room for as
// many connections as are tried here.
const configuration = `hostname = "gate.example.org"
key_file = %q
[smtp]
listen = ["127.0.0.1:0"]
max_connections = 2500
[smarthost]
urls = ["smtp://%s"]
[delivery]
mode = %q
spool_dir = %q
[consent]
store = %q
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"
[dkim]
domain = %q
selector = %q
key_file = %q
[admin]
listen = "127.0.0.1:0"
[log]
level = "info"
`

// newSite builds the gateway, with cgo and without, unless there is one at binary, and starts Redis.
func newSite(ctx context.Context, dir, binary, domain, smarthost string) (*site, error) {
	s := &site{dir: dir, binary: binary}
	if s.binary == "" {
		s.binary, s.static = filepath.Join(dir, "consentgate"), filepath.Join(dir, "consentgate-static")
		for cgo, program := range []string{s.static, s.binary} {
			build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "github.com/consentgate/consentgate/cmd/consentgate")
			build.Env = append(os.Environ(), fmt.Sprintf("CGO_ENABLED=%d", cgo))
			if out, err := build.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("go build: %w\n%s", err, out)
			}
		}
	}
	key, dkim := filepath.Join(dir, "key"), filepath.Join(dir, "dkim.pem")
	var err error
	if err = keyring.Create(key); err != nil {
		return nil, err
	}
	if s.ring, err = keyring.Load(key); err != nil {
		return nil, err
	}
	if s.dkimKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if err := os.WriteFile(dkim, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.dkimKey)}), 0o600); err != nil {
		return nil, err
	}
	loaded, err := sign.LoadKey(dkim, domain, selector)
	if err != nil {
		return nil, err
	}
	s.signedBy = loaded.By()
	if err := s.startRedis(ctx); err != nil {
		return nil, err
	}
	s.configuration = func(mode, spool string) string {
		return fmt.Sprintf(configuration, key, smarthost, mode, spool, s.redisURL, domain, selector, dkim)
	}
	return s, nil
}

func (s *site) startRedis(ctx context.Context) error {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("redis-server is not installed; make need does that on Debian")
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	addr := net.JoinHostPort("127.0.0.1", port)
	s.redisAddr, s.redisURL = addr, "redis://"+addr+"/0"
	s.redis, err = process.Start(filepath.Join(s.dir, "redis.log"), server,
		"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", s.dir)
	if err != nil {
		return err
	}
	if err := s.redis.Ready(ctx, func() error { return greets(addr, "PING\r\n", "+PONG\r\n") }); err != nil {
		return errors.Join(err, s.redis.Stop())
	}
	return nil
}

// versions names what is measured: the gateway with its commit, and Redis.
func (s *site) versions(ctx context.Context) (string, error) {
	own, err := output(ctx, s.binary, "version")
	if err != nil {
		return "", err
	}
	theirs, err := s.redisVersion(ctx)
	if err != nil {
		return "", err
	}
	own = strings.ReplaceAll(own, "\n", ", ")
	if strings.HasPrefix(s.binary, s.dir) { // built here: a build need not know its commit
		if commit, err := output(ctx, "git", "describe", "--always", "--dirty"); err == nil {
			own = strings.Replace(own, ", commit unknown", "", 1) + ", built from " + commit
		}
	}
	return own + "; Redis " + theirs, nil
}

func (s *site) redisVersion(ctx context.Context) (string, error) {
	text, err := output(ctx, s.redis.Cmd.Path, "--version")
	if err != nil {
		return "", err
	}
	number := regexp.MustCompile(`v=(\S+)`).FindStringSubmatch(text)
	if number == nil {
		return "", fmt.Errorf("redis-server --version says %q", text)
	}
	return number[1], nil
}

func (s *site) close() error { return s.redis.Stop() }

// consents are the four kinds of people, in turn. Nobody has unsubscribed: a message that is
// refused costs less than one that is delivered, and would make the figures better.
var consents = [4]struct{ open, click consent.State }{
	{consent.Granted, consent.Granted}, {consent.Granted, consent.Denied}, {consent.Denied, consent.Granted}, {},
}

// fill records what people agreed to in the scope of the message. Every fourth has no record.
func (s *site) fill(ctx context.Context, people int, scope consent.Scope) error {
	store, err := redisstore.Open(s.redisURL, s.ring, redisstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	var changes []consent.Change
	for i := range people {
		c := consents[i%len(consents)]
		if c.open == "" {
			continue
		}
		who, err := consent.ParseAddress(person(i))
		if err != nil {
			return err
		}
		changes = append(changes, consent.Change{Who: who, Scope: scope, Open: c.open, Click: c.click, Source: consent.FromImport, Time: time.Now()})
	}
	results, err := store.Apply(ctx, changes)
	if err != nil {
		return err
	}
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}

// gateway is a running consentgate serve.
type gateway struct {
	*process.Process
	smtp string
}

var listens = regexp.MustCompile(`msg=listening for=smtp address=(127\.0\.0\.1:\d+)`)

// inStatic behind a delivery mode asks for the program without cgo.
const inStatic = ", static"

// serve starts a gateway in that delivery mode, with a folder of its own. Its log goes to a file, as
// an operator's does.
func (s *site) serve(ctx context.Context, mode string) (*gateway, error) {
	s.gateways++
	binary := s.binary
	mode, static := strings.CutSuffix(mode, inStatic)
	if static {
		binary = s.static
	}
	dir := filepath.Join(s.dir, fmt.Sprintf("gateway-%d", s.gateways))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	log, config := filepath.Join(dir, "log"), filepath.Join(dir, "consentgate.toml")
	if err := os.WriteFile(config, []byte(s.configuration(mode, filepath.Join(dir, "spool"))), 0o600); err != nil {
		return nil, err
	}
	p, err := process.Start(log, binary, "serve", "--config", config)
	if err != nil {
		return nil, err
	}
	g := &gateway{Process: p}
	err = p.Ready(ctx, func() error {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		m := listens.FindSubmatch(text)
		if m == nil || !strings.Contains(string(text), "consentgate is ready") {
			return errors.New("it does not say that it is ready")
		}
		g.smtp = string(m[1])
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return g, nil
}
