package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/status"
	"github.com/consentgate/consentgate/rewrite"
)

// statusHouse is a gateway's status page without the gateway.
type statusHouse struct {
	counted *metrics.Metrics
	log     *slog.Logger
	page    *status.Page
	now     time.Time
	spool   metrics.SpoolState
	hops    map[string]bool
	calls   int
	wrong   error // what is, with the store
}

func newStatusHouse(mode string, observe bool) *statusHouse {
	h := &statusHouse{counted: metrics.New(), now: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC), hops: map[string]bool{"smtp-1.example.net:587": true, "smtp-2.example.net:587": true}, spool: metrics.SpoolState{Writable: true, Bytes: 72 << 20}}
	book := logbook.New(slog.NewTextHandler(io.Discard, nil), logbook.Options{Count: h.counted.Logged})
	h.log = slog.New(book)
	spool := func() metrics.SpoolState { return h.spool }
	if mode == "stateless" {
		spool = nil
	}
	h.counted.Ask(metrics.Sources{
		Now:       func() time.Time { return h.now },
		Spool:     spool,
		Calls:     func() (int, int, int) { return h.calls, h.calls / 3, 0 },
		SMTP:      func() (int, int) { return 7, 1000 },
		Smarthost: func() metrics.SmarthostState { return metrics.SmarthostState{InUse: 4, Limit: 20, Hops: h.hops} },
		Cache:     func() (uint64, uint64) { return uint64(h.now.Unix()) * 3, uint64(h.now.Unix()) },
		Certificates: map[string]func() (time.Time, bool){
			"smtp": func() (time.Time, bool) { return time.Date(2027, 1, 20, 0, 0, 0, 0, time.UTC), true },
		},
		Version: "v1.0.0", Commit: "0123456", GoVersion: "go1.26", Mode: mode,
	})
	h.page = status.New(status.Config{Metrics: h.counted.Registry(), Logbook: book, Log: h.log, Now: func() time.Time { return h.now },
		Hostname: "gate.example.org", Version: "v1.0.0", Mode: mode, Observe: observe, Listens: []string{"127.0.0.1:2525", ":465"}, Ping: func(context.Context) error { return h.wrong }})
	h.page.Sample()
	return h
}

