// Package web serves people and programs over HTTP: the unsubscribe page with its one-click
// endpoint (NewPublic, SPEC section 8.4), and the API for operators (NewAdmin, section 8.5).
//
// The two never share a listener: the page is for strangers, the API is not.
//
// Whoever makes the http.Server sets its limits; these fit both handlers: ReadHeaderTimeout 5 s,
// ReadTimeout 15 s, WriteTimeout 30 s, IdleTimeout 60 s, MaxHeaderBytes 16 KiB.
//
// The package is not for TLS or listeners.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

// PublicConfig is what NewPublic needs; what stands behind Now may be left out.
type PublicConfig struct {
	Store consent.Store
	Links *token.Sealer
	Ring  *keyring.Ring
	Log   *slog.Logger
	Now   func() time.Time

	Policy func() consent.Policy // what counts where nobody said anything; nil: nothing is tracked then

	Company string // whose mail it is, as the page names it
	Colour  Colour
	Logo    Logo
	Notice  *Notice // nil: the built-in one

	// SendLetter sends the mail from which a consent given on the page is confirmed; nil lets it hold at
	// once. When it returns nil the mail is on its way, or will be tried again. BaseURL is the public
	// address of the page, for the link in it.
	SendLetter func(context.Context, Letter) error
	BaseURL    string

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is believed

	// Unsubscribed is called once somebody has unsubscribed, before that is said: the sender's own list is to
	// be told, whose address is in the claims. id is the request's, see consent.WithRequest. nil: nobody is.
	Unsubscribed func(id string, claims token.Claims, source consent.Source)

	// Count is told of each request what was asked, and how that went. nil: nobody counts.
	Count func(what, result string)
}

// public is the handler of the public listener.
type public struct {
	PublicConfig
	look            *look
	confirms, undos *token.Slips

	badLinks, asks *limit[netip.Prefix]
	mails          *limit[consent.Key]
}

// storeTimeout is how long a person is made to wait for the store.
const storeTimeout = 10 * time.Second

// wrongFromOne is how many links that do not open are answered to one network. Links that do open
// are never counted, so that nothing hinders an opt-out.
var wrongFromOne = []allowance{{120, time.Minute}}

// NewPublic returns the handler of everything below the public address:
//
//	GET, HEAD /u/TOKEN     the page; changes nothing, whoever asks and however often
//	POST /u/TOKEN          List-Unsubscribe=One-Click (RFC 8058), or one of the page's own forms
//	GET, HEAD /u/c/SLIP    the page from which a consent is confirmed; changes nothing
//	POST /u/c/SLIP         confirms it
//	OPTIONS                which methods there are
//
// Everything else, and every token that does not open, gets the same 404. While the store does
// not answer, or does not confirm a change, it is 503 with Retry-After.
func NewPublic(c PublicConfig) http.Handler {
	c.BaseURL = strings.TrimSuffix(c.BaseURL, "/")
	if c.Policy == nil {
		c.Policy = func() consent.Policy { return consent.Policy{} }
	}
	return &public{
		PublicConfig: c,
		look:         newLook(c.Company, c.Colour, c.Logo),
		confirms:     token.NewSlips(c.Ring, token.Confirm),
		undos:        token.NewSlips(c.Ring, token.Undo),
		badLinks:     newLimit[netip.Prefix](wrongFromOne...),
		asks:         newLimit[netip.Prefix](asksFromOne...),
		mails:        newLimit[consent.Key](mailsToOne...),
	}
}

// withID gives a request its ID, of 16 characters as a connection's.
func withID(r *http.Request) *http.Request {
	return r.WithContext(consent.WithRequest(r.Context(), strings.ToLower(rand.Text()[:16])))
}

func (p *public) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = withID(r)
	if p.Count != nil {
		v := &visit{ResponseWriter: w, what: "page"}
		w = v
		defer func() { p.Count(v.what, v.result()) }()
	}
	h := w.Header()
	h.Set("Content-Security-Policy", p.look.policy)
	h.Set("Referrer-Policy", "no-referrer") // the token is a key
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")

	if text, ok := strings.CutPrefix(r.URL.Path, "/u/c/"); ok {
		p.serveConfirm(w, r, text)
		return
	}
	text, isLink := strings.CutPrefix(r.URL.Path, "/u/")
	claims, err := p.Links.Open(text)
	if !isLink || err != nil {
		p.badLink(w, r)
		return
	}
	t := textFor(claims.Language, r.Header.Get("Accept-Language"))
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		p.show(w, r, t, claims)
	case http.MethodPost:
		p.post(w, r, t, claims)
	default:
		p.otherMethod(w, r, t)
	}
}

