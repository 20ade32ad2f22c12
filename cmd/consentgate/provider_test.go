package main

import (
	"strings"
	"testing"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

func TestLockNotes(t *testing.T) {
	for _, tt := range []struct{ url, provider, want string }{
		{"smtp://127.0.0.1:25", "", ""},
		{"smtp+starttls://smtp.sendgrid.net:587", "", `smarthost.provider = "sendgrid"`},
		{"smtp+starttls://SMTP.sendgrid.net:587", "sendgrid", ""},
		{"smtps://email-smtp.eu-west-1.amazonaws.com", "", `"ses"`},
		{"smtp://ec2-192-0-2-1.compute.amazonaws.com", "", ""}, // somebody's machine
		{"smtps://notsendgrid.net", "", ""},
		{"smtp+starttls://smtp-relay.brevo.com:587", "", "no switch"},
		{"smtp+starttls://smtp-relay.brevo.com:587", "mailjet", "no switch"},
		{"smtp+starttls://smtp.postmarkapp.com:587", "postmark", "Postmark tracks every open"},
	} {
		cfg := config.Default()
		cfg.Smarthost.URLs, cfg.Smarthost.Provider = []string{tt.url}, tt.provider
		got := strings.Join(lockNotes(cfg), "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s, %q: %q, want %q", tt.url, tt.provider, got, tt.want)
		}
	}
}
