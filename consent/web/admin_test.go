package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
)

// desk is an admin handler with its store.
type desk struct {
	t      *testing.T
	store  *failing
	config AdminConfig
	h      http.Handler
}

func newDesk(t *testing.T, more ...func(*AdminConfig)) *desk {
	t.Helper()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), keyring.Ephemeral())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	d := &desk{t: t, store: &failing{Store: store}}
	d.config = AdminConfig{Store: d.store, Source: consent.FromAPI, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon }}
	for _, m := range more {
		m(&d.config)
	}
	d.h = NewAdmin(d.config)
	return d
}

func (d *desk) do(method, path, contentType, body string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8081"
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	keepsContract(d.t, r, w)
	if w.Header().Get("Cache-Control") != "no-store" {
		d.t.Errorf("%s %s: Cache-Control %q", method, path, w.Header().Get("Cache-Control"))
	}
	return w
}

func (d *desk) put(path, body string) *httptest.ResponseRecorder {
	d.t.Helper()
	return d.do("PUT", path, "application/json", body)
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w bytes.Buffer
	if err := json.Compact(&g, got); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Compact(&w, []byte(want)); err != nil {
		t.Fatal(err)
	}
	if g.String() != w.String() {
		t.Errorf("got  %s\nwant %s", &g, &w)
	}
}

