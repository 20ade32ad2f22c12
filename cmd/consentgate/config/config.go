// Package config reads the configuration file of consentgate: TOML, one file, every key with
// a default but those that are marked as needed.
//
// Load reports every mistake in the file, each with its line, what is wrong and what would be
// right. A key whose feature is not built yet is accepted at its default and otherwise
// refused with "not yet", never ignored.
//
// The package reads and checks; it opens no connection, makes no file and wires nothing. What
// can be reached is said by the command's check-config.
package config

import (
	"net/netip"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// Config is the file, checked, with its defaults filled in. Paths are as they stand in the
// file: relative ones count from the working directory. What each key does for an operator is
// said in docs, which the tests hold complete.
//
// The tags: toml is the key; needed is an example of the line that is missing; oneof lists the
// values of an enumeration; min and max bound a number or a duration, both inclusive; later
// marks a key that only takes its default, or what later names, until its feature is built; secret keeps the value
// out of every message; reload marks what may change while the gateway runs.
type Config struct {
	Hostname string `toml:"hostname" needed:"hostname = \"gate.example.org\""` // EHLO name, in Received and Message-IDs
	KeyFile  string `toml:"key_file" needed:"key_file = \"/var/lib/consentgate/key\", made by: consentgate keygen FILE"`

	SMTP        SMTP        `toml:"smtp"`
	Login       []Login     `toml:"login" reload:""`
	Smarthost   Smarthost   `toml:"smarthost"`
	Delivery    Delivery    `toml:"delivery"`
	Consent     Consent     `toml:"consent"`
	Rewrite     Rewrite     `toml:"rewrite" reload:""`
	Unsubscribe Unsubscribe `toml:"unsubscribe"`
	Tracking    Tracking    `toml:"tracking"`
	DKIM        DKIM        `toml:"dkim" reload:""`
	Admin       Admin       `toml:"admin"`
	Log         Log         `toml:"log"`
}

// SMTP is what senders connect to.
type SMTP struct {
	Listen            []string        `toml:"listen"`      // "host:port", "unix:/path" or "systemd:NAME"
	ListenTLS         []string        `toml:"listen_tls"`  // the same, under TLS from the first byte
	ListenLMTP        []string        `toml:"listen_lmtp"` // the same, for LMTP
	TLSCert           string          `toml:"tls_cert"`    // PEM files; with them STARTTLS is offered
	TLSKey            string          `toml:"tls_key"`
	AllowNetworks     []netip.Prefix  `toml:"allow_networks" reload:""` // may send without a password; a unix socket always may
	ProxyProtocolFrom []netip.Prefix  `toml:"proxy_protocol_from"`      // balancers, which have to send a PROXY header
	MaxMessageBytes   int64           `toml:"max_message_bytes" min:"1024" max:"1073741824"`
	MaxRecipients     int             `toml:"max_recipients" min:"1" max:"100000"` // mode stateless takes one a transaction
	Classes           []consent.Class `toml:"classes" reload:""`                   // which classes a sender may claim
	MaxConnections    int             `toml:"max_connections" min:"1" max:"100000"`
	IdleTimeout       time.Duration   `toml:"idle_timeout" min:"1s" max:"1h"`
}

// Login is a sender that proves who it is by password.
type Login struct {
	Name         string          `toml:"name" needed:"name = \"shop\""`
	PasswordHash string          `toml:"password_hash" needed:"password_hash = \"$argon2id$…\"" secret:""`
	Scopes       []consent.Scope `toml:"scopes"`       // what it may claim, the first is its default; none = any
	Classes      []consent.Class `toml:"classes"`      // none = those of [smtp]
	FromDomains  []string        `toml:"from_domains"` // none = any
}

// Smarthost is the next hop.
type Smarthost struct {
	URLs           []string      `toml:"urls" needed:"urls = [\"smtp://127.0.0.1:25\"]" secret:""` // in order of preference
	Username       string        `toml:"username"`
	Password       string        `toml:"password" secret:""`
	MaxConnections int           `toml:"max_connections" min:"1" max:"10000"`
	MaxPerSecond   int           `toml:"max_per_second" min:"0" max:"1000000"` // 0 = no limit
	ConnectTimeout time.Duration `toml:"connect_timeout" min:"1s" max:"10m"`
	// The provider behind it, which is told not to add its own tracking to copies without consent, and
	// fields that say so to others.
	Provider                     string            `toml:"provider" oneof:"mailjet mailgun sendgrid mandrill postmark ses sparkpost" reload:""`
	HeadersWithoutOpen           map[string]string `toml:"headers_without_open" reload:""`
	HeadersWithoutClick          map[string]string `toml:"headers_without_click" reload:""`
	SESUntrackedConfigurationSet string            `toml:"ses_untracked_configuration_set" reload:""`
}

// Delivery says when the sender gets its answer.
type Delivery struct {
	Mode                  string        `toml:"mode" oneof:"cutthrough spool stateless"`
	SpoolDir              string        `toml:"spool_dir"` // the control socket stands beside it
	RetryFor              time.Duration `toml:"retry_for" min:"1m" max:"720h" reload:""`
	FirstRetry            time.Duration `toml:"first_retry" min:"1s" max:"4h" reload:""`
	RetryForTransactional time.Duration `toml:"retry_for_transactional" min:"1m" max:"720h" reload:""`
	KeepCopiesFor         string        `toml:"keep_copies_for"` // a test address whose copies are kept for verify-delivery; "" = none
}

// Consent says where the consents are kept and what counts where nothing is known.
type Consent struct {
	Store            string        `toml:"store" secret:""` // "file:/path", or what redisstore.Open takes
	WhenUnset        WhenUnset     `toml:"when_unset" reload:""`
	WhenUnreachable  string        `toml:"when_unreachable" oneof:"defer untracked" reload:""`
	WaitReplicas     int           `toml:"wait_replicas" min:"0" max:"100"` // of Redis, that must have a change before it is confirmed
	Cache            time.Duration `toml:"cache" min:"0s" max:"1h"`         // 0 = every message asks the store
	DefaultScope     consent.Scope `toml:"default_scope" reload:""`
	HistoryRetention time.Duration `toml:"history_retention" min:"24h" max:"876000h"` // of history that proves nothing in force any more
}

// WhenUnset is what `unset` counts as, for each purpose. In the file it is one word for both,
// or a table.
type WhenUnset struct {
	Open  consent.State `toml:"open" oneof:"denied granted"`
	Click consent.State `toml:"click" oneof:"denied granted"`
}

// Rewrite is the operator's policy for what becomes of trackers.
type Rewrite struct {
	Images       string   `toml:"images" oneof:"trackers all-remote"`
	OpaqueLinks  string   `toml:"opaque_links" needed:"opaque_links = \"keep\" (it still counts), \"unlink\" (the text stays) or \"reject\" (550)" oneof:"keep unlink reject"`
	Identifiers  string   `toml:"identifiers" oneof:"strip keep"`
	RulesFile    string   `toml:"rules_file"` // more rules, in the form of package trackers
	Observe      bool     `toml:"observe"`
	AllowHosts   []string `toml:"allow_hosts"`   // never treated as trackers
	TrackerHosts []string `toml:"tracker_hosts"` // always treated as trackers
	Signed       string   `toml:"signed" oneof:"keep reject"`
}

// Unsubscribe is the public page and endpoint, and what leads to it.
type Unsubscribe struct {
	BaseURL        string         `toml:"base_url" needed:"base_url = \"https://mail.example.org\", the public address of the page"` // without a slash at the end
	Listen         string         `toml:"listen"`
	TLSCert        string         `toml:"tls_cert"` // PEM files; with them the page is served under TLS
	TLSKey         string         `toml:"tls_key"`
	TrustedProxies []netip.Prefix `toml:"trusted_proxies"` // whose X-Forwarded-For or Forwarded is believed
	Unsubscribed   string         `toml:"unsubscribed" oneof:"reject discard" reload:""`
	MailTo         string         `toml:"mailto"`                // an address of this gateway's; "" = no unsubscribing by mail
	FooterHTML     string         `toml:"footer_html" reload:""` // template files that hold {{unsubscribe_url}} once
	FooterText     string         `toml:"footer_text" reload:""`
	Chain          bool           `toml:"chain"`
	WebhookURL     string         `toml:"webhook_url" secret:""`
	WebhookEvents  []string       `toml:"webhook_events"` // what it is told: "change", and of copies "suppressed", "accepted", "refused" (and given up)
	Company        string         `toml:"company"`
	LogoFile       string         `toml:"logo_file"`      // as web.ReadLogo reads it
	Colour         string         `toml:"colour"`         // "#rrggbb"
	NoticeFile     string         `toml:"notice_file"`    // as web.ReadNotice reads it
	ConfirmGrants  bool           `toml:"confirm_grants"` // a consent given on the page holds once confirmed from a mail
	FooterPosition string         `toml:"footer_position" oneof:"auto bottom top" reload:""`
}

// Tracking is how copies with consent are tracked.
type Tracking struct {
	Mode           string `toml:"mode" oneof:"keep guard"`
	BaseURL        string `toml:"base_url"`                                    // of the guard, without a slash at the end; needed with it
	ForwardAddress string `toml:"forward_address" oneof:"none truncated full"` // what a pixel's server learns of the reader
}

// DKIM is the key that copies are signed with, or several. No key at all: not signed here.
type DKIM struct {
	Domain   string    `toml:"domain"`
	Selector string    `toml:"selector"`
	KeyFile  string    `toml:"key_file"`  // PEM
	LeaveOut []string  `toml:"leave_out"` // fields that are not signed, since the smarthost rewrites them
	Key      []DKIMKey `toml:"key"`
}

// Keys are all keys, that of [dkim] itself first.
func (k *DKIM) Keys() []DKIMKey {
	if k.Domain == "" {
		return k.Key
	}
	return append([]DKIMKey{{k.Domain, k.Selector, k.KeyFile}}, k.Key...)
}

// DKIMKey is one key of several, chosen by the From domain.
type DKIMKey struct {
	Domain   string `toml:"domain" needed:"domain = \"example.org\""`
	Selector string `toml:"selector" needed:"selector = \"gate\""`
	KeyFile  string `toml:"key_file" needed:"key_file = \"/etc/consentgate/dkim.pem\""`
}

// Admin is the API, /metrics, the status page, /healthz and /readyz; never the public address.
type Admin struct {
	Listen    string `toml:"listen"`
	TokenFile string `toml:"token_file"` // as web.Tokens describes it; needed where Listen is no loopback address
}

// Log says what is logged and how.
type Log struct {
	Level     string `toml:"level" oneof:"debug info warn error"`
	Format    string `toml:"format" oneof:"text json"`
	Addresses string `toml:"addresses" oneof:"masked full"`
}

// Default returns the configuration of an empty file. It lacks the needed keys.
func Default() *Config {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	return &Config{
		SMTP: SMTP{
			Listen:          []string{"127.0.0.1:2525"},
			AllowNetworks:   loopback,
			MaxMessageBytes: 50 << 20,
			MaxRecipients:   1000,
			Classes:         []consent.Class{consent.Marketing, consent.Transactional},
			MaxConnections:  1000,
			IdleTimeout:     5 * time.Minute,
		},
		Smarthost: Smarthost{MaxConnections: 20, ConnectTimeout: 30 * time.Second},
		Delivery: Delivery{
			Mode:                  "cutthrough",
			SpoolDir:              "/var/lib/consentgate/spool",
			RetryFor:              120 * time.Hour,
			FirstRetry:            time.Minute,
			RetryForTransactional: 4 * time.Hour,
		},
		Consent: Consent{
			Store:            "file:/var/lib/consentgate/consent.db",
			WhenUnset:        WhenUnset{Open: consent.Denied, Click: consent.Denied},
			WhenUnreachable:  "defer",
			Cache:            5 * time.Second,
			DefaultScope:     "default",
			HistoryRetention: 8760 * time.Hour,
		},
		Rewrite: Rewrite{Images: "trackers", Identifiers: "strip", Signed: "keep"},
		Unsubscribe: Unsubscribe{
			Listen:         "127.0.0.1:8080",
			Unsubscribed:   "reject",
			Chain:          true,
			WebhookEvents:  []string{"change"},
			ConfirmGrants:  true,
			FooterPosition: "auto",
		},
		Tracking: Tracking{Mode: "keep", ForwardAddress: "none"},
		Admin:    Admin{Listen: "127.0.0.1:8081"},
		Log:      Log{Level: "info", Format: "text", Addresses: "masked"},
	}
}
