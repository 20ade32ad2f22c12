package guard

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a guard with a store of its own, whose upstream is this machine.
type house struct {
	http.Handler
	t     *testing.T
	store consent.Store
	hits  *token.Hits
	links *token.Sealer
	log   bytes.Buffer
	who   consent.Address
}

func anywhere(string, string, syscall.RawConn) error { return nil }

func newHouse(t *testing.T, change func(*Config)) *house {
	t.Helper()
	ring := keyring.Ephemeral()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h := &house{t: t, store: store, hits: token.NewHits(ring), links: token.New(ring)}
	if h.who, err = consent.ParseAddress("anna@example.org"); err != nil {
		t.Fatal(err)
	}
	c := Config{Store: store, Hits: h.hits, Policy: func() consent.Policy { return consent.Policy{} }, Forward: ForwardNone,
		Client: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.77") },
		Log:    slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Control: anywhere}
	if change != nil {
		change(&c)
	}
	h.Handler = New(c)
	return h
}

func (h *house) set(open, click consent.State) {
	h.t.Helper()
	rs, err := h.store.Apply(context.Background(), []consent.Change{{Who: h.who, Scope: "news", Open: open, Click: click, Source: consent.FromPage, Time: time.Unix(1e9, 0)}})
	if err != nil || rs[0].Err != nil {
		h.t.Fatal(err, rs)
	}
}

func (h *house) token(purpose consent.Purpose, addr, dest string) string {
	return h.hits.Seal(token.Hit{Who: h.who, Scope: "news", Purpose: purpose, URL: addr, Destination: dest, Language: "de"})
}

func (h *house) get(method, token string, header ...string) *http.Response {
	r := httptest.NewRequest(method, "/t/"+token, nil)
	r.Header.Set("User-Agent", "Reader/1.0")
	r.Header.Set("Cookie", "a=b")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// server is a sender's: it counts who asks, and answers with a picture of its own.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

const picture = "\x89PNG a picture"

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	s := new(server)
	if answer == nil {
		answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("Set-Cookie", "id=1")
			w.Header().Set("X-Tracker", "1")
			io.WriteString(w, picture)
		}
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestStates: what each state yields, and that it is the one that holds now.
func TestStates(t *testing.T) {
	s := newServer(t, nil)
	h := newHouse(t, nil)
	const counter, dest = "https://click.example.net/c?u=1", "https://shop.example/offer?a=1"
	pixel, link, opaque := h.token(consent.Open, s.URL+"/o.gif?id=1", ""), h.token(consent.Click, counter, dest), h.token(consent.Click, counter, "")
	for _, x := range []struct{ open, click consent.State }{
		{"", ""}, {consent.Granted, consent.Denied}, {consent.Denied, consent.Granted}, {consent.Granted, consent.Granted}, {consent.Unset, consent.Unset}, {consent.Denied, consent.Denied}} {
		if x.open != "" {
			h.set(x.open, x.click)
		}
		before := s.asked()
		r := h.get("GET", pixel)
		got := body(t, r)
		if x.open == consent.Granted {
			if got != picture || r.Header.Get("Content-Type") != "image/png" || s.asked() != before+1 {
				t.Errorf("open %s: %q, %v, asked %d times", x.open, got, r.Header, s.asked()-before)
			}
		} else if got != string(blank) || r.Header.Get("Content-Type") != "image/gif" || s.asked() != before {
			t.Errorf("open %s: %q, %v, asked %d times", x.open, got, r.Header, s.asked()-before)
		}
		if r.StatusCode != 200 || r.Header.Get("Set-Cookie") != "" || r.Header.Get("X-Tracker") != "" || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("open %s: %d %v", x.open, r.StatusCode, r.Header)
		}

		want := dest
		if x.click == consent.Granted {
			want = counter
		}
		if r := h.get("GET", link); r.StatusCode != 302 || r.Header.Get("Location") != want || r.Header.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(r.Header.Get("Cache-Control"), "private, no-store") {
			t.Errorf("click %s: %d %v", x.click, r.StatusCode, r.Header)
		}
		r = h.get("GET", opaque)
		if x.click == consent.Granted {
			if r.StatusCode != 302 || r.Header.Get("Location") != counter {
				t.Errorf("click %s, destination unknown: %d %v", x.click, r.StatusCode, r.Header)
			}
		} else if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, `href="https://click.example.net/c?u=1"`) || !strings.Contains(got, `<html lang="de">`) || r.Header.Get("Location") != "" {
			t.Errorf("click %s, destination unknown: %d %v\n%s", x.click, r.StatusCode, r.Header, got)
		}
	}
	if strings.Contains(h.log.String(), "anna") || strings.Contains(h.log.String(), pixel[:40]) || h.log.Len() > 0 {
		t.Errorf("the log says something: %s", h.log.String())
	}
}

