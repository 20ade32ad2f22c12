package web

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

var confirmLink = regexp.MustCompile(`(?m)^https://mail\.example\.org/gate(/u/c/[A-Za-z0-9_-]+)$`)

// confirmPath returns the path of the link in the last letter.
func (s *site) confirmPath() string {
	s.t.Helper()
	if len(s.letters) == 0 {
		s.t.Fatal("no letter was sent")
	}
	m := confirmLink.FindStringSubmatch(s.letters[len(s.letters)-1].Text)
	if m == nil {
		s.t.Fatalf("no link stands in\n%s", s.letters[len(s.letters)-1].Text)
	}
	return m[1]
}

func (s *site) events() []consent.Event {
	s.t.Helper()
	var all []consent.Event
	for e, err := range s.store.History(context.Background(), s.who) {
		if err != nil || e.Broken != "" {
			s.t.Fatal(e, err)
		}
		all = append(all, e)
	}
	return all
}

func TestConsentIsConfirmedFromAMail(t *testing.T) {
	notice, err := parseNotice("2026-03\nAll of it.\n\n[de]\nAlles davon.")
	if err != nil {
		t.Fatal(err)
	}
	s := newConfirming(t, PublicConfig{Notice: notice})
	w := s.post(s.link("de"), "do=save&open=granted&click=denied")
	if got := status(t, w.Body.String()); w.Code != 200 || got != german.Saved+" "+german.Asked {
		t.Fatalf("status %d, %q", w.Code, got)
	}
	if r := s.record(); r.Open.State != consent.Unset || r.Open.Notice != "asked:2026-03/de" || r.Click.State != consent.Denied {
		t.Errorf("asked: %+v", r)
	}
	if body := w.Body.String(); !strings.Contains(body, german.OpenUnset+" "+german.Pending) || !strings.Contains(body, "Alles davon.") || strings.Contains(body, "All of it.") {
		t.Errorf("the page:\n%s", body)
	}
	l := s.letters[0]
	if l.To != s.who || l.Scope != "newsletter" || l.Language != "de" || l.Subject != german.MailSubject {
		t.Errorf("the letter: %+v", l)
	}
	for _, want := range []string{german.MailLead, "- " + german.GrantOpen, "Shop & Söhne <GmbH>", "newsletter", "Alles davon.", german.NoticeVersion + " 2026-03"} {
		if !strings.Contains(l.Text, want) {
			t.Errorf("the letter lacks %q:\n%s", want, l.Text)
		}
	}
	if strings.Contains(l.Text, german.GrantClick) || strings.Contains(l.Text, "marta") {
		t.Errorf("the letter:\n%s", l.Text)
	}

	// Whoever opens the link changes nothing.
	link := s.confirmPath()
	before := s.record()
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, query := range []string{"", "?do=confirm"} {
			w = s.do(method, link+query, "application/x-www-form-urlencoded", "do=confirm", "Sec-Purpose", "prefetch")
			if w.Code/100 != 2 || s.record() != before {
				t.Errorf("%s %s: status %d, %+v", method, query, w.Code, s.record())
			}
			if method == "GET" {
				checkMarkup(t, "confirmation", w.Body.String(), w.Header().Get("Content-Security-Policy"), "de")
				if !strings.Contains(w.Body.String(), german.GrantOpen) || strings.Contains(w.Body.String(), german.GrantClick) || !strings.Contains(w.Body.String(), "Alles davon.") {
					t.Errorf("the page:\n%s", w.Body)
				}
			}
		}
	}
	for _, form := range []string{"", "List-Unsubscribe=One-Click", "do=unsubscribe", "do=confirm&open=granted", "do=save&open=granted"} {
		if w := s.post(link, form); w.Code != 400 || s.record() != before {
			t.Errorf("%s: status %d, %+v", form, w.Code, s.record())
		}
	}
	if w := s.do("PUT", link, "", ""); w.Code != 405 {
		t.Errorf("PUT: status %d", w.Code)
	}

	s.now = noon.Add(6 * 24 * time.Hour)
	for range 2 { // twice is the same as once
		w = s.post(link, "do=confirm")
		if got := status(t, w.Body.String()); w.Code != 200 || got != german.Confirmed {
			t.Errorf("status %d, %q", w.Code, got)
		}
		checkMarkup(t, "confirmed", w.Body.String(), w.Header().Get("Content-Security-Policy"), "de")
		want := consent.Entry{State: consent.Granted, Time: s.now, Source: consent.FromPage, Notice: "2026-03/de"}
		if r := s.record(); r.Open != want || r.Version != before.Version+1 {
			t.Errorf("confirmed: %+v", r)
		}
	}
	// Its forms lead to the page of this person and list.
	action := regexp.MustCompile(`action="\.\.(/[^"]+)"`).FindStringSubmatch(w.Body.String())
	if action == nil {
		t.Fatal("no form leads back")
	}
	if w := s.post("/u"+action[1], "do=stop-tracking"); w.Code != 200 || s.record().Open.State != consent.Denied {
		t.Errorf("status %d, %+v", w.Code, s.record())
	}
	// The history tells it all: what was asked for when, what was confirmed when, and from where.
	var told []string
	for _, e := range s.events() {
		told = append(told, string(e.Source)+" "+e.Origin+" "+string(e.New.Open)+" "+e.Notice)
	}
	if got := strings.Join(told, "\n"); got != `page 192.0.2.0/24  
page 192.0.2.0/24 unset asked:2026-03/de
page 192.0.2.0/24 granted 2026-03/de
page 192.0.2.0/24 denied ` {
		t.Errorf("the history:\n%s", got)
	}
}

