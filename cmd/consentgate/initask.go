package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/term"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

// What init asks. Each answer is checked by what checks the configuration file, before the next is asked for.

// passwordVariable is where the smarthost's password comes from when it is not given; unsetPassword stands
// for it where it is not in the environment of init.
const (
	passwordVariable = "SMARTHOST_PASSWORD"
	passwordFromEnv  = "${" + passwordVariable + "}"
	unsetPassword    = "not known yet"
)

// initEnv is os.LookupEnv, but knows of the password that it will be there when the gateway starts.
func initEnv(name string) (string, bool) {
	value, ok := os.LookupEnv(name)
	if !ok && name == passwordVariable {
		return unsetPassword, true
	}
	return value, ok
}

// question is one key of the configuration that init asks for.
type question struct {
	key    string // of the configuration
	flag   string // that answers it
	given  string // what the flag says
	about  string // lines above the question
	prompt string
	or     string // the default; "" = there is none
	set    func(answer string)
	form   func(answer string) (string, error) // the answer as it is written, nil: as it was given
}

// put puts the answer into cfg and returns what is wrong with it, "" if nothing is.
func (q question) put(cfg *config.Config, answer string) string {
	if q.form != nil {
		var err error
		if answer, err = q.form(answer); err != nil {
			return err.Error()
		}
	}
	q.set(answer)
	if m := mistake(cfg, q.key); m != nil {
		return wrong(m)
	}
	return ""
}

// ascii returns a host name as the DNS has it: another than ASCII letters as xn--….
func ascii(host string) (string, error) {
	name, err := idna.Lookup.ToASCII(host)
	if err != nil && !strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return host, nil // said in the words of the configuration
	} else if err != nil {
		return "", fmt.Errorf("%q is not a host name; the DNS has names with such letters as xn--…", host)
	}
	return name, nil
}

// fullName returns the name of a gateway: a smarthost may refuse who says EHLO with any other, and public
// address and DKIM domain are made of it.
func fullName(host string) (string, error) {
	name, err := ascii(host)
	if err != nil {
		return "", err
	}
	const right = `; a full name such as "gate.example.org"`
	_, notIP := netip.ParseAddr(name)
	switch {
	case notIP == nil:
		return "", fmt.Errorf("%q is an address%s", host, right)
	case strings.Contains(name, "_"):
		return "", fmt.Errorf("%q is not a host name, which has no underscore%s", host, right)
	case !strings.Contains(name, ".") && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '-' }):
		return "", fmt.Errorf("%q has no domain%s", host, right)
	}
	return name, nil
}

// newSelector refuses an underscore, which is in the DNS but not in RFC 6376 §3.1, for keys that are made now: one that is
// in use is found by most verifiers, and stays.
func newSelector(selector string) (string, error) {
	if strings.Contains(selector, "_") {
		return "", fmt.Errorf("%q is not a selector, which has no underscore; a DNS label, such as \"gate\"", selector)
	}
	return selector, nil
}

// asciiURL is ascii for the host in a URL.
func asciiURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return text, nil // said in the words of the configuration
	}
	host, err := ascii(u.Hostname())
	if err != nil || host == u.Hostname() {
		return text, err
	}
	return strings.Replace(text, u.Hostname(), host, 1), nil
}

// literal has nothing of the answer taken from the environment.
func literal(answer string) (string, error) { return config.Literal(answer), nil }

