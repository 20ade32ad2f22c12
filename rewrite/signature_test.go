package rewrite

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

// testKey signs what comes in; the DNS knows it under every name.
var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func signed(t *testing.T, msg string, o dkim.SignOptions) string {
	t.Helper()
	o.Domain, o.Selector, o.Signer = "example.org", "in", testKey
	var out bytes.Buffer
	if err := dkim.Sign(&out, strings.NewReader(msg), &o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// holding returns how many signatures a message has, and how many of them hold.
func holding(t *testing.T, msg []byte) (all, hold int) {
	t.Helper()
	checks, err := dkim.VerifyWithOptions(bytes.NewReader(msg), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) {
		return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(testKey.Public().(ed25519.PublicKey))}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Err == nil {
			hold++
		}
	}
	return len(checks), hold
}

const (
	signedReceipt = "From: shop@example.org\r\nTo: anna@example.com\r\nSubject: Your order\r\nX-Consent-Class: transactional\r\n" +
		"Disposition-Notification-To: shop@example.org\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" +
		"<html><body><p>Thank  you.</p>\r\n<a href=\"" + testLink + "\">Preferences</a>\r\n</body></html>\r\n\r\n"
	withPixel = "<img src=\"https://example.us1.list-manage.com/track/open.php?u=1&amp;id=2&amp;e=3\" width=1 height=1>"
)

// What still holds in a copy stays, with all its bytes; what does not is gone. go-msgauth, which has the
// key, is the judge.
func TestSignaturesThatCameIn(t *testing.T) {
	relaxed := dkim.SignOptions{HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed}
	names := func(o dkim.SignOptions, names ...string) dkim.SignOptions { o.HeaderKeys = names; return o }
	few := []string{"From", "To", "Subject"}
	own := Variant{Open: true, Click: true, Link: testLink, Linked: []bool{true}} // the link is in it already
	ownDenied := own
	ownDenied.Open = false
	for name, tt := range map[string]struct {
		msg  string
		v    Variant
		keep int
	}{
		"nothing changes":              {signed(t, signedReceipt, names(relaxed, few...)), own, 1},
		"nothing changes, simple":      {signed(t, signedReceipt, names(dkim.SignOptions{}, few...)), own, 1},
		"two that hold":                {signed(t, signed(t, signedReceipt, names(relaxed, few...)), names(relaxed, few...)), own, 2},
		"a footer":                     {signed(t, signedReceipt, names(relaxed, few...)), variant(true, true), 0},
		"a pixel goes":                 {signed(t, strings.Replace(signedReceipt, "Thank", withPixel+"Thank", 1), names(relaxed, few...)), ownDenied, 0},
		"the pixel may stay":           {signed(t, strings.Replace(signedReceipt, "Thank", withPixel+"Thank", 1), names(relaxed, few...)), own, 1},
		"a signed field goes":          {signed(t, signedReceipt, names(relaxed, "From", "X-Consent-Class")), own, 0},
		"all fields signed":            {signed(t, signedReceipt, relaxed), own, 0},
		"a receipt that may stay":      {signed(t, signedReceipt, names(relaxed, "From", "Disposition-Notification-To")), own, 1},
		"a receipt that goes":          {signed(t, signedReceipt, names(relaxed, "From", "Disposition-Notification-To")), ownDenied, 0},
		"oversigned":                   {signed(t, signedReceipt, names(relaxed, "From", "From", "List-Id")), own, 1},
		"a List pair is put in":        {signed(t, signedReceipt, names(relaxed, "From", "List-Unsubscribe")), Variant{Open: true, Click: true, Link: testLink, OneClick: testLink, Linked: []bool{true}}, 0},
		"not signed for a List pair":   {signed(t, signedReceipt, names(relaxed, "From")), Variant{Open: true, Click: true, Link: testLink, OneClick: testLink, Linked: []bool{true}}, 1},
		"Received will be put on top":  {signed(t, "Received: a\r\n"+signedReceipt, names(relaxed, "From", "Received")), own, 1},
		"no Received may be put there": {signed(t, "Received: a\r\n"+signedReceipt, names(relaxed, "From", "Received", "Received")), own, 0},
		"the body was changed before":  {strings.Replace(signed(t, signedReceipt, names(relaxed, few...)), "Thank", "Thanks", 1), own, 0},
		"white space was changed":      {strings.Replace(signed(t, signedReceipt, names(relaxed, few...)), "Thank  you", "Thank you", 1), own, 1},
		"not readable":                 {"DKIM-Signature: v=1; a=rsa-sha1; d=example.org\r\n" + signedReceipt, own, 0},
		"observed":                     {signed(t, strings.Replace(signedReceipt, "Thank", withPixel+"Thank", 1), names(relaxed, few...)), Variant{Open: true, Click: true, Link: testLink, Bare: true}, 1},
		"7bit":                         {signed(t, strings.Replace(signedReceipt, "Thank", "\xc3\xa4", 1), names(relaxed, few...)), func() Variant { v := own; v.SevenBit = true; return v }(), 0},
	} {
		m := parse(t, []byte(tt.msg))
		if tt.v.Linked != nil && len(m.OwnLinks()) != 1 {
			t.Fatalf("%s: %d links of ours", name, len(m.OwnLinks()))
		}
		out := render(t, m, tt.v)
		all, hold := holding(t, out)
		if name == "not readable" {
			all, hold = strings.Count(string(out), "DKIM-Signature"), 0
		}
		if all != tt.keep || hold != tt.keep {
			t.Errorf("%s: %d signatures, %d hold, want %d of %d\n%s", name, all, hold, tt.keep, tt.keep, out)
		}
		if tt.keep == 1 && !bytes.HasPrefix(out, []byte(tt.msg[:strings.Index(tt.msg, "From:")])) {
			t.Errorf("%s: the signature itself was changed\n%s", name, out)
		}
	}
}

// One that signed another goes with it, and l= is the end of what was signed.
func TestSignatureOfSignature(t *testing.T) {
	inner := signed(t, signedReceipt, dkim.SignOptions{HeaderKeys: []string{"From", "X-Consent-Class"}})
	outer := signed(t, inner, dkim.SignOptions{HeaderKeys: []string{"From", "DKIM-Signature"}})
	own := Variant{Open: true, Click: true, Link: testLink, Linked: []bool{true}}
	if out := render(t, parse(t, []byte(outer)), own); strings.Contains(string(out), "DKIM-Signature") {
		t.Errorf("a signature stays whose signed field is gone:\n%s", out)
	}
}

func TestSignatureOfAPart(t *testing.T) {
	msg := signed(t, signedReceipt, dkim.SignOptions{HeaderKeys: []string{"From"}})
	_, body, _ := strings.Cut(signedReceipt, "\r\n\r\n")
	for l, keep := range map[int]int{0: 0, 10: 0, len(body) - 2: 1, len(body) + 5: 0} {
		// With l= the hash is another, but for the whole body.
		out := render(t, parse(t, []byte(strings.Replace(msg, " d=", fmt.Sprintf(" l=%d; d=", l), 1))), Variant{Open: true, Click: true, Link: testLink, Linked: []bool{true}})
		if n := strings.Count(string(out), "DKIM-Signature"); n != keep {
			t.Errorf("l=%d of %d: %d stay, want %d", l, len(body), n, keep)
		}
	}
}

// Thousands of fields cost no thousands of hashes.
func TestManySignatures(t *testing.T) {
	msg := signed(t, signedReceipt, dkim.SignOptions{HeaderKeys: []string{"From"}})
	field := msg[:strings.Index(msg, "From:")]
	out := render(t, parse(t, []byte(strings.Repeat(field, 500)+signedReceipt)), Variant{Open: true, Click: true, Link: testLink, Linked: []bool{true}})
	if n := strings.Count(string(out), "DKIM-Signature"); n != maxSignatures {
		t.Errorf("%d stay, want %d", n, maxSignatures)
	}
}

func FuzzParseSignature(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=a; h=From : To; l=5; bh=AAAA; b=x y")
	f.Add(";;=;h=from;h=from")
	f.Fuzz(func(t *testing.T, body string) {
		if s, ok := parseSignature(body); ok && (s.domain == "" || len(s.bodyHash) == 0 || s.limit < -1) {
			t.Errorf("%q: %+v", body, s)
		}
		checkCopies(t, []byte("DKIM-Signature: "+strings.NewReplacer("\r", "", "\n", "").Replace(body)+"\r\n"+signedReceipt))
	})
}