// What was asked for cannot be confirmed any more once the person chose otherwise, wherever, even in
// that very second and even where the choice held already.
func TestWithdrawalBeatsAnOlderConfirmation(t *testing.T) {
	for _, c := range []struct {
		name, ask string
		before    consent.Change
		withdraw  func(s *site)
	}{
		{"stop tracking", "do=save&open=granted", consent.Change{}, func(s *site) { s.post(s.link("en"), "do=stop-tracking") }},
		{"stop tracking, denied before", "do=save&open=granted", consent.Change{Open: consent.Denied}, func(s *site) { s.post(s.link("en"), "do=stop-tracking") }},
		{"no in the preferences", "do=save&click=granted", consent.Change{Click: consent.Denied}, func(s *site) { s.post(s.link("en"), "do=save&click=denied") }},
		{"undo", "do=save&open=granted&click=granted", consent.Change{}, nil},
		{"one click", "do=resubscribe", consent.Change{Mail: consent.Unsubscribed}, func(s *site) { s.post(s.link("en"), "List-Unsubscribe=One-Click") }},
		{"unsubscribed again", "do=save&mail=subscribed", consent.Change{Mail: consent.Unsubscribed}, func(s *site) { s.post(s.link("en"), "do=unsubscribe") }},
		{"by the operator", "do=save&open=granted", consent.Change{Open: consent.Denied}, func(s *site) { s.applyAt(s.now, consent.Change{Open: consent.Denied, Notice: "by phone"}) }},
		{"everywhere", "do=save&open=granted", consent.Change{}, func(s *site) { s.applyAt(s.now, consent.Change{Scope: consent.AnyScope, Open: consent.Denied}) }},
		{"no mail at all", "do=resubscribe", consent.Change{Mail: consent.Unsubscribed}, func(s *site) { s.applyAt(s.now, consent.Change{Scope: consent.AnyScope, Mail: consent.Unsubscribed}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newConfirming(t, PublicConfig{})
			s.apply(c.before)
			w := s.post(s.link("en"), c.ask)
			if got := status(t, w.Body.String()); got != english.Asked {
				t.Fatalf("%d: %q", w.Code, got)
			}
			link := s.confirmPath()
			if c.withdraw == nil {
				s.post(s.link("en"), undoForm(t, w.Body.String()).Encode())
			} else {
				c.withdraw(s)
			}
			after := s.record()
			for _, w := range []*httptest.ResponseRecorder{s.do("GET", link, "", ""), s.post(link, "do=confirm")} {
				if w.Code != 410 || !strings.Contains(w.Body.String(), english.ConfirmGone) || s.record() != after {
					t.Errorf("status %d, %+v", w.Code, s.record())
				}
			}
		})
	}
}

func (s *site) applyAt(at time.Time, c consent.Change) {
	s.t.Helper()
	c.Who, c.Source, c.Time = s.who, consent.FromAPI, at
	if c.Scope == "" {
		c.Scope = "newsletter"
	}
	if rs, err := s.store.Store.Apply(context.Background(), []consent.Change{c}); err != nil || rs[0].Err != nil {
		s.t.Fatal(rs, err)
	}
}

func TestConfirmationsEnd(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	s.post(s.link("en"), "do=save&open=granted")
	link := s.confirmPath()
	s.now = noon.Add(7 * 24 * time.Hour)
	for _, w := range []*httptest.ResponseRecorder{s.do("GET", link, "", ""), s.post(link, "do=confirm")} {
		if w.Code != 410 || s.record().Open.State != consent.Unset {
			t.Errorf("status %d, %+v", w.Code, s.record())
		}
	}
	// Asked once more, it can be.
	if w := s.post(s.link("en"), "do=save&open=granted"); status(t, w.Body.String()) != english.Asked {
		t.Errorf("%d: %q", w.Code, status(t, w.Body.String()))
	}
	if w := s.post(s.confirmPath(), "do=confirm"); w.Code != 200 || s.record().Open.State != consent.Granted {
		t.Errorf("status %d, %+v", w.Code, s.record())
	}

	// The link of an asking that was withdrawn stays dead, though it was asked once more.
	s = newConfirming(t, PublicConfig{})
	s.post(s.link("en"), "do=save&open=granted")
	link = s.confirmPath()
	s.post(s.link("en"), "do=stop-tracking")
	s.now = noon.Add(11 * time.Minute)
	s.post(s.link("en"), "do=save&open=granted")
	if w := s.post(link, "do=confirm"); w.Code != 410 || s.record().Open.State != consent.Denied {
		t.Errorf("the first link: status %d, %+v", w.Code, s.record())
	}
	if w := s.post(s.confirmPath(), "do=confirm"); w.Code != 200 || s.record().Open.State != consent.Granted {
		t.Errorf("the second link: status %d, %+v", w.Code, s.record())
	}

	// The text that was agreed to is another one now.
	s = newConfirming(t, PublicConfig{})
	s.post(s.link("en"), "do=save&open=granted")
	link = s.confirmPath()
	s.h.(*public).Notice = &Notice{version: "2026-04", texts: map[string][]string{"": {"More."}}}
	if w := s.post(link, "do=confirm"); w.Code != 410 || s.record().Open.State != consent.Unset {
		t.Errorf("another notice: status %d, %+v", w.Code, s.record())
	}
}

// No link opens as the other, and none is opened by another gateway.
func TestConfirmLinksAreTheirOwn(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	s.post(s.link("en"), "do=save&open=granted")
	link := s.confirmPath()
	slip := strings.TrimPrefix(link, "/u/c/")
	undo := undoForm(t, s.post(s.link("en"), "do=unsubscribe").Body.String()).Get("slip")
	before := s.record()
	for _, path := range []string{"/u/" + slip, "/u/c/" + s.link("en")[3:], "/u/c/" + undo, link[:len(link)-1], link + "A", "/u/" + undo} {
		for form, want := range map[string]int{"do=confirm": 404, "List-Unsubscribe=One-Click": 404} {
			if w := s.post(path, form); w.Code != want || s.record() != before {
				t.Errorf("%s: status %d, %+v", path, w.Code, s.record())
			}
		}
	}
	if w := s.post(s.link("en"), "do=undo&slip="+slip); w.Code != 400 || s.record() != before {
		t.Errorf("a confirmation as undo: status %d, %+v", w.Code, s.record())
	}
}

// Clicking does not flood anybody's mailbox.
func TestFewMailsAreSent(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	sent := 0
	for minute := 0; minute < 24*60; minute += 2 {
		s.now = noon.Add(time.Duration(minute) * time.Minute)
		w := s.post(s.link("en"), "do=save&open=granted")
		switch got := status(t, w.Body.String()); {
		case w.Code != 200:
			t.Fatalf("minute %d: status %d", minute, w.Code)
		case len(s.letters) > sent && got == english.Asked:
			if sent++; minute%10 != 0 {
				t.Errorf("minute %d: another mail", minute)
			}
		case len(s.letters) > sent || got != english.AskedOften:
			t.Fatalf("minute %d: %d letters, %q", minute, len(s.letters), got)
		}
	}
	if sent != 3 {
		t.Errorf("%d mails in a day", sent)
	}
	// What is over the limit is not written down, and a withdrawal beside it holds.
	s.post(s.link("en"), "do=stop-tracking")
	w := s.post(s.link("en"), "do=save&mail=unsubscribed&open=granted")
	if got := status(t, w.Body.String()); got != english.Saved+" "+english.AskedOften {
		t.Errorf("%q", got)
	}
	if r := s.record(); r.Mail.State != consent.Unsubscribed || isAsked(r.Open) {
		t.Errorf("%+v", r)
	}
}

func TestUnsentMailIsNoSuccess(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	s.letterErr = errors.New("the smarthost is down at 10.0.0.7")
	for range 3 {
		w := s.post(s.link("en"), "do=save&open=granted")
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.7") || s.record().Open.State == consent.Granted {
			t.Errorf("status %d, %+v", w.Code, s.record())
		}
	}
	s.letterErr = nil // and it counts for nothing
	if w := s.post(s.link("en"), "do=save&open=granted"); status(t, w.Body.String()) != english.Asked || len(s.letters) != 1 {
		t.Errorf("status %d, %d letters", w.Code, len(s.letters))
	}
	s.store.err = consent.ErrUnreachable
	for _, w := range []*httptest.ResponseRecorder{s.do("GET", s.confirmPath(), "", ""), s.post(s.confirmPath(), "do=confirm")} {
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("store down: status %d", w.Code)
		}
	}
}

