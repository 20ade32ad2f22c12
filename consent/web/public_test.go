package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// failing is a store that can be made to fail, before or while it applies.
type failing struct {
	consent.Store
	mu            sync.Mutex
	err, applyErr error
	half          bool // what fails with applyErr is made all the same
	lookups       int
}

func (f *failing) Lookup(ctx context.Context, s consent.Scope, p []consent.Address) ([]consent.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	if f.err != nil {
		return make([]consent.Result, len(p)), f.err
	}
	return f.Store.Lookup(ctx, s, p)
}

func (f *failing) Apply(ctx context.Context, c []consent.Change) ([]consent.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rs := make([]consent.Result, len(c))
	if f.err != nil {
		return rs, f.err
	}
	if f.applyErr != nil { // the call works, the change does not
		if f.half {
			f.Store.Apply(ctx, c)
		}
		for i := range rs {
			rs[i].Err = f.applyErr
		}
		return rs, nil
	}
	return f.Store.Apply(ctx, c)
}

func (f *failing) Ping(ctx context.Context) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Ping(ctx)
}

// site is a public handler with its store.
type site struct {
	t     testing.TB
	store *failing
	links *token.Sealer
	log   bytes.Buffer
	h     http.Handler
	who   consent.Address
	now   time.Time

	letters   []Letter
	letterErr error
}

// newSite returns one whose consents hold at once.
func newSite(t testing.TB) *site { return newSiteWith(t, PublicConfig{}) }

// newConfirming returns one whose consents are to be confirmed from a mail.
func newConfirming(t *testing.T, c PublicConfig) *site {
	var s *site
	c.SendLetter = func(_ context.Context, l Letter) error {
		if s.letterErr == nil {
			s.letters = append(s.letters, l)
		}
		return s.letterErr
	}
	c.BaseURL = "https://mail.example.org/gate/"
	s = newSiteWith(t, c)
	return s
}

func newSiteWith(t testing.TB, c PublicConfig) *site {
	t.Helper()
	ring := keyring.Ephemeral()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := &site{t: t, store: &failing{Store: store}, links: token.New(ring), now: noon}
	s.who = mustParse(t, "marta@example.org")
	c.Store, c.Links, c.Ring, c.Company = s.store, s.links, ring, "Shop & Söhne <GmbH>"
	c.Log, c.Now = slog.New(slog.NewTextHandler(&s.log, nil)), func() time.Time { return s.now }
	s.h = NewPublic(c)
	return s
}

func (s *site) link(language string) string {
	return "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: "newsletter", Language: language})
}

func (s *site) do(method, path, contentType, body string, header ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	s.checkHeaders(w)
	return w
}

func (s *site) post(path, form string) *httptest.ResponseRecorder {
	s.t.Helper()
	return s.do("POST", path, "application/x-www-form-urlencoded", form)
}

// checkHeaders checks what every answer must have and what none may.
func (s *site) checkHeaders(w *httptest.ResponseRecorder) {
	s.t.Helper()
	for name, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := w.Header().Get(name); got != want {
			s.t.Errorf("status %d: %s is %q, want %q", w.Code, name, got, want)
		}
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'sha256-", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, part) {
			s.t.Errorf("status %d: policy %q lacks %q", w.Code, csp, part)
		}
	}
	for _, name := range []string{"Set-Cookie", "Location", "Access-Control-Allow-Origin"} {
		if got := w.Header().Get(name); got != "" {
			s.t.Errorf("status %d: %s: %s", w.Code, name, got)
		}
	}
	if strings.Contains(w.Body.String(), "marta") || strings.Contains(s.log.String(), "marta") {
		s.t.Error("the address stands in the answer or the log")
	}
}

func (s *site) result() consent.Result {
	s.t.Helper()
	rs, err := s.store.Store.Lookup(context.Background(), "newsletter", []consent.Address{s.who})
	if err != nil || rs[0].Err != nil {
		s.t.Fatal(rs, err)
	}
	return rs[0]
}

func (s *site) record() consent.Record { return s.result().Scope }

func (s *site) apply(c consent.Change) {
	s.t.Helper()
	c.Who, c.Source, c.Time = s.who, consent.FromImport, noon.Add(-time.Hour)
	if c.Scope == "" {
		c.Scope = "newsletter"
	}
	if rs, err := s.store.Store.Apply(context.Background(), []consent.Change{c}); err != nil || rs[0].Err != nil {
		s.t.Fatal(rs, err)
	}
}

