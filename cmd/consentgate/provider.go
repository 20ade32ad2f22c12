package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

// providerHosts are the ends of the names of providers' servers, with what smarthost.provider calls them;
// "" for those without a switch in each message.
var providerHosts = map[string]string{
	"mailjet.com":       "mailjet",
	"mailgun.org":       "mailgun",
	"sendgrid.net":      "sendgrid",
	"mandrillapp.com":   "mandrill",
	"postmarkapp.com":   "postmark",
	"amazonaws.com":     "ses",
	"sparkpostmail.com": "sparkpost",
	"brevo.com":         "",
	"sendinblue.com":    "",
}

// lockNotes says where the provider behind the smarthost may add tracking that no consent stops.
func lockNotes(cfg *config.Config) []string {
	var n []string
	s := cfg.Smarthost
	if s.Provider == "postmark" {
		n = append(n, "smarthost.provider is \"postmark\": where open tracking is on for the whole server (message stream), Postmark tracks every open whatever a message says; turn it off there and let senders ask for it with X-PM-TrackOpens")
	}
	if s.Provider == "ses" {
		n = append(n, "smarthost.provider is \"ses\": one configuration set is for opens and clicks, so who denied one of them is not tracked by SES at all")
	}
	for _, text := range s.URLs {
		u, err := url.Parse(text)
		if err != nil {
			continue // found by the check of the configuration
		}
		for end, provider := range providerHosts {
			host := strings.ToLower(u.Hostname())
			if !strings.HasSuffix("."+host, "."+end) || provider != "" && provider == s.Provider || provider == "ses" && !strings.HasPrefix(host, "email-smtp.") {
				continue
			}
			if provider == "" {
				n = append(n, fmt.Sprintf("%s has no switch for its tracking in each message: turn its open and click tracking off in its settings, or PEOPLE WITHOUT CONSENT ARE TRACKED", u.Hostname()))
			} else if s.Provider == "" && len(s.HeadersWithoutOpen)+len(s.HeadersWithoutClick) == 0 {
				n = append(n, fmt.Sprintf("%s may add tracking of its own to copies without consent: smarthost.provider = %q tells it not to", u.Hostname(), provider))
			}
		}
	}
	return n
}
