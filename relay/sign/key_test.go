package sign

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The keys of the nearest domain sign, all of them.
func TestSeveralKeys(t *testing.T) {
	s := New([]*Key{
		newKey(t, pkcs1(rsaKey()), "example.org"),
		newKey(t, pkcs8(t, edKey()), "example.org"),
		newKey(t, pkcs8(t, edKey()), "shop.example.org"),
	}, Options{})
	for from, want := range map[string]string{
		"a@example.org":                          "example.org example.org",
		"a@news.example.org":                     "example.org example.org",
		"a@shop.example.org":                     "shop.example.org",
		"a@x.shop.example.org":                   "shop.example.org",
		"a@shop.example.org, b@example.org":      "example.org example.org",
		"a@shop.example.org, b@news.example.org": "example.org example.org",
		"a@myshop.example.org":                   "example.org example.org",
	} {
		c := copyOf(t, "From: "+from+"\r\nSubject: x\r\n\r\nhello\r\n", "")
		if err := s.Sign(c); err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		msg := bytesOf(t, c)
		var got []string
		for line := range strings.SplitSeq(strings.ReplaceAll(msg, "\r\n ", " "), "\r\n") {
			if strings.HasPrefix(line, "DKIM-Signature:") {
				_, after, _ := strings.Cut(line, " d=")
				d, _, _ := strings.Cut(after, ";")
				got = append(got, d)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: signed by %s, want %s", from, got, want)
		}
		if want == "example.org example.org" {
			if !strings.Contains(msg[:200], "a=rsa-sha256") {
				t.Errorf("%s: the first key's signature is not on top", from)
			}
			holds := 0
			for _, key := range []string{record(t, rsaKey()), record(t, edKey())} {
				for _, v := range verify(t, msg, key) {
					if v.Err == nil {
						holds++
					}
				}
			}
			if holds != 2 {
				t.Errorf("%s: %d of 2 signatures hold", from, holds)
			}
		}
	}
	c := copyOf(t, "From: a@example.org, b@example.net\r\n\r\nhello\r\n", "")
	if err := s.Sign(c); !errors.Is(err, ErrForeign) {
		t.Errorf("two domains: %v", err)
	}
}

func TestLeaveOut(t *testing.T) {
	s := New([]*Key{newKey(t, pkcs8(t, edKey()), "example.org")}, Options{LeaveOut: []string{"message-ID", "Date", "from"}})
	c := copyOf(t, newsletter, link)
	if err := s.Sign(c); err != nil {
		t.Fatal(err)
	}
	msg := strings.Replace(bytesOf(t, c), "Message-ID: <1@example.org>", "Message-ID: <other@example.net>", 1)
	if v := verify(t, msg, record(t, edKey())); len(v) != 1 || v[0].Err != nil {
		t.Errorf("a field that was left out breaks the signature: %+v", v)
	}
	h := strings.ToLower(tag(t, msg, "h"))
	if strings.Contains(h, "date") || count(strings.Split(h, ":"), "from") != 2 {
		t.Errorf("h=%s", h)
	}
}

// A header with thousands of recipients keeps the field's lines within RFC 5322 §2.1.1.
func TestManyFields(t *testing.T) {
	c := copyOf(t, "From: a@example.org\r\n"+strings.Repeat("Cc: b@example.com\r\n", 3000)+"\r\nhello\r\n", "")
	if err := newSigner(t, pkcs8(t, edKey())).Sign(c); err != nil {
		t.Fatal(err)
	}
	msg := bytesOf(t, c)
	if v := verify(t, msg, record(t, edKey())); len(v) != 1 || v[0].Err != nil {
		t.Errorf("does not verify: %+v", v[0].Err)
	}
	for line := range strings.SplitSeq(msg, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// A key file that changes is read again; a broken one leaves the key before in use, and is logged once.
func TestKeyFileChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dkim.pem")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(pkcs1(rsaKey()))
	k, err := LoadKey(path, "example.org", "gate1")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	var log bytes.Buffer
	s := New([]*Key{k}, Options{Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil))})
	algorithmNow := func() string {
		t.Helper()
		now = now.Add(2 * time.Second)
		c := copyOf(t, newsletter, link)
		if err := s.Sign(c); err != nil {
			t.Fatal(err)
		}
		return tag(t, bytesOf(t, c), "a")
	}
	if got := algorithmNow(); got != "rsa-sha256" {
		t.Fatal(got)
	}
	write(pkcs8(t, edKey()))
	if got := algorithmNow(); got != "ed25519-sha256" {
		t.Errorf("after the change: %s", got)
	}
	write([]byte("broken"))
	if got := algorithmNow() + algorithmNow(); got != "ed25519-sha256ed25519-sha256" {
		t.Errorf("with a broken file: %s", got)
	}
	if n := strings.Count(log.String(), "cannot be read again"); n != 1 || strings.Contains(log.String(), "PRIVATE") {
		t.Errorf("logged %d times: %s", n, log.String())
	}
	write(pkcs1(rsaKey()))
	if got := algorithmNow(); got != "rsa-sha256" {
		t.Errorf("once it is mended: %s", got)
	}
}

func TestPublished(t *testing.T) {
	ed, rs := newKey(t, pkcs8(t, edKey()), "example.org"), newKey(t, pkcs1(rsaKey()), "example.org")
	if ed.Name() != "gate1._domainkey.example.org" || ed.Record() != record(t, edKey()) || rs.Record() != record(t, rsaKey()) {
		t.Errorf("%s %s %s", ed.Name(), ed.Record(), rs.Record())
	}
	for _, tt := range []struct {
		key    *Key
		record string
		want   string // part of the reason, "" = it is
	}{
		{ed, ed.Record(), ""},
		{rs, rs.Record(), ""},
		{rs, " p = " + publicText(rsaKey())[:40] + "\t " + publicText(rsaKey())[40:] + " ;", ""},
		{rs, "v=DKIM1; p=" + rsaText(rsaKey()), ""},
		{rs, rs.Record() + "; h=sha1:sha256; s=email; t=s", ""},
		{rs, rs.Record() + "; h=sha1", "sha256"},
		{rs, rs.Record() + "; s=tlsrpt", "mail"},
		{rs, ed.Record(), "ed25519"},
		{ed, rs.Record(), "rsa"},
		{ed, "v=DKIM1; k=ed25519; p=AAAA", "another key"},
		{rs, "v=DKIM1; p=", "revoked"},
		{rs, "v=spf1 -all", "no DKIM record"},
		{rs, "google-site-verification=x", "no DKIM record"},
	} {
		err := tt.key.Published(tt.record)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%.60s: %v, want %q", tt.record, err, tt.want)
		}
	}
}

// A new key is RSA-2048, another each time, and its record is one that verifiers take.
func TestNewKey(t *testing.T) {
	var records []string
	for range 2 {
		text, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseKey(text, "example.org", "gate")
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := k.private.Public().(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
			t.Errorf("%T", k.private.Public())
		}
		if err := k.Published(k.Record()); err != nil {
			t.Error(err)
		}
		records = append(records, k.Record())
	}
	if records[0] == records[1] {
		t.Error("two keys are the same")
	}
}
