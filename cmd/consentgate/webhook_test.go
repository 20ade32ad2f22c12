package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// hook is a receiver of webhooks.
type hook struct {
	*httptest.Server
	calls chan hookCall
}

type hookCall struct {
	Type string
	Data struct {
		Address, Source, Message, Scope string
		Number                          int
		New                             map[string]string
	}
}

func newHook(t *testing.T) *hook {
	h := &hook{calls: make(chan hookCall, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var c hookCall
		if err == nil {
			err = json.Unmarshal(body, &c)
		}
		if err != nil || r.Header.Get("webhook-signature") == "" {
			t.Errorf("%s, %v", body, err)
		}
		h.calls <- c
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) next(t *testing.T) hookCall {
	t.Helper()
	select {
	case c := <-h.calls:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
	return hookCall{}
}

func webhookConfig(dir, sink, hook, extra string) string {
	return fmt.Sprintf(`hostname = "gate.example.org"
key_file = "%[1]s/key"
[smtp]
listen = ["127.0.0.1:0"]
[smarthost]
urls = ["smtp://%[2]s"]
[delivery]
spool_dir = "%[1]s/spool"
[consent]
store = "file:%[1]s/consent.db"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org/gate"
listen = "127.0.0.1:0"
mailto = "unsubscribe@gate.example.org"
webhook_url = "%[3]s/consent"
%[4]s
[admin]
listen = "127.0.0.1:0"
`, dir, sink, hook, extra)
}

// TestWebhook goes the whole way: mail out, its mailto link back in, and what the webhook is told of both; then a
// change by the command while no gateway runs, of which the next one tells.
func TestWebhook(t *testing.T) {
	h, smarthost, dir := newHook(t), newSink(t), newState(t)
	text := webhookConfig(dir, smarthost.address, h.URL, `webhook_events = ["change", "accepted", "suppressed"]`)
	g := startWith(t, dir, text)
	if err := g.send(t, "marketing"); err != nil {
		t.Fatal(err)
	}
	if c := h.next(t); c.Type != "copy.accepted" || c.Data.Address != "anna@example.net" || c.Data.Message == "" {
		t.Errorf("%+v", c)
	}
	sent := string(<-smarthost.mails)
	m := regexp.MustCompile(`<mailto:unsubscribe@gate\.example\.org\?subject=([A-Za-z0-9_-]+)>`).FindStringSubmatch(sent)
	if m == nil {
		t.Fatalf("no mailto in\n%s", sent)
	}
	c, err := smtp.Dial(g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("", []string{"unsubscribe@gate.example.org"}, strings.NewReader("Subject: Re: "+m[1]+"\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if c := h.next(t); c.Type != "consent.change" || c.Data.Address != "anna@example.net" || c.Data.Source != "mailto" || c.Data.Number != 1 || c.Data.New["mail"] != "unsubscribed" {
		t.Errorf("%+v", c)
	}
	if err := g.send(t, "marketing"); err == nil {
		t.Error("mail still goes to who unsubscribed")
	}
	if c := h.next(t); c.Type != "copy.suppressed" {
		t.Errorf("%+v", c)
	}
	if n, _ := get(t, "consent", "history", "anna@example.net", "--config", g.config); !strings.Contains(n, "by mailto") {
		t.Errorf("the history: %s", n)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	mailed := regexp.MustCompile(`msg="unsubscribed by mail" id=(\S+) `).FindStringSubmatch(g.log.String())
	if mailed == nil || !regexp.MustCompile(`msg="a call was made" id=`+mailed[1]+`-\w+ queue=change answer=2\d\d event=evt_`).MatchString(g.log.String()) {
		t.Errorf("the call about mail to the unsubscribe address does not have its ID in\n%s", g.log)
	}

	if out, status := get(t, "consent", "set", "ben@example.net", "--open", "granted", "--config", g.config); status != 0 {
		t.Fatal(out)
	}
	if out, status := get(t, "consent", "set", "carl@example.net", "--open", "granted", "--config", g.config); status != 0 {
		t.Fatal(out)
	}
	if out, status := get(t, "consent", "erase", "carl@example.net", "--yes", "--config", g.config); status != 0 {
		t.Fatal(out)
	}
	g = startWith(t, dir, text)
	if c := h.next(t); c.Type != "consent.change" || c.Data.Address != "ben@example.net" || c.Data.Source != "cli" {
		t.Errorf("%+v", c)
	}
	// An import is not told, whatever source its lines name.
	lines := filepath.Join(dir, "list.ndjson")
	if err := os.WriteFile(lines, []byte(`{"address":"dora@example.net","scope":"default","open":"granted","time":"2026-03-01T00:00:00Z","source":"page"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := get(t, "consent", "import", lines, "--config", g.config); status != 0 {
		t.Fatal(out)
	}
	if out, _ := get(t, "consent", "get", "dora@example.net", "--config", g.config); !strings.Contains(out, "granted") {
		t.Error(out)
	}
	if out, status := get(t, "consent", "erase", "ben@example.net", "--yes", "--config", g.config); status != 0 {
		t.Fatal(out)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-h.calls:
		t.Errorf("told too much: %+v", c)
	default:
	}
	if strings.Contains(g.log.String(), "@example.net") && !strings.Contains(g.log.String(), "•••@example.net") {
		t.Error(g.log)
	}
}

// TestChainOverThePage: what unsubscribes on the page is owed to the sender's own list, which here is on a private
// address and so is not called.
func TestChainOverThePage(t *testing.T) {
	smarthost, dir := newSink(t), newState(t)
	g := startWith(t, dir, webhookConfig(dir, smarthost.address, "http://127.0.0.1:1", ""))
	mail := "From: Shop <news@example.org>\r\nSubject: Sale\r\nList-Unsubscribe: <https://127.0.0.1:1/u/7>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nhello\r\n"
	c, err := smtp.Dial(g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader(mail)); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^List-Unsubscribe: <https://mail\.example\.org(/gate/u/[A-Za-z0-9_-]+)>`).FindStringSubmatch(string(<-smarthost.mails))
	if m == nil {
		t.Fatal("no link")
	}
	resp, err := http.PostForm("http://"+g.page+m[1], url.Values{"List-Unsubscribe": {"One-Click"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	want := "scope default  unsubscribe sent to the sender's own list: not a public address from 127.0.0.1 #"
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, _ := get(t, "consent", "history", "anna@example.net", "--config", g.config)
		if strings.Contains(out, want) {
			break
		}
		if time.Now().After(end) {
			t.Fatal(out)
		}
	}
	// One ID leads from the request to what both servers were told.
	log := g.log.String()
	id := regexp.MustCompile(`msg="consent changed" id=(\w{16}) `).FindStringSubmatch(log)
	if id == nil {
		t.Fatal(log)
	}
	for _, line := range []string{`msg="an unsubscribe was sent to the sender's own list" id=` + id[1] + `-\w+ `, `msg="a call failed and is tried again" id=` + id[1] + `-\w+ queue=change .* event=evt_\S+`} {
		if !regexp.MustCompile(line).MatchString(log) {
			t.Errorf("no %s in\n%s", line, log)
		}
	}
}

func TestCheckConfigWebhook(t *testing.T) {
	h, dir := newHook(t), newState(t)
	file := filepath.Join(dir, "consentgate.toml")
	for _, down := range []bool{false, true} {
		url := "http://user:secret@" + h.Listener.Addr().String()
		if err := os.WriteFile(file, []byte(webhookConfig(dir, newSink(t).address, url, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		want := "webhook: can be connected to\n"
		if down {
			h.Close()
			want = "webhook: FAILED: "
		}
		if out, _ := get(t, "check-config", "--config", file); !strings.Contains(out, want) || strings.Contains(out, "secret") {
			t.Error(out)
		}
	}
}

func TestWebhookSecret(t *testing.T) {
	dir := newState(t)
	g := startWith(t, dir, webhookConfig(dir, "127.0.0.1:1", "http://127.0.0.1:1", ""))
	out, status := get(t, "webhook-secret", "--config", g.config)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(out), "whsec_"))
	if status != 0 || err != nil || len(key) != 32 {
		t.Errorf("%q, %d, %v", out, status, err)
	}
}

// get runs a verb and returns what it printed.
func get(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	status := run(t.Context(), args, streams{strings.NewReader(""), &out, &out})
	return out.String(), status
}
