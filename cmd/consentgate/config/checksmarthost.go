package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

func (c *Config) checkSmarthost(d *decoder) {
	for i, text := range c.Smarthost.URLs {
		path := fmt.Sprintf("smarthost.urls[%d]", i)
		if d.wrong[path] {
			continue
		}
		if wrong, right := smarthostURL(text); wrong != "" {
			d.bad(path, wrong, right)
		}
	}
	if c.Smarthost.Username != "" && c.Smarthost.Password == "" && !d.wrong["smarthost.password"] {
		d.bad("smarthost.password", "is missing beside smarthost.username", `password = "${SMARTHOST_PASSWORD}"`)
	}
	if c.Smarthost.Password != "" && c.Smarthost.Username == "" && !d.wrong["smarthost.username"] {
		d.bad("smarthost.username", "is missing beside smarthost.password", "both, or neither")
	}
	c.checkLock(d)
}

// checkLock checks what tells the provider behind the smarthost not to track.
func (c *Config) checkLock(d *decoder) {
	s := c.Smarthost
	const set = "smarthost.ses_untracked_configuration_set"
	switch {
	case d.wrong[set] || d.wrong["smarthost.provider"]:
	case s.Provider == "ses" && s.SESUntrackedConfigurationSet == "":
		d.is("smarthost.provider", "needs ses_untracked_configuration_set", "there, the name of a configuration set that has neither open nor click tracking")
	case s.Provider != "ses" && s.SESUntrackedConfigurationSet != "":
		d.bad(set, "is set but smarthost.provider is not \"ses\"", `provider = "ses"`)
	case !isFieldName("x" + s.SESUntrackedConfigurationSet): // its letters are fewer still
		d.is(set, "is not the name of a configuration set", "letters, digits, hyphens and underscores")
	}
	for key, fields := range map[string]map[string]string{"smarthost.headers_without_open": s.HeadersWithoutOpen, "smarthost.headers_without_click": s.HeadersWithoutClick} {
		for name, body := range fields {
			path := key + "." + name
			switch {
			case d.wrong[key] || d.wrong[path]:
			case !isFieldName(name):
				d.bad(path, "is not the name of a header field", `such as "X-Track-Opens"`)
			case isOwnField(name):
				d.bad(path, "is a field that the message cannot do without, or that the gateway writes", "the provider's own field")
			case len(body) > 900 || strings.ContainsFunc(body, func(r rune) bool { return r < ' ' || r > '~' }):
				d.bad(path, "is not what a header field can hold", "one line of at most 900 ASCII characters")
			}
		}
	}
	for name, body := range s.HeadersWithoutOpen {
		for other, said := range s.HeadersWithoutClick {
			if strings.EqualFold(name, other) && body != said {
				d.bad("smarthost.headers_without_click."+other, "is another value than in headers_without_open, and a copy may lack both consents", "the same value, one that turns both off")
			}
		}
	}
}

// isOwnField reports whether a field decides what a message is, or is the gateway's to write.
func isOwnField(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "resent-") || strings.HasPrefix(name, "x-consent-") ||
		slices.Contains([]string{"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version", "received", "return-path",
			"dkim-signature", "list-unsubscribe", "list-unsubscribe-post"}, name)
}

// smarthostURL says what is wrong with the address of a next hop, and what would be right. It
// shows nothing of it: people put passwords there.
func smarthostURL(text string) (wrong, right string) {
	const schemes = "smtp://host:port, smtp+starttls://host:port, smtps://host:port, lmtp://host:port or lmtp+unix:///path"
	u, err := url.Parse(text)
	if err != nil {
		return "this is not a URL", schemes
	}
	switch u.Scheme {
	case "smtp", "smtp+starttls", "smtps", "lmtp":
	case "lmtp+unix":
		const right = "lmtp+unix:///path"
		switch {
		case u.User != nil:
			return "a user does not belong into the URL", "the keys username and password"
		case u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "":
			return "this is not the whole path of a socket", right
		case len(u.Path) > maxSocketPath:
			return fmt.Sprintf("the path of a socket has at most %d bytes", maxSocketPath), right
		}
		return "", ""
	default:
		return "this begins with no scheme that is known", schemes
	}
	switch {
	case u.User != nil:
		return "a user does not belong into the URL", "the keys username and password"
	case u.Hostname() == "" || !isHostOrIP(u.Hostname()):
		return "this names no host", u.Scheme + "://host:port"
	case u.Port() != "" && !isPort(u.Port()) || u.Port() == "0":
		return "the port is not from 1 to 65535", u.Scheme + "://host:port"
	case strings.HasSuffix(u.Host, ":"):
		return "the port is empty", u.Scheme + "://host:port, or no colon"
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "something follows the host and port", u.Scheme + "://host:port"
	}
	return "", ""
}
