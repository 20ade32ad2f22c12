package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

var confirmLink = regexp.MustCompile(`https://mail\.example\.org(/gate/u/c/[A-Za-z0-9_-]+)\n`)

// A consent given on the page, over TLS, holds once it is confirmed from the mail that asks for it.
func TestConfirmedConsent(t *testing.T) {
	dir := t.TempDir()
	roots := writeCertificate(t, dir)
	notice := filepath.Join(dir, "notice")
	if err := os.WriteFile(notice, []byte("2026-03\nWe count what you open.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dkimTable, public := dkimKey(t)
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", `company = "Example Shop"
notice_file = "`+notice+`"
tls_cert = "`+dir+`/cert.pem"
tls_key = "`+dir+`/key.pem"
`+dkimTable)
	if err := g.send(t, "marketing"); err != nil {
		t.Fatal(err)
	}
	m := oneClick.FindSubmatch(<-smarthost.mails)
	if m == nil {
		t.Fatal("no link")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "gate.example.org"}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	post := func(path string, fields url.Values) (int, string) {
		t.Helper()
		resp, err := client.PostForm("https://"+g.page+path, fields)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 {
			t.Errorf("it speaks %s", resp.Proto)
		}
		return resp.StatusCode, string(text)
	}
	record := func() string {
		t.Helper()
		_, text := g.get(t, g.admin+"/v1/consent/default/anna%40example.net")
		return text
	}
	if code, text := post(string(m[1]), url.Values{"do": {"save"}, "open": {"granted"}}); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	if got := record(); !strings.Contains(got, `"open":"unset"`) {
		t.Errorf("it holds at once: %s", got)
	}
	raw := <-smarthost.mails
	verified, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{public}, nil }})
	if err != nil || len(verified) != 1 || verified[0].Err != nil {
		t.Errorf("DKIM: %v %v", verified, err)
	}
	letter, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if from := letter.Header.Get("From"); from != `"Example Shop" <no-reply@example.org>` || letter.Header.Get("To") != "<anna@example.net>" || letter.Header.Get("List-Unsubscribe") != "" {
		t.Errorf("%v", letter.Header)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(letter.Body))
	if err != nil {
		t.Fatal(err)
	}
	link := confirmLink.FindSubmatch(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	if link == nil || !bytes.Contains(text, []byte("We count what you open.")) {
		t.Fatalf("the letter:\n%s", text)
	}
	if code, _ := post(string(link[1]), url.Values{"do": {"confirm"}}); code != 200 {
		t.Errorf("confirming: %d", code)
	}
	if got := record(); !strings.Contains(got, `"open":"granted"`) || !strings.Contains(got, `"notice":"2026-03/en"`) {
		t.Errorf("it does not hold: %s", got)
	}
}
