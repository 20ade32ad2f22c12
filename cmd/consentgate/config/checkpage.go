package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/web"
)

// What is served to the public: the page, the guard, and the calls that follow an unsubscribe.

func (c *Config) checkUnsubscribe(d *decoder) {
	u := &c.Unsubscribe
	if u.BaseURL != "" && !d.wrong["unsubscribe.base_url"] {
		if wrong, right := baseURL(u.BaseURL); wrong != "" {
			d.is("unsubscribe.base_url", wrong, right)
		}
		u.BaseURL = strings.TrimRight(u.BaseURL, "/")
	}
	if !d.wrong["unsubscribe.listen"] {
		checkHostPort(d, "unsubscribe.listen", u.Listen)
	}
	if u.MailTo != "" && !d.wrong["unsubscribe.mailto"] {
		if _, err := consent.ParseAddress(u.MailTo); err != nil || strings.ContainsFunc(u.MailTo, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune("\"'<>&?%,;:()[]\\`", r)
		}) {
			d.is("unsubscribe.mailto", "is not a plain mail address", `such as "unsubscribe@gate.example.org", for which mail arrives here`)
		}
	}
	c.checkWebhook(d)
	checkFooter(d, "unsubscribe.footer_html", u.FooterHTML)
	checkFooter(d, "unsubscribe.footer_text", u.FooterText)
	checkPair(d, "unsubscribe", u.TLSCert, u.TLSKey)
	for i, p := range u.TrustedProxies {
		if p.IsValid() && p.Bits() == 0 {
			d.is(fmt.Sprintf("unsubscribe.trusted_proxies[%d]", i), "is the whole internet, so anybody could claim to come from anywhere", "only the addresses of your proxies")
		}
	}
	c.checkLook(d)
}

// checkLook checks what the page shows of the operator.
func (c *Config) checkLook(d *decoder) {
	u := &c.Unsubscribe
	if strings.ContainsFunc(u.Company, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(u.Company) > 200 {
		d.is("unsubscribe.company", "is no name", "one line of at most 200 bytes")
	}
	if path := "unsubscribe.colour"; u.Colour != "" && !d.wrong[path] {
		if _, err := web.ParseColour(u.Colour); err != nil {
			d.bad(path, err.Error(), `"#rrggbb", such as "#1d5a88"; any will do, since the page makes it lighter or darker where text needs it`)
		}
	}
	if path := "unsubscribe.logo_file"; u.LogoFile != "" && !d.wrong[path] {
		if _, err := web.ReadLogo(u.LogoFile); err != nil {
			d.bad(path, err.Error(), fmt.Sprintf("a PNG, JPEG, GIF, WebP or SVG of at most %d bytes", web.MaxLogo))
		} else if u.Company == "" {
			d.bad(path, "needs unsubscribe.company, which is read out to those who do not see the logo", `company = "Example Shop"`)
		}
	}
	if path := "unsubscribe.notice_file"; u.NoticeFile != "" && !d.wrong[path] {
		if _, err := web.ReadNotice(u.NoticeFile); err != nil {
			d.bad(path, err.Error(), `its version in the first line, then the text; a line "[de]" begins the one for that language`)
		}
	}
}

// webhookEvents are what a webhook can be told.
var webhookEvents = []string{"change", "suppressed", "accepted", "refused"}

func (c *Config) checkWebhook(d *decoder) {
	u := &c.Unsubscribe
	for i, e := range u.WebhookEvents {
		if path := fmt.Sprintf("unsubscribe.webhook_events[%d]", i); !d.wrong[path] && !slices.Contains(webhookEvents, e) {
			d.is(path, "is nothing that is told", `"`+strings.Join(webhookEvents, `", "`)+`"`)
		}
	}
	if u.WebhookURL == "" || d.wrong["unsubscribe.webhook_url"] {
		return
	}
	if len(u.WebhookEvents) == 0 && !d.wrong["unsubscribe.webhook_events"] {
		d.bad("unsubscribe.webhook_events", "is empty, so nothing would be told", `["change"]`)
	}
	if wrong, right := webhookURL(u.WebhookURL); wrong != "" {
		d.bad("unsubscribe.webhook_url", wrong, right) // the value may hold a password
	}
}

// webhookURL says what is wrong with the address of a webhook.
func webhookURL(text string) (wrong, right string) {
	const example = `"https://hooks.example.org/consent"`
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || !isHostOrIP(u.Hostname()) || strings.HasSuffix(u.Host, ":"):
		return "this is not a URL with a host", example
	case u.Port() != "" && !isPort(u.Port()) || u.Port() == "0":
		return "the port is not from 1 to 65535", example
	case strings.Contains(text, "#"):
		return "something follows a #, which is never sent", example
	case u.Scheme == "http" && !isNear(u.Hostname()):
		return "this is http", "https; http only for a loopback or private address, or a name without a dot"
	case u.Scheme != "https" && u.Scheme != "http":
		return "this is not https", example
	}
	return "", ""
}

