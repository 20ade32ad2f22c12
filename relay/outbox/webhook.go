package outbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// The calls follow Standard Webhooks 1.0, so that receivers find a library that checks them:
//
//	webhook-id         the same for each attempt, and after a restart
//	webhook-timestamp  seconds, of this attempt
//	webhook-signature  "v1," and base64 of HMAC-SHA-256 over ID "." timestamp "." body; one for each secret of
//	                   the key file, the current one first, so that a receiver may change over when it likes

// Secret is a signing key as receivers' libraries take it.
func Secret(key []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(key) }

// sign returns webhook-signature.
func (o *Outbox) sign(id, at string, body []byte) string {
	all := make([]string, len(o.cfg.Secrets))
	for i, secret := range o.cfg.Secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}

// event is the body of a call.
type event struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it happened, to the second, UTC
	Data      any       `json:"data"`
}

// post makes a call to the webhook. Only 2yz says that it was taken.
func (o *Outbox) post(ctx context.Context, id string, body []byte) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.cfg.WebhookURL, bytes.NewReader(body))
	if err != nil {
		return answer{said: "the address of the webhook cannot be called"}
	}
	at := strconv.FormatInt(o.cfg.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", o.cfg.UserAgent)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", at)
	req.Header.Set("webhook-signature", o.sign(id, at, body))
	a := do(o.webhook, req)
	a.event = id
	return a
}

// change is the job to tell what changed of a person. It is added before the change is made, and
// what there is to tell is read in the history when it is done, so that no crash between the two loses it.
type change struct {
	Who   string `json:"who"`
	After uint64 `json:"after"` // number of the last event before the change
}

// changed is the data of an event about consent.
type changed struct {
	Person  string            `json:"person"` // a name for the address that tells nothing of it
	Address string            `json:"address"`
	Number  uint64            `json:"number"` // in the person's history
	Kind    consent.EventKind `json:"kind"`
	Scope   consent.Scope     `json:"scope,omitempty"`
	Source  consent.Source    `json:"source"`
	Origin  string            `json:"origin,omitempty"`
	Notice  string            `json:"notice,omitempty"`
	Old     consent.States    `json:"old,omitzero"`
	New     consent.States    `json:"new,omitzero"`
}

// tellChanges tells what is in the history behind c.After, one event behind the other. What came by an
// import meanwhile is left out, as no job tells of it, and so is what is no change.
func (o *Outbox) tellChanges(ctx context.Context, l *line, it *item, c change) answer {
	who, err := consent.ParseAddress(c.Who)
	if err != nil {
		return answer{err: fmt.Errorf("%w: it is about nobody", spool.ErrDamaged)}
	}
	reading, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	key := o.cfg.Store.Key(who).String()
	last := answer{done: true, local: true}
	some := false
	var events []consent.Event
	for e, err := range o.cfg.Store.History(reading, who) {
		if err != nil {
			o.cfg.Log.Error("a history cannot be read, so the webhook is told later", "id", it.id, "err", err)
			return answer{said: "the store does not answer", local: true}
		}
		events = append(events, e)
	}
	if n := len(events); n > 0 && events[n-1].Number < l.told { // another gateway erased the person meanwhile
		l.told = 0
	}
	for _, e := range events {
		if e.Number <= max(c.After, l.told) || e.Source == consent.FromImport {
			continue
		}
		switch e.Kind {
		case consent.Changed, consent.RenamedFrom, consent.RenamedTo:
		default:
			continue
		}
		body, err := json.Marshal(event{"consent." + string(e.Kind), e.Time, changed{
			Person: key, Address: who.String(), Number: e.Number, Kind: e.Kind, Scope: e.Scope, Source: e.Source,
			Origin: e.Origin, Notice: e.Notice, Old: e.Old, New: e.New,
		}})
		if err != nil {
			return answer{err: fmt.Errorf("%w: %w", spool.ErrDamaged, err)}
		}
		// Numbers begin anew behind an erasure, so the time belongs to the ID.
		if last = o.post(ctx, eventID(key, strconv.FormatUint(e.Number, 10), strconv.FormatInt(e.Time.Unix(), 10)), body); !last.done {
			last.some = some
			return last
		}
		l.told, some = e.Number, true
	}
	return last
}

// eventID is the same whenever and wherever it is made of the same.
func eventID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return "evt_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// Copy is what became of one recipient's copy, for good.
type Copy struct {
	Message string // the ID in the log
	Who     consent.Address
	Scope   consent.Scope
	Class   consent.Class
	Fate    string // "suppressed", "accepted" or "refused" by the smarthost, or "expired"
	Code    int    // the smarthost's last answer; 0 where it was not asked
	Text    string
	Time    time.Time
}

// copied is the data of an event about a copy.
type copied struct {
	Person  string        `json:"person"`
	Address string        `json:"address"`
	Message string        `json:"message"`
	Scope   consent.Scope `json:"scope"`
	Class   consent.Class `json:"class"`
	Code    int           `json:"code,omitempty"`
	Text    string        `json:"text,omitempty"`
}

// toldCopy is the job to tell of a copy.
type toldCopy struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body"`
}

// Copy tells the webhook what became of a copy. It returns when that is on disk.
func (o *Outbox) Copy(c Copy) {
	if o.cfg.WebhookURL == "" {
		return
	}
	key := o.cfg.Store.Key(c.Who).String()
	body, err := json.Marshal(event{"copy." + c.Fate, c.Time.UTC().Truncate(time.Second), copied{
		key, c.Who.String(), c.Message, c.Scope, c.Class, c.Code, strings.ToValidUTF8(c.Text, "\uFFFD"),
	}})
	if err == nil {
		_, err = o.add(false, job{Job: spool.Job{Queue: copyQueue, Line: key}, payload: toldCopy{eventID(c.Message, key, c.Fate), body}, id: below(c.Message)})
	}
	if err != nil {
		o.lost("copy."+c.Fate, 1, err)
	}
}