func FuzzReadForm(f *testing.F) {
	const form = "application/x-www-form-urlencoded"
	f.Add(form, "List-Unsubscribe=One-Click")
	f.Add(form, "do=save&open=granted&open=denied")
	f.Add("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n")
	f.Add("multipart/form-data; boundary=\"\"", "--\r\n")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequest("POST", "/u/x?do=unsubscribe", strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		fields, err := readForm(httptest.NewRecorder(), r)
		if err != nil {
			return
		}
		if len(body) > maxForm {
			t.Fatalf("%d bytes were read", len(body))
		}
		if isOneClick(fields) && !strings.Contains(body, "=") && !strings.Contains(body, "name") {
			t.Fatalf("%q, %q is taken for one click", contentType, body)
		}
		if c, ok := readChoice(fields); ok {
			base := consent.Change{Who: mustParse(t, "a@example.org"), Scope: "s", Source: consent.FromPage, Time: noon}
			step := c.step(consent.Result{}, base, english.Notice, len(body)%2 == 0)
			for _, change := range append(step.now, step.ask...) {
				if err := change.Check(); err != nil {
					t.Fatalf("%q gives a change that no store takes: %v", body, err)
				}
			}
		}
	})
}

func mustParse(t testing.TB, mailbox string) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The query of the URL is no body: a scanner may append what it likes.
func TestQueryIsNoBody(t *testing.T) {
	s := newSite(t)
	if w := s.post(s.link("")+"?List-Unsubscribe=One-Click", ""); w.Code != 400 || s.record().Version != 0 {
		t.Errorf("status %d, record %+v", w.Code, s.record())
	}
	if w := s.post(s.link("")+"?utm_source=x", "List-Unsubscribe=One-Click"); w.Code != 200 || s.record().Version != 1 {
		t.Errorf("status %d, record %+v", w.Code, s.record())
	}
}

func TestScannersChangeNothing(t *testing.T) {
	s := newSite(t)
	s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Granted})
	before := s.result()
	first := s.do("GET", s.link("en"), "", "").Body.String()
	for i := range 100 {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			for _, query := range []string{"", "?do=unsubscribe", "?do=stop-tracking", "?List-Unsubscribe=One-Click"} {
				w := s.do(method, s.link("en")+query, "", "", "User-Agent", fmt.Sprint("scanner ", i))
				if method == "GET" && w.Body.String() != first {
					t.Fatal("the page changed while it was only looked at")
				}
			}
		}
	}
	if after := s.result(); after != before {
		t.Errorf("record was %+v, is %+v", before, after)
	}
}

func TestBadTokensLookAlike(t *testing.T) {
	s := newSite(t)
	good := s.link("de")
	foreign := token.New(keyring.Ephemeral()).Seal(token.Claims{Who: s.who, Scope: "newsletter", Language: "de"})
	var first *httptest.ResponseRecorder
	for _, path := range []string{"/u/" + foreign, good[:len(good)-1], good + "A", good + "/", good + "%0a", "/u/", "/u", "/", "/index.html",
		"/u//" + good[3:], "/v" + good[2:], "/u/" + strings.Repeat("A", 100_000), "/favicon.ico", "/robots.txt", "/u/c/", "/u/c/" + good[3:], "/%00"} {
		for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "PUT"} {
			w := s.do(method, path, "application/x-www-form-urlencoded", "List-Unsubscribe=One-Click", "Accept-Language", "ja, de;q=0.8")
			if first == nil {
				first = w
			}
			if w.Code != 404 || w.Body.String() != first.Body.String() || fmt.Sprint(w.Header()) != fmt.Sprint(first.Header()) {
				t.Errorf("%s %.60s: status %d, or another page", method, path, w.Code)
			}
		}
	}
	if !strings.Contains(first.Body.String(), "Dieser Link funktioniert nicht") {
		t.Errorf("page:\n%s", first.Body)
	}
	if s.store.lookups != 0 || s.record().Version != 0 {
		t.Errorf("the store was asked %d times, record %+v", s.store.lookups, s.record())
	}
}

