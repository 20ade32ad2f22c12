package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// Metrics and the status page ask for a token where there are any, and take it as browsers can give it; the API does not.
// What is done is counted; what was read wrong is seen.
func TestSeen(t *testing.T) {
	sink := newSink(t)
	dir := newState(t)
	line := fmt.Sprintf("read %x monitoring\n", sha256.Sum256([]byte("s3cret")))
	if err := os.WriteFile(filepath.Join(dir, "tokens"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`hostname = "gate.example.org"
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
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
token_file = "%[1]s/tokens"
`, dir, sink.address)
	r := startWith(t, dir, text)
	ask := func(path, user, password, bearer string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest("GET", "http://"+r.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth(user, password)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	for _, path := range []string{"/metrics", "/", "/v1/consent/news/reader@example.org"} {
		page := !strings.HasPrefix(path, "/v1/")
		for _, c := range []struct {
			user, password, bearer string
			want                   int
		}{
			{"", "", "", 401}, {"", "", "wrong", 401}, {"", "", "s3cret", 200}, {"me", "wrong", "", 401}, {"me", "s3cret", "", map[bool]int{true: 200, false: 401}[page]},
		} {
			status, _, header := ask(path, c.user, c.password, c.bearer)
			if status != c.want || status == 401 && strings.Contains(strings.Join(header.Values("WWW-Authenticate"), " "), "Basic") != page {
				t.Errorf("%s with %+v: %d %v", path, c, status, header.Values("WWW-Authenticate"))
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, said, _ := ask(path, "", "", ""); status != 200 {
			t.Errorf("%s: %d %s", path, status, said)
		}
	}

	c, err := smtp.Dial(r.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("news@example.org", []string{"reader@example.net"}, strings.NewReader("From: news@example.org\r\nContent-Type: text/html\r\n\r\n"+
		`<img src="https://shop.us1.list-manage.com/track/open.php?u=1&id=2&e=3" width=1 height=1>`+"\r\n")); err != nil {
		t.Fatal(err)
	}
	<-sink.mails
	resp, err := http.Get("http://" + r.page + "/u/nonsense")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, said, _ := ask("/metrics", "", "", "s3cret")
	for _, want := range []string{`accepted_total{class="marketing"} 1`, `forwarded_total{class="marketing"} 1`, `trackers_removed_total{kind="open",vector="img"} 1`,
		`decisions_total{decision="denied",purpose="open",reason="default"} 1`, `page_requests_total{result="bad",what="bad_link"} 1`, `store_request_duration_seconds_count{operation="lookup",result="answered"} 2`,
		`smarthost_up{smarthost="` + sink.address + `"} 1`, `spool_messages 0`, `cache_lookups_total{result="miss"} 2`, `config_reload_successful 1`, `config_restart_needed 0`, `build_info{`,
		// what did not happen yet
		`smarthost_request_duration_seconds_count{result="deferred",smarthost="` + sink.address + `"} 0`, `rule_hits_total{rule="mailjet-click"} 0`, `rule_hits_total{rule="size"} 0`} {
		if !strings.Contains(said, "\nconsentgate_"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for _, want := range []string{"\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains(said, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	if _, page, _ := ask("/", "", "s3cret", ""); !strings.Contains(page, "<b>1</b><small>recipients</small><span>forwarded</span>") || !strings.Contains(page, "gate.example.org") || strings.Contains(page, "reader") {
		t.Errorf("the status page:\n%s", page)
	}

	if err := os.WriteFile(r.config, []byte(text+"nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload()
	if _, said, _ = ask("/metrics", "", "", "s3cret"); !strings.Contains(said, "\nconsentgate_config_reload_successful 0\n") {
		t.Error("a configuration with a mistake is not seen")
	}
	if _, page, _ := ask("/", "", "s3cret", ""); !strings.Contains(page, "could not be read again") {
		t.Error("the status page does not say so")
	}
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload()
	if _, said, _ = ask("/metrics", "", "", "s3cret"); !strings.Contains(said, "\nconsentgate_config_reload_successful 1\n") {
		t.Error("it stays wrong")
	}

	// A change that waits for a restart, and its end.
	for _, want := range []string{"1", "0"} {
		file := text
		if want == "1" {
			file = strings.Replace(text, "[admin]", "company = \"Example Ltd\"\n[admin]", 1)
		}
		if err := os.WriteFile(r.config, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		r.reload()
		if _, said, _ = ask("/metrics", "", "", "s3cret"); !strings.Contains(said, "\nconsentgate_config_restart_needed "+want+"\n") || !strings.Contains(said, "\nconsentgate_config_reload_successful 1\n") {
			t.Errorf("a restart is needed: not %s", want)
		}
	}
}
