package rewrite

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

func locked(t testing.TB, src string, lock Lock) *Message {
	t.Helper()
	o := testOptions()
	o.Lock = lock
	m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLockGolden is TestGolden for the messages of testdata/rewrite/lock, each for the provider that its
// name begins with.
func TestLockGolden(t *testing.T) {
	files, err := filepath.Glob("../testdata/rewrite/lock/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no messages in testdata/rewrite/lock")
	}
	seen := map[Provider]bool{}
	for _, file := range files {
		name, isSource := strings.CutSuffix(filepath.Base(file), ".eml")
		if !isSource || strings.Contains(name, ".") {
			continue
		}
		provider, _, _ := strings.Cut(name, "-")
		lock := Lock{Provider: Provider(provider), SESConfigurationSet: "untracked"}
		if provider == "headers" {
			lock = Lock{WithoutOpen: map[string]string{"x-track-opens": "no", "X-Track": "no"}, WithoutClick: map[string]string{"X-Track-Clicks": "no", "X-Track": "no"}}
		}
		seen[lock.Provider] = true
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m := locked(t, string(crlf(src)), lock)
			for consent, v := range map[string]Variant{"none": variant(false, false), "open": variant(true, false), "click": variant(false, true), "both": variant(true, true)} {
				got := strings.ReplaceAll(string(render(t, m, v)), "\r\n", "\n")
				want := strings.TrimSuffix(file, ".eml") + "." + consent + ".want.eml"
				if *update {
					if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
					continue
				}
				wanted, err := os.ReadFile(want)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(wanted), got); d != "" {
					t.Errorf("%s (-want +got):\n%s", want, d)
				}
			}
			// With both consents nothing of it differs from a copy for no provider at all.
			if free := parse(t, crlf(src)); string(render(t, free, variant(true, true))) != string(render(t, m, variant(true, true))) {
				t.Error("a copy with both consents is not left as the sender set it")
			}
		})
	}
	for _, p := range []Provider{Mailjet, Mailgun, SendGrid, Mandrill, Postmark, SES, SparkPost} {
		if !seen[p] {
			t.Errorf("no message for %s", p)
		}
	}
}

// A field that makes the provider send this person's copy to others is refused.
func TestLockRecipients(t *testing.T) {
	for field, ok := range map[string]bool{
		`{"to": ["anna@example.com"]}`:                    true,
		`{"to": "Anna <Anna@example.com>"}`:               true,
		`{"to": []}`:                                      true,
		`{"category": "to"}`:                              true,
		`{"to": ["ben@example.com"]}`:                     false,
		`{"to": ["anna@example.com", "ben@example.com"]}`: false,
		`{"to": {"a": "anna@example.com"}}`:               false,
		`=?utf-8?q?{=22to=22:_=22ben=40example.com=22}?=`: false,
	} {
		m := locked(t, "From: a@example.org\r\nX-SMTPAPI: "+field+"\r\n\r\nhello\r\n", Lock{Provider: SendGrid})
		for _, consent := range []bool{true, false} {
			v := variant(consent, consent)
			v.To = "anna@example.com"
			if _, err := m.Render(v); ok && err != nil || !ok && !errors.Is(err, ErrRecipients) {
				t.Errorf("%s, consent %v: %v", field, consent, err)
			}
		}
	}
}

// Whatever the sender's field holds, the copy's is one JSON object in ASCII that says no, in lines that
// mail servers take, and all other keys are what they were.
func FuzzLockJSON(f *testing.F) {
	f.Add(`{"a": "` + strings.Repeat("word ", 500) + `", "b\\": "\"\\", "filters": {"opentrack": 5, "other": null}}`)
	f.Add(`{"filters": {"opentrack": {"settings": {"enable": 1, "Enable": 1}}}, "é": "\ud83d\ude00 😀", "n": 1e400}`)
	f.Add(`[1]`)
	f.Add(`{"filters": {}, "filters": {"clicktrack": {"settings": {"enable": 1}}}}`)
	f.Fuzz(func(t *testing.T, field string) {
		field = strings.NewReplacer("\r", "", "\n", "").Replace(field)
		m := locked(t, "From: a@example.org\r\nX-SMTPAPI: "+field+"\r\n\r\nhello\r\n", Lock{Provider: SendGrid})
		v := variant(false, false)
		if to, err := m.soleRecipient(); err != nil || to != "" {
			t.Skip()
		}
		src := string(render(t, m, v))
		got := parse(t, []byte(src)).Fields("X-SMTPAPI")
		if len(got) != 1 || !isASCII(got[0]) {
			t.Fatalf("%q became %q", field, got)
		}
		var before, after map[string]any
		if err := unmarshal(got[0], &after); err != nil {
			t.Fatalf("%q became %q: %v", field, got[0], err)
		}
		filters, _ := after["filters"].(map[string]any)
		for _, name := range []string{"opentrack", "clicktrack"} {
			filter, _ := filters[name].(map[string]any)
			settings, _ := filter["settings"].(map[string]any)
			if settings["enable"] != json.Number("0") {
				t.Errorf("%s is not off in %q", name, got[0])
			}
		}
		if unmarshal(strings.TrimSpace(field), &before) != nil {
			return
		}
		delete(before, "filters")
		delete(after, "filters")
		if d := cmp.Diff(before, after); d != "" && len(before) > 0 {
			t.Errorf("other keys changed: %s", d)
		}
		if !strings.Contains(field, strings.Repeat("x", 50)) {
			for line := range strings.SplitSeq(src, "\r\n") {
				if len(line) > 998 && strings.Contains(line[:900], " ") {
					t.Errorf("a line of %d bytes", len(line))
				}
			}
		}
	})
}

// unmarshal leaves numbers as they are written.
func unmarshal(text string, into any) error {
	if !json.Valid([]byte(text)) {
		return errors.New("no JSON")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}
