package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// healthOf runs the verb with the configuration of g, and admin.listen at address.
func healthOf(t *testing.T, g *running, address string, args ...string) (status int, out, errs string) {
	t.Helper()
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	before := "[admin]\nlisten = \"127.0.0.1:0\""
	if !strings.Contains(string(text), before) {
		t.Fatalf("the configuration does not hold %q", before)
	}
	file := filepath.Join(t.TempDir(), "consentgate.toml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), before, "[admin]\ntoken_file = \""+file+".tokens\"\nlisten = \""+address+"\"", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".tokens", []byte("read "+strings.Repeat("0", 64)+" test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said, failed bytes.Buffer
	status = run(t.Context(), append([]string{"health", "--config", file}, args...), streams{strings.NewReader(""), &said, &failed})
	return status, said.String(), failed.String()
}

func TestHealth(t *testing.T) {
	g := start(t, newSink(t).address, "file:DIR/consent.db", "")
	_, port, err := net.SplitHostPort(g.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{g.admin, "0.0.0.0:" + port, ":" + port} {
		if status, out, errs := healthOf(t, g, address); status != 0 || out != "ready\n" || errs != "" {
			t.Errorf("%s: status %d, %q, %q", address, status, out, errs)
		}
	}
	if status, out, errs := healthOf(t, g, g.admin, "--live"); status != 0 || out != "ok\n" || errs != "" {
		t.Errorf("--live: status %d, %q, %q", status, out, errs)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := healthOf(t, g, g.admin); status != 1 || out != "" || !strings.HasPrefix(errs, "consentgate: no gateway answers on admin.listen: ") {
		t.Errorf("behind its end: status %d, %q, %q", status, out, errs)
	}
}

// Without a store it is alive and not ready.
func TestHealthWithoutStore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	g := start(t, newSink(t).address, "redis://"+nobody+"/0", "")
	if status, out, errs := healthOf(t, g, g.admin); status != 1 || out != "" || !strings.HasPrefix(errs, "store: ") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if status, out, _ := healthOf(t, g, g.admin, "--live"); status != 0 || out != "ok\n" {
		t.Errorf("--live: status %d, %q", status, out)
	}
}