// busy lets 75 minutes pass with a mailing in the middle; down says that the store and a smarthost fail at the end, putOff
// that the smarthost takes nothing there.
func (h *statusHouse) busy(down, putOff bool) {
	random := rand.New(rand.NewPCG(1, 2))
	found := func(rules []string, kind rewrite.Kind, action rewrite.Action, vector string) (all []rewrite.Outcome) {
		for _, r := range rules {
			all = append(all, rewrite.Outcome{Finding: &rewrite.Finding{Kind: kind, Vector: vector, Rule: r, Destination: "https://shop.example/"}, Action: action})
		}
		return all
	}
	removed := h.counted.Tally(append(append(found([]string{"mailchimp-open", "size"}, rewrite.OpenTracker, rewrite.Removed, "img src"),
		found([]string{"mailchimp-click", "mailchimp-click", "mailchimp-click", "utm-person"}, rewrite.ClickTracker, rewrite.Undone, "a href")...),
		found([]string{"a-rule-of-the-operator-with-a-rather-long-name"}, rewrite.OpenTracker, rewrite.Removed, "td background")...), false, false, false)
	kept := h.counted.Tally(append(found([]string{"mailchimp-open"}, rewrite.OpenTracker, rewrite.Kept, "img src"), found([]string{"mailchimp-click", "mailchimp-click"}, rewrite.ClickTracker, rewrite.Kept, "a href")...), true, true, false)
	other := h.counted.Tally(append(found([]string{"sendgrid-open", "hidden"}, rewrite.OpenTracker, rewrite.Removed, "img src"),
		found([]string{"sendgrid-click"}, rewrite.ClickTracker, rewrite.Undone, "a href")...), false, false, false)
	for minute := range 75 {
		n := 40 + random.IntN(30)
		if minute > 30 && minute < 52 {
			n += 900 - 30*(minute-30) + random.IntN(80)
		}
		failing := down && minute >= 66
		for i := range n {
			d := consent.Decision{Mail: consent.Send, MailReason: consent.ByDefault, OpenReason: consent.ByDefault, ClickReason: consent.ByDefault}
			class := consent.Marketing
			switch {
			case i%20 == 4:
				class, d.MailReason, d.Open, d.Click = consent.Transactional, consent.ByClass, false, false
			case failing:
				d.Mail, d.MailReason = consent.Defer, consent.ByUnreachable
			case i%3 == 0:
				d.Open, d.Click, d.OpenReason, d.ClickReason, d.MailReason = true, i%2 == 0, consent.ByScope, consent.ByScope, consent.ByScope
			case i%7 == 0:
				d.OpenReason, d.ClickReason = consent.ByAnyScope, consent.ByScope
			case i%31 == 0:
				d.Mail, d.MailReason = consent.Suppress, consent.ByScope
			}
			h.counted.Decided(d)
			code := 250
			if i%40 == 7 || putOff && minute >= 62 {
				code = 451
			}
			switch {
			case failing:
				h.counted.Deferred(class, metrics.DeferredByStore)
				continue
			case d.Mail == consent.Suppress:
				h.counted.Suppressed(class, false)
				continue
			case code == 451:
				h.counted.Deferred(class, metrics.DeferredByAnswer)
				h.counted.SmarthostTook("smtp-1.example.net:587", code, time.Second)
				continue
			case i%90 == 8:
				h.counted.Bounced(class, metrics.BouncedByAnswer)
				continue
			}
			h.counted.Accepted(class)
			h.counted.Forwarded(class)
			h.counted.Signature(metrics.Signed)
			switch {
			case d.Open:
				kept.Count()
			case i%4 == 0:
				other.Count()
			default:
				removed.Count()
			}
			h.counted.SmarthostTook("smtp-1.example.net:587", code, time.Duration(20+random.IntN(400)*n/200)*time.Millisecond)
			h.counted.LookupTook(time.Duration(80+random.IntN(900))*time.Microsecond, nil)
		}
		if failing {
			h.counted.Page("one_click", "down")
		}
		for range random.IntN(3) {
			h.counted.Page("page", "ok")
			h.counted.Page("one_click", "ok")
		}
		if failing {
			h.counted.LookupTook(time.Second, consent.ErrUnreachable)
		}
		h.spool.Messages = max(0, (minute-40)*3)
		if minute > 55 {
			h.spool.Messages = max(0, 45-(minute-55)*4)
		}
		if failing {
			h.spool.Messages += (minute - 65) * 57
		}
		h.spool.Oldest = h.now.Add(-time.Duration(minute) * time.Minute / 2)
		h.now = h.now.Add(time.Minute)
		if minute < 74 {
			h.page.Sample()
		}
	}
	h.log.Warn("message refused", "id", "01m6dv7580cfy90t-001", "smarthost", "smtp-1.example.net:587", "answer", "550 5.1.1 <somebody@example.net>: no such user")
	h.log.Warn("message refused", "id", "01m6dv7580cfy90t-007", "answer", "554 5.6.0 the message cannot be read: somebody")
	h.counted.Refused("DATA", metrics.RefusedContent)
	h.counted.Refused("RCPT", metrics.RefusedLogin)
	h.log.Warn("a call failed and is tried again", "id", "QZ2KOJ3EPKYH", "answer", "503")
	h.log.Warn("login failed", "id", "01m6dv7580dprcz3", "answer", "535 5.7.8 wrong name or password")
	if down {
		h.hops["smtp-1.example.net:587"] = false
		h.spool.Writable = false
		for range 40 {
			h.log.Error("the consent store failed the API", "err", fmt.Errorf("%w: dial tcp 127.0.0.1:6379: connect: connection refused", consent.ErrUnreachable))
		}
		h.log.Error("the configuration is not taken over; what was in force stays", "err", errors.New("consentgate.toml:7: smtp.listn is no key; did you mean smtp.listen?"))
		h.counted.Reloaded(false)
	}
}