func TestRecordOverHTTP(t *testing.T) {
	d := newDesk(t)
	const path = "/v1/consent/newsletter/Anna%40Example.org"
	w := d.do("GET", path, "", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	sameJSON(t, w.Body.Bytes(), `{"scope":"newsletter","address":"anna@example.org","mail":"subscribed","open":"unset","click":"unset","version":0,"detail":{}}`)

	const after = `{"scope":"newsletter","address":"anna@example.org","mail":"subscribed","open":"granted","click":"denied","version":1,
		"detail":{"click":{"time":"2026-03-01T12:00:00Z","source":"api","notice":"2026-03"},"open":{"time":"2026-03-01T12:00:00Z","source":"api","notice":"2026-03"}}}`
	w = d.put(path, ` {"open":"granted", "click":"denied", "notice":"2026-03"} `)
	if w.Code != 200 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	sameJSON(t, w.Body.Bytes(), after)
	sameJSON(t, d.do("GET", "/v1/consent/NEWSLETTER/anna@example.org", "", "").Body.Bytes(), after)

	w = d.do("PUT", "/v1/consent/*/anna@example.org", "application/json; charset=utf-8", `{"mail":"unsubscribed"}`)
	sameJSON(t, w.Body.Bytes(), `{"scope":"*","address":"anna@example.org","mail":"unsubscribed","open":"unset","click":"unset","version":1,
		"detail":{"mail":{"time":"2026-03-01T12:00:00Z","source":"api","notice":""}}}`)
}

func TestAddressesInThePath(t *testing.T) {
	d := newDesk(t)
	for path, want := range map[string]string{
		"a%2Fb@example.org":              "a/b@example.org",
		"a%2Bb@example.org":              "a+b@example.org",
		"a+b@example.org":                "a+b@example.org",
		"%22odd%20one%22@example.org":    `"odd one"@example.org`,
		"a%25b%3Fc%23d@example.org":      "a%b?c#d@example.org",
		"x@b%C3%BCcher.example":          "x@xn--bcher-kva.example",
		"%D0%B6@example.org":             "ж@example.org",
		"..%2F..%2Fetc@example.org":      "../../etc@example.org",
		"x@%5BIPv6:2001:db8::1%5D":       "x@[ipv6:2001:db8::1]",
		"anna@example.org?do=x&open=yes": "anna@example.org",
	} {
		w := d.do("GET", "/v1/consent/news/"+path, "", "")
		var got struct{ Address string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil || got.Address != want {
			t.Errorf("%s: status %d, %s", path, w.Code, w.Body)
		}
	}
}

func TestSourceOfTheControlSocket(t *testing.T) {
	d := newDesk(t, func(c *AdminConfig) { c.Source = consent.FromCLI })
	if w := d.put("/v1/consent/news/a@example.org", `{"open":"granted"}`); !strings.Contains(w.Body.String(), `"source":"cli"`) {
		t.Error(w.Body)
	}
}

func TestWrongRequests(t *testing.T) {
	const path = "/v1/consent/news/a@example.org"
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
		field, allowed                        string
	}{
		{"scope", "GET", "/v1/consent/a%20b/a@example.org", "", "", 400, "scope", ""},
		{"address", "GET", "/v1/consent/news/anna", "", "", 400, "address", ""},
		{"address with line end", "GET", "/v1/consent/news/a%0d%0a@example.org", "", "", 400, "address", ""},
		{"put to an address", "PUT", "/v1/consent/news/anna", "application/json", `{"open":"granted"}`, 400, "address", ""},
		{"no type", "PUT", path, "", `{"open":"granted"}`, 415, "Content-Type", "application/json"},
		{"a form", "PUT", path, "application/x-www-form-urlencoded", "open=granted", 415, "Content-Type", "application/json"},
		{"plain text", "PUT", path, "text/plain", `{"open":"granted"}`, 415, "Content-Type", "application/json"},
		{"empty", "PUT", path, "application/json", "", 400, "", ""},
		{"broken", "PUT", path, "application/json", `{"open":"granted"`, 400, "", ""},
		{"two objects", "PUT", path, "application/json", `{"open":"granted"}{"click":"granted"}`, 400, "", ""},
		{"a list", "PUT", path, "application/json", `["open"]`, 400, "", ""},
		{"a string", "PUT", path, "application/json", `"open"`, 400, "", ""},
		{"null", "PUT", path, "application/json", `null`, 400, "", ""},
		{"nothing", "PUT", path, "application/json", `{}`, 400, "", "mail open click"},
		{"notice alone", "PUT", path, "application/json", `{"notice":"x"}`, 400, "", "mail open click"},
		{"unknown member", "PUT", path, "application/json", `{"open":"granted","opens":"granted"}`, 400, "opens", "mail open click notice"},
		{"other case", "PUT", path, "application/json", `{"Open":"granted"}`, 400, "Open", "mail open click notice"},
		{"source", "PUT", path, "application/json", `{"open":"granted","source":"page"}`, 400, "source", "mail open click notice"},
		{"wrong state", "PUT", path, "application/json", `{"open":"yes"}`, 400, "open", "granted denied unset"},
		{"state of another", "PUT", path, "application/json", `{"click":"subscribed"}`, 400, "click", "granted denied unset"},
		{"mail state", "PUT", path, "application/json", `{"mail":"granted"}`, 400, "mail", "subscribed unsubscribed"},
		{"empty state", "PUT", path, "application/json", `{"mail":""}`, 400, "mail", "subscribed unsubscribed"},
		{"boolean", "PUT", path, "application/json", `{"open":true}`, 400, "open", ""},
		{"null member", "PUT", path, "application/json", `{"open":null}`, 400, "open", ""},
		{"twice", "PUT", path, "application/json", `{"open":"denied","open":"granted"}`, 400, "open", ""},
		{"twice, escaped", "PUT", path, "application/json", `{"open":"denied","op\u0065n":"granted"}`, 400, "open", ""},
		{"long notice", "PUT", path, "application/json", `{"open":"granted","notice":"` + strings.Repeat("x", 65) + `"}`, 400, "notice", ""},
		{"notice with line end", "PUT", path, "application/json", `{"open":"granted","notice":"a\nb"}`, 400, "notice", ""},
		{"too large", "PUT", path, "application/json", `{"notice":"` + strings.Repeat("x", maxChange) + `"}`, 413, "", ""},
		{"POST", "POST", path, "application/json", `{"open":"granted"}`, 405, "", "GET PUT HEAD"},
		{"DELETE", "DELETE", path, "", "", 405, "", "GET PUT HEAD"},
		{"a person in no scope", "GET", "/v1/consent/news", "", "", 405, "", "DELETE"},
		{"elsewhere", "GET", "/v1/consents", "", "", 404, "", ""},
		{"root", "GET", "/", "", "", 404, "", ""},
		{"slash not encoded", "GET", "/v1/consent/news/a/b@example.org", "", "", 404, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			w := d.do(c.method, c.path, c.contentType, c.body)
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if w.Code != c.status || p.Status != c.status || w.Header().Get("Content-Type") != "application/problem+json" ||
				p.Type != "about:blank" || p.Title != http.StatusText(c.status) || p.Detail == "" {
				t.Errorf("status %d, %v\n%s", w.Code, w.Header(), w.Body)
			}
			if p.Field != c.field || strings.Join(p.Allowed, " ") != c.allowed {
				t.Errorf("field %q, allowed %q", p.Field, p.Allowed)
			}
			if (w.Code == 405) != (w.Header().Get("Allow") != "") {
				t.Errorf("Allow: %q", w.Header().Get("Allow"))
			}
			if w := d.do("GET", path, "", ""); !strings.Contains(w.Body.String(), `"version":0`) {
				t.Errorf("something was changed: %s", w.Body)
			}
		})
	}
}

