package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

func TestHistoryAndExportOfAPerson(t *testing.T) {
	d := newDesk(t)
	w := d.do("GET", "/v1/history/Anna%40example.org", "", "")
	sameJSON(t, w.Body.Bytes(), `{"address":"anna@example.org","intact":true,"events":[]}`)
	d.put("/v1/consent/news/anna@example.org", `{"open":"granted","click":"denied","notice":"2026-03"}`)
	d.put("/v1/consent/*/anna@example.org", `{"mail":"unsubscribed"}`)
	d.put("/v1/consent/news/anna@example.org", `{"open":"denied"}`)
	w = d.do("GET", "/v1/history/anna@example.org", "", "")
	const events = `[
		{"number":1,"kind":"change","time":"2026-03-01T12:00:00Z","scope":"news","source":"api","notice":"2026-03","new":{"open":"granted","click":"denied"}},
		{"number":2,"kind":"change","time":"2026-03-01T12:00:00Z","scope":"*","source":"api","new":{"mail":"unsubscribed"}},
		{"number":3,"kind":"change","time":"2026-03-01T12:00:00Z","scope":"news","source":"api","old":{"open":"granted"},"new":{"open":"denied"}}]`
	sameJSON(t, w.Body.Bytes(), `{"address":"anna@example.org","intact":true,"events":`+events+`}`)

	w = d.do("GET", "/v1/export/anna@example.org", "", "")
	who, _ := consent.ParseAddress("anna@example.org")
	sameJSON(t, w.Body.Bytes(), fmt.Sprintf(`{"address":"anna@example.org","person":"%s","records":[
		{"scope":"*","address":"anna@example.org","mail":"unsubscribed","open":"unset","click":"unset","version":1,"detail":{"mail":{"time":"2026-03-01T12:00:00Z","source":"api","notice":""}}},
		{"scope":"news","address":"anna@example.org","mail":"subscribed","open":"denied","click":"denied","version":2,"detail":{
			"click":{"time":"2026-03-01T12:00:00Z","source":"api","notice":"2026-03"},"open":{"time":"2026-03-01T12:00:00Z","source":"api","notice":""}}}],
		"history":{"intact":true,"events":%s}}`, d.store.Key(who), events))
}

func TestErase(t *testing.T) {
	d := newDesk(t)
	d.put("/v1/consent/news/anna@example.org", `{"open":"granted"}`)
	d.put("/v1/consent/news/ben@example.org", `{"mail":"unsubscribed","open":"denied"}`)
	for _, who := range []string{"anna@example.org", "ben@example.org", "nobody@example.org"} {
		if w := d.ask("DELETE", "/v1/consent/"+who, ""); w.Code != 204 || w.Body.Len() > 0 {
			t.Errorf("%s: status %d", who, w.Code)
		}
	}
	if w := d.do("GET", "/v1/export/anna@example.org", "", ""); !strings.Contains(w.Body.String(), `"records":[],"history":{"intact":true,"events":[]}`) {
		t.Error(w.Body)
	}
	if w := d.do("GET", "/v1/consent/news/ben@example.org", "", ""); !strings.Contains(w.Body.String(), `"mail":"unsubscribed"`) {
		t.Errorf("the opt-out is gone: %s", w.Body)
	}
	if w := d.ask("DELETE", "/v1/consent/anna", ""); w.Code != 400 {
		t.Error(w.Code)
	}
}

func TestRename(t *testing.T) {
	d := newDesk(t)
	d.put("/v1/consent/news/ana@example.org", `{"open":"granted"}`)
	if w := d.ask("POST", "/v1/rename", `{"old":"ana@example.org","new":"Anna@example.org"}`, isJSON); w.Code != 204 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if w := d.do("GET", "/v1/consent/news/anna@example.org", "", ""); !strings.Contains(w.Body.String(), `"open":"granted"`) {
		t.Error(w.Body)
	}
	for body, want := range map[string]string{
		`{"old":"nobody@example.org","new":"anna@example.org"}`:     "404 old",
		`{"old":"anna@example.org","new":"ANNA@example.org"}`:       "400 new",
		`{"old":"anna@example.org"}`:                                "400 new",
		`{"new":"anna@example.org"}`:                                "400 old",
		`{"old":"anna","new":"anna@example.org"}`:                   "400 old",
		`{"old":"a@example.org","new":"b@example.org","scope":"x"}`: "400 scope",
		`[]`: "400 ",
	} {
		w := d.ask("POST", "/v1/rename", body, isJSON)
		var p problem
		json.Unmarshal(w.Body.Bytes(), &p)
		if got := fmt.Sprint(w.Code, " ", p.Field); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestAcceptStore(t *testing.T) {
	d := newDesk(t)
	d.store.err = errors.Join(consent.ErrUnreachable, consent.ErrLost)
	for _, path := range []string{"/v1/consent/news/a@example.org", "/readyz"} {
		if w := d.do("GET", path, "", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "consentgate consent accept-store") {
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
		}
	}
	if w := d.ask("POST", "/v1/accept-store", ""); w.Code != 204 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// What a page of another site makes a browser send is refused, whatever Host it has.
func TestPagesOfOtherSites(t *testing.T) {
	d := newDesk(t)
	for _, header := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://other.example.org", "Origin: null"} {
		if w := d.ask("POST", "/v1/accept-store", "", header); w.Code != 403 {
			t.Errorf("%s: status %d", header, w.Code)
		}
	}
	for _, header := range []string{"Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin", "X: x"} {
		if w := d.ask("POST", "/v1/accept-store", "", header); w.Code != 204 {
			t.Errorf("%s: status %d", header, w.Code)
		}
	}
}

// tampered is a store in which somebody was made to agree by a hand that had no key.
type tampered struct{ consent.Store }

func (s tampered) History(ctx context.Context, who consent.Address) iter.Seq2[consent.Event, error] {
	ledger := consent.NewLedger(keyring.Ephemeral())
	h := &consent.Held{Key: ledger.Key(who), Fields: map[string]string{"news": "1\t\tg1772366400p\t"}}
	return func(yield func(consent.Event, error) bool) {
		for _, e := range ledger.History(h) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestHistoryOfARecordWithoutOne(t *testing.T) {
	d := newDesk(t, func(c *AdminConfig) { c.Store = tampered{c.Store} })
	w := d.do("GET", "/v1/history/a@example.org", "", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"intact":false`) || !strings.Contains(w.Body.String(), "scope news for open is not what the history says") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}
