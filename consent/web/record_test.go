package web

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// ask sends a request with the header fields "Name: value".
func (d *desk) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8081"
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	keepsContract(d.t, r, w)
	return w
}

const isJSON = "Content-Type: application/json"

func TestIfMatch(t *testing.T) {
	d := newDesk(t)
	const path = "/v1/consent/news/a@example.org"
	if w := d.do("GET", path, "", ""); w.Header().Get("ETag") != `"0"` {
		t.Errorf("ETag %s", w.Header().Get("ETag"))
	}
	for _, c := range []struct {
		match, state string
		status       int
		etag         string
	}{
		{`"1"`, "granted", 412, ""},
		{`"0"`, "granted", 200, `"1"`},
		{`"0"`, "denied", 412, ""},
		{`"1"`, "denied", 200, `"2"`},
		{`*`, "granted", 200, `"3"`},
		{`"1", "3"`, "denied", 400, ""},
		{`W/"3"`, "denied", 400, ""},
		{`3`, "denied", 400, ""},
		{`"03"`, "denied", 400, ""},
		{`"99999999999999999999"`, "denied", 400, ""},
		{`"3"`, "unset", 200, `"4"`},
	} {
		w := d.ask("PUT", path, fmt.Sprintf(`{"open":%q}`, c.state), isJSON, "If-Match: "+c.match)
		if w.Code != c.status || w.Header().Get("ETag") != c.etag {
			t.Errorf("If-Match %s: status %d, ETag %s\n%s", c.match, w.Code, w.Header().Get("ETag"), w.Body)
		}
	}
}

func TestLookupOfMany(t *testing.T) {
	d := newDesk(t)
	d.put("/v1/consent/news/anna@example.org", `{"open":"granted"}`)
	w := d.ask("POST", "/v1/consent/lookup", `{"scope":"News","addresses":["ben@example.org","nobody","Anna@example.org","anna@example.org"]}`, isJSON)
	var got struct {
		Records []struct{ Address, Open, Error string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	want := "[{ben@example.org unset } {nobody  not a mail address: it has no local part, no @ or no domain} {anna@example.org granted } {anna@example.org granted }]"
	if text := fmt.Sprint(got.Records); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if w := d.ask("POST", "/v1/consent/lookup", `{"scope":"news","addresses":[]}`, isJSON); w.Body.String() != `{"records":[]}`+"\n" {
		t.Error(w.Body)
	}
	many := strings.Repeat(`"a@example.org",`, maxLookup)
	if w := d.ask("POST", "/v1/consent/lookup", `{"scope":"news","addresses":[`+many[:len(many)-1]+`]}`, isJSON); w.Code != 200 {
		t.Error(w.Code)
	}
	for body, want := range map[string]string{
		`{"scope":"news","addresses":[` + many + `"b@example.org"]}`: "400 addresses",
		`{"scope":"news"}`:                          "400 addresses",
		`{"addresses":[]}`:                          "400 scope",
		`{"scope":"a b","addresses":[]}`:            "400 scope",
		`{"scope":"a","addresses":[1]}`:             "400 addresses",
		`{"scope":"a","addresses":"x"}`:             "400 addresses",
		`{"scope":"a","addresses":[],"Scope":"b"}`:  "400 Scope",
		`{"scope":"a","addresses":[],"people":"b"}`: "400 people",
		`[]`:   "400 ",
		`null`: "400 ",
		``:     "400 ",
		`{"scope":"` + strings.Repeat("x", maxLookupBody) + `"}`: "413 ",
	} {
		w := d.ask("POST", "/v1/consent/lookup", body, isJSON)
		var p problem
		json.Unmarshal(w.Body.Bytes(), &p)
		if got := fmt.Sprint(w.Code, " ", p.Field); got != want {
			t.Errorf("%.80s: %s, want %s", body, got, want)
		}
	}
	d.store.err = consent.ErrUnreachable
	if w := d.ask("POST", "/v1/consent/lookup", `{"scope":"news","addresses":["a@example.org"]}`, isJSON); w.Code != 503 {
		t.Error(w.Code)
	}
}
