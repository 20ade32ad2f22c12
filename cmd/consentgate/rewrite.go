package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/rewrite"
)

type rewriteCmd struct {
	Open   string `required:"" enum:"granted,denied" placeholder:"granted|denied" help:"Whether this person agreed that opens are tracked."`
	Click  string `required:"" enum:"granted,denied" placeholder:"granted|denied" help:"Whether this person agreed that clicks are tracked."`
	To     string `required:"" placeholder:"ADDRESS" help:"The person."`
	Scope  string `placeholder:"S" help:"The list, brand or stream. Without it: the message's X-Consent-Scope, else the default scope."`
	Config string `placeholder:"FILE" help:"Configuration file, for the rules, the link's address and the key. Without it: the defaults, a placeholder address and a key that is thrown away."`
}

func (rewriteCmd) Help() string {
	return `No store is asked, nothing is signed and nothing is sent. Line ends may be LF or CRLF on the way in; on the way out they are CRLF.

Example:

    consentgate rewrite --open denied --click denied --to anna@example.org < newsletter.eml > copy.eml`
}

// placeholderBase stands in the links where no configuration names the public address. The
// name never resolves (RFC 6761 §6.4).
const placeholderBase = "https://consentgate.invalid"

func (c rewriteCmd) Run(std streams) error {
	who, err := consent.ParseAddress(c.To)
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	cfg, ring := config.Default(), keyring.Ephemeral()
	cfg.Unsubscribe.BaseURL, cfg.Rewrite.OpaqueLinks = placeholderBase, string(rewrite.OpaqueKeep)
	if c.Config != "" {
		if cfg, err = config.Load(c.Config, os.LookupEnv); err != nil {
			return usageError{err}
		}
		if ring, err = keyring.Load(cfg.KeyFile); err != nil {
			return usageError{err}
		}
	}
	options, err := rewriteOptions(cfg)
	if err != nil {
		return err
	}
	text, err := readMessage(std.in, cfg.SMTP.MaxMessageBytes)
	if err != nil {
		return err
	}
	known, err := rules(cfg)
	if err != nil {
		return err
	}
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), known, options)
	if err != nil {
		return fmt.Errorf("the message: %w", err)
	}
	v, err := c.variant(m, cfg, ring, who)
	if err != nil {
		return err
	}
	copy, err := m.Render(v)
	if err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	out := bufio.NewWriterSize(std.out, 64<<10)
	if _, err := copy.WriteTo(out); err != nil {
		return err
	}
	return out.Flush()
}

// variant is what the gateway would ask for, had the store said what the flags say.
func (c rewriteCmd) variant(m *rewrite.Message, cfg *config.Config, ring *keyring.Ring, who consent.Address) (rewrite.Variant, error) {
	links := token.New(ring)
	first := func(field string) string {
		if bodies := m.Fields(field); len(bodies) > 0 {
			return strings.TrimSpace(bodies[0])
		}
		return ""
	}
	named := c.Scope
	if named == "" {
		named = first("X-Consent-Scope")
	}
	scope := cfg.Consent.DefaultScope
	if named != "" {
		var err error
		if scope, err = consent.ParseScope(named); err != nil || scope == consent.AnyScope {
			return rewrite.Variant{}, usageError{fmt.Errorf("a message belongs to one scope, not to %q: --scope NAME", named)}
		}
	}
	language := first("X-Consent-Language")
	if language == "" {
		language = m.Language()
	}
	v := rewrite.Variant{
		To:       who.String(),
		Open:     c.Open == string(consent.Granted),
		Click:    c.Click == string(consent.Granted),
		Link:     cfg.Unsubscribe.BaseURL + "/u/" + links.Seal(token.Claims{Who: who, Scope: scope, Language: language}),
		Language: language,
	}
	if class, err := consent.ParseClass(first("X-Consent-Class")); err != nil || class == consent.Marketing {
		v.OneClick = v.Link // a receipt cannot be unsubscribed from
	}
	if base := guardURL(cfg); base != "" {
		v.Guard = relay.Guard(base, token.NewHits(ring), who, scope, language)
	}
	for _, l := range m.OwnLinks() {
		claims, err := links.Open(l.Token)
		v.Linked = append(v.Linked, err == nil && claims.Who == who && claims.Scope == scope)
	}
	return v, nil
}

// readMessage reads a message to its end and gives it CRLF line ends: files and pipes on this
// machine have LF, and RFC 5322 §2.1 wants CRLF.
func readMessage(r io.Reader, max int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if int64(len(text)) > max {
		return nil, fmt.Errorf("the message has over %d bytes, which smtp.max_message_bytes allows", max)
	}
	if len(text) == 0 {
		return nil, usageError{fmt.Errorf("no message on standard input: consentgate rewrite … < message.eml")}
	}
	return withCRLF(text), nil
}

// withCRLF puts a CR before each LF that has none.
func withCRLF(text []byte) []byte {
	out := slices.Grow([]byte(nil), len(text)+len(text)/32)
	for i, c := range text {
		if c == '\n' && (i == 0 || text[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}