// badLink answers every link that does not open.
func (p *public) badLink(w http.ResponseWriter, r *http.Request) {
	visits(w, "bad_link")
	t := textFor("", r.Header.Get("Accept-Language"))
	if from := network(r, p.TrustedProxies); from.IsValid() {
		if wait := p.badLinks.take(from, p.Now()); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			http.Error(w, t.BadLink, http.StatusTooManyRequests)
			return
		}
	}
	p.say(w, r, t, http.StatusNotFound, message{t.BadLinkTitle, t.BadLink})
}

func (p *public) otherMethod(w http.ResponseWriter, r *http.Request, t *text) {
	w.Header().Set("Allow", "GET, HEAD, POST, OPTIONS")
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	p.say(w, r, t, http.StatusMethodNotAllowed, message{t.BadRequestTitle, t.BadRequest})
}

// badForm answers a body that none of the page's forms sends; err is nil, or that of readForm.
func (p *public) badForm(w http.ResponseWriter, r *http.Request, t *text, err error) {
	status := http.StatusBadRequest
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	p.say(w, r, t, status, message{t.BadRequestTitle, t.BadRequest})
}

// show answers with what holds now.
func (p *public) show(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	now, err := p.lookup(ctx, claims)
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	p.render(w, r, http.StatusOK, p.look.in[t].page, p.page(t, claims, now))
}

func (p *public) post(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims) {
	visits(w, "choice")
	fields, err := readForm(w, r)
	if err != nil {
		p.badForm(w, r, t, err)
		return
	}
	// What arrived is carried out, even if who sent it has gone meanwhile.
	ctx, cancel := carriedOut(r, storeTimeout)
	defer cancel()
	if isOneClick(fields) {
		visits(w, "one_click")
		p.oneClick(ctx, w, r, t, claims)
		return
	}
	if fields["do"] == "undo" && len(fields) == 2 {
		visits(w, "undo")
		p.undo(ctx, w, r, t, claims, fields["slip"])
		return
	}
	c, ok := readChoice(fields)
	if ok && (isGrant(c[consent.Open]) || isGrant(c[consent.Click])) { // to the text that stands on the page now, and no other
		shown, said := fields["notice"]
		_, _, recorded := p.Notice.shown(t)
		ok = !said || shown == recorded
	}
	if !ok {
		p.badForm(w, r, t, nil)
		return
	}
	p.choose(ctx, w, r, t, claims, c, fields["do"])
}

// choose does what was chosen on the page: what needs no confirmation at once, and a mail asks for
// one where it does.
func (p *public) choose(ctx context.Context, w http.ResponseWriter, r *http.Request, t *text, claims token.Claims, c choice, do string) {
	now, err := p.lookup(ctx, claims)
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	base := consent.Change{Who: claims.Who, Scope: claims.Scope, Source: consent.FromPage, Origin: p.origin(r), Time: p.Now()}
	_, _, noticed := p.Notice.shown(t)
	s := c.step(now, base, noticed, p.SendLetter != nil)
	if len(s.again) > 0 {
		// The answer to who withdrew may have been that it did not work: the store makes sure of it, and the sender's list is told.
		if _, err := p.apply(ctx, claims, s.again); err != nil {
			p.down(w, r, t, claims, err)
			return
		}
	}
	asking := len(s.ask) > 0
	often := asking && !p.mayAsk(r, claims.Who)
	changes := s.now
	if asking && !often {
		changes = append(changes, s.ask...)
	}
	said := []string{t.Unchanged}
	undo := ""
	if len(changes) > 0 {
		if now, err = p.apply(ctx, claims, changes); err == nil && asking && !often {
			err = p.ask(ctx, t, claims, s.granted)
		}
		if err != nil {
			if asking && !often {
				p.mails.giveBack(p.Store.Key(claims.Who))
			}
			p.down(w, r, t, claims, err)
			return
		}
		if said = nil; len(s.now) > 0 {
			said = append(said, done(t, do))
		}
		s.before.Version = now.Scope.Version
		undo = p.undos.Seal(token.Slip{Who: claims.Who, Language: t.Lang, Record: s.before, Made: p.Now()})
		p.Log.Info("consent changed", "id", consent.Request(ctx), "source", consent.FromPage, "scope", claims.Scope, "do", do, "asked", asking && !often)
	}
	switch {
	case often && len(changes) == 0:
		said = []string{t.AskedOften}
	case often:
		said = append(said, t.AskedOften)
	case asking:
		said = append(said, t.Asked)
	}
	page := p.page(t, claims, now)
	page.Said, page.Undo = strings.Join(said, " "), undo
	p.render(w, r, http.StatusOK, p.look.in[t].page, page)
}

