package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/outbox"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// What the configuration says, as the parts of the gateway want it.

// storeWith opens the store. It succeeds where a Redis does not answer now, and asks what a gateway knew of it only
// where opts name the file.
func storeWith(cfg *config.Config, ring *keyring.Ring, opts redisstore.Options) (consent.Store, error) {
	if file := cfg.StoreFile(); file != "" {
		return boltstore.OpenKnown(file, ring, opts.Known, opts.Log)
	}
	opts.WaitReplicas = cfg.Consent.WaitReplicas
	return redisstore.Open(cfg.Consent.Store, ring, opts)
}

// openServed opens the store for the gateway. The file beside the spool tells across a restart that
// it has lost its data; a gateway without a disk does without.
func openServed(cfg *config.Config, ring *keyring.Ring, log *slog.Logger) (consent.Store, error) {
	return storeWith(cfg, ring, redisstore.Options{Ahead: true, Log: log, Known: knownPath(cfg)})
}

// knownPath is the file that tells which data the gateway worked with, "" where it keeps none.
func knownPath(cfg *config.Config) string {
	if cfg.Delivery.Mode == "stateless" {
		return ""
	}
	return filepath.Join(filepath.Dir(controlPath(cfg)), "store.known")
}

// newOutbox makes the calls that follow from changes of store; waiting and count may be nil.
func newOutbox(cfg *config.Config, ring *keyring.Ring, store consent.Store, waiting *spool.Spool, log *slog.Logger, count func(to, result string, n int)) *outbox.Outbox {
	version, _ := build()
	return outbox.New(outbox.Config{
		Store: store, Spool: waiting, WebhookURL: cfg.Unsubscribe.WebhookURL, TellChanges: slices.Contains(cfg.Unsubscribe.WebhookEvents, "change"),
		Secrets: ring.Webhook(), UserAgent: "consentgate/" + version, Log: log, Now: time.Now, Count: count,
	})
}

// tellCopies returns what is to be done with what became of a copy, nil where nobody asked for it.
func tellCopies(cfg *config.Config, calls *outbox.Outbox) func(outbox.Copy) {
	asked := map[string]bool{}
	for _, e := range cfg.Unsubscribe.WebhookEvents {
		asked[e] = true
		asked["expired"] = asked["refused"]
	}
	if cfg.Unsubscribe.WebhookURL == "" || !asked["suppressed"] && !asked["accepted"] && !asked["refused"] {
		return nil
	}
	return func(c outbox.Copy) {
		if asked[c.Fate] {
			calls.Copy(c)
		}
	}
}

// openSpool returns nil where nothing is kept.
func openSpool(cfg *config.Config, log *slog.Logger) (*spool.Spool, error) {
	if cfg.Delivery.Mode == "stateless" {
		return nil, nil
	}
	return spool.Open(cfg.Delivery.SpoolDir, spool.Options{Log: log})
}

