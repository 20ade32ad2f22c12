package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
)

func testConfig(t *testing.T) *config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Hostname = "gate.example.org"
	cfg.KeyFile = filepath.Join(t.TempDir(), "key")
	cfg.Smarthost.ConnectTimeout = 5 * time.Second
	if err := keyring.Create(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestCheckSmarthost(t *testing.T) {
	cfg := testConfig(t)
	address := newSink(t).address
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	lmtp := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return nil, nil }))
	lmtp.LMTP = true
	socket := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { lmtp.Serve(l); close(done) }()
	defer func() { lmtp.Close(); <-done }()
	for _, tt := range []struct{ url, good, bad string }{
		{"lmtp+unix://" + socket, "answers, offers 8BITMIME", ""},
		{"lmtp+unix://" + socket + "-none", "", "no such file"},
		{"lmtp://" + address, "", "it does not speak LMTP"},
		{"smtp://" + address, "answers, offers 8BITMIME", ""},
		{"smtp+starttls://" + address, "", "it does not offer STARTTLS"},
		{"smtps://" + address, "", "TLS: "},
		{"smtp://127.0.0.1:1", "", "connection refused"},
		{"smtp://" + silent.Addr().String(), "", "EHLO: "},
	} {
		cfg.Smarthost.ConnectTimeout = 5 * time.Second
		if strings.Contains(tt.url, silent.Addr().String()) {
			cfg.Smarthost.ConnectTimeout = 50 * time.Millisecond // it never says a word
		}
		good, err := checkSmarthost(context.Background(), cfg, tt.url)
		switch {
		case tt.bad == "" && (err != nil || !strings.HasPrefix(good, tt.good)):
			t.Errorf("%s: %q, %v, want %q", tt.url, good, err, tt.good)
		case tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
			t.Errorf("%s: %v, want %q", tt.url, err, tt.bad)
		}
	}
}

// A next hop that refuses everybody in its greeting does not answer.
func TestCheckSmarthostRefuses(t *testing.T) {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return nil, &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "go away"}
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { server.Serve(l); close(done) }()
	defer func() { server.Close(); <-done }()
	if _, err := checkSmarthost(context.Background(), testConfig(t), "smtp://"+l.Addr().String()); err == nil || !strings.Contains(err.Error(), "go away") {
		t.Errorf("%v, want what it said", err)
	}
}

func TestCheckStore(t *testing.T) {
	cfg := testConfig(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "a", "consent.db")
	cfg.Consent.Store = "file:" + file
	check := func(running bool, want string) {
		t.Helper()
		good, err := checkStore(context.Background(), cfg, running, quiet)
		if err != nil || good != want {
			t.Errorf("%q, %v, want %q", good, err, want)
		}
	}
	check(false, "not there yet, serve makes it")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the check has made the store: %v", err)
	}
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	store, err := boltstore.Open(cfg.StoreFile(), ring)
	if err != nil {
		t.Fatal(err)
	}
	check(true, "held by the running gateway")
	if _, err := checkStore(context.Background(), cfg, false, quiet); err == nil || !strings.Contains(err.Error(), "held by another process") {
		t.Errorf("%v, want that it is held", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	check(false, "answers")
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Consent.Store = "file:" + filepath.Join(dir, "b", "c", "consent.db")
	if _, err := checkStore(context.Background(), cfg, false, quiet); err == nil {
		t.Error("a store below a file is said to be fine")
	}
	cfg.Consent.Store = "redis://127.0.0.1:1/0"
	if _, err := checkStore(context.Background(), cfg, false, quiet); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v, want that it does not answer", err)
	}
}

// The same with a real Redis: it answers, and is refused to another key file.
func TestCheckStoreRedis(t *testing.T) {
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not in PATH")
	}
	cfg := testConfig(t)
	socket := filepath.Join(t.TempDir(), "redis.sock")
	server := exec.Command(exe, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", t.TempDir())
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	waitFor(t, out, "eady to accept connections")

	cfg.Consent.Store = "redis+unix://" + socket
	cfg.Delivery.SpoolDir = filepath.Join(t.TempDir(), "spool")
	if good, err := checkStore(context.Background(), cfg, true, quiet); err != nil || good != "answers, and is new: serve begins it" {
		t.Errorf("%q, %v", good, err)
	}
	lose := func() {
		t.Helper()
		served, err := openServed(cfg, mustLoad(t, cfg.KeyFile), quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := served.Close(); err != nil {
			t.Fatal(err)
		}
		if good, err := checkStore(context.Background(), cfg, true, quiet); err != nil || good != "answers" {
			t.Errorf("%q, %v", good, err)
		}
		if out, err := exec.Command("redis-cli", "-s", socket, "flushall").CombinedOutput(); err != nil {
			t.Skipf("redis-cli: %v %s", err, out)
		}
	}
	lose()
	for range 2 { // the first marks nothing
		if _, err := checkStore(context.Background(), cfg, true, quiet); !errors.Is(err, consent.ErrLost) {
			t.Errorf("%v, want that the records are lost", err)
		}
	}
	if err := os.Remove(knownPath(cfg)); err != nil {
		t.Fatal(err)
	}
	if good, err := checkStore(context.Background(), cfg, true, quiet); err != nil || good != "answers, and is new: serve begins it" {
		t.Errorf("%q, %v", good, err)
	}
	served, err := openServed(cfg, mustLoad(t, cfg.KeyFile), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := served.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Create(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := redisstore.Open(cfg.Consent.Store, ring, redisstore.Options{}); err == nil {
		t.Error("another key file opens the store")
	}
	if _, err := checkStore(context.Background(), cfg, false, quiet); err == nil || !strings.Contains(err.Error(), "another key file") {
		t.Errorf("%v, want another key file", err)
	}
}

func TestCheckFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	if _, err := checkFree(taken, false); err == nil {
		t.Error("a taken port is said to be free")
	}
	if good, err := checkFree(taken, true); err != nil || !strings.Contains(good, "by the running gateway") {
		t.Errorf("%q, %v", good, err)
	}
	l.Close()
	if good, err := checkFree(taken, false); err != nil || good != "free" {
		t.Errorf("%q, %v", good, err)
	}
	socket := filepath.Join(t.TempDir(), "smtp.sock")
	if good, err := checkFree("unix:"+socket, false); err != nil || good != "free" {
		t.Errorf("%q, %v", good, err)
	}
	u, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := checkFree("unix:"+socket, false); err == nil {
		t.Error("a socket that answers is said to be free")
	}
}

func TestWithCRLF(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"\n":              "\r\n",
		"a\nb":            "a\r\nb",
		"a\r\nb\n\nc\r\n": "a\r\nb\r\n\r\nc\r\n",
		"a\rb\r\r\n":      "a\rb\r\r\n",
	} {
		if got := withCRLF([]byte(in)); !bytes.Equal(got, []byte(want)) {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

var quiet = slog.New(slog.DiscardHandler)

func mustLoad(t *testing.T, file string) *keyring.Ring {
	t.Helper()
	ring, err := keyring.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
