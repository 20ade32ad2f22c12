package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/rewrite"
)

func TestPolicy(t *testing.T) {
	cfg := config.Default()
	want := consent.Policy{OpenWhenUnset: consent.Denied, ClickWhenUnset: consent.Denied, WhenUnreachable: consent.Defer}
	if diff := cmp.Diff(want, policy(cfg)); diff != "" {
		t.Errorf("the default: %s", diff)
	}
	cfg.Consent.WhenUnset.Click = consent.Granted
	cfg.Consent.WhenUnreachable = "untracked"
	want = consent.Policy{OpenWhenUnset: consent.Denied, ClickWhenUnset: consent.Granted, WhenUnreachable: consent.Send}
	if diff := cmp.Diff(want, policy(cfg)); diff != "" {
		t.Error(diff)
	}
}

func TestLogins(t *testing.T) {
	cfg := config.Default()
	if got := knownScopes(cfg); !cmp.Equal(got, []consent.Scope{"default"}) || len(logins(cfg)) != 0 {
		t.Errorf("%v, %v", got, logins(cfg))
	}
	cfg.Login = []config.Login{{Name: "shop", PasswordHash: "x", Scopes: []consent.Scope{"orders"}, Classes: []consent.Class{consent.Marketing}, FromDomains: []string{"shop.example"}}}
	want := []login.Login{{Name: "shop", Hash: "x", Scopes: []consent.Scope{"orders"}, Classes: []consent.Class{consent.Marketing}, FromDomains: []string{"shop.example"}}}
	if diff := cmp.Diff(want, logins(cfg)); diff != "" {
		t.Error(diff)
	}
	if got := knownScopes(cfg); !cmp.Equal(got, []consent.Scope{"default", "orders"}) {
		t.Error(got)
	}
}

func TestCertificateEnd(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir) // for an hour
	cfg := config.Default()
	if _, soon := certificateEnd("", "", time.Now()); soon {
		t.Error("there is none")
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cfg.SMTP.TLSCert, cfg.SMTP.TLSKey = cert, key
	cfg.Unsubscribe.TLSCert, cfg.Unsubscribe.TLSKey = cert, key
	said := strings.Join(notes(cfg), "\n")
	if _, soon := certificateEnd(cert, key, time.Now()); !soon || !strings.Contains(said, "the certificate in smtp.tls_cert ends on ") || !strings.Contains(said, "the certificate in unsubscribe.tls_cert ends on ") {
		t.Error("its end is not noticed")
	}
	if _, soon := certificateEnd(cert, key, time.Now().Add(-15*24*time.Hour)); soon {
		t.Error("it is noticed too early")
	}
}

func TestPublicPage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"logo.gif": "GIF89a", "notice": "2026-03\nOne.\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	u := &cfg.Unsubscribe
	u.BaseURL, u.Company, u.Colour, u.LogoFile, u.NoticeFile = "https://mail.example.org", "Example Shop", "#FC0", filepath.Join(dir, "logo.gif"), filepath.Join(dir, "notice")
	u.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	p, err := publicPage(cfg)
	if err != nil || p.BaseURL != u.BaseURL || p.Company != u.Company || p.Colour != "#ffcc00" || !strings.HasPrefix(string(p.Logo), "data:image/gif;") || p.Notice == nil ||
		!slices.Equal(p.TrustedProxies, u.TrustedProxies) {
		t.Errorf("%+v, %v", p, err)
	}
	u.NoticeFile = filepath.Join(dir, "nothing")
	if _, err := publicPage(cfg); err == nil {
		t.Error("a notice that is not there")
	}
}

func TestFooters(t *testing.T) {
	cfg := config.Default()
	if f, err := footers(cfg); err != nil || f != nil {
		t.Errorf("%v, %v, want nil for the built-in ones", f, err)
	}
	cfg.Unsubscribe.Company = "Example Shop"
	built, err := footers(cfg)
	if err != nil || len(built) < 8 || !strings.Contains(built["de"].Text, "Example Shop") {
		t.Errorf("%v, %v, want the built-in ones with the company", built, err)
	}
	own := `<p><a href="{{unsubscribe_url}}">stop</a></p>`
	cfg.Unsubscribe.FooterHTML = filepath.Join(t.TempDir(), "footer.html")
	if err := os.WriteFile(cfg.Unsubscribe.FooterHTML, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := footers(cfg)
	want := rewrite.Footers{"en": {HTML: own, Text: built["en"].Text}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	cfg.Unsubscribe.FooterText = filepath.Join(t.TempDir(), "none")
	if _, err := footers(cfg); err == nil {
		t.Error("a footer file that went away is not noticed")
	}
}

func TestRules(t *testing.T) {
	cfg := config.Default()
	cfg.Rewrite.RulesFile = filepath.Join(t.TempDir(), "rules.toml")
	own := "[[rule]]\nname = \"own\"\nprovider = \"own\"\nkind = \"open\"\nhosts = [\"px.example.org\"]\nexample = \"https://px.example.org/1.gif\"\n"
	if err := os.WriteFile(cfg.Rewrite.RulesFile, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Rewrite.AllowHosts = []string{"img.example.org"}
	r, err := rules(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Allowed("https://img.example.org/a.png") || r.Allowed("https://px.example.org/1.gif") {
		t.Error("allow_hosts did not arrive")
	}
	text := "From: a@example.org\r\nContent-Type: text/html\r\n\r\n<img src=\"https://px.example.org/1.gif\">\r\n"
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), r, rewrite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range m.Findings() {
		found = found || f.Rule == "own" && f.Kind == rewrite.OpenTracker
	}
	if !found {
		t.Errorf("the rule of the operator's own does not fire: %+v", m.Findings())
	}
	if err := os.Remove(cfg.Rewrite.RulesFile); err != nil {
		t.Fatal(err)
	}
	if _, err := rules(cfg); err == nil {
		t.Error("a rules file that went away is not noticed")
	}
}

func TestNewLog(t *testing.T) {
	for _, tt := range []struct{ level, format, want string }{
		{"info", "text", "level=INFO msg=two\nlevel=WARN msg=three\n"},
		{"warn", "json", `{"level":"WARN","msg":"three"}` + "\n"},
		{"error", "text", ""},
	} {
		cfg := config.Default()
		cfg.Log.Level, cfg.Log.Format = tt.level, tt.format
		var out bytes.Buffer
		log := newLog(cfg, &out)
		log.Debug("one")
		log.Info("two")
		log.Warn("three")
		got := out.String()
		for line := range strings.Lines(got) { // the time differs
			cut := line
			if i := strings.Index(cut, "level="); i > 0 {
				cut = cut[i:]
			} else if i := strings.Index(cut, `"level"`); i > 0 {
				cut = "{" + cut[i:]
			}
			got = strings.Replace(got, line, cut, 1)
		}
		if got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.level, tt.format, got, tt.want)
		}
	}
}