// configuration asks for everything and returns it.
func (c initCmd) configuration(ctx context.Context, a *answers, files place) (*config.Config, error) {
	cfg := config.Default()
	cfg.KeyFile = files.key
	cfg.Delivery.SpoolDir = files.state + "/spool"
	if err := a.ask(cfg, question{
		"hostname", "--hostname", c.Hostname,
		"The full name of this gateway, as the smarthost hears it and Message-IDs carry it.",
		"Host name", ownName(), func(s string) { cfg.Hostname = s }, fullName,
	}); err != nil {
		return nil, err
	}
	domain := mailDomain(cfg.Hostname)
	if err := a.ask(cfg, question{
		"smarthost.urls", "--smarthost", c.Smarthost,
		"Where copies go: smtp://host:port (STARTTLS when it is offered), smtp+starttls:// (always), smtps://, lmtp:// or lmtp+unix:///path.",
		"Smarthost", "smtp://127.0.0.1:25", func(s string) { cfg.Smarthost.URLs = []string{s} }, asciiURL,
	}); err != nil {
		return nil, err
	}
	a.sayReach(ctx, cfg)
	if err := c.askLogin(cfg, a); err != nil {
		return nil, err
	}
	for _, q := range []question{
		{
			"unsubscribe.base_url", "--public-url", c.PublicURL,
			"The public https address of the unsubscribe page. It stands in every mail for years.",
			"Public address", "https://" + cfg.Hostname, func(s string) { cfg.Unsubscribe.BaseURL = s }, asciiURL,
		}, {
			"unsubscribe.company", "--company", c.Company,
			"Who the mail is from, as readers know it; for the footer and the page.",
			"Company", domain, func(s string) { cfg.Unsubscribe.Company = s }, literal,
		}, {
			"dkim.domain", "--dkim-domain", c.DKIMDomain,
			"The domain of the From addresses. A key to sign with is made for it; none: copies are not signed here.",
			"DKIM domain", domain, func(s string) {
				if cfg.DKIM.Domain = s; s == "none" {
					cfg.DKIM.Domain = ""
				}
			}, ascii,
		},
	} {
		if err := a.ask(cfg, q); err != nil {
			return nil, err
		}
	}
	if cfg.DKIM.Domain != "" {
		cfg.DKIM.KeyFile = files.dkim
		if err := a.ask(cfg, question{
			"dkim.selector", "--dkim-selector", c.DKIMSelector,
			"Where the DNS will have it: SELECTOR._domainkey." + cfg.DKIM.Domain + ". A name that is free.",
			"DKIM selector", "gate", func(s string) { cfg.DKIM.Selector = s }, newSelector,
		}); err != nil {
			return nil, err
		}
	}
	for _, q := range []question{
		{
			"consent.store", "--store", c.Store,
			"Where consents are kept: file:/path for this gateway alone, or Redis from 7.0 on, such as redis://127.0.0.1:6379/0.",
			"Store", "file:" + files.state + "/consent.db", func(s string) { cfg.Consent.Store = s }, nil,
		}, {
			"rewrite.opaque_links", "--opaque-links", c.OpaqueLinks,
			"A counted link whose destination nobody can read, where somebody did not agree to be counted. keep: it\nworks and still counts; unlink: its text stays and leads nowhere; reject: the message is refused.",
			"Such links", "keep", func(s string) { cfg.Rewrite.OpaqueLinks = s }, nil,
		},
	} {
		if err := a.ask(cfg, q); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(cfg.Unsubscribe.BaseURL, "https:") { // TLS ends at a web server, and the page listens on this machine only
		cfg.Unsubscribe.TrustedProxies = loopback()
	}
	return cfg, whole(cfg)
}

// whole looks at all answers together, so that nothing is written that is refused afterwards. The two key files are
// not there yet.
func whole(cfg *config.Config) error {
	_, err := config.Parse("", config.Write(cfg), initEnv)
	var all config.Mistakes
	if !errors.As(err, &all) {
		return err
	}
	for _, m := range all {
		if m.Key != "key_file" && m.Key != "dkim.key_file" {
			return usageError{fmt.Errorf("%s: %s; nothing was written", m.Key, wrong(&m))}
		}
	}
	return nil
}

// askLogin asks who this gateway is to the smarthost.
func (c initCmd) askLogin(cfg *config.Config, a *answers) error {
	name := c.SmarthostUser
	if name == "" && !a.yes {
		var err error
		if name, err = a.line("User name there (empty: none)"); err != nil {
			return noAnswer("--smarthost-user", err)
		}
	}
	if name == "" {
		return nil
	}
	cfg.Smarthost.Username, cfg.Smarthost.Password = config.Literal(name), passwordFromEnv
	if a.yes {
		return nil
	}
	password, err := a.secret("Password (empty: from the environment variable " + passwordVariable + " at each start)")
	if err != nil {
		return noAnswer("the password", err)
	}
	if password != "" {
		cfg.Smarthost.Password = config.Literal(password)
	}
	if m := mistake(cfg, "smarthost.password"); m != nil {
		return usageError{errors.New("the password: " + m.Wrong)}
	}
	return nil
}

// mailDomain guesses the domain of the From addresses from the gateway's name; "" = there is no telling.
func mailDomain(hostname string) string {
	_, above, _ := strings.Cut(hostname, ".")
	switch {
	case strings.Contains(above, "."):
		return above
	case above != "":
		return hostname
	}
	return ""
}

// ownName is what the system says of itself, "" where that is no full name.
func ownName() string {
	name, err := os.Hostname()
	if err != nil || !strings.Contains(name, ".") {
		return ""
	}
	return name
}

// mistake returns what is wrong with a key of cfg, nil if nothing is.
func mistake(cfg *config.Config, key string) *config.Mistake {
	_, err := config.Parse("", config.Write(cfg), initEnv)
	var all config.Mistakes
	if errors.As(err, &all) {
		for i := range all {
			if all[i].Key == key {
				return &all[i]
			}
		}
	}
	return nil
}

// noAnswer says that the answers ended before a question.
func noAnswer(flag string, err error) error {
	if errors.Is(err, io.EOF) {
		return usageError{fmt.Errorf("the answers end before %s; give the flag, or --yes for all defaults; nothing was written", flag)}
	}
	return err
}

// answers reads what somebody types, or what is piped in.
type answers struct {
	std      streams
	in       *bufio.Reader
	terminal *os.File // nil: it is none, so a wrong answer cannot be given again
	yes      bool
}

func newAnswers(std streams, yes bool) *answers {
	return &answers{std: std, in: bufio.NewReader(std.in), terminal: terminal(std), yes: yes}
}

// terminal returns standard input if somebody types there, else nil.
func terminal(std streams) *os.File {
	if file, ok := std.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return file
	}
	return nil
}

