package outbox

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// TestExampleReceiver runs the receiver of WEBHOOK.md, as it stands there, against real calls.
func TestExampleReceiver(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	text, err := os.ReadFile("WEBHOOK.md")
	must(t, err)
	_, example, _ := strings.Cut(string(text), "```python\n")
	example, _, found := strings.Cut(example, "```\n")
	if !found {
		t.Fatal("no example")
	}
	file := filepath.Join(t.TempDir(), "receiver.py")
	must(t, os.WriteFile(file, []byte(example), 0o600))
	b := newBench(t)
	cmd := exec.Command(python, file, "0")
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+Secret(b.ring.Webhook()[0]))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	next := func() string {
		if !lines.Scan() {
			t.Fatal("the receiver has ended")
		}
		return lines.Text()
	}
	port, ok := strings.CutPrefix(next(), "listening on ")
	if !ok {
		t.Fatal(lines.Text())
	}
	b.cfg.WebhookURL = "http://127.0.0.1:" + port + "/consent"

	b.run()
	b.apply(b.change("anna@example.org", consent.Granted))
	if got := next(); got != "anna@example.org news {'open': 'granted'}" {
		t.Error(got)
	}
	b.wait("its answer", func() bool { return len(b.jobs()) == 0 })

	// Forged, changed and old ones are refused.
	body := []byte(`{"type":"consent.change","data":{"person":"p","number":1,"address":"x@example.org","scope":"s","new":{}}}`)
	good := b.Outbox.cfg
	for what, change := range map[string]func(*Config){
		"another secret": func(c *Config) { c.Secrets = [][]byte{[]byte("another")} },
		"no secret":      func(c *Config) { c.Secrets = nil },
	} {
		bad := good
		change(&bad)
		if a := New(bad).post(t.Context(), "evt_1", body); a.said != "401" {
			t.Errorf("%s: %s", what, a.said)
		}
	}
	b.clock.mu.Lock()
	b.clock.ahead = -10 * 60 * 1e9
	b.clock.mu.Unlock()
	if a := b.post(t.Context(), "evt_1", body); a.said != "401" {
		t.Errorf("an old one: %s", a.said)
	}
	resp, err := http.Post(b.cfg.WebhookURL, "application/json", strings.NewReader("{}"))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("with nothing: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()

	// The change that comes next is taken; one that comes again is not counted twice.
	b.clock.mu.Lock()
	b.clock.ahead = 0
	b.clock.mu.Unlock()
	if a := b.tellChanges(t.Context(), &line{}, &item{}, change{"anna@example.org", 0}); !a.done {
		t.Error(a)
	}
	b.apply(b.change("anna@example.org", consent.Denied))
	if got := next(); got != "anna@example.org news {'open': 'denied'}" {
		t.Error(got)
	}
	b.wait("its answer", func() bool { return len(b.jobs()) == 0 })
}
