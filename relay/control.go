package relay

import (
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite"
)

// The header fields that a sender steers us with (SPEC section 5). Package rewrite takes them
// out of every copy.
const (
	scopeField    = "X-Consent-Scope"
	classField    = "X-Consent-Class"
	languageField = "X-Consent-Language"
)

// control is what the header says about how the message is to be treated.
type control struct {
	scope    consent.Scope
	class    consent.Class
	language string // of the footer, RFC 5646; "" in mode spool until the message is read whole, where the sender names none
	machine  bool
}

// readControl reads the control fields of a header, and checks that who sent it may say that.
func (c *Settings) readControl(h *rewrite.Header, env *envelope) (control, error) {
	var ctl control
	var err error
	if ctl.scope, err = c.readScope(h, env.login); err != nil {
		return control{}, err
	}
	kind := automatic(h)
	ctl.machine = env.from == "" && kind != ""
	// What became of somebody's own mail, and no more than that.
	answer := ctl.machine && len(env.rcpts) == 1 && (kind == report || kind == "auto-replied")
	if ctl.class, err = c.readClass(h, env.login, answer); err != nil {
		return control{}, err
	}
	if err := checkFrom(h, env.login); err != nil {
		return control{}, err
	}
	if ctl.language, err = readLanguage(h); err != nil {
		return control{}, err
	}
	return ctl, nil
}

// only returns the value of a field that may stand there several times if all say the same.
func only[T comparable](h *rewrite.Header, field string, parse func(string) (T, error)) (value T, found bool, err error) {
	for _, body := range h.Fields(field) {
		v, err := parse(strings.TrimSpace(body))
		if err != nil {
			return value, false, refuse(550, "5.7.1", field+": "+err.Error(), nil)
		}
		if found && v != value {
			return value, false, refuse(550, "5.7.1", "two "+field+" fields disagree", nil)
		}
		value, found = v, true
	}
	return value, found, nil
}

func (c *Settings) readScope(h *rewrite.Header, who *login.Login) (consent.Scope, error) {
	scope, found, err := only(h, scopeField, func(s string) (consent.Scope, error) {
		scope, err := consent.ParseScope(s)
		if err == nil && scope == consent.AnyScope {
			// An unsubscribe link for "*" would end all mail of this gateway.
			err = fmt.Errorf("a message belongs to one scope, not to %q", s)
		}
		return scope, err
	})
	if err != nil {
		return scope, err
	}
	if found && who != nil && !who.MayClaim(scope) {
		return scope, refuse(550, "5.7.1", fmt.Sprintf("%s: this login may not send in scope %s", scopeField, scope), nil)
	}
	if found {
		return scope, nil
	}
	if who != nil && len(who.Scopes) > 0 {
		return who.Scopes[0], nil
	}
	// Without one, the list's own name where it is known: RFC 2919 §2, `phrase <list-id>`.
	if lists := h.Fields("List-Id"); len(lists) == 1 {
		open, end := strings.LastIndexByte(lists[0], '<'), strings.LastIndexByte(lists[0], '>')
		if open >= 0 && end > open {
			scope, err := consent.ParseScope(strings.TrimSpace(lists[0][open+1 : end]))
			if err == nil && slices.Contains(c.KnownScopes, scope) {
				return scope, nil
			}
		}
	}
	return c.DefaultScope, nil
}

// readClass returns the class that the sender claims, else what the message is: an answer tells somebody what became of
// their own mail, which an opt-out from a newsletter must not withhold; all other is marketing.
func (c *Settings) readClass(h *rewrite.Header, who *login.Login, answer bool) (consent.Class, error) {
	may := c.Classes
	if who != nil {
		may = slices.DeleteFunc(slices.Clone(may), func(class consent.Class) bool { return !who.MaySend(class) })
	}
	class, found, err := only(h, classField, consent.ParseClass)
	switch {
	case err != nil:
		return "", err
	case found && slices.Contains(may, class):
		return class, nil
	case found:
		return "", refuse(550, "5.7.1", fmt.Sprintf("%s: %s mail may not be sent here", classField, class), nil)
	case len(may) == 0:
		return "", refuse(550, "5.7.1", "this login may send mail of no class", nil)
	case answer && slices.Contains(may, consent.Transactional):
		return consent.Transactional, nil
	case slices.Contains(may, consent.Marketing):
		return consent.Marketing, nil
	}
	return may[0], nil
}

// checkFrom checks that every address in the From field is of a domain that the login may use. A
// field that readers could take for another one than we do is refused with it.
func checkFrom(h *rewrite.Header, who *login.Login) error {
	if who == nil || len(who.FromDomains) == 0 {
		return nil
	}
	domains, err := sign.FromDomains(h.Fields("From"))
	if err != nil {
		return refuse(550, "5.7.1", "this login needs one From field with addresses that can be read", err)
	}
	for _, domain := range domains {
		if !who.MayBeFrom(domain) {
			return refuse(550, "5.7.1", "this login may not send mail from "+domain, nil)
		}
	}
	return nil
}

// readLanguage returns the sender's word, "" where there is none.
func readLanguage(h *rewrite.Header) (string, error) {
	lang, _, err := only(h, languageField, func(s string) (string, error) {
		if !isLanguage(s) {
			return "", fmt.Errorf("a language is e.g. de or pt-BR, not %q", s)
		}
		return strings.ToLower(s), nil
	})
	return lang, err
}

// ownLanguage is the message's own language, else English.
func ownLanguage(m *rewrite.Message) string {
	if lang := m.Language(); isLanguage(lang) {
		return lang
	}
	return defaultLanguage
}

const defaultLanguage = "en"

// isLanguage reports whether s has the form of a language tag, RFC 5646 §2.1.
func isLanguage(s string) bool {
	if len(s) > 35 {
		return false
	}
	for i, sub := range strings.Split(s, "-") {
		if len(sub) == 0 || len(sub) > 8 || (i == 0 && len(sub) < 2) {
			return false
		}
		for j := 0; j < len(sub); j++ {
			if !isAlnum(sub[j]) || (i == 0 && sub[j] <= '9') {
				return false
			}
		}
	}
	return true
}

// report is what automatic returns for a report.
const report = "report"

// automatic says how the message was made by a machine: "report" (RFC 6522), or the keyword of Auto-Submitted in lower case
// (RFC 3834 §5), such as auto-replied; "" where it was not.
func automatic(h *rewrite.Header) string {
	if types := h.Fields("Content-Type"); len(types) == 1 {
		kind, _, err := mime.ParseMediaType(types[0])
		if err != nil && kind == "" { // parameters that cannot be read do not hide the type
			kind, _, _ = strings.Cut(types[0], ";")
		}
		if strings.EqualFold(strings.TrimSpace(kind), "multipart/report") {
			return report
		}
	}
	for _, body := range h.Fields("Auto-Submitted") {
		word, _, _ := strings.Cut(body, ";")
		word, _, _ = strings.Cut(word, "(")
		if word = strings.ToLower(strings.TrimSpace(word)); word != "" && word != "no" {
			return word
		}
	}
	return ""
}