// An undo brings back what held, with the notice under which it was given, for a while and only if
// nothing changed since. It asks for no confirmation: nothing can come of it that was not there.
func TestUndo(t *testing.T) {
	given := consent.Change{Mail: consent.Subscribed, Open: consent.Granted, Notice: "paper-7"}
	start := func(form string) (*site, string) {
		s := newConfirming(t, PublicConfig{})
		s.apply(given)
		w := s.post(s.link("en"), form)
		return s, undoForm(t, w.Body.String()).Encode()
	}
	s, undo := start("do=stop-tracking")
	s.now = noon.Add(29 * time.Minute)
	w := s.post(s.link("en"), undo)
	if got := status(t, w.Body.String()); w.Code != 200 || got != english.Undone {
		t.Errorf("status %d, %q", w.Code, got)
	}
	if r := s.record(); r.Open.State != consent.Granted || r.Open.Notice != "paper-7" || r.Open.Source != consent.FromPage || r.Click.State != consent.Unset || len(s.letters) != 0 {
		t.Errorf("%+v, %d letters", r, len(s.letters))
	}
	gone := func(name string, s *site, undo string) {
		t.Helper()
		before := s.record()
		w := s.post(s.link("en"), undo)
		if got := status(t, w.Body.String()); w.Code != 200 || got != english.UndoGone || s.record() != before {
			t.Errorf("%s: status %d, %q, %+v", name, w.Code, got, s.record())
		}
	}
	gone("twice", s, undo)
	s, undo = start("do=unsubscribe")
	s.now = noon.Add(30 * time.Minute)
	gone("too late", s, undo)
	s, undo = start("do=unsubscribe")
	s.post(s.link("en"), "do=stop-tracking")
	gone("changed since", s, undo)
	s, undo = start("do=unsubscribe")
	s.post(s.link("en"), "List-Unsubscribe=One-Click")
	if s.post(s.link("en"), undo); s.record().Mail.State != consent.Subscribed {
		t.Errorf("an opt-out that changed nothing: %+v", s.record())
	}

	for form, everywhere := range map[string]consent.Change{"do=stop-tracking": {Open: consent.Denied}, "do=unsubscribe": {Mail: consent.Unsubscribed}} {
		s, undo = start(form)
		everywhere.Scope = consent.AnyScope
		s.applyAt(s.now, everywhere)
		gone("withdrawn everywhere since, "+form, s, undo)
	}

	s, undo = start("do=unsubscribe")
	before := s.record()
	for _, c := range []token.Claims{{Who: s.who, Scope: "orders"}, {Who: mustParse(t, "otto@example.org"), Scope: "newsletter"}} {
		if w := s.post("/u/"+s.links.Seal(c), undo); w.Code != 400 || s.record() != before {
			t.Errorf("%+v: status %d", c, w.Code)
		}
	}
}

