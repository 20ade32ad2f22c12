package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// Letter is a mail to one person that asks them to confirm what was chosen on the page.
type Letter struct {
	To            consent.Address
	Scope         consent.Scope
	Language      string // of Subject and Text
	Subject, Text string // Text has lines of any length, and LF between them
}

// mailsToOne is how many of these mails one address gets at most, so that nobody can flood it by
// clicking; asksFromOne is how many are asked for from one network.
var (
	mailsToOne  = []allowance{{1, 10 * time.Minute}, {3, 24 * time.Hour}}
	asksFromOne = []allowance{{60, time.Hour}}
)

// mayAsk counts one more mail to who, unless there were too many.
func (p *public) mayAsk(r *http.Request, who consent.Address) bool {
	now := p.Now()
	if from := network(r, p.TrustedProxies); from.IsValid() && p.asks.take(from, now) > 0 {
		return false
	}
	return p.mails.take(p.Store.Key(who), now) == 0
}

// ask sends the mail from which what is in granted can be confirmed.
func (p *public) ask(ctx context.Context, t *text, claims token.Claims, granted consent.Record) error {
	granted.Version = 1 // a slip has one
	link := p.BaseURL + "/u/c/" + p.confirms.Seal(token.Slip{Who: claims.Who, Language: t.Lang, Record: granted, Made: p.Now()})
	paragraphs := []string{t.MailLead, "- " + strings.Join(grants(t, granted), "\n- ")}
	whose := t.List + ": " + listName(t, claims.Scope)
	if p.Company != "" {
		whose = t.From + ": " + p.Company + "\n" + whose
	}
	paragraphs = append(paragraphs, whose, t.MailOpen, link, t.MailIgnore)
	if granted.Open.State != "" || granted.Click.State != "" {
		agree, version, _ := p.Notice.shown(t)
		paragraphs = append(paragraphs, "____", t.AgreeTitle+":")
		paragraphs = append(paragraphs, agree...)
		paragraphs = append(paragraphs, t.NoticeVersion+" "+version)
	}
	err := p.SendLetter(ctx, Letter{To: claims.Who, Scope: claims.Scope, Language: t.Lang, Subject: t.MailSubject, Text: strings.Join(paragraphs, "\n\n") + "\n"})
	if err != nil {
		return fmt.Errorf("the mail that asks for a confirmation: %w", err)
	}
	return nil
}

// grants says in words what a record allows.
func grants(t *text, r consent.Record) []string {
	var all []string
	for _, g := range []struct {
		entry consent.Entry
		words string
	}{{r.Mail, t.GrantMail}, {r.Open, t.GrantOpen}, {r.Click, t.GrantClick}} {
		if g.entry.State != "" {
			all = append(all, g.words)
		}
	}
	return all
}

// serveConfirm serves the page behind the link of such a mail. GET changes nothing.
func (p *public) serveConfirm(w http.ResponseWriter, r *http.Request, text string) {
	slip, err := p.confirms.Open(text, p.Now())
	if errors.Is(err, token.ErrInvalid) {
		p.badLink(w, r)
		return
	}
	visits(w, "confirm_page")
	if r.Method == http.MethodPost {
		visits(w, "confirm")
	}
	t := textFor(slip.Language, r.Header.Get("Accept-Language"))
	expired := err != nil
	claims := token.Claims{Who: slip.Who, Scope: slip.Record.Scope, Language: slip.Language}
	gone := func() { p.say(w, r, t, http.StatusGone, message{t.ConfirmGoneTitle, t.ConfirmGone}) }
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
		defer cancel()
		now, err := p.lookup(ctx, claims)
		if err != nil {
			p.down(w, r, t, claims, err)
			return
		}
		if _, ok := p.confirmable(t, slip, now); !ok || expired {
			gone()
			return
		}
		c := confirmation{Company: p.Company, Masked: slip.Who.Masked(), List: listName(t, claims.Scope), Grants: grants(t, slip.Record)}
		if slip.Record.Open.State != "" || slip.Record.Click.State != "" {
			c.notice = p.notice(t)
		}
		p.render(w, r, http.StatusOK, p.look.in[t].confirmation, c)
	case http.MethodPost:
		fields, err := readForm(w, r)
		if err != nil || len(fields) != 1 || fields["do"] != "confirm" {
			p.badForm(w, r, t, err)
			return
		}
		if expired {
			gone()
			return
		}
		p.confirm(w, r, t, claims, slip, gone)
	default:
		p.otherMethod(w, r, t)
	}
}

// confirm makes hold what was asked for, unless something else was chosen since.
func (p *public) confirm(w http.ResponseWriter, r *http.Request, t *text, claims token.Claims, slip token.Slip, gone func()) {
	ctx, cancel := carriedOut(r, storeTimeout)
	defer cancel()
	for {
		now, err := p.lookup(ctx, claims)
		if err != nil {
			p.down(w, r, t, claims, err)
			return
		}
		change, ok := p.confirmable(t, slip, now)
		if !ok {
			gone()
			return
		}
		if names(change) {
			change.Who, change.Scope, change.Source, change.Origin, change.Time = claims.Who, claims.Scope, consent.FromPage, p.origin(r), p.Now()
			change.IfVersion = now.Scope.Version
			now, err = p.apply(ctx, claims, []consent.Change{change})
			if errors.Is(err, consent.ErrConflict) && ctx.Err() == nil {
				continue
			}
			if err != nil {
				p.down(w, r, t, claims, err)
				return
			}
			p.Log.Info("consent changed", "id", consent.Request(ctx), "source", consent.FromPage, "scope", claims.Scope, "do", "confirm")
		}
		page := p.page(t, claims, now)
		page.Said, page.Action = t.Confirmed, "../"+p.Links.Seal(claims)
		p.render(w, r, http.StatusOK, p.look.in[t].page, page)
		return
	}
}

// confirmable returns what a confirmation of slip changes where r holds, which is nothing once it was
// confirmed. It is false where the asking does not stand there any more as it was recorded, or the
// text that a person agrees to is another one now.
func (p *public) confirmable(t *text, slip token.Slip, r consent.Result) (consent.Change, bool) {
	_, _, recorded := p.Notice.shown(t)
	change := consent.Change{Notice: recorded}
	if slip.Record.Mail.State != "" && holding(slip.Record.Scope, r).Everywhere {
		return change, false
	}
	now, anywhere := entries(&r.Scope), entries(&r.Any)
	for purpose, asked := range entries(&slip.Record) {
		switch is := *now[purpose]; {
		case asked.State == "":
		case asked.Notice != recorded, anywhere[purpose].State == consent.Denied && !anywhere[purpose].Time.Before(slip.Made):
			return change, false
		case is.Notice == askedFor+recorded && !is.Time.After(slip.Made):
			set(&change, purpose, asked.State)
		case is.State == asked.State && is.Notice == recorded && !is.Time.Before(slip.Made):
		default:
			return change, false
		}
	}
	return change, true
}
