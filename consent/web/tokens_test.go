package web

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tokenLine(role, token, comment string) string {
	return fmt.Sprintf("%s %x %s\n", role, sha256.Sum256([]byte(token)), comment)
}

// tokenFile writes a file of tokens, of a time of its own, so that the change shows.
func tokenFile(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	text := "# who may\n\n" + tokenLine("read", "r-token", "board") + tokenLine("write", "w-token", "shop job") + tokenLine("read", "both", "") + tokenLine("write", "both", "")
	tokenFile(t, path, text, noon)
	var log bytes.Buffer
	tokens, err := LoadTokens(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, func(c *AdminConfig) { c.Tokens = tokens })
	const record = "/v1/consent/news/a@example.org"
	check := func(method, path, token string, want int, challenge string) {
		t.Helper()
		header := []string{isJSON}
		if token != "" {
			header = append(header, "Authorization: "+token)
		}
		body := ""
		if method == "PUT" {
			body = `{"open":"granted"}`
		}
		w := d.ask(method, path, body, header...)
		if got := w.Header().Get("WWW-Authenticate"); w.Code != want || got != challenge {
			t.Errorf("%s %s with %q: status %d, %q; want %d, %q\n%s", method, path, token, w.Code, got, want, challenge, w.Body)
		}
	}
	const (
		none   = `Bearer realm="consentgate"`
		wrong  = `Bearer realm="consentgate", error="invalid_token"`
		narrow = `Bearer realm="consentgate", error="insufficient_scope", scope="write"`
	)
	for _, p := range []string{"/healthz", "/readyz"} {
		check("GET", p, "", 200, "")
	}
	check("GET", record, "", 401, none)
	check("GET", record, "Basic cjp0", 401, none)
	check("GET", record, "Bearer ", 401, none)
	check("GET", record, "Bearer other", 401, wrong)
	check("GET", record, fmt.Sprintf("Bearer %x", sha256.Sum256([]byte("r-token"))), 401, wrong)
	check("GET", record, "Bearer r-token", 200, "")
	check("GET", record, "bearer  r-token ", 200, "")
	check("HEAD", record, "Bearer r-token", 200, "")
	check("PUT", record, "Bearer r-token", 403, narrow)
	check("PUT", record, "Bearer w-token", 200, "")
	check("PUT", record, "Bearer both", 200, "")
	check("GET", "/v1/openapi.json", "", 401, none)
	check("GET", "/v1/consent", "Bearer r-token", 200, "")
	check("GET", "/v1/consent?with_addresses=true", "Bearer r-token", 403, narrow)
	check("GET", "/v1/consent?with_addresses=true", "Bearer w-token", 200, "")
	for _, c := range [][2]string{{"POST", "/v1/consent"}, {"DELETE", "/v1/consent/a@example.org"}, {"POST", "/v1/rename"}, {"POST", "/v1/accept-store"}} {
		check(c[0], c[1], "Bearer r-token", 403, narrow)
		check(c[0], c[1], "", 401, none)
	}
	// The history says who.
	if w := d.ask("GET", "/v1/history/a@example.org", "", "Authorization: Bearer r-token"); !strings.Contains(w.Body.String(), `"origin":"shop job"`) {
		t.Error(w.Body)
	}

	// A token taken out is out at once, also where another line is broken.
	tokenFile(t, path, "raed 00\n"+tokenLine("read", "new", ""), noon.Add(time.Minute))
	check("PUT", record, "Bearer w-token", 401, wrong)
	check("GET", record, "Bearer new", 200, "")
	if !strings.Contains(log.String(), "line 1: it does not begin with read or write") {
		t.Error(log.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("GET", record, "Bearer new", 503, "")
	tokenFile(t, path, tokenLine("write", "newer", ""), noon.Add(time.Hour))
	check("PUT", record, "Bearer newer", 200, "")
	if strings.Contains(log.String(), "token=") {
		t.Error(log.String())
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	sum := strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		"":                    "it has no token: a line is ROLE SHA-256 COMMENT",
		"# none\n":            "it has no token: a line is ROLE SHA-256 COMMENT",
		"admin " + sum:        "line 1: it does not begin with read or write",
		"\n read":             "line 2: what stands behind the role is no SHA-256 in hex, 64 digits",
		"read secret x":       "line 1: what stands behind the role is no SHA-256 in hex, 64 digits",
		"read " + sum + "00":  "line 1: what stands behind the role is no SHA-256 in hex, 64 digits",
		"read " + sum + " ü":  "line 1: a comment has at most 64 bytes of printable ASCII, and is no address",
		"read " + sum + " a@": "line 1: a comment has at most 64 bytes of printable ASCII, and is no address",
	} {
		tokenFile(t, path, text, noon)
		if _, err := LoadTokens(path, slog.New(slog.DiscardHandler)); err == nil || err.Error() != path+": "+want {
			t.Errorf("%q: %v", text, err)
		}
	}
	tokenFile(t, path, "read "+strings.ToUpper(sum)+"\r\nwrite   "+sum+"   the  job ", noon)
	tokens, err := LoadTokens(path, slog.New(slog.DiscardHandler))
	if err != nil || len(tokens.holders) != 2 || tokens.holders[1].comment != "the  job" {
		t.Error(err, tokens)
	}
}