// TestUnset: what unset counts as is the operator's to say, as for the copies.
func TestUnset(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		c.Policy = func() consent.Policy { return consent.Policy{ClickWhenUnset: consent.Granted} }
	})
	link := h.token(consent.Click, "https://click.example.net/", "https://shop.example/")
	if r := h.get("GET", link); r.Header.Get("Location") != "https://click.example.net/" {
		t.Errorf("unset: to %s", r.Header.Get("Location"))
	}
	h.set("", consent.Denied)
	if r := h.get("GET", link); r.Header.Get("Location") != "https://shop.example/" {
		t.Errorf("denied: to %s", r.Header.Get("Location"))
	}
}

// TestNobodyAsked: what no person asked for reaches no counter.
func TestNobodyAsked(t *testing.T) {
	s := newServer(t, nil)
	h := newHouse(t, nil)
	h.set(consent.Granted, consent.Granted)
	pixel, link := h.token(consent.Open, s.URL+"/o.gif", ""), h.token(consent.Click, "https://click.example.net/", "https://shop.example/")
	for _, x := range []struct {
		method string
		header []string
	}{{"HEAD", nil}, {"GET", []string{"Sec-Purpose", "prefetch;prerender"}}, {"GET", []string{"Purpose", "prefetch"}}, {"GET", []string{"X-Moz", "prefetch"}}} {
		if r := h.get(x.method, pixel, x.header...); r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/gif" {
			t.Errorf("%s %s: %d %v", x.method, x.header, r.StatusCode, r.Header)
		}
		if r := h.get(x.method, link, x.header...); r.StatusCode != 302 || r.Header.Get("Location") != "https://shop.example/" {
			t.Errorf("%s %s: %d %v", x.method, x.header, r.StatusCode, r.Header)
		}
	}
	if s.asked() != 0 {
		t.Errorf("the counter was asked %d times", s.asked())
	}
	for _, method := range []string{"POST", "PUT", "OPTIONS", "TRACE"} {
		if r := h.get(method, link); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" || r.Header.Get("Location") != "" {
			t.Errorf("%s: %d %v", method, r.StatusCode, r.Header)
		}
	}
}

// slowStore is one that does not answer, and does not care for its caller's time either.
type slowStore struct {
	consent.Store
	until chan struct{}
	err   error
}

func (s *slowStore) Lookup(context.Context, consent.Scope, []consent.Address) ([]consent.Result, error) {
	<-s.until
	return []consent.Result{{Err: s.err}}, s.err
}

// TestStoreDown: the reader does not wait, and is not tracked.
func TestStoreDown(t *testing.T) {
	gone := make(chan struct{})
	close(gone)
	for name, slow := range map[string]*slowStore{
		"hangs":  {until: make(chan struct{}), err: consent.ErrUnreachable},
		"is off": {until: gone, err: fmt.Errorf("%w: for a test", consent.ErrUnreachable)},
	} {
		s := newServer(t, nil)
		h := newHouse(t, func(c *Config) { slow.Store, c.Store = c.Store, slow })
		h.set(consent.Granted, consent.Granted)
		start := time.Now()
		r := h.get("GET", h.token(consent.Click, "https://click.example.net/", "https://shop.example/"))
		if took := time.Since(start); took > lookupTimeout+200*time.Millisecond {
			t.Errorf("%s: the reader waited %v", name, took)
		}
		if r.StatusCode != 302 || r.Header.Get("Location") != "https://shop.example/" {
			t.Errorf("%s: %d to %s", name, r.StatusCode, r.Header.Get("Location"))
		}
		if got := body(t, h.get("GET", h.token(consent.Open, s.URL, ""))); got != string(blank) || s.asked() != 0 {
			t.Errorf("%s: %q, asked %d times", name, got, s.asked())
		}
		if got := h.get("GET", h.token(consent.Click, "https://click.example.net/", "")); got.StatusCode != 200 {
			t.Errorf("%s, destination unknown: %d", name, got.StatusCode)
		}
		if n := strings.Count(h.log.String(), "\n"); n != 1 || strings.Contains(h.log.String(), "anna") {
			t.Errorf("%s: logged %d lines:\n%s", name, n, h.log.String())
		}
		if name == "hangs" {
			close(slow.until)
		}
	}
}

