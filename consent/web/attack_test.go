package web

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// No call does anything without a token, or with one of too small a role, whatever the method, and no
// spelling of a path leads past that.
func TestEveryCallAsksForItsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	tokenFile(t, path, tokenLine("read", "r-token", "")+tokenLine("write", "w-token", ""), noon)
	tokens, err := LoadTokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, func(c *AdminConfig) { c.Tokens = tokens })
	needs := map[string]role{ // written down once more, so that a mistake in one of the two shows
		"GET /v1/consent": reads, "POST /v1/consent": writes, "POST /v1/consent/lookup": reads,
		"DELETE /v1/consent/{address}": writes, "GET /v1/consent/{scope}/{address}": reads, "PUT /v1/consent/{scope}/{address}": writes,
		"GET /v1/history/{address}": reads, "GET /v1/export/{address}": reads, "POST /v1/rename": writes,
		"POST /v1/accept-store": writes, "GET /v1/openapi.json": reads,
	}
	fill := strings.NewReplacer("{address}", "a@example.org", "{scope}", "news")
	seen := 0
	for pattern, calls := range (&admin{}).paths() {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"} {
			call := method
			if method == "HEAD" {
				call = "GET"
			}
			need, known := needs[call+" "+pattern]
			if _, ok := calls[call]; ok != known {
				t.Errorf("%s %s: taken: %v, and expected: %v", method, pattern, ok, known)
			}
			for token, has := range map[string]role{"": noRole, "Bearer x": noRole, "Bearer r-token": reads, "Bearer w-token": writes} {
				header := []string{isJSON}
				if token != "" {
					header = append(header, "Authorization: "+token)
				}
				w := d.ask(method, fill.Replace(pattern), `{"open":"granted"}`, header...)
				switch {
				case !known && w.Code != http.StatusMethodNotAllowed:
					t.Errorf("%s %s with %q: status %d", method, pattern, token, w.Code)
				case known && has == noRole && w.Code != 401, known && has == reads && need == writes && w.Code != 403:
					t.Errorf("%s %s with %q: status %d", method, pattern, token, w.Code)
				case known && has >= need && (w.Code == 401 || w.Code == 403):
					t.Errorf("%s %s with %q: status %d", method, pattern, token, w.Code)
				}
			}
		}
		seen += len(calls)
	}
	if seen != len(needs) {
		t.Errorf("%d calls, %d are expected", seen, len(needs))
	}
	// The record changed by the write token above is told to nobody without one.
	for _, path := range []string{
		"/v1/consent/news/a@example.org", "//v1/consent/news/a@example.org", "/v1//consent/news/a@example.org", "/v1/./consent/news/a@example.org",
		"/healthz/../v1/consent/news/a@example.org", "/healthz/%2e%2e/v1/consent/news/a@example.org", "/healthz%2f..%2fv1/consent/news/a@example.org",
		"/v1/openapi.json/../consent/news/a@example.org", "/v1/consent/news/a%40example.org/", "/V1/consent/news/a@example.org",
		"/v1/consent/news/a@example.org;x", "/v1/consent/news/a@example.org%00", "/v1/consent/news%2fa@example.org", "/v1%2fconsent%2fnews%2fa@example.org",
		"/readyz/v1/consent", "/v1/consent?with_addresses=true&cursor=", "/v1/export/a@example.org", "/v1/history/a@example.org",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			r := httptest.NewRequest(method, path, nil)
			r.Host = "localhost"
			w := httptest.NewRecorder()
			d.h.ServeHTTP(w, r)
			if text := w.Body.String(); w.Code < 300 || strings.Contains(text, "granted") || strings.Contains(text, "version") {
				t.Errorf("%s %s: status %d\n%s", method, path, w.Code, w.Body)
			}
			if to := w.Header().Get("Location"); to != "" && !strings.HasPrefix(to, "/v1/") {
				t.Errorf("%s %s leads to %s", method, path, to)
			}
		}
	}
}

// What a call is answered never says where the store is, or what else is configured.
func TestAnswersShowNoConfiguration(t *testing.T) {
	d := newDesk(t)
	const where = "dial tcp 192.0.2.7:6379: user gate of /var/lib/consentgate/consent.db"
	for _, cause := range []error{consent.ErrUnreachable, consent.ErrForeign, consent.ErrLost, consent.ErrNotDurable, fmt.Errorf("odd")} {
		d.store.err = fmt.Errorf("%s: %w", where, cause)
		d.config.Forget = func(consent.Address) error { return d.store.err }
		d.h = NewAdmin(d.config)
		for _, call := range []string{
			"GET /v1/consent", "GET /v1/consent?limit=1", "GET /v1/consent?cursor=x", "GET /v1/consent/news/a@example.org", "PUT /v1/consent/news/a@example.org",
			"GET /v1/history/a@example.org", "GET /v1/export/a@example.org", "DELETE /v1/consent/a@example.org", "POST /v1/accept-store",
			"POST /v1/consent", "POST /v1/consent/lookup", "POST /v1/rename", "GET /readyz",
		} {
			method, path, _ := strings.Cut(call, " ")
			body, kind := `{"open":"granted"}`, isJSON
			switch path {
			case "/v1/consent/lookup":
				body = `{"scope":"news","addresses":["a@example.org"]}`
			case "/v1/rename":
				body = `{"old":"a@example.org","new":"b@example.org"}`
			case "/v1/consent":
				body, kind = `{"address":"a@example.org","scope":"news","open":"granted"}`, "Content-Type: application/x-ndjson"
			}
			w := d.ask(method, path, body, kind)
			all := fmt.Sprint(w.Header()) + w.Body.String()
			if strings.Contains(all, "192.0.2") || strings.Contains(all, "/var/lib") || strings.Contains(all, "gate of") {
				t.Errorf("%v: %s: %s", cause, call, all)
			}
		}
	}
}

// A cursor of one's own making leads nowhere: it is refused, or a page of what is there.
func TestForgedCursors(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		d.put(fmt.Sprintf("/v1/consent/news/p%d@example.org", i), `{"open":"granted"}`)
	}
	for _, cursor := range []string{"x", "end", "%00", "..%2F..%2Fetc", strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("A", 42) + "B",
		"e1%20-%200", "-%20-%2018446744073709551615", strings.Repeat("9", 5000), "%F0%9F%92%A9", "AAAA%0d%0aSet-Cookie:x"} {
		w := d.ask("GET", "/v1/consent?limit=2&cursor="+cursor, "")
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); w.Code != 400 || err != nil || p.Field != "cursor" || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%.40s: status %d, %s", cursor, w.Code, w.Body)
		}
	}
	// One that is well formed is a place between people, of which everybody may see all anyway.
	if w := d.ask("GET", "/v1/consent?limit=2&cursor="+strings.Repeat("_", 42)+"8", ""); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("behind everybody: status %d, %s", w.Code, w.Body)
	}
}

// Of many who change the version that they read, one gets through each time.
func TestIfMatchRace(t *testing.T) {
	d := newDesk(t)
	const path = "/v1/consent/news/a@example.org"
	for round := range 5 {
		codes := make([]int, 20)
		var wg sync.WaitGroup
		for i := range codes {
			wg.Go(func() {
				body := fmt.Sprintf(`{"open":"granted","notice":"%d-%d"}`, round, i)
				codes[i] = d.ask("PUT", path, body, isJSON, fmt.Sprintf(`If-Match: "%d"`, round)).Code
			})
		}
		wg.Wait()
		slices.Sort(codes)
		if codes[0] != 200 || codes[1] != 412 || codes[19] != 412 {
			t.Errorf("round %d: %v", round, codes)
		}
	}
}