// done says what a form did.
func done(t *text, do string) string {
	switch do {
	case "unsubscribe":
		return t.Unsubscribed
	case "resubscribe":
		return t.Renewed
	case "stop-tracking":
		return t.TrackingOff
	}
	return t.Saved
}

// oneClick answers RFC 8058 §3.1: no redirect, no cookie, and once is the same as twice.
func (p *public) oneClick(ctx context.Context, w http.ResponseWriter, r *http.Request, t *text, claims token.Claims) {
	_, err := p.apply(ctx, claims, []consent.Change{{Who: claims.Who, Scope: claims.Scope, Mail: consent.Unsubscribed,
		Source: consent.FromOneClick, Origin: p.origin(r), Time: p.Now()}})
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	p.Log.Info("consent changed", "id", consent.Request(ctx), "source", consent.FromOneClick, "scope", claims.Scope, "do", "unsubscribe")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(t.Unsubscribed + "\n"))
}

// origin is what the history keeps of where a request came from: the network.
func (p *public) origin(r *http.Request) string {
	if from := network(r, p.TrustedProxies); from.IsValid() {
		return from.String()
	}
	return ""
}

func (p *public) lookup(ctx context.Context, claims token.Claims) (consent.Result, error) {
	rs, err := p.Store.Lookup(ctx, claims.Scope, []consent.Address{claims.Who})
	if err == nil {
		err = rs[0].Err
	}
	if err != nil {
		return consent.Result{}, err
	}
	return rs[0], nil
}

// apply returns what holds after the last of the changes, and an error where any of them is not
// known to be made.
func (p *public) apply(ctx context.Context, claims token.Claims, changes []consent.Change) (consent.Result, error) {
	rs, err := p.Store.Apply(ctx, changes)
	if err != nil {
		return consent.Result{}, err
	}
	for _, r := range rs {
		if r.Err != nil {
			return consent.Result{}, r.Err
		}
	}
	for _, c := range changes {
		if c.Mail == consent.Unsubscribed && p.Unsubscribed != nil {
			p.Unsubscribed(consent.Request(ctx), claims, c.Source)
		}
	}
	return rs[len(rs)-1], nil
}

func (p *public) page(t *text, claims token.Claims, now consent.Result) page {
	h := holding(claims.Scope, now)
	return page{Company: p.Company, Masked: claims.Who.Masked(), List: listName(t, claims.Scope), Holds: h, Lines: h.lines(t, p.Policy()),
		CanStop: h.Open != consent.Denied || h.Click != consent.Denied || h.pending[consent.Open] || h.pending[consent.Click],
		notice:  p.notice(t)}
}

func (p *public) notice(t *text) notice {
	agree, version, recorded := p.Notice.shown(t)
	return notice{agree, version, recorded, p.SendLetter != nil}
}

func listName(t *text, s consent.Scope) string {
	if s == consent.AnyScope {
		return t.AllLists
	}
	return string(s)
}

// down says that the store does not answer, or a mail cannot be sent. Nothing is claimed to have changed.
func (p *public) down(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims, err error) {
	p.Log.Error("an unsubscribe page failed", "id", consent.Request(r.Context()), "method", r.Method, "scope", claims.Scope, "err", err)
	w.Header().Set("Retry-After", "120")
	p.say(w, r, t, http.StatusServiceUnavailable, message{t.DownTitle, t.Down})
}

func (p *public) say(w http.ResponseWriter, r *http.Request, t *text, status int, m message) {
	p.render(w, r, status, p.look.in[t].message, m)
}

func (p *public) render(w http.ResponseWriter, r *http.Request, status int, tmpl *template.Template, data any) {
	var b bytes.Buffer
	b.Grow(16 << 10)
	if err := tmpl.Execute(&b, data); err != nil {
		p.Log.Error("the unsubscribe page cannot be made", "id", consent.Request(r.Context()), "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