// TestNoToken: everything but a token of ours gets the same answer.
func TestNoToken(t *testing.T) {
	h := newHouse(t, nil)
	h.set(consent.Granted, consent.Granted)
	tok := h.token(consent.Click, "https://click.example.net/", "https://shop.example/")
	unsubscribe := h.links.Seal(token.Claims{Who: h.who, Scope: "news"})
	want := ""
	for _, path := range []string{"/t/", "/t/x", "/t/" + tok[1:], "/t/" + tok[:len(tok)-1], "/t/" + tok + "/", "/u/" + tok, "/" + tok, "/t/" + unsubscribe, "/t/https://evil.example/", "/t/?url=https://evil.example/", "/", "/t/" + strings.Repeat("A", 20000)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if want == "" {
			want = w.Body.String()
		}
		if w.Code != 404 || w.Header().Get("Location") != "" || w.Body.String() != want || strings.Contains(w.Body.String(), "evil") {
			t.Errorf("%.60s: %d %v", path, w.Code, w.Header())
		}
	}
	w := httptest.NewRecorder() // what is put behind a link on its way does not lead elsewhere
	h.ServeHTTP(w, httptest.NewRequest("GET", "/t/"+tok+"?url=https://evil.example/&fbclid=x", nil))
	if w.Header().Get("Location") != "https://click.example.net/" {
		t.Errorf("with a query: to %s", w.Header().Get("Location"))
	}
}

// TestPage: the page of a link whose destination nobody knows, in each language, fetches and runs nothing.
func TestPage(t *testing.T) {
	h := newHouse(t, nil)
	if len(texts) != 8 {
		t.Errorf("%d languages", len(texts))
	}
	seen := map[string]bool{}
	for _, x := range texts {
		for name, s := range map[string]string{"Title": x.Title, "Why": x.Why, "Choice": x.Choice, "GoOn": x.GoOn, "BadTitle": x.BadTitle, "Bad": x.Bad} {
			if s == "" || seen[s] {
				t.Errorf("%s of %s is empty, or as in another language", name, x.Lang)
			}
			seen[s] = true
		}
		if strings.Count(x.Why, "%s") != 1 || strings.Count(x.Why, "%") != 1 {
			t.Errorf("%s names the host not once", x.Lang)
		}
		r := h.get("GET", h.hits.Seal(token.Hit{Who: h.who, Scope: "news", Purpose: consent.Click, URL: `https://click.example.net/"><script>alert(1)</script>?a=1&b=2`, Language: x.Lang + "-XX"}))
		got := body(t, r)
		for _, want := range []string{`<html lang="` + x.Lang + `">`, "click.example.net", `href="https://click.example.net/`, "noreferrer"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %s in\n%s", x.Lang, want, got)
			}
		}
		if strings.Contains(got, "<script") || strings.Contains(got, "anna") || strings.Contains(got, `href="http`) && strings.Count(got, `href=`) != 1 {
			t.Errorf("%s:\n%s", x.Lang, got)
		}
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") {
			t.Errorf("policy %q", csp)
		}
	}
	for accept, want := range map[string]string{"fr-CA,en;q=0.5": "fr", "": "en", "xx": "en", "pt-BR": "pt"} {
		r := h.get("GET", "x", "Accept-Language", accept)
		if got := body(t, r); !strings.Contains(got, `<html lang="`+want+`">`) {
			t.Errorf("%q: not in %s", accept, want)
		}
	}
}

// TestReader: what the sender's server learns of the reader.
func TestReader(t *testing.T) {
	for _, x := range []struct {
		forward               Forward
		address, agent, wants string
	}{
		{ForwardNone, "192.0.2.77", "Mozilla/5.0", ""},
		{ForwardTruncated, "192.0.2.77", "Reader/1.0", "192.0.2.0"},
		{ForwardTruncated, "2001:db8:1:2:3::4", "Reader/1.0", "2001:db8:1::"},
		{ForwardTruncated, "::ffff:192.0.2.77", "Reader/1.0", "192.0.2.0"},
		{ForwardFull, "192.0.2.77", "Reader/1.0", "192.0.2.77"},
		{ForwardFull, "127.0.0.1", "Reader/1.0", ""},
		{ForwardTruncated, "10.1.2.3", "Reader/1.0", ""},
	} {
		s := newServer(t, nil)
		h := newHouse(t, func(c *Config) {
			c.Forward, c.Client = x.forward, func(*http.Request) netip.Addr { return netip.MustParseAddr(x.address) }
		})
		h.set(consent.Granted, "")
		h.get("GET", h.token(consent.Open, s.URL+"/o.gif?id=1&x=%41", ""), "X-Forwarded-For", "198.51.100.1", "Referer", "https://mail.example.org/", "Accept-Language", "de")
		if s.asked() != 1 {
			t.Fatalf("%s: asked %d times", x.forward, s.asked())
		}
		r := s.seen[0]
		if got := r.Header.Get("X-Forwarded-For"); got != x.wants || r.UserAgent() != x.agent || r.RequestURI != "/o.gif?id=1&x=%41" {
			t.Errorf("%s: %q %q %s", x.forward, got, r.UserAgent(), r.RequestURI)
		}
		for name := range r.Header {
			switch name {
			case "Accept", "User-Agent", "X-Forwarded-For":
			default:
				t.Errorf("%s: the server is told %s: %s", x.forward, name, r.Header[name])
			}
		}
	}
}