// The status page, as operators see it: empty, busy, in trouble, only observing; on a desk and on a phone, light and dark.
// Pictures of it are kept with go test -artifacts.
func TestStatus(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	checker, shots := axe(t), t.ArtifactDir()
	houses := map[string]*statusHouse{}
	for _, name := range []string{"empty", "busy", "down", "lost", "putoff", "observe", "stateless"} {
		h := newStatusHouse(map[bool]string{true: "stateless", false: "cutthrough"}[name == "stateless"], name == "observe")
		h.wrong = consent.ErrUnreachable
		switch houses[name] = h; name {
		case "empty":
			h.now = h.now.Add(31 * time.Second)
		case "lost":
			h.wrong = fmt.Errorf("%w: %w", consent.ErrUnreachable, consent.ErrLost)
			h.counted.LookupTook(time.Millisecond, h.wrong)
			h.counted.Page("choice", "down")
			h.now = h.now.Add(20 * time.Second)
		case "observe":
			h.now = h.now.Add(25 * time.Minute)
		default:
			h.busy(name == "down", name == "putoff")
		}
	}
	for name, h := range houses {
		for _, w := range []window{phone, desktop} {
			for _, dark := range []bool{false, true} {
				if slices.Contains([]string{"lost", "putoff", "stateless"}, name) && dark != (w == phone) {
					continue // what they have of their own is seen in two
				}
				w := window{w.width, w.height, dark, false}
				t.Run(name+" "+w.String(), func(t *testing.T) {
					t.Parallel()
					server := httptest.NewServer(h.page)
					t.Cleanup(server.Close)
					s := &pageSite{t: t, url: server.URL, shots: shots}
					v := s.visitor(c, w, "status-"+name, checker)
					v.visit("/")
					v.look("page")
					if name == "busy" && w == desktop {
						v.eval(`document.querySelector("details").open = true`, new(bool))
						v.look("table")
					}
					var page struct {
						Text, Title string
						Bars        int
					}
					v.eval(`({text: document.body.innerText, title: document.title, bars: document.querySelectorAll(".plot .fill").length})`, &page)
					for _, want := range map[string][]string{
						"empty":     {"All is well", "No mail since the start, 31 s ago.", "can be reached", "127.0.0.1:2525"},
						"busy":      {"All is well", "mailchimp-click", "nothing recorded", "message refused", "smarthost 550 5.1.1", "554 5.6.0"},
						"down":      {"5 things to look at", "does not answer", "Unsubscribing failed 9 times", "failed when last tried", "takes no mail", "could not be read again", "40×"},
						"lost":      {"2 things to look at", "has lost its records", "accept-store", "Unsubscribing failed once"},
						"putoff":    {"1 thing to look at", "Smarthost smtp-1.example.net:587 put off"},
						"observe":   {"Only observing.", "look every 30 s"},
						"stateless": {"All is well", "of all others the sender was told at once"},
					}[name] {
						if !strings.Contains(page.Text, want) {
							t.Errorf("the page lacks %q:\n%s", want, page.Text)
						}
					}
					if strings.Contains(page.Text, "somebody") || strings.Contains(page.Text, "no such user") || strings.HasPrefix(page.Title, "!") != strings.Contains(page.Text, "to look at") || (page.Bars > 0) != slices.Contains([]string{"busy", "down", "putoff", "stateless"}, name) {
						t.Errorf("title %q, %d bars:\n%s", page.Title, page.Bars, page.Text)
					}
				})
			}
		}
	}
}

// Who wants the page to load itself again says so, and can stop it.
func TestStatusIsWatched(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	server := httptest.NewServer(newStatusHouse("cutthrough", false).page)
	t.Cleanup(server.Close)
	s := &pageSite{t: t, url: server.URL, shots: t.TempDir()}
	v := s.visitor(c, desktop, "status-watched", "")
	refresh := func() string {
		resp, err := http.Get(v.location())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Refresh")
	}
	v.visit("/")
	if got := refresh(); got != "" {
		t.Errorf("it loads itself again, unasked: %q", got)
	}
	v.keyAway("a[href='?watch']", "Enter")
	if got := refresh(); got != "30" {
		t.Errorf("Refresh is %q", got)
	}
	v.clickAway("a[href='./']")
	if got := refresh(); got != "" {
		t.Errorf("it does not stop: %q", got)
	}
}

// location is the address of what is shown.
func (v *visitor) location() string {
	var at string
	v.eval(`location.href`, &at)
	return at
}