// isNear reports whether a host is on this machine or in a private network. A name without a dot is one of a
// container's neighbours; that its address is private is seen to when it is called.
func isNear(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return !strings.Contains(host, ".")
	}
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

func (c *Config) checkTracking(d *decoder) {
	const path = "tracking.base_url"
	t := &c.Tracking
	if d.wrong[path] {
		return
	}
	if t.BaseURL == "" {
		if t.Mode == "guard" {
			d.bad("tracking.mode", "\"guard\" needs tracking.base_url", `base_url = "https://links.example.org", which leads to unsubscribe.listen`)
		}
		return
	}
	if wrong, right := baseURL(t.BaseURL); wrong != "" {
		d.is(path, wrong, strings.Replace(right, "https, which RFC 8058 asks for", "https", 1))
		return
	}
	t.BaseURL = strings.TrimRight(t.BaseURL, "/")
	guard, err1 := url.Parse(t.BaseURL)
	page, err2 := url.Parse(c.Unsubscribe.BaseURL)
	switch below := func(path string) bool { return strings.HasPrefix(page.Path+"/", path+"/t/") }; {
	case err1 != nil || err2 != nil:
	case strings.EqualFold(guard.Hostname(), page.Hostname()):
		d.is(path, "is on the host of unsubscribe.base_url, whose reputation is not to hang on counted links", `a host of its own, such as "https://links.example.org"`)
	case below("") || below(guard.Path):
		d.bad("unsubscribe.base_url", "its path is below /t/, which is the guard's on the same listener", "another path")
	}
}

// baseURL says what is wrong with the public address of the unsubscribe page, or of the guard.
func baseURL(text string) (wrong, right string) {
	const example = `"https://mail.example.org"`
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || !isHostOrIP(u.Hostname()) || strings.HasSuffix(u.Host, ":"):
		return "is not a URL with a host", example
	case u.User != nil:
		return "holds a user", example
	case u.Port() != "" && !isPort(u.Port()) || u.Port() == "0":
		return "has a port that is not from 1 to 65535", example
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return "has a query or a fragment", "scheme, host and path only, such as " + example
	case strings.ContainsAny(text, "\"'<>&\\ {}`") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "holds a character that does not go into a header field", "plain ASCII, such as " + example
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		return "is http", "https, which RFC 8058 asks for; http only for a loopback host, in a trial"
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not https", example
	}
	return "", ""
}

// checkFooter checks a template file: it holds the place for the link exactly once.
func checkFooter(d *decoder, path, file string) {
	if file == "" || d.wrong[path] {
		return
	}
	text, err := readSmall(file)
	if err != nil {
		d.bad(path, err.Error(), "a template file")
		return
	}
	if n := strings.Count(text, "{{unsubscribe_url}}"); n != 1 {
		d.is(path, fmt.Sprintf("holds {{unsubscribe_url}} %d times", n), "a template with it exactly once")
	}
}

// readSmall reads a file that people write by hand.
func readSmall(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return "", fmt.Errorf("%s is no regular file, or over 1 MiB", file)
	}
	text, err := os.ReadFile(file)
	return string(text), err
}