func TestStoreDownIsNeverASuccess(t *testing.T) {
	for name, set := range map[string]func(*failing){
		"unreachable":        func(f *failing) { f.err = fmt.Errorf("%w: refused at 10.0.0.7", consent.ErrUnreachable) },
		"foreign":            func(f *failing) { f.err = consent.ErrForeign },
		"change not durable": func(f *failing) { f.applyErr = consent.ErrUnreachable },
	} {
		for _, c := range []struct{ method, body string }{
			{"GET", ""}, {"POST", "List-Unsubscribe=One-Click"}, {"POST", "do=unsubscribe"}, {"POST", "do=stop-tracking"}, {"POST", "do=save&open=granted"},
		} {
			s := newSite(t)
			set(s.store)
			if c.method == "GET" && s.store.err == nil {
				continue
			}
			w := s.do(c.method, s.link("en"), "application/x-www-form-urlencoded", c.body)
			if w.Code != 503 || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s, %s %s: status %d, Retry-After %q", name, c.method, c.body, w.Code, w.Header().Get("Retry-After"))
			}
			if strings.Contains(w.Body.String(), "10.0.0.7") || strings.Contains(w.Body.String(), "You are unsubscribed") {
				t.Errorf("%s, %s %s:\n%s", name, c.method, c.body, w.Body)
			}
		}
	}
}

// A withdrawal that the store made, but could not make durable, is no success when it is asked for once more; and
// the sender's own list is told once it is.
func TestWithdrawalThatIsNotDurable(t *testing.T) {
	for _, form := range []string{"do=unsubscribe", "do=stop-tracking", "do=save&mail=unsubscribed&click=denied"} {
		told := 0
		s := newSiteWith(t, PublicConfig{Unsubscribed: func(string, token.Claims, consent.Source) { told++ }})
		s.store.applyErr, s.store.half = consent.ErrNotDurable, true
		for range 2 {
			if w := s.post(s.link("en"), form); w.Code != 503 || told != 0 {
				t.Errorf("%s: status %d, told %d times", form, w.Code, told)
			}
		}
		s.store.applyErr = nil
		before := s.record()
		if w := s.post(s.link("en"), form); w.Code != 200 || s.record() != before || told != strings.Count(form, "unsubscribe") {
			t.Errorf("%s: status %d, told %d times, %+v", form, w.Code, told, s.record())
		}
	}
}

// An opt-out that arrived is carried out though whoever sent it hung up.
func TestOneClickOutlivesItsConnection(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := httptest.NewRequest("POST", s.link(""), strings.NewReader("List-Unsubscribe=One-Click")).WithContext(ctx)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.h.ServeHTTP(httptest.NewRecorder(), r)
	if s.record().Mail.State != consent.Unsubscribed {
		t.Errorf("record %+v", s.record())
	}
}

func TestPageForms(t *testing.T) {
	states := func(r consent.Record) string {
		return fmt.Sprintf("%s/%s/%s", r.Mail.State, r.Open.State, r.Click.State)
	}
	for _, c := range []struct {
		name   string
		before consent.Change
		form   string
		want   string // states of the record
		undone string // after the undo of the page
	}{
		{"unsubscribe", consent.Change{Mail: consent.Subscribed}, "do=unsubscribe", "unsubscribed//", "subscribed//"},
		{"unsubscribe, never seen", consent.Change{}, "do=unsubscribe", "unsubscribed//", "subscribed//"},
		{"resubscribe", consent.Change{Mail: consent.Unsubscribed}, "do=resubscribe", "subscribed//", "unsubscribed//"},
		{"stop tracking", consent.Change{Open: consent.Granted}, "do=stop-tracking", "/denied/denied", "/granted/unset"},
		{"save all", consent.Change{Mail: consent.Subscribed, Open: consent.Denied}, "do=save&mail=unsubscribed&open=granted&click=granted",
			"unsubscribed/granted/granted", "subscribed/denied/unset"},
		{"save one", consent.Change{Open: consent.Granted}, "do=save&click=denied", "/granted/denied", "/granted/unset"},
		{"save what holds", consent.Change{Mail: consent.Subscribed, Open: consent.Granted}, "do=save&mail=subscribed&open=granted", "subscribed/granted/", ""},
		{"save nothing", consent.Change{}, "do=save", "//", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.apply(c.before)
			before := s.record()
			w := s.post(s.link("en"), c.form)
			if w.Code != 200 || states(s.record()) != c.want {
				t.Fatalf("status %d, %s, want %s", w.Code, states(s.record()), c.want)
			}
			undo := undoForm(t, w.Body.String())
			if c.undone == "" {
				if undo != nil || s.record() != before {
					t.Errorf("undo %v for nothing, record %+v", undo, s.record())
				}
				return
			}
			if undo == nil {
				t.Fatal("no undo")
			}
			w = s.post(s.link("en"), undo.Encode())
			if w.Code != 200 || states(s.record()) != c.undone {
				t.Errorf("undo %v: status %d, %s, want %s", undo, w.Code, states(s.record()), c.undone)
			}
		})
	}
}