// ask puts the answer to q into cfg.
func (a *answers) ask(cfg *config.Config, q question) error {
	if q.given != "" || a.yes {
		answer := q.given
		if answer == "" {
			answer = q.or
		}
		if answer == "" {
			return usageError{fmt.Errorf("%s is needed; nothing was written", q.flag)}
		}
		if problem := q.put(cfg, answer); problem != "" {
			return usageError{fmt.Errorf("%s: %s; nothing was written", q.flag, problem)}
		}
		return nil
	}
	fmt.Fprintf(a.std.err, "\n%s\n", q.about)
	prompt := q.prompt
	if q.or != "" {
		prompt += " [" + q.or + "]"
	}
	for {
		answer, err := a.line(prompt)
		if err != nil {
			return noAnswer(q.flag, err)
		}
		if answer == "" {
			answer = q.or
		}
		problem := "it is needed"
		if answer != "" {
			if problem = q.put(cfg, answer); problem == "" {
				return nil
			}
		}
		if a.terminal == nil {
			return usageError{fmt.Errorf("%s: %s; nothing was written", q.flag, problem)}
		}
		fmt.Fprintf(a.std.err, "%s\n", problem)
	}
}

// wrong says what is wrong with an answer and what would be right.
func wrong(m *config.Mistake) string {
	if m.Right == "" {
		return m.Wrong
	}
	return m.Wrong + "; " + m.Right
}

// line asks for one line and returns it without the space around it.
func (a *answers) line(prompt string) (string, error) {
	fmt.Fprintf(a.std.err, "%s: ", prompt)
	text, err := a.in.ReadString('\n')
	if a.terminal == nil {
		fmt.Fprintln(a.std.err) // which on a terminal the person did
	}
	if err != nil && (err != io.EOF || text == "") {
		return "", err
	}
	return strings.TrimSpace(text), nil
}

// secret is line, but shows nothing on a terminal.
func (a *answers) secret(prompt string) (string, error) {
	if a.terminal == nil {
		return a.line(prompt)
	}
	fmt.Fprintf(a.std.err, "%s: ", prompt)
	text, err := term.ReadPassword(int(a.terminal.Fd()))
	fmt.Fprintln(a.std.err)
	return string(text), err
}

// sayReach says whether the smarthost answers, which it need not yet.
func (a *answers) sayReach(ctx context.Context, cfg *config.Config) {
	if a.yes {
		return // said at the end
	}
	quick := *cfg
	quick.Smarthost.ConnectTimeout = 5 * time.Second
	if good, err := checkSmarthost(ctx, &quick, cfg.Smarthost.URLs[0]); err != nil {
		fmt.Fprintf(a.std.err, "It cannot be reached now: %s. That need not be yet.\n", printable(strings.ReplaceAll(err.Error(), "\n", " ")))
	} else {
		fmt.Fprintf(a.std.err, "It %s.\n", good)
	}
}
