package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/spool"
)

// chained is the job to unsubscribe somebody at the sender's own list.
type chained struct {
	Who    string         `json:"who"`
	Scope  consent.Scope  `json:"scope"`
	Source consent.Source `json:"source"`
	URL    string         `json:"url"`
}

// ParseOneClick reads a sender's one-click address: https, a host, no user, ASCII.
func ParseOneClick(text string) (*url.URL, error) {
	if len(text) > token.MaxOneClick {
		return nil, errors.New("it is too long")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("it holds more than printable ASCII")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("it is no URL")
	case u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("it is not https")
	case u.User != nil:
		return nil, errors.New("it holds a user")
	}
	return u, nil
}

// Unsubscribed is to be called when somebody unsubscribed by a link whose token said claims: the sender's own
// list is told, if there is an address for it. It returns when that is on disk. What can still be undone on the page is
// told when it cannot any more, since the sender's list knows no undo; a restart does not wait for that. id is that of
// the request or the message, with which the call's begins.
func (o *Outbox) Unsubscribed(id string, claims token.Claims, source consent.Source) {
	if claims.OneClick == "" {
		return
	}
	u, err := ParseOneClick(claims.OneClick)
	if err != nil {
		o.cfg.Log.Warn("the sender's own list cannot be told of an unsubscribe", "id", id, "scope", claims.Scope, "err", err)
		return
	}
	key := o.cfg.Store.Key(claims.Who).String()
	j := job{
		// Clicked again while it waits, it waits once.
		Job:     spool.Job{Queue: chainQueue + strings.ToLower(u.Host), Line: key + "/" + string(claims.Scope) + "/" + short(claims.OneClick)},
		payload: chained{claims.Who.String(), claims.Scope, source, claims.OneClick},
		id:      below(id),
	}
	o.mu.Lock()
	_, waits := o.lines["chain "+j.Line]
	o.mu.Unlock()
	if waits {
		return
	}
	items, err := o.add(true, j)
	if err != nil {
		o.lost(chainedUnsubscribe, 1, err)
	}
	from := o.cfg.Now()
	if source == consent.FromPage {
		from = from.Add(token.UndoTime)
	}
	o.release(items, from)
}

// short is a name for an address.
func short(address string) string {
	sum := sha256.Sum256([]byte(address))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// unsubscribe sends what RFC 8058 §3.1 describes, and notes in the person's history what was answered. What
// was answered well already is not sent again.
func (o *Outbox) unsubscribe(ctx context.Context, it *item, c chained) answer {
	who, err := consent.ParseAddress(c.Who)
	u, wrong := ParseOneClick(c.URL)
	if err != nil || wrong != nil {
		return answer{err: fmt.Errorf("%w: it names nobody to call", spool.ErrDamaged)}
	}
	known, told, err := o.toldBefore(ctx, who, c)
	if err != nil {
		o.cfg.Log.Error("a history cannot be read, so the sender's own list is told later", "id", it.id, "err", err)
		return answer{said: "the store does not answer", local: true}
	}
	if !known || told { // erased or subscribed again meanwhile, or done
		return answer{done: true, local: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader("List-Unsubscribe=One-Click"))
	if err != nil {
		return answer{err: fmt.Errorf("%w: it cannot be called", spool.ErrDamaged)}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", o.cfg.UserAgent)
	a := do(o.chain, req)
	if !a.done && !a.final() {
		return a
	}
	a.done = true
	o.cfg.Log.Info("an unsubscribe was sent to the sender's own list", "id", it.id, "host", u.Hostname(), "scope", c.Scope, "answer", a.said)
	if err := o.note(ctx, who, c, a.said); err != nil {
		// Sent once more it does no harm, and the history must not lack it.
		o.cfg.Log.Error("what the sender's own list answered cannot be written into the history", "id", it.id, "err", err)
		return answer{said: "the store does not answer", local: true}
	}
	return a
}

// final says of a failed call that there is no use in another.
func (a answer) final() bool {
	if a.said == notPublic {
		return true
	}
	status, err := strconv.Atoi(a.said)
	if err != nil {
		return false
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

// toldBefore looks into the history: whether there is one, and whether this list took the unsubscribe that is in
// force, or refused it within the last hour. Where none is in force any more, there is nothing to tell either.
func (o *Outbox) toldBefore(ctx context.Context, who consent.Address, c chained) (known, told bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for e, err := range o.cfg.Store.History(ctx, who) {
		if err != nil {
			return false, false, err
		}
		known = true
		switch {
		case e.Scope != c.Scope:
		case e.Kind == consent.Changed && e.New.Mail != "":
			told = e.New.Mail == consent.Subscribed
		case e.Kind == consent.Chained && strings.HasSuffix(e.Origin, " #"+short(c.URL)):
			told = strings.HasPrefix(e.Origin, "2") || o.cfg.Now().Sub(e.Time) < time.Hour
		}
	}
	return known, told, nil
}

// note writes into the history what was answered, by which host, and a name for the address.
func (o *Outbox) note(ctx context.Context, who consent.Address, c chained, said string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	tail := " #" + short(c.URL)
	host := ""
	if u, err := url.Parse(c.URL); err == nil {
		host = u.Hostname()
	}
	text := said + " from " + host
	text = text[:min(len(text), consent.MaxOrigin-len(tail))] + tail
	return o.cfg.Store.Note(ctx, who, consent.Event{Kind: consent.Chained, Time: o.cfg.Now(), Scope: c.Scope, Source: c.Source, Origin: text})
}

// noteGivenUp is note for a call that was tried for a day. It is not tried again where the store does not answer.
func (o *Outbox) noteGivenUp(it *item, said string) {
	var c chained
	err := o.payload(it, &c)
	var who consent.Address
	if err == nil {
		who, err = consent.ParseAddress(c.Who)
	}
	if err == nil {
		err = o.note(context.Background(), who, c, "given up: "+said)
	}
	if err != nil {
		o.cfg.Log.Error("that the sender's own list could not be told is not in the history", "id", it.id, "err", err)
	}
}
