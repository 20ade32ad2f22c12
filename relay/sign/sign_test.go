package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var edKey = sync.OnceValue(func() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func pkcs1(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// record is what the DNS would say.
func record(t testing.TB, key crypto.Signer) string {
	t.Helper()
	if pub, ok := key.Public().(ed25519.PublicKey); ok {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

func newSigner(t testing.TB, keyPEM []byte) *Signer {
	t.Helper()
	return New([]*Key{newKey(t, keyPEM, "example.org")}, Options{})
}

func newKey(t testing.TB, keyPEM []byte, domain string) *Key {
	t.Helper()
	k, err := ParseKey(keyPEM, domain, "gate1")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// copyOf renders msg; with a pair of ours if oneClick is set.
func copyOf(t testing.TB, msg, oneClick string) *rewrite.Copy {
	t.Helper()
	m, err := rewrite.Parse(rewrite.Bytes(msg), int64(len(msg)), trackers.Default(), rewrite.Options{LinkPrefix: "https://mail.example.org/u/"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Render(rewrite.Variant{Open: true, Click: true, OneClick: oneClick, Link: oneClick})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bytesOf(t testing.TB, c *rewrite.Copy) string {
	t.Helper()
	var b bytes.Buffer
	if n, err := c.WriteTo(&b); err != nil || n != c.Len() {
		t.Fatalf("WriteTo: %d of %d, %v", n, c.Len(), err)
	}
	return b.String()
}

func verify(t testing.TB, msg, record string) []*dkim.Verification {
	t.Helper()
	v, err := dkim.VerifyWithOptions(strings.NewReader(msg), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			if name != "gate1._domainkey.example.org" {
				return nil, fmt.Errorf("no such name %s", name)
			}
			return []string{record}, nil
		},
	})
	if err != nil {
		t.Fatalf("verify: %v\n%s", err, msg)
	}
	return v
}

const newsletter = "From: News <news@example.org>\r\nTo: joe@example.com\r\nTo: second@example.com\r\n" +
	"Subject: hello,\r\n  folded\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\nX-Other: not signed\r\n" +
	"Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nhello \t there\r\n\r\n\r\n"

const link = "https://mail.example.org/u/abc"

// tag returns the value of one tag of the first DKIM-Signature, without white space.
func tag(t *testing.T, msg, name string) string {
	t.Helper()
	head, _, _ := strings.Cut(msg, "\r\n\r\n")
	head = regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(head, "")
	m := regexp.MustCompile(`(?m)^DKIM-Signature:(?:.*;)?\s*` + name + `=([^;\r]*)`).FindStringSubmatch(head)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], " ", "")
}

func TestSign(t *testing.T) {
	keys := map[string]struct {
		pem []byte
		key crypto.Signer
	}{
		"RSA PKCS 1": {pkcs1(rsaKey()), rsaKey()},
		"RSA PKCS 8": {pkcs8(t, rsaKey()), rsaKey()},
		"Ed25519":    {pkcs8(t, edKey()), edKey()},
	}
	for name, k := range keys {
		t.Run(name, func(t *testing.T) {
			c := copyOf(t, newsletter, link)
			before := bytesOf(t, c)
			if err := newSigner(t, k.pem).Sign(c); err != nil {
				t.Fatal(err)
			}
			msg := bytesOf(t, c)
			if !strings.HasPrefix(msg, "DKIM-Signature:") || !strings.HasSuffix(msg, "\r\n"+before) {
				t.Fatalf("the signature is not simply put before the copy:\n%s", msg)
			}
			v := verify(t, msg, record(t, k.key))
			if len(v) != 1 || v[0].Err != nil || v[0].Domain != "example.org" {
				t.Fatalf("%+v", v)
			}
			for name, want := range map[string]string{"c": "relaxed/relaxed", "d": "example.org", "s": "gate1", "l": "", "x": "", "i": ""} {
				if got := tag(t, msg, name); got != want {
					t.Errorf("%s=%q, want %q", name, got, want)
				}
			}
			h := strings.ToLower(tag(t, msg, "h"))
			for name, want := range map[string]int{
				"from": 2, "to": 2, "subject": 1, "date": 1, "message-id": 1, "content-type": 1, "mime-version": 1,
				"list-unsubscribe": 2, "list-unsubscribe-post": 2, "x-other": 0, "cc": 0, "received": 0,
			} {
				if got := count(strings.Split(h, ":"), name); got != want {
					t.Errorf("h= names %s %d times, want %d: %s", name, got, want, h)
				}
			}
		})
	}
}

func count(list []string, name string) (n int) {
	for _, s := range list {
		if s == name {
			n++
		}
	}
	return n
}

// What somebody puts in or changes later must break the signature; trace fields must not.
func TestTampering(t *testing.T) {
	s := newSigner(t, pkcs8(t, edKey()))
	c := copyOf(t, newsletter, link)
	if err := s.Sign(c); err != nil {
		t.Fatal(err)
	}
	msg := bytesOf(t, c)
	for name, tt := range map[string]struct {
		change func(string) string
		holds  bool
	}{
		"nothing":                 {func(s string) string { return s }, true},
		"Received above":          {func(s string) string { return "Received: from x by y; now\r\n" + s }, true},
		"white space in the body": {func(s string) string { return strings.Replace(s, "hello \t there", "hello there", 1) }, true},
		"second From":             {func(s string) string { return "From: evil@example.net\r\n" + s }, false},
		"second List-Unsubscribe": {func(s string) string { return "List-Unsubscribe: <https://evil.example.net/>\r\n" + s }, false},
		"second Post":             {func(s string) string { return "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + s }, false},
		"subject":                 {func(s string) string { return strings.Replace(s, "folded", "changed", 1) }, false},
		"body":                    {func(s string) string { return strings.Replace(s, "there", "where", 1) }, false},
		"more body":               {func(s string) string { return s + "more\r\n" }, false},
	} {
		v := verify(t, tt.change(msg), record(t, edKey()))
		if len(v) != 1 || (v[0].Err == nil) != tt.holds {
			t.Errorf("%s: holds = %v, want %v", name, v[0].Err == nil, tt.holds)
		}
	}
}

func TestFrom(t *testing.T) {
	tests := []struct {
		from string // the field or fields
		want error
	}{
		{"From: news@example.org", nil},
		{"From: News <news@EXAMPLE.org>", nil},
		{"from : News <news@news.example.org>", nil},
		{"From: =?x-unheard-of?Q?N=E9ws?= <news@example.org>", nil},
		{"From: N\xe9ws <news@example.org>", nil},
		{"From: Shop [EU] <news@example.org>", nil},
		{"From: news@example.org <news@example.org>", nil},
		{"From: Shop news@example.org <news@sub.example.org>", nil},
		{"From: News <news@mail_1.example.org>", nil},
		{"From: News <news@r3---sn.example.org>", nil},
		{"From: a@evil.example.net <news@example.org>", ErrForeign},
		{"From: a@evil.example.net, [x] <news@example.org>", ErrFrom},
		{"From: a@evil.example.net (x <news@example.org>", ErrFrom},
		{"From: \"a@evil.example.net\" <news@example.org>", nil},
		{"From: a@example.org, b@sub.example.org", nil},
		{"From: News\r\n <news@example.org>", nil},
		{"From: news@notexample.org", ErrForeign},
		{"From: news@example.org.evil.example.net", ErrForeign},
		{"From: news@org", ErrForeign},
		{"From: a@example.org, b@example.net", ErrForeign},
		{"From: \"news@example.org\" <a@evil.example.net>", ErrForeign},
		{"From: a@evil.example.net, Shop [EU] <news@example.org>", ErrFrom},
		{"From: <news@example.org> [x] <b@evil.example.net>", ErrFrom},
		{"From: a@example.org\r\nFrom: b@example.org", ErrFrom},
		{"From:", ErrFrom},
		{"From: undisclosed:;", ErrFrom},
		{"From: nobody", ErrFrom},
		{"X-From: news@example.org", ErrFrom},
	}
	s := newSigner(t, pkcs8(t, edKey()))
	for _, tt := range tests {
		c := copyOf(t, tt.from+"\r\nSubject: x\r\n\r\nhello\r\n", "")
		before := bytesOf(t, c)
		if err := s.Sign(c); !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", tt.from, err, tt.want)
			continue
		}
		msg := bytesOf(t, c)
		if tt.want != nil {
			if msg != before {
				t.Errorf("%q: changed though not signed", tt.from)
			}
			continue
		}
		if v := verify(t, msg, record(t, edKey())); len(v) != 1 || v[0].Err != nil {
			t.Errorf("%q: does not verify: %v", tt.from, v[0].Err)
		}
	}
}

// Bodies at the edges of the relaxed canonicalization, RFC 6376 §3.4.4.
func TestBodies(t *testing.T) {
	s := newSigner(t, pkcs8(t, edKey()))
	for name, body := range map[string]string{
		"none": "\r\n", "empty line": "\r\n\r\n", "empty lines": "\r\n\r\n\r\n\r\n", "white space": "\r\n \t \r\n",
		"dots": "\r\n.\r\n..\r\n", "large": "\r\n" + strings.Repeat("a line of some length\r\n", 10000),
		"long line": "\r\n" + strings.Repeat("x", 100000) + "\r\n", "8bit": "\r\n\xff\xfe\r\n",
	} {
		c := copyOf(t, "From: news@example.org\r\nSubject: x\r\n"+body, "")
		if err := s.Sign(c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v := verify(t, bytesOf(t, c), record(t, edKey())); len(v) != 1 || v[0].Err != nil {
			t.Errorf("%s: does not verify: %v", name, v[0].Err)
		}
	}
}

func TestHeaderWithoutEnd(t *testing.T) {
	s := newSigner(t, pkcs8(t, edKey()))
	c := copyOf(t, "From: news@example.org\r\nSubject: x\r\n", "")
	if err := s.Sign(c); err != nil {
		t.Fatal(err)
	}
	msg := bytesOf(t, c)
	if v := verify(t, msg, record(t, edKey())); len(v) != 1 || v[0].Err != nil {
		t.Errorf("does not verify: %v", v[0].Err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(t, edKey())
	for name, tt := range map[string]struct {
		pem              []byte
		domain, selector string
	}{
		"not PEM":           {[]byte("hello"), "example.org", "a"},
		"public key":        {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), "example.org", "a"},
		"broken key":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "example.org", "a"},
		"RSA 1024":          {pkcs1(small), "example.org", "a"},
		"P-256":             {pkcs8(t, ec), "example.org", "a"},
		"no domain":         {good, "", "a"},
		"domain":            {good, "exa mple.org", "a"},
		"injected domain":   {good, "example.org; l=0", "a"},
		"no selector":       {good, "example.org", ""},
		"selector":          {good, "example.org", "a;b"},
		"selector of dots":  {good, "example.org", "a..b"},
		"selector of lines": {good, "example.org", "a\r\nb"},
	} {
		if _, err := ParseKey(tt.pem, tt.domain, tt.selector); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	path := filepath.Join(t.TempDir(), "dkim.pem")
	if _, err := LoadKey(path, "example.org", "a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := LoadKey(path, "BÜCHER.example", "a.b"); err != nil || s.domain != "xn--bcher-kva.example" {
		t.Errorf("%+v, %v", s, err)
	}
}