// dkimKeys reads the keys that copies are signed with.
func dkimKeys(cfg *config.Config) ([]*sign.Key, error) {
	var keys []*sign.Key
	for _, k := range cfg.DKIM.Keys() {
		key, err := sign.LoadKey(k.KeyFile, k.Domain, k.Selector)
		if err != nil {
			return nil, usageError{err}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// openSigner returns nil where copies are not signed here.
func openSigner(cfg *config.Config, log *slog.Logger) (*sign.Signer, error) {
	keys, err := dkimKeys(cfg)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return sign.New(keys, sign.Options{LeaveOut: cfg.DKIM.LeaveOut, Log: log, Now: time.Now}), nil
}

// settings are what may change while the gateway runs.
func settings(cfg *config.Config, log *slog.Logger) (relay.Settings, error) {
	signer, err := openSigner(cfg, log)
	if err != nil {
		return relay.Settings{}, err
	}
	rewriting, err := rewriteOptions(cfg)
	if err != nil {
		return relay.Settings{}, err
	}
	known, err := rules(cfg)
	if err != nil {
		return relay.Settings{}, err
	}
	return relay.Settings{
		AllowNetworks:         cfg.SMTP.AllowNetworks,
		Logins:                logins(cfg),
		Classes:               cfg.SMTP.Classes,
		DefaultScope:          cfg.Consent.DefaultScope,
		KnownScopes:           knownScopes(cfg),
		Policy:                policy(cfg),
		Discard:               cfg.Unsubscribe.Unsubscribed == "discard",
		Rewrite:               rewriting,
		Rules:                 known,
		Observe:               cfg.Rewrite.Observe,
		Signer:                signer,
		RetryFor:              cfg.Delivery.RetryFor,
		RetryForTransactional: cfg.Delivery.RetryForTransactional,
		FirstRetry:            cfg.Delivery.FirstRetry,
	}, nil
}

// publicPage is what the configuration says of the page.
func publicPage(cfg *config.Config) (web.PublicConfig, error) {
	u := cfg.Unsubscribe
	p := web.PublicConfig{Company: u.Company, BaseURL: u.BaseURL, TrustedProxies: u.TrustedProxies}
	var err error
	if u.Colour != "" {
		p.Colour, err = web.ParseColour(u.Colour)
	}
	if u.LogoFile != "" && err == nil {
		p.Logo, err = web.ReadLogo(u.LogoFile)
	}
	if u.NoticeFile != "" && err == nil {
		p.Notice, err = web.ReadNotice(u.NoticeFile)
	}
	if err != nil {
		return p, usageError{err}
	}
	return p, nil
}

func newSmarthost(cfg *config.Config, took func(hop string, code int, took time.Duration)) (*smarthost.Client, error) {
	return smarthost.New(smarthost.Config{
		URLs:           cfg.Smarthost.URLs,
		Username:       cfg.Smarthost.Username,
		Password:       cfg.Smarthost.Password,
		Hostname:       cfg.Hostname,
		MaxConnections: cfg.Smarthost.MaxConnections,
		MaxPerSecond:   cfg.Smarthost.MaxPerSecond,
		ConnectTimeout: cfg.Smarthost.ConnectTimeout,
		Took:           took,
	})
}

func logins(cfg *config.Config) []login.Login {
	all := make([]login.Login, len(cfg.Login))
	for i, l := range cfg.Login {
		all[i] = login.Login{Name: l.Name, Hash: l.PasswordHash, Scopes: l.Scopes, Classes: l.Classes, FromDomains: l.FromDomains}
	}
	return all
}

// knownScopes are the ones that a List-Id may name: those that stand in the file.
func knownScopes(cfg *config.Config) []consent.Scope {
	known := []consent.Scope{cfg.Consent.DefaultScope}
	for _, l := range cfg.Login {
		known = append(known, l.Scopes...)
	}
	return known
}

func policy(cfg *config.Config) consent.Policy {
	p := consent.Policy{
		OpenWhenUnset:   cfg.Consent.WhenUnset.Open,
		ClickWhenUnset:  cfg.Consent.WhenUnset.Click,
		WhenUnreachable: consent.Defer,
	}
	if cfg.Consent.WhenUnreachable == "untracked" {
		p.WhenUnreachable = consent.Send
	}
	return p
}

// rules returns the built-in ones with the operator's own before them.
func rules(cfg *config.Config) (*trackers.Rules, error) {
	all := trackers.Default()
	if cfg.Rewrite.RulesFile != "" {
		text, err := os.ReadFile(cfg.Rewrite.RulesFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("rules: %w", err)}
		}
		own, err := trackers.Load(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("rules: %w", err)}
		}
		all = all.With(own)
	}
	return all.WithHosts(cfg.Rewrite.AllowHosts, cfg.Rewrite.TrackerHosts), nil
}

func rewriteOptions(cfg *config.Config) (rewrite.Options, error) {
	f, err := footers(cfg)
	if err != nil {
		return rewrite.Options{}, usageError{err}
	}
	guard := guardURL(cfg)
	if guard != "" {
		guard += relay.GuardPath
	}
	return rewrite.Options{
		GuardPrefix: guard,
		LinkPrefix:  cfg.Unsubscribe.BaseURL + "/u/",
		Images:      rewrite.Images(cfg.Rewrite.Images),
		Opaque:      rewrite.Opaque(cfg.Rewrite.OpaqueLinks),
		Identifiers: rewrite.Identifiers(cfg.Rewrite.Identifiers),
		Signed:      rewrite.Signed(cfg.Rewrite.Signed),
		Footers:     f,
		Position:    rewrite.Position(cfg.Unsubscribe.FooterPosition),
		Lock: rewrite.Lock{
			Provider:            rewrite.Provider(cfg.Smarthost.Provider),
			SESConfigurationSet: cfg.Smarthost.SESUntrackedConfigurationSet,
			WithoutOpen:         cfg.Smarthost.HeadersWithoutOpen,
			WithoutClick:        cfg.Smarthost.HeadersWithoutClick,
		},
	}, nil
}

// guardURL is the public address of the guard, "" where copies are not guarded.
func guardURL(cfg *config.Config) string {
	if cfg.Tracking.Mode != "guard" {
		return ""
	}
	return cfg.Tracking.BaseURL
}

// footers returns the built-in ones (nil where they name no company), or the operator's own for
// all languages. Where only one of the two templates is given, the other is the built-in
// English one.
func footers(cfg *config.Config) (rewrite.Footers, error) {
	u := cfg.Unsubscribe
	if u.Company == "" && u.FooterHTML == "" && u.FooterText == "" {
		return nil, nil
	}
	all := rewrite.DefaultFooters(u.Company)
	if u.FooterHTML == "" && u.FooterText == "" {
		return all, nil
	}
	own := all["en"]
	for file, into := range map[string]*string{u.FooterHTML: &own.HTML, u.FooterText: &own.Text} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("footer: %w", err)
		}
		*into = string(text)
	}
	return rewrite.Footers{"en": own}, nil
}

// newLog makes the log that [log] asks for.
func newLog(cfg *config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(cfg.Log.Level))); err != nil {
		panic("log level passed the check of the configuration: " + cfg.Log.Level)
	}
	if cfg.Log.Format == "json" {
		return slog.New(logbook.NewJSON(w, level))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
