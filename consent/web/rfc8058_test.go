package web

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

func multipartBody(t *testing.T, file bool, pairs ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		var part io.Writer
		var err error
		if file {
			part, err = w.CreateFormFile(pairs[i], "x.txt")
		} else {
			part, err = w.CreateFormField(pairs[i])
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, pairs[i+1])
	}
	w.Close()
	return w.FormDataContentType(), b.String()
}

// Every verb with every body and every header, beside the section of RFC 8058 that says so. Only one
// verb and a body that holds the pair of the header field, and nothing else, unsubscribes; no other
// header matters. (checkHeaders says for each answer that it redirects nowhere and sets no cookie: §3.1.)
func TestRFC8058(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	type body struct {
		section, name, kind, text string
		status                    int // of a POST
	}
	multi := func(section, name string, status int, file bool, pairs ...string) body {
		kind, text := multipartBody(t, file, pairs...)
		return body{section, name, kind, text, status}
	}
	pair := multi("§3.2", "multipart", 200, false, "List-Unsubscribe", "One-Click")
	bodies := []body{
		// "SHOULD be sent as multipart/form-data or MAY be sent as application/x-www-form-urlencoded".
		pair,
		{"§3.2", "urlencoded", form, "List-Unsubscribe=One-Click", 200},
		{"§3.2", "urlencoded, percent-encoded", form, "List%2DUnsubscribe=One%2dClick", 200},
		{"§3.2", "urlencoded with a charset", form + "; charset=UTF-8", "List-Unsubscribe=One-Click", 200},
		{"§3.2", "type in capitals", "Application/X-WWW-Form-Urlencoded", "List-Unsubscribe=One-Click", 200},
		{"§3.2", "line end behind it", form, "List-Unsubscribe=One-Click\r\n", 200},
		{"§3.2", "multipart with a preamble", pair.kind, "preamble\r\n" + pair.text, 200},
		{"none", "no type", "", "List-Unsubscribe=One-Click", 200}, // an opt-out shall not fail on that
		// "MUST contain the single key/value pair List-Unsubscribe=One-Click", which is what is sent back.
		{"§3.1", "empty", form, "", 400},
		{"§3.1", "no type and empty", "", "", 400},
		{"§3.1", "another value", form, "List-Unsubscribe=Two-Click", 400},
		{"§3.1", "another case", form, "list-unsubscribe=one-click", 400},
		{"§3.1", "a space before it", form, "+List-Unsubscribe=One-Click", 400},
		{"§3.1", "no value", form, "List-Unsubscribe", 400},
		{"§3.1", "twice", form, "List-Unsubscribe=One-Click&List-Unsubscribe=One-Click", 400},
		{"§3.1", "another field too", form, "List-Unsubscribe=One-Click&x=y", 400},
		{"§3.1", "with a form of the page", form, "List-Unsubscribe=One-Click&do=resubscribe", 400},
		{"§3.1", "bad escape", form, "List-Unsubscribe=One-Click&%zz", 400},
		{"§3.1", "semicolon", form, "List-Unsubscribe=One-Click;x", 400},
		multi("§3.1", "multipart, another field too", 400, false, "List-Unsubscribe", "One-Click", "x", "y"),
		multi("§3.1", "multipart, twice", 400, false, "List-Unsubscribe", "One-Click", "List-Unsubscribe", "One-Click"),
		multi("§3.1", "multipart, a file", 400, true, "List-Unsubscribe", "One-Click"),
		{"§3.2", "JSON", "application/json", `{"List-Unsubscribe":"One-Click"}`, 400},
		{"§3.2", "plain text", "text/plain", "List-Unsubscribe=One-Click", 400},
		{"§3.2", "broken type", "///;;", "List-Unsubscribe=One-Click", 400},
		{"§3.2", "multipart without a boundary", "multipart/form-data", pair.text, 400},
		{"§3.2", "multipart, cut", pair.kind, pair.text[:len(pair.text)-8], 400},
		{"none", "too large", form, "List-Unsubscribe=One-Click&x=" + strings.Repeat("y", maxForm), 413},
		{"none", "multipart, too large", pair.kind, strings.Repeat("-", maxForm) + pair.text, 413},
	}
	verbs := []struct {
		section, name string
		status        int // 0: that of the body
	}{
		{"§3.2", "POST", 0},
		{"§1, §3.2", "GET", 200}, // a program that fetches addresses must not unsubscribe; the same URI is the page
		{"§1", "HEAD", 200},
		{"§1", "OPTIONS", 204},
		{"none", "PUT", 405},
		{"none", "PATCH", 405},
		{"none", "DELETE", 405},
		{"none", "BREW", 405},
	}
	headers := []struct {
		section string
		fields  []string
	}{
		{"§3.1", nil}, // "MUST NOT include cookies, HTTP authorization, or any other context": none is needed …
		{"§3.1", []string{"Cookie", "session=1"}}, // … and none makes a difference
		{"§3.1", []string{"Authorization", "Basic eDp5"}},
		{"§3.1", []string{"Referer", "https://mail.example.net/", "Origin", "https://mail.example.net", "Sec-Fetch-Site", "cross-site"}},
		{"§3.1", []string{"Origin", "null"}},
		{"§1", []string{"Sec-Purpose", "prefetch;prerender", "Purpose", "prefetch", "X-Moz", "prefetch"}},
		{"none", []string{"Accept-Language", "de", "User-Agent", "scanner"}},
		{"none", []string{"Accept", "application/json"}},
		{"none", []string{"X-HTTP-Method-Override", "POST", "X-Method-Override", "DELETE"}},
		{"none", []string{"X-Forwarded-For", "192.0.2.7", "Forwarded", "for=192.0.2.7"}},
		{"§3.2", []string{"List-Unsubscribe", "One-Click", "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"}}, // of the mail, not of the request
	}
	s := newSite(t)
	n := 0
	for _, verb := range verbs {
		for _, b := range bodies {
			for _, h := range headers {
				n++
				s.who = mustParse(t, fmt.Sprintf("reader-%d@example.org", n))
				what := fmt.Sprintf("%s (%s), %s (%s), %v (%s)", verb.name, verb.section, b.name, b.section, h.fields, h.section)
				link := "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: "newsletter", Language: "en"})
				w := s.do(verb.name, link, b.kind, b.text, h.fields...)
				status := verb.status
				if status == 0 {
					status = b.status
				}
				if w.Code != status {
					t.Errorf("%s: status %d, want %d", what, w.Code, status)
				}
				if w.Code == 405 && w.Header().Get("Allow") != "GET, HEAD, POST, OPTIONS" {
					t.Errorf("%s: Allow: %q", what, w.Header().Get("Allow"))
				}
				want := consent.Record{Scope: "newsletter"}
				if verb.name == "POST" && b.status == 200 {
					want.Version, want.Mail = 1, consent.Entry{State: consent.Unsubscribed, Time: noon, Source: consent.FromOneClick}
					if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
						t.Errorf("%s: type %q", what, kind)
					}
					if again := s.do(verb.name, link, b.kind, b.text, h.fields...); again.Code != 200 {
						t.Errorf("%s: twice: status %d", what, again.Code)
					}
				}
				if got := s.record(); got != want {
					t.Errorf("%s: recorded is %+v", what, got)
				}
			}
		}
	}
	if n != len(verbs)*len(bodies)*len(headers) || n < 2000 {
		t.Errorf("%d combinations were tried", n)
	}
}
