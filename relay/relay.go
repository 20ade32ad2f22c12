// Package relay takes mail in by SMTP and hands each recipient's own copy to the smarthost. It
// is the only room where a decision of package consent meets a message of package rewrite.
//
// The way of a message: Session.Data receives the bytes (strictly checked), rewrite.Parse reads
// them once, one Lookup asks the store about all recipients, consent.Decide says for each what
// may be, Render makes the copy, package sign signs it, package smarthost delivers it.
//
// Config.Mode says when the sender gets its answer, and what is kept until it is delivered: what was
// answered 250 is at the smarthost, in package spool, or in a report to the sender (package dsn).
//
// The package never reads a body (package rewrite does) and knows no store's inside. What a
// peer is told never holds configuration or internals, and no log line holds an address in
// clear unless Config.FullAddresses says so.
package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/outbox"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// Config is the operator's part. The zero value of a field means what stands behind it; only
// Hostname, one of the Listens and BaseURL are needed.
type Config struct {
	Hostname        string         // the name in the greeting and in Received
	Listen          []string       // "host:port", "unix:/path" or "systemd:NAME"
	ListenTLS       []string       // the same, under TLS from the first byte
	ListenLMTP      []string       // the same, for LMTP
	TLSCert, TLSKey string         // PEM files, read again when they change; with them STARTTLS is offered
	ProxyFrom       []netip.Prefix // balancers, which have to say by the PROXY protocol whose connection it is
	MaxMessageBytes int64          // 50 MiB
	MaxRecipients   int            // 1000 a message; one in mode stateless
	MaxConnections  int            // 1000, over all listeners
	IdleTimeout     time.Duration  // 5 min: for each read and each write

	// LookupTimeout bounds the question to the store, for all recipients of a message: 1 s.
	LookupTimeout time.Duration

	Mode          Mode   // "cutthrough" with a spool, else "stateless"
	MaxDeliveries int    // copies on their way at once, of one message; and messages of the spool: 20
	BaseURL       string // https://mail.example.org: the links are BaseURL + "/u/" + token
	MailTo        string // an address for List-Unsubscribe, without "mailto:"; "" = none. Mail to it is taken from anybody, see request.go
	Chain         bool   // the sender's own one-click address goes into the tokens, for Unsubscribed

	// Unsubscribed is called when somebody unsubscribed by mail, before that is answered; nil = nobody wants to know.
	Unsubscribed func(id string, claims token.Claims, source consent.Source)
	// Copied is called with what became of a copy for good; nil = nobody wants to know. The sender, or the
	// next copy, waits for it.
	Copied func(outbox.Copy)

	// KeepCopiesFor is a recipient whose copies are kept in CopiesDir as they left, the last twenty, to be
	// held against what reaches the mailbox; the zero Address: nobody's.
	KeepCopiesFor consent.Address
	CopiesDir     string
	// GuardURL is where the pixels and counted links of copies with consent lead, as Guard says; "" = they stay
	// as they are. Hits makes the tokens.
	GuardURL string
	Hits     *token.Hits

	FullAddresses bool   // logs hold addresses in clear
	TempDir       string // for messages over 1 MiB while they pass; the system's
	Log           *slog.Logger
	Metrics       *metrics.Metrics // what is counted; nil = nobody reads it
	Now           func() time.Time

	Settings
}

// Settings are what Server.Reload can change while the server runs.
type Settings struct {
	AllowNetworks []netip.Prefix // who may send without a login; a unix socket always may; none = nobody else
	Logins        []login.Login  // AUTH is offered under TLS only

	Classes      []consent.Class // which a sender may claim; both. Without a field mail is Marketing, or the first of these where that is not among them
	DefaultScope consent.Scope   // "default"
	KnownScopes  []consent.Scope // which a List-Id may name
	Policy       consent.Policy
	Discard      bool // unsubscribed = "discard": answered 250 and dropped, else 550

	Rewrite rewrite.Options
	Rules   *trackers.Rules // the built-in ones
	// Observe lets the text of every copy leave as it came, whatever the consent, and only logs
	// what would be changed. Who has unsubscribed gets no mail all the same.
	Observe bool
	Signer  *sign.Signer // nil: copies are not signed

	// RetryFor is how long copies are tried that are refused for now: 120 h, and 4 h of class
	// transactional. Then their sender gets a report. The first pause is FirstRetry, 1 min.
	RetryFor, RetryForTransactional, FirstRetry time.Duration
}

// drainTime is how long transactions under way may take once the server stops.
const drainTime = 30 * time.Second

// fill checks the configuration and puts the defaults in.
func (c *Config) fill() error {
	if c.Hostname == "" || cleanHelo(c.Hostname) != c.Hostname {
		return fmt.Errorf("hostname %q is not a host name", c.Hostname)
	}
	if len(c.Listen)+len(c.ListenTLS)+len(c.ListenLMTP) == 0 {
		return errors.New("no address to listen on")
	}
	if len(c.ListenTLS) > 0 && c.TLSCert == "" {
		return errors.New("no certificate to listen with")
	}
	c.BaseURL = strings.TrimSuffix(c.BaseURL, "/")
	if c.BaseURL == "" {
		return errors.New("no base URL for the unsubscribe links")
	}
	c.GuardURL = strings.TrimSuffix(c.GuardURL, "/")
	if c.GuardURL != "" && c.Hits == nil {
		return errors.New("no tokens for the guard's addresses")
	}
	c.MailTo = strings.TrimPrefix(c.MailTo, "mailto:")
	if c.MailTo != "" {
		if _, err := consent.ParseAddress(c.MailTo); err != nil {
			return fmt.Errorf("mailto: %w", err)
		}
	}
	if c.MaxMessageBytes <= 0 {
		c.MaxMessageBytes = 50 << 20
	}
	if c.MaxRecipients <= 0 {
		c.MaxRecipients = 1000
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 1000
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.LookupTimeout <= 0 {
		c.LookupTimeout = time.Second
	}
	if c.Mode == "" {
		c.Mode = Cutthrough
	}
	if c.MaxDeliveries <= 0 {
		c.MaxDeliveries = 20
	}
	if c.TempDir == "" {
		c.TempDir = os.TempDir()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// fill puts the defaults in.
func (c *Settings) fill(baseURL, guardURL string) {
	if len(c.Classes) == 0 {
		c.Classes = []consent.Class{consent.Marketing, consent.Transactional}
	}
	if c.DefaultScope == "" {
		c.DefaultScope = "default"
	}
	if c.Rewrite.LinkPrefix == "" {
		c.Rewrite.LinkPrefix = baseURL + "/u/"
	}
	if guardURL != "" {
		c.Rewrite.GuardPrefix = guardURL + GuardPath
	}
	if c.Rules == nil {
		c.Rules = trackers.Default()
	}
	if c.RetryFor <= 0 {
		c.RetryFor = 120 * time.Hour
	}
	if c.RetryForTransactional <= 0 {
		c.RetryForTransactional = 4 * time.Hour
	}
	if c.FirstRetry <= 0 {
		c.FirstRetry = time.Minute
	}
}