// TestServers: a sender's server that does what it should not gets nothing through.
func TestServers(t *testing.T) {
	inner := newServer(t, nil)
	moved := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for _, x := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a page", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<script>")
		}, string(blank)},
		{"no type", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, picture)
		}, string(blank)},
		{"an error", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.WriteHeader(500)
			io.WriteString(w, picture)
		}, string(blank)},
		{"a picture of no type", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "\x89PNG\r\n\x1a\n and more")
		}, "\x89PNG\r\n\x1a\n and more"},
		{"a picture of the type of any file", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "binary/octet-stream")
			io.WriteString(w, "GIF89a and more")
		}, "GIF89a and more"},
		{"a page of the type of any file", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			io.WriteString(w, "<html><script>")
		}, string(blank)},
		{"no content", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, string(blank)},
		{"empty", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", "image/gif") }, string(blank)},
		{"said to be too long", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("Content-Length", "999999999")
		}, string(blank)},
		{"moved", moved(inner.URL + "/picture"), picture},
		{"moved to another scheme", moved("file:///etc/passwd"), string(blank)},
		{"moved to a port of mail", moved("http://127.0.0.1:25/"), string(blank)},
		{"in circles", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, string(blank)},
		{"cut off", func(w http.ResponseWriter, r *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		}, string(blank)},
	} {
		s := newServer(t, x.answer)
		h := newHouse(t, nil)
		h.set(consent.Granted, "")
		r := h.get("GET", h.token(consent.Open, s.URL+"/o", ""))
		if got := body(t, r); got != x.want || r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), "image/") {
			t.Errorf("%s: %d %s %.80q", x.name, r.StatusCode, r.Header.Get("Content-Type"), got)
		}
		if strings.Contains(h.log.String(), s.URL) || strings.Contains(h.log.String(), "anna") {
			t.Errorf("%s: the log names the address: %s", x.name, h.log.String())
		}
	}
	if r := inner.seen[0]; r.Referer() != "" {
		t.Errorf("moved: told where from: %s", r.Referer())
	}
}

// TestTooLong: a picture over the limit is cut so that the reader notices.
func TestTooLong(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		b := make([]byte, 1<<20)
		for range 12 {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	h := newHouse(t, nil)
	h.set(consent.Granted, "")
	front := httptest.NewServer(h)
	defer front.Close()
	r, err := http.Get(front.URL + "/t/" + h.token(consent.Open, s.URL, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if n, err := io.Copy(io.Discard, r.Body); err == nil || n > maxPicture+1 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestPrivate: without a Control of the test's, nothing on this machine is fetched, by whatever name, and neither is
// where a public server sends to.
func TestPrivate(t *testing.T) {
	s := newServer(t, nil)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	h := newHouse(t, func(c *Config) { c.Control = nil })
	h.set(consent.Granted, "")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1", "0x7f.1", "user:password@127.0.0.1"} {
		if got := body(t, h.get("GET", h.token(consent.Open, "http://"+host+":"+port+"/o", ""))); got != string(blank) {
			t.Errorf("%s: %q", host, got)
		}
	}
	if s.asked() != 0 {
		t.Errorf("fetched %d times", s.asked())
	}

	first := newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL+"/o", http.StatusFound) })
	h = newHouse(t, func(c *Config) {
		c.Control = func(network, address string, _ syscall.RawConn) error {
			if address == first.Listener.Addr().String() { // this one is public
				return nil
			}
			return fmt.Errorf("not %s", address)
		}
	})
	h.set(consent.Granted, "")
	if got := body(t, h.get("GET", h.token(consent.Open, first.URL, ""))); got != string(blank) || first.asked() != 1 || s.asked() != 0 {
		t.Errorf("redirected: %q, %d, %d", got, first.asked(), s.asked())
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkLink(b *testing.B) {
	ring := keyring.Ephemeral()
	gone := make(chan struct{})
	close(gone)
	hits := token.NewHits(ring)
	h := New(Config{Store: &slowStore{until: gone}, Hits: hits, Policy: func() consent.Policy { return consent.Policy{} }, Log: slog.New(slog.DiscardHandler)})
	who, err := consent.ParseAddress("anna@example.org")
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/t/"+hits.Seal(token.Hit{Who: who, Scope: "news", Purpose: consent.Click, URL: "https://click.example.net/c?u=https%3A%2F%2Fshop.example%2Foffer&m=1", Destination: "https://shop.example/offer"}), nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(discard{http.Header{}}, r)
	}
}
