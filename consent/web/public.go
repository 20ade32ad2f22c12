// Package web serves people and programs over HTTP: the unsubscribe page with its one-click
// endpoint (NewPublic, SPEC section 8.4), and the API for operators (NewAdmin, section 8.5).
//
// The two never share a listener: the page is for strangers, the API is not.
//
// Whoever makes the http.Server sets its limits; these fit both handlers: ReadHeaderTimeout 5 s,
// ReadTimeout 15 s, WriteTimeout 30 s, IdleTimeout 60 s, MaxHeaderBytes 16 KiB.
//
// The package is not for TLS, listeners, or reading the proxies' headers.
package web

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// PublicConfig is what NewPublic needs; only Company and Unsubscribed may be empty.
type PublicConfig struct {
	Store   consent.Store
	Links   *token.Sealer
	Company string // whose mail it is, as the page names it
	Log     *slog.Logger
	Now     func() time.Time

	// Unsubscribed is called once somebody has unsubscribed, before that is said: the sender's own list is to
	// be told, whose address is in the claims.
	Unsubscribed func(token.Claims, consent.Source)
}

// public is the handler of the public listener.
type public struct{ PublicConfig }

// storeTimeout is how long a person is made to wait for the store.
const storeTimeout = 10 * time.Second

// NewPublic returns the handler of everything below the public address:
//
//	GET, HEAD /u/TOKEN   the page; changes nothing, whoever asks and however often
//	POST /u/TOKEN        List-Unsubscribe=One-Click (RFC 8058), or one of the page's own forms
//	OPTIONS /u/TOKEN     which methods there are
//
// Everything else, and every token that does not open, gets the same 404. While the store does
// not answer, or does not confirm a change, it is 503 with Retry-After.
func NewPublic(c PublicConfig) http.Handler { return &public{c} }

func (p *public) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Referrer-Policy", "no-referrer") // the token is a key
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")

	text, isLink := strings.CutPrefix(r.URL.Path, "/u/")
	claims, err := p.Links.Open(text)
	if !isLink || err != nil {
		t := textFor("", r.Header.Get("Accept-Language"))
		p.say(w, r, http.StatusNotFound, message{t, t.BadLinkTitle, t.BadLink})
		return
	}
	t := textFor(claims.Language, r.Header.Get("Accept-Language"))
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		p.show(w, r, t, claims)
	case http.MethodPost:
		p.post(w, r, t, claims)
	case http.MethodOptions:
		h.Set("Allow", "GET, HEAD, POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	default:
		h.Set("Allow", "GET, HEAD, POST, OPTIONS")
		p.say(w, r, http.StatusMethodNotAllowed, message{t, t.BadRequestTitle, t.BadRequest})
	}
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
	p.render(w, r, http.StatusOK, pageTemplate, p.page(t, claims, now))
}

func (p *public) post(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims) {
	fields, err := readForm(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		p.say(w, r, status, message{t, t.BadRequestTitle, t.BadRequest})
		return
	}
	// What arrived is carried out, even if who sent it has gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
	defer cancel()
	if isOneClick(fields) {
		p.oneClick(ctx, w, r, t, claims)
		return
	}
	c, ok := readChoice(fields)
	if !ok {
		p.say(w, r, http.StatusBadRequest, message{t, t.BadRequestTitle, t.BadRequest})
		return
	}
	before, err := p.lookup(ctx, claims)
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	changes, undo := c.changes(before, claims, t.Notice, p.Now())
	page := p.page(t, claims, before)
	page.Said = t.Unchanged
	if len(changes) > 0 {
		after, err := p.apply(ctx, claims, changes)
		if err != nil {
			p.down(w, r, t, claims, err)
			return
		}
		page.Holds, page.Undo, page.Said = holding(claims.Scope, after), &undo, said(t, fields["do"])
		p.Log.Info("consent changed", "source", consent.FromPage, "scope", claims.Scope, "do", fields["do"])
	}
	p.render(w, r, http.StatusOK, pageTemplate, page)
}

func said(t *text, do string) string {
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
		Source: consent.FromOneClick, Time: p.Now()}})
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	p.Log.Info("consent changed", "source", consent.FromOneClick, "scope", claims.Scope, "do", "unsubscribe")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(t.Unsubscribed + "\n"))
}

func (p *public) lookup(ctx context.Context, claims token.Claims) (holds, error) {
	rs, err := p.Store.Lookup(ctx, claims.Scope, []consent.Address{claims.Who})
	if err == nil {
		err = rs[0].Err
	}
	if err != nil {
		return holds{}, err
	}
	return holding(claims.Scope, rs[0]), nil
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
			p.Unsubscribed(claims, c.Source)
		}
	}
	return rs[len(rs)-1], nil
}

func (p *public) page(t *text, claims token.Claims, now holds) page {
	list := string(claims.Scope)
	if claims.Scope == consent.AnyScope {
		list = t.AllLists
	}
	return page{T: t, Company: p.Company, Masked: claims.Who.Masked(), List: list, Holds: now}
}

// down says that the store does not answer. Nothing is claimed to have changed.
func (p *public) down(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims, err error) {
	p.Log.Error("the consent store failed an unsubscribe page", "method", r.Method, "scope", claims.Scope, "err", err)
	w.Header().Set("Retry-After", "120")
	p.say(w, r, http.StatusServiceUnavailable, message{t, t.DownTitle, t.Down})
}

func (p *public) say(w http.ResponseWriter, r *http.Request, status int, m message) {
	p.render(w, r, status, messageTemplate, m)
}

func (p *public) render(w http.ResponseWriter, r *http.Request, status int, tmpl *template.Template, data any) {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, data); err != nil {
		p.Log.Error("the unsubscribe page cannot be made", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
