package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/testdata/process"
)

// Honest senders come from honestPeer, which needs no login. Strangers come from other addresses of
// loopback, up to 250 of them.
const honestPeer = "127.0.0.1"

func strangerPeer(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%250) }

const password = "correct horse battery staple"

const configuration = `hostname = "gate.example.org"
key_file = "DIR/key"
[smtp]
listen = ["127.0.0.1:0", "127.0.0.1:0"]
tls_cert = "DIR/cert.pem"
tls_key = "DIR/cert.key"
allow_networks = ["127.0.0.1/32"]
idle_timeout = "20s"
[[login]]
name = "shop"
password_hash = "HASH"
[smarthost]
urls = ["smtp://SINK"]
[delivery]
mode = "cutthrough"
spool_dir = "DIR/spool"
[consent]
store = "file:DIR/consent.db"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"
mailto = "unsubscribe@gate.example.org"
[tracking]
mode = "guard"
base_url = "https://links.example.org"
[dkim]
domain = "example.org"
selector = "hostile"
key_file = "DIR/dkim.pem"
[admin]
listen = "127.0.0.1:0"
`

// house is what all gateways have in common.
type house struct {
	dir, binary, version, hash string
	sink                       *sink
	attacks                    int
}

func newHouse(ctx context.Context, binary string) (h *house, err error) {
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return nil, err
	}
	h = &house{dir: dir, binary: binary}
	if h.binary == "" {
		h.binary = filepath.Join(dir, "consentgate")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", h.binary, "github.com/consentgate/consentgate/cmd/consentgate")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	version, err := exec.CommandContext(ctx, h.binary, "version").Output()
	if err != nil {
		return nil, err
	}
	h.version = strings.Join(strings.Fields(string(version)), " ")
	hashing := exec.CommandContext(ctx, h.binary, "hash-password")
	hashing.Stdin = strings.NewReader(password + "\n")
	hash, err := hashing.Output()
	if err != nil {
		return nil, fmt.Errorf("hash-password: %w", err)
	}
	h.hash = strings.TrimSpace(string(hash))
	h.sink, err = startSink()
	return h, err
}

func (h *house) close() error {
	h.sink.close()
	return os.RemoveAll(h.dir)
}

// gateway is one that runs, and where it listens. Of its two SMTP listeners the honest use the first, so
// that what waits for its turn in front of one does not do so in front of the other.
type gateway struct {
	*process.Process
	dir, smtp, strangers, page, admin string
	token                             string // of an unsubscribe link that a person got
}

var listening = regexp.MustCompile(`msg=listening for=(\S+) address=(127\.0\.0\.1:\d+)`)

// serve starts a gateway with nothing in its store and its spool.
func (h *house) serve(ctx context.Context) (*gateway, error) {
	h.attacks++
	dir := filepath.Join(h.dir, fmt.Sprint(h.attacks))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, h.binary, "keygen", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("keygen: %w\n%s", err, out)
	}
	if err := certificate(dir); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "consentgate.toml")
	text := strings.NewReplacer("DIR", dir, "SINK", h.sink.addr(), "HASH", h.hash).Replace(configuration)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := process.Start(filepath.Join(dir, "log"), h.binary, "serve", "--config", config)
	if err != nil {
		return nil, err
	}
	g := &gateway{Process: p, dir: dir}
	err = p.Ready(ctx, func() error {
		log, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		for _, m := range listening.FindAllSubmatch(log, -1) {
			switch address := string(m[2]); string(m[1]) {
			case "smtp":
				if g.smtp == "" {
					g.smtp = address
				} else {
					g.strangers = address
				}
			case "unsubscribe":
				g.page = address
			case "admin":
				g.admin = address
			}
		}
		if g.smtp == "" || g.strangers == "" || g.page == "" || g.admin == "" || !strings.Contains(string(log), "consentgate is ready") {
			return errors.New("it does not say that it is ready")
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return g, nil
}

// certificate writes what the gateway needs for TLS and for DKIM.
func certificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	like := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gate.example.org"}, DNSNames: []string{"gate.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, like, like, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	signing, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"cert.key": {Type: "PRIVATE KEY", Bytes: private},
		"dkim.pem": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(signing)},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// suffer serves, lets the attack at it, and returns the table's row.
func (h *house) suffer(ctx context.Context, a attack) (row string, err error) {
	g, err := h.serve(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, g.Stop(), os.RemoveAll(g.dir)) }()
	people, err := newHonest(ctx, h, g)
	if err != nil {
		return "", err
	}
	before := process.Memory(g.PID(), "VmRSS")
	var most atomic.Int64
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if n := int64(process.Files(g.PID())); n > most.Load() {
				most.Store(n)
			}
			select {
			case <-tick.C:
			case <-watching.Done():
				return
			}
		}
	}()
	cpu, begin := process.CPU([]int{g.PID()}), time.Now()
	people.begin(ctx)
	note, wrong := a.run(ctx, h, g)
	took := time.Since(begin)
	seen, honestWrong := people.end()
	wrong = errors.Join(wrong, honestWrong)
	used := process.CPU([]int{g.PID()}) - cpu
	if g.Ended() {
		return "", errors.Join(wrong, fmt.Errorf("the gateway has ended:\n%s", g.Said()))
	}
	after, highest := process.Memory(g.PID(), "VmRSS"), process.Memory(g.PID(), "VmHWM")
	if highest > a.memory {
		wrong = errors.Join(wrong, fmt.Errorf("the gateway took %.0f MB, and may take %.0f", highest, a.memory))
	}
	for what, wait := range map[string]time.Duration{"sender": seen.mailWait, "reader": seen.pageWait} {
		if wait > a.wait {
			wrong = errors.Join(wrong, fmt.Errorf("an honest %s waited %s, and may %s", what, wait.Round(time.Millisecond), a.wait))
		}
	}
	log, err := os.Stat(g.Log)
	if err != nil {
		return "", errors.Join(wrong, err)
	}
	return fmt.Sprintf("| %s | %s | %.1f s | %.1f s | %.0f → %.0f → %.0f MB | %d | %.1f MB | %d | %.0f ms | %d | %.0f ms |\n",
		a.name, note, took.Seconds(), used.Seconds(), before, highest, after, most.Load(), float64(log.Size())/1e6,
		seen.mails, ms(seen.mailWait), seen.pages, ms(seen.pageWait)), wrong
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// dialFrom connects from one of loopback's addresses.
func dialFrom(ctx context.Context, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second}
	return d.DialContext(ctx, "tcp", to)
}