func TestAdminWhileTheStoreFails(t *testing.T) {
	const path = "/v1/consent/news/a@example.org"
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("%w: dial tcp 10.0.0.7:6379", consent.ErrUnreachable), 503},
		{consent.ErrForeign, 503},
		{errors.New("a record that cannot be read, at 10.0.0.7"), 500},
	} {
		d := newDesk(t)
		d.store.err = c.err
		for _, w := range []*httptest.ResponseRecorder{d.do("GET", path, "", ""), d.put(path, `{"open":"granted"}`)} {
			if w.Code != c.status || (w.Header().Get("Retry-After") != "") != (c.status == 503) || strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Errorf("%v: status %d, Retry-After %q\n%s", c.err, w.Code, w.Header().Get("Retry-After"), w.Body)
			}
		}
		d.store.err, d.store.applyErr = nil, c.err
		if w := d.put(path, `{"open":"granted"}`); w.Code != c.status {
			t.Errorf("%v for one person: status %d", c.err, w.Code)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	var spool error
	d := newDesk(t, func(c *AdminConfig) {
		c.Ready = append(c.Ready, func(context.Context) error { return spool })
	})
	check := func(status int, lines ...string) {
		t.Helper()
		if w := d.do("GET", "/healthz", "", ""); w.Code != 200 || w.Body.String() != "ok\n" {
			t.Errorf("healthz: %d %q", w.Code, w.Body)
		}
		w := d.do("GET", "/readyz", "", "")
		if want := strings.Join(lines, "\n") + "\n"; w.Code != status || w.Body.String() != want {
			t.Errorf("readyz: %d %q, want %d %q", w.Code, w.Body, status, want)
		}
	}
	check(200, "ready")
	d.store.err = fmt.Errorf("%w: dial tcp 10.0.0.7:6379: refused", consent.ErrUnreachable)
	check(503, "store: the consent store does not answer")
	spool = errors.New("spool: the disk is full")
	check(503, "store: the consent store does not answer", "spool: the disk is full")
	d.store.err = consent.ErrForeign
	check(503, "store: "+consent.ErrForeign.Error(), "spool: the disk is full")
	spool = nil
	for _, is := range []error{consent.ErrMoved, consent.ErrFilling} {
		d.store.err = fmt.Errorf("%w: %w", consent.ErrUnreachable, is)
		check(503, "store: "+is.Error())
	}
	d.store.err = nil
	check(200, "ready")
}

// Where only a restart helps /healthz says so, and nothing of why.
func TestNotAlive(t *testing.T) {
	err := errors.New("the listener 10.0.0.7:25 takes no connections any more")
	d := newDesk(t, func(c *AdminConfig) { c.Alive = func(context.Context) error { return err } })
	if w := d.do("GET", "/healthz", "", ""); w.Code != 503 || w.Body.String() != "not well, the log says why\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := d.do("GET", "/readyz", "", ""); w.Code != 200 {
		t.Errorf("readyz: %d %q", w.Code, w.Body)
	}
	err = nil
	if w := d.do("GET", "/healthz", "", ""); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// Balancers ask every second, in HTTP/1.0 without a Host; the log gets what changes.
func TestReadinessAskedByBalancers(t *testing.T) {
	var log bytes.Buffer
	d := newDesk(t, func(c *AdminConfig) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ask := func(want int) {
		t.Helper()
		for range 5 {
			r := httptest.NewRequest("GET", "/readyz", nil)
			r.Host = ""
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}))
			w := httptest.NewRecorder()
			if d.h.ServeHTTP(w, r); w.Code != want {
				t.Errorf("status %d, not %d", w.Code, want)
			}
		}
	}
	ask(200)
	if log.Len() > 0 {
		t.Errorf("while all is well: %s", log.String())
	}
	d.store.err = consent.ErrForeign
	ask(503)
	d.store.err = nil
	ask(200)
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "not ready") || !strings.Contains(got, "ready again") {
		t.Errorf("the log:\n%s", got)
	}
}