func TestConsentOfThePageHasItsNotice(t *testing.T) {
	s := newSite(t)
	s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Denied, Notice: "paper"})
	if w := s.post(s.link("de"), "do=save&mail=subscribed&open=granted&click=denied"); w.Code != 200 {
		t.Fatal(w.Code)
	}
	want := consent.Record{Scope: "newsletter", Version: 3,
		Mail:  consent.Entry{State: consent.Subscribed, Time: noon.Add(-time.Hour), Source: consent.FromImport, Notice: "paper"}, // untouched
		Open:  consent.Entry{State: consent.Granted, Time: noon, Source: consent.FromPage, Notice: "page-de-2"},
		Click: consent.Entry{State: consent.Denied, Time: noon, Source: consent.FromPage},
	}
	if got := s.record(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// preferences are the fields that the form of a page sends as it stands.
func preferences(t *testing.T, body string) url.Values {
	t.Helper()
	for form := range elements(parse(t, body), "form") {
		fields := url.Values{}
		for n := range elements(form, "input") {
			kind, _ := attr(n, "type")
			name, _ := attr(n, "name")
			value, _ := attr(n, "value")
			if _, checked := attr(n, "checked"); checked || kind == "hidden" {
				fields.Set(name, value)
			}
		}
		for n := range elements(form, "button") {
			if do, _ := attr(n, "value"); do == "save" {
				fields.Set("do", do)
				return fields
			}
		}
	}
	t.Fatal("no preferences")
	return nil
}

// A page that stood open shows what held then. Saving another choice there takes no withdrawal back that was made
// meanwhile, and no asking for one.
func TestSavingAnOldPage(t *testing.T) {
	for _, s := range []*site{newSite(t), newConfirming(t, PublicConfig{})} {
		s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Granted})
		old := preferences(t, s.page())
		s.post(s.link("en"), "List-Unsubscribe=One-Click")
		s.post(s.link("en"), "do=save&open=denied")
		old.Set("click", "denied")
		if w := s.post(s.link("en"), old.Encode()); w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
		if r := s.record(); r.Mail.State != consent.Unsubscribed || r.Open.State != consent.Denied || r.Click.State != consent.Denied || len(s.letters) != 0 {
			t.Errorf("%+v, %d letters", r, len(s.letters))
		}
		// A no of the old page is one, whatever holds by now.
		old = preferences(t, s.page())
		s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Granted})
		s.post(s.link("en"), old.Encode())
		if r := s.record(); r.Mail.State != consent.Unsubscribed || r.Open.State != consent.Denied {
			t.Errorf("%+v", r)
		}
		old.Set("open", "granted") // and a yes that was not shown is one
		if s.post(s.link("en"), old.Encode()); s.record().Open.State != consent.Granted && len(s.letters) != 1 {
			t.Errorf("%+v", s.record())
		}
	}
}

// A consent to a text that is another one by now is none to the new one. A withdrawal needs no text.
func TestConsentToAnOlderNotice(t *testing.T) {
	parsed := func(text string) PublicConfig {
		n, err := parseNotice(text)
		if err != nil {
			t.Fatal(err)
		}
		return PublicConfig{Notice: n}
	}
	old := preferences(t, newSiteWith(t, parsed("2026-03\nOpens.")).page())
	s := newSiteWith(t, parsed("2026-04\nOpens, and whom we sell them to."))
	old.Set("open", "granted")
	if w := s.post(s.link("en"), old.Encode()); w.Code != 400 || s.record().Version != 0 || !strings.Contains(w.Body.String(), english.BadRequest) {
		t.Errorf("status %d, %+v", w.Code, s.record())
	}
	old.Set("open", "denied")
	if w := s.post(s.link("en"), old.Encode()); w.Code != 200 || s.record().Open.State != consent.Denied {
		t.Errorf("a withdrawal: status %d, %+v", w.Code, s.record())
	}
	now := preferences(t, s.page())
	now.Set("open", "granted")
	if w := s.post(s.link("en"), now.Encode()); w.Code != 200 || s.record().Open.Notice != "2026-04/en" {
		t.Errorf("status %d, %+v", w.Code, s.record())
	}
}