// While something waits to be confirmed the preferences show nothing as chosen there, so that saving
// something else neither withdraws it nor asks again.
func TestWaitingIsShown(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	s.apply(consent.Change{Mail: consent.Subscribed, Open: consent.Denied, Click: consent.Denied})
	w := s.post(s.link("en"), "do=save&open=granted")
	var checked []string
	for n := range elements(parse(t, w.Body.String()), "input") {
		if _, ok := attr(n, "checked"); ok {
			name, _ := attr(n, "name")
			checked = append(checked, name)
		}
	}
	if got := strings.Join(checked, " "); got != "mail click" {
		t.Errorf("checked: %s", got)
	}
	if s.post(s.link("en"), "do=save&mail=subscribed&click=denied"); len(s.letters) != 1 || s.post(s.confirmPath(), "do=confirm").Code != 200 {
		t.Errorf("%d letters, %+v", len(s.letters), s.record())
	}
}

// An undo of a withdrawal does not bring back that a consent was asked for before it.
func TestUndoBringsBackNoAsking(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	s.post(s.link("en"), "do=save&open=granted")
	w := s.post(s.link("en"), "do=stop-tracking")
	w = s.post(s.link("en"), undoForm(t, w.Body.String()).Encode())
	if got := status(t, w.Body.String()); got != english.Undone || strings.Contains(w.Body.String(), english.Pending) || isAsked(s.record().Open) {
		t.Errorf("%q, %+v", got, s.record())
	}
	if w := s.post(s.confirmPath(), "do=confirm"); w.Code != 410 {
		t.Errorf("status %d, %+v", w.Code, s.record())
	}
}

// Nobody sends mails to many people from one network.
func TestOneNetworkAsksForFewMails(t *testing.T) {
	s := newConfirming(t, PublicConfig{})
	for i := range 2 * asksFromOne[0].most {
		s.who = mustParse(t, fmt.Sprintf("reader-%d@example.org", i))
		if w := s.post(s.link("en"), "do=save&open=granted"); w.Code != 200 {
			t.Fatalf("status %d", w.Code)
		}
	}
	if len(s.letters) != asksFromOne[0].most {
		t.Errorf("%d mails were sent", len(s.letters))
	}
	if w := s.post(s.link("en"), "do=stop-tracking"); w.Code != 200 || s.record().Open.State != consent.Denied {
		t.Errorf("a withdrawal from there: status %d, %+v", w.Code, s.record())
	}
}
