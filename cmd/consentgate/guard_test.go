package main

import (
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

var guardedLink = regexp.MustCompile(`(src|href)="https://links\.example\.org/x(/t/[A-Za-z0-9_-]+)"`)

// The guard is served beside the page, below its own public address or at the root; it goes by what is
// recorded and by when_unset as they are now, and fetches nothing from this machine.
func TestServeGuard(t *testing.T) {
	sender := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a pixel is fetched from a private address") }))
	defer sender.Close()
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", "[tracking]\nmode = \"guard\"\nbase_url = \"https://links.example.org/x/\"\n")
	record := func(states string) {
		t.Helper()
		r, err := http.NewRequest("PUT", "http://"+g.admin+"/v1/consent/default/anna@example.net", strings.NewReader(states))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	record(`{"open":"granted","click":"granted"}`)

	const counter, destination = "https://click.pstmrk.it/3s/shop.example.net%2Foffer/abc/def/ghi", "https://shop.example.net/offer"
	c, err := smtp.Dial(g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("news@example.org", []string{"anna@example.net"}, strings.NewReader("From: news@example.org\r\nContent-Type: text/html\r\n\r\n"+
		`<img src="`+sender.URL+`/o.gif" width=1 height=1><a href="`+counter+`">offer</a>`+"\r\n")); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(<-smarthost.mails), "\r\n\r\n")
	html, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	found := guardedLink.FindAllSubmatch(html, -1)
	if len(found) != 2 {
		t.Fatalf("%d guarded addresses in\n%s", len(found), html)
	}
	pixel, link := string(found[0][2]), string(found[1][2])

	to := func(path string) string {
		t.Helper()
		r, err := http.NewRequest("GET", "http://"+g.page+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Location")
	}
	for _, path := range []string{link, "/x" + link} {
		if got := to(path); got != counter {
			t.Errorf("granted: %s leads to %q", path[:4], got)
		}
	}
	if status, text := g.get(t, g.page+pixel); status != 200 || !strings.HasPrefix(text, "GIF89a") {
		t.Errorf("a pixel: %d %q", status, text)
	}
	for path, want := range map[string]int{"/t/x": 404, "/x/t/x": 404, "/x" + strings.Replace(link, "/t/", "/u/", 1): 404, "/u/x": 404} {
		if status, _ := g.get(t, g.page+path); status != want {
			t.Errorf("%.10s: %d", path, status)
		}
	}
	record(`{"click":"unset"}`)
	if got := to(link); got != destination {
		t.Errorf("unset: leads to %q", got)
	}
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), "[consent]\n", "[consent]\nwhen_unset = { open = \"denied\", click = \"granted\" }\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.reload()
	if got := to(link); got != counter {
		t.Errorf("unset, which counts as granted now: leads to %q", got)
	}
	record(`{"click":"denied"}`)
	if got := to(link); got != destination {
		t.Errorf("denied: leads to %q", got)
	}
}

// Who guards copies no longer still has mail out there whose links lead to the guard.
func TestServeGuardKept(t *testing.T) {
	g := start(t, newSink(t).address, "file:DIR/consent.db", "[tracking]\nmode = \"keep\"\nbase_url = \"https://links.example.org\"\n")
	ring, err := keyring.Load(filepath.Join(filepath.Dir(g.config), "key"))
	if err != nil {
		t.Fatal(err)
	}
	who, err := consent.ParseAddress("anna@example.net")
	if err != nil {
		t.Fatal(err)
	}
	const destination = "https://shop.example.net/offer"
	r, err := http.NewRequest("GET", "http://"+g.page+"/t/"+token.NewHits(ring).Seal(token.Hit{Who: who, Scope: "default", Purpose: consent.Click,
		URL: "https://click.example.net/?u=1", Destination: destination}), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.Header.Get("Location") != destination {
		t.Errorf("%s %s", resp.Status, resp.Header.Get("Location"))
	}
}