func TestHostAgainstRebinding(t *testing.T) {
	d := newDesk(t, func(c *AdminConfig) { c.AllowedHosts = []string{"admin.example.org"} })
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}
	for _, c := range []struct {
		local net.Addr
		host  string
		want  int
	}{
		{loopback, "127.0.0.1:8081", 200}, {loopback, "localhost", 200}, {loopback, "LOCALHOST.:8081", 200}, {loopback, "[::1]:8081", 200},
		{loopback, "127.1.2.3", 200}, {loopback, "[::1]", 200}, {loopback, "admin.example.org", 200}, {loopback, "Admin.example.org:443", 200},
		{loopback, "evil.example.org:8081", 403}, {loopback, "localhost.evil.example.org", 403}, {loopback, "127.0.0.1.evil.example.org", 403},
		{loopback, "192.0.2.1", 403}, {loopback, "", 403}, {loopback, "xlocalhost", 403},
		{&net.TCPAddr{IP: net.IPv6loopback}, "evil.example.org", 403},
		{nil, "evil.example.org", 403},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, "gate.example.org", 200},
		{&net.UnixAddr{Name: "/run/x"}, "anything", 200},
	} {
		r := httptest.NewRequest("GET", "/v1/openapi.json", nil)
		r.Host = c.host
		if c.local != nil {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.local))
		}
		w := httptest.NewRecorder()
		d.h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("Host %q at %v: status %d, want %d", c.host, c.local, w.Code, c.want)
		}
	}
}

// The control socket is this handler on a unix socket.
func TestOverUnixSocket(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d.h}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://consentgate/v1/consent/news/a@example.org")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func FuzzReadObject(f *testing.F) {
	f.Add([]byte(`{"open":"granted","notice":"x"}`))
	f.Add([]byte(`{"open":{"a":[1,2]}}`))
	f.Add([]byte(`{"a":"b","a":"c"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := readObject(body, "{}")
		var want map[string]string
		if err != nil {
			if !errors.As(err, new(problem)) {
				t.Fatalf("%q: %v is no problem", body, err)
			}
			return
		}
		if json.Unmarshal(body, &want) != nil || len(want) != len(got) {
			t.Fatalf("%q read as %v, which the standard library reads as %v", body, got, want)
		}
		for k, v := range got {
			if want[k] != v {
				t.Fatalf("%q: member %q is %q, not %q", body, k, v, want[k])
			}
		}
	})
}

// What an operator changes has a line under the ID that what follows from it has, with addresses in clear only where
// that is wanted, and of somebody who was erased never. What a program sets for one person after the other has none
// but for debugging.
func TestChangesAreLogged(t *testing.T) {
	for _, tt := range []struct {
		source             consent.Source
		full               bool
		level, marta, anna string
	}{
		{consent.FromCLI, false, "INFO", "m•••@example.org", "m•••@example.org"},
		{consent.FromAPI, false, "DEBUG", "m•••@example.org", "m•••@example.org"},
		{consent.FromCLI, true, "INFO", "marta@example.org", "martha@example.org"},
	} {
		var log bytes.Buffer
		d := newDesk(t, func(c *AdminConfig) {
			c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			c.Source, c.FullAddresses = tt.source, tt.full
		})
		d.do("PUT", "/v1/consent/news/marta@example.org", "application/json", `{"open":"denied","mail":"unsubscribed"}`)
		d.do("GET", "/v1/consent/news/marta@example.org", "", "")
		d.do("PUT", "/v1/consent/news/marta@example.org", "application/json", `{"open":"nonsense"}`)
		d.do("POST", "/v1/rename", "application/json", `{"old":"marta@example.org","new":"martha@example.org"}`)
		d.do("POST", "/v1/consent?scope=news", "application/x-ndjson", `{"address":"joe@example.org","scope":"news","open":"granted"}`)
		d.do("DELETE", "/v1/consent/martha@example.org", "", "")
		d.do("POST", "/v1/accept-store", "", "")
		id := ` id=\w{16} source=` + string(tt.source)
		lines := strings.Split(log.String(), "\n")
		for i, want := range []string{
			tt.level + ` msg="consent changed"` + id + ` scope=news person=` + tt.marta + ` mail=unsubscribed open=denied`,
			`INFO msg="a person's records went to another address"` + id + ` old=` + tt.marta + ` new=` + tt.anna,
			`INFO msg="records were imported"` + id + ` lines=1 changed=1`,
			`INFO msg="a person was erased"` + id,
			`INFO msg="the consent store is accepted as it is"` + id,
		} {
			if i >= len(lines) || !regexp.MustCompile(`level=`+want+`$`).MatchString(lines[i]) {
				t.Errorf("line %d is not %s in\n%s", i, want, log.String())
			}
		}
		if len(lines) != 6 {
			t.Error(log.String())
		}
	}
}