func (s *site) page() string { return s.do("GET", s.link("en"), "", "").Body.String() }

func TestWrongForms(t *testing.T) {
	s := newSite(t)
	for _, form := range []string{"do=", "do=erase", "do=unsubscribe&do=unsubscribe", "do=unsubscribe&open=granted", "do=resubscribe&x=y",
		"do=save&open=yes", "do=save&open=unset", "do=save&mail=granted", "do=undo", "do=undo&slip=x", "do=undo&slip=x&open=granted", "do=save&mail=", "do=save&open=granted&open=denied", "do=save&scope=other", "do=save&open=granted&notice=x",
		"open=granted", "x=y"} {
		if w := s.post(s.link("en"), form); w.Code != 400 || s.record().Version != 0 {
			t.Errorf("%s: status %d, record %+v", form, w.Code, s.record())
		}
	}
}

// Unsubscribed in "*" beats the scope, so the page must not claim that it could be lifted here.
func TestUnsubscribedEverywhere(t *testing.T) {
	s := newSite(t)
	s.apply(consent.Change{Scope: consent.AnyScope, Mail: consent.Unsubscribed})
	for _, w := range []*httptest.ResponseRecorder{
		s.do("GET", s.link("en"), "", ""), s.post(s.link("en"), "do=resubscribe"), s.post(s.link("en"), "do=save&mail=subscribed"),
	} {
		body := w.Body.String()
		if w.Code != 200 || !strings.Contains(body, texts[0].MailOffEverywhere) || strings.Contains(body, "resubscribe") || strings.Contains(body, texts[0].Renewed) {
			t.Errorf("status %d:\n%s", w.Code, body)
		}
	}
	if s.record().Version != 0 {
		t.Errorf("record %+v", s.record())
	}
	// A link for "*" itself can.
	link := "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: consent.AnyScope})
	w := s.post(link, "do=resubscribe")
	if w.Code != 200 || s.result().Any.Mail.State != consent.Subscribed || !strings.Contains(w.Body.String(), texts[0].AllLists) {
		t.Errorf("status %d, %+v", w.Code, s.result())
	}
}

func TestLanguages(t *testing.T) {
	for _, c := range []struct{ mail, accept, want string }{
		{"", "", "en"}, {"de", "", "de"}, {"de", "en", "de"}, {"en", "de", "en"}, {"de-AT", "", "de"}, {"EN-gb", "de", "en"},
		{"", "de-CH, en;q=0.5", "de"}, {"", "ja, de;q=0.3", "de"}, {"", "pt-BR", "pt"}, {"", "nl-BE,fr;q=0.5", "nl"}, {"pl", "en", "pl"}, {"es-MX", "", "es"}, {"it-CH", "de", "it"}, {"", "fr-CA", "fr"}, {"", "ja", "en"}, {"ja", "de", "de"}, {"ja", "ja", "en"},
		{"not a tag!", "de", "de"}, {"", "*", "en"}, {"", ";;;q=x", "en"}, {"", strings.Repeat("de,", 1000), "en"}, {"und", "de", "de"},
	} {
		if got := textFor(c.mail, c.accept).Lang; got != c.want {
			t.Errorf("mail %q, reader %.40q: %s, want %s", c.mail, c.accept, got, c.want)
		}
	}
}

// Every language has every text, none of them is another language's, and a notice of its own.
func TestTextsAreComplete(t *testing.T) {
	same := map[string]string{ // what several languages write alike
		"No": "en es it", "Yes": "de nl", "List": "de fr es it pt pl", "From": "es fr pt", "Save": "es pt",
	}
	seen := map[string]string{}
	for _, tx := range texts {
		if consent.CheckNotice(askedFor+tx.Notice) != nil {
			t.Errorf("%s: notice %q", tx.Lang, tx.Notice)
		}
		eachField(tx, func(name, value string) {
			if strings.TrimSpace(value) != value || value == "" {
				t.Errorf("%s lacks %s", tx.Lang, name)
			}
			other, is := seen[name+value]
			if is && !(strings.Contains(same[name], tx.Lang) && strings.Contains(same[name], other)) {
				t.Errorf("%s says %s as %s does: %q", tx.Lang, name, other, value)
			}
			seen[name+value] = tx.Lang
		})
	}
	for _, tx := range texts { // a sentence that names a button names this one
		if !strings.Contains(tx.NotYou, tx.Undo) {
			t.Errorf("%s: NotYou does not name the button %q", tx.Lang, tx.Undo)
		}
	}
}

// The page as a reader's program sees it, in every language, with all that it can hold.
func TestPageMarkup(t *testing.T) {
	long := strings.Repeat("x ", maxNoticeText/2)
	notice, err := parseNotice("2026-03\n" + long)
	if err != nil {
		t.Fatal(err)
	}
	logo := Logo("data:image/png;base64," + strings.Repeat("A", MaxLogo*4/3))
	s := newConfirming(t, PublicConfig{Notice: notice, Logo: logo})
	s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Granted})
	for _, tx := range texts {
		lang := tx.Lang
		s.apply(consent.Change{Click: consent.Granted})
		for name, w := range map[string]*httptest.ResponseRecorder{
			"page":  s.do("GET", s.link(lang), "", ""),
			"saved": s.post(s.link(lang), "do=save&click=denied"),
			"404":   s.do("GET", "/u/x", "", "", "Accept-Language", lang),
			"400":   s.post(s.link(lang), "x=y"),
		} {
			body := w.Body.String()
			if len(body) >= 20<<10 {
				t.Errorf("%s %s: %d bytes", lang, name, len(body))
			}
			checkMarkup(t, lang+" "+name, body, w.Header().Get("Content-Security-Policy"), lang)
			if name == "page" || name == "saved" {
				for _, want := range []string{"m•••@example.org", "newsletter", "Shop &amp; Söhne &lt;GmbH&gt;"} {
					if !strings.Contains(body, want) {
						t.Errorf("%s %s lacks %q", lang, name, want)
					}
				}
			}
		}
	}
	// Each radio shows what holds: mail yes, opens yes, clicks (saved above) no.
	root := parse(t, s.do("GET", s.link("en"), "", "").Body.String())
	checked := map[string]string{}
	for n := range elements(root, "input") {
		if _, ok := attr(n, "checked"); ok {
			name, _ := attr(n, "name")
			checked[name], _ = attr(n, "value")
		}
	}
	if fmt.Sprint(checked) != "map[click:denied mail:subscribed open:granted]" {
		t.Errorf("checked: %v", checked)
	}
	// Somebody who never chose sees nothing chosen about tracking.
	s = newSite(t)
	body := s.do("GET", s.link("en"), "", "").Body.String()
	if n := strings.Count(body, " checked"); n != 1 {
		t.Errorf("%d radios are checked for somebody never seen, want mail alone", n)
	}
}

func TestServerKeepsTheHeaders(t *testing.T) {
	s := newSite(t)
	srv := httptest.NewServer(s.h)
	defer srv.Close()
	res, err := http.PostForm(srv.URL+s.link(""), url.Values{"List-Unsubscribe": {"One-Click"}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || s.record().Mail.State != consent.Unsubscribed {
		t.Errorf("status %d, %+v", res.StatusCode, s.record())
	}
	if res, err = http.Head(srv.URL + s.link("")); err != nil || res.StatusCode != 200 || res.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("HEAD: %v, %v", res, err)
	}
}

func parse(t *testing.T, body string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestUnsubscribedIsTold: by whatever way, once it holds, and not for anything else.
func TestUnsubscribedIsTold(t *testing.T) {
	var s *site
	var told []consent.Source
	s = newSiteWith(t, PublicConfig{Unsubscribed: func(_ string, c token.Claims, source consent.Source) {
		if c.OneClick != "https://lists.example.org/u" || c.Who != s.who {
			t.Errorf("%+v", c)
		}
		told = append(told, source)
	}})
	link := "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: "newsletter", OneClick: "https://lists.example.org/u"})
	for _, step := range []struct {
		form string
		want []consent.Source
	}{
		{"do=stop-tracking", nil},
		{"do=unsubscribe", []consent.Source{consent.FromPage}},
		{"do=resubscribe", []consent.Source{consent.FromPage}},
		{"List-Unsubscribe=One-Click", []consent.Source{consent.FromPage, consent.FromOneClick}},
	} {
		if w := s.post(link, step.form); w.Code != 200 || !slices.Equal(told, step.want) {
			t.Errorf("%s: %d, %v", step.form, w.Code, told)
		}
	}
	s.do("GET", link, "", "")
	s.store.err = consent.ErrUnreachable
	if w := s.post(link, "List-Unsubscribe=One-Click"); w.Code != 503 || len(told) != 2 {
		t.Errorf("store down: %d, %v", w.Code, told)
	}
}
