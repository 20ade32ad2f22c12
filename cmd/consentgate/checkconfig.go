package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
)

type checkConfigCmd struct {
	configFlag
	DNS    bool      `name:"dns" help:"Also ask the DNS whether the DKIM records are there and are of these keys."`
	lookup lookupTXT // nil: the system's resolver
}

func (checkConfigCmd) Help() string {
	return `Says every mistake in the file, a line for each (exit status 2). Where there is none, says what can be reached: the smarthosts, the store, and whether the ports are free (exit status 1 if something is wrong), and prints the DNS record to publish for each DKIM key. It sends no mail and changes nothing.

Example:

    consentgate check-config --config /etc/consentgate/consentgate.toml`
}

func (c checkConfigCmd) Run(ctx context.Context, std streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	path, err := c.path()
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: no mistakes\n", path)
	for _, note := range notes(cfg) {
		fmt.Fprintf(std.out, "note: %s\n", note)
	}

	keys, err := dkimKeys(cfg)
	if err != nil {
		return err
	}
	for _, k := range keys {
		fmt.Fprintf(std.out, "record: %s\n", zoneRecord(k))
	}

	r := &reach{out: std.out}
	if c.DNS {
		lookup := c.lookup
		if lookup == nil {
			lookup = net.DefaultResolver.LookupTXT
		}
		for _, k := range keys {
			good, err := checkPublished(ctx, lookup, k)
			r.say("record "+k.Name(), good, err)
		}
	}
	r.check(ctx, cfg)
	if r.failed {
		return errReported
	}
	return nil
}

// reach says what can be reached and what cannot, a line each.
type reach struct {
	out     io.Writer
	failed  bool
	noRedis bool // the store is Redis, and did not answer
}

func (r *reach) say(what string, good string, err error) {
	if err != nil {
		r.failed = true
		fmt.Fprintf(r.out, "%s: FAILED: %s\n", what, printable(strings.ReplaceAll(err.Error(), "\n", " ")))
		return
	}
	fmt.Fprintf(r.out, "%s: %s\n", what, good)
}

// check tries the smarthosts, a running gateway, the store, the webhook and the listeners. It changes nothing.
func (r *reach) check(ctx context.Context, cfg *config.Config) {
	for _, u := range cfg.Smarthost.URLs {
		good, err := checkSmarthost(ctx, cfg, u)
		r.say("smarthost "+u, good, err)
	}
	running, err := dialControl(ctx, controlPath(cfg))
	if err == nil {
		running.Close()
		r.say("gateway", "running, and answers on "+controlPath(cfg), nil)
	} else if !errors.Is(err, errNobody) {
		r.say("gateway", "", err)
	}
	var said bytes.Buffer
	good, err := checkStore(ctx, cfg, running != nil, slog.New(slog.NewJSONHandler(&said, nil)))
	r.say("store", good, err)
	for _, line := range logged(&said) {
		fmt.Fprintf(r.out, "note: %s\n", line)
	}
	r.noRedis = cfg.StoreFile() == "" && errors.Is(err, consent.ErrUnreachable) && !errors.Is(err, consent.ErrLost)
	if cfg.Unsubscribe.WebhookURL != "" {
		r.say("webhook", "can be connected to", checkWebhook(ctx, cfg.Unsubscribe.WebhookURL))
	}
	for _, l := range listeners(cfg) {
		good, err := checkFree(l.address, running != nil)
		r.say(l.key+" "+l.address, good, bindError(l.key, err))
	}
}

// notes are no mistakes, but an operator should know them. serve logs them at its start.
func notes(cfg *config.Config) []string {
	var n []string
	if len(cfg.DKIM.Keys()) == 0 {
		n = append(n, "COPIES ARE NOT SIGNED: dkim has no key. Unless the smarthost signs them, List-Unsubscribe fields included, no mailbox offers one-click unsubscribe")
	}
	for _, k := range cfg.DKIM.Keys() {
		if strings.Contains(k.Selector, "_") {
			n = append(n, fmt.Sprintf("the DKIM selector %s has an underscore, which RFC 6376 does not know: a verifier may take no notice of its signatures; the next key best has one without", k.Selector))
		}
		if info, err := os.Stat(k.KeyFile); err == nil && info.Mode().Perm()&0o027 != 0 && runtime.GOOS != "windows" { // its group may, as systemd and Kubernetes hand it over
			n = append(n, fmt.Sprintf("the DKIM key %s has mode %04o, so others may use it: chmod 600 %s", k.KeyFile, info.Mode().Perm(), k.KeyFile))
		}
	}
	n = append(n, lockNotes(cfg)...)
	if cfg.Consent.WhenUnreachable == "untracked" {
		n = append(n, "consent.when_unreachable is \"untracked\": while the store does not answer, mail may reach people who unsubscribed")
	}
	if unset := cfg.Consent.WhenUnset; unset.Open == consent.Granted || unset.Click == consent.Granted {
		n = append(n, fmt.Sprintf("consent.when_unset lets people be tracked who were never asked: open %s, click %s", unset.Open, unset.Click))
	}
	if cfg.Rewrite.Observe {
		n = append(n, "rewrite.observe is true: TRACKERS STAY IN EVERY COPY, whatever the consent, and no unsubscribe link is put in; the log says what would be done")
	}
	for _, c := range [][3]string{{"smtp", cfg.SMTP.TLSCert, cfg.SMTP.TLSKey}, {"unsubscribe", cfg.Unsubscribe.TLSCert, cfg.Unsubscribe.TLSKey}} {
		if end, soon := certificateEnd(c[1], c[2], time.Now()); soon {
			n = append(n, fmt.Sprintf("the certificate in %s.tls_cert ends on %s: put a new one there; it is read without a restart", c[0], end.Format(time.DateOnly)))
		}
	}
	if host, _, _ := net.SplitHostPort(cfg.Admin.Listen); !config.IsLoopback(host) {
		n = append(n, "admin.listen is not a loopback address: the API is plain HTTP, so tokens and addresses cross that network in clear; let only a proxy with TLS reach it")
	}
	if cfg.Delivery.KeepCopiesFor != "" {
		n = append(n, fmt.Sprintf("delivery.keep_copies_for: the last copies for that address are kept in clear in %s", copiesDir(cfg)))
	}
	if cfg.Log.Addresses == "full" {
		n = append(n, "log.addresses is \"full\": the log holds mail addresses in clear")
	}
	if cfg.Unsubscribe.WebhookURL != "" && cfg.Delivery.Mode == "stateless" {
		n = append(n, "unsubscribe.webhook_url with mode \"stateless\": what the webhook could not be told yet is lost at a restart")
	}
	if cfg.Unsubscribe.Company == "" {
		n = append(n, "unsubscribe.company is empty: neither the footer nor the page can say from whom the mail is")
	}
	if !cfg.Unsubscribe.ConfirmGrants {
		n = append(n, "unsubscribe.confirm_grants is false: whoever has a link, such as from a forwarded mail, can consent for the person it was sent to")
	}
	return n
}

// certificateEnd says when a certificate ends, and whether that is within two weeks.
func certificateEnd(cert, key string, now time.Time) (end time.Time, soon bool) {
	if cert == "" {
		return time.Time{}, false
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil { // it was there when the configuration was checked; the start says so
		return time.Time{}, false
	}
	return pair.Leaf.NotAfter, pair.Leaf.NotAfter.Sub(now) < 14*24*time.Hour
}

// checkSmarthost connects and says EHLO.
func checkSmarthost(ctx context.Context, cfg *config.Config, address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"smtp": "25", "smtp+starttls": "587", "smtps": "465", "lmtp": "24"}[u.Scheme]
	}
	network, at := "tcp", net.JoinHostPort(u.Hostname(), port)
	if u.Scheme == "lmtp+unix" {
		network, at = "unix", u.Path
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Smarthost.ConnectTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, at)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if u.Scheme == "smtps" {
		secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			return "", fmt.Errorf("TLS: %w", err)
		}
		conn = secure
	}
	newClient, hello := smtp.NewClient, "EHLO"
	if strings.HasPrefix(u.Scheme, "lmtp") {
		newClient, hello = smtp.NewClientLMTP, "LHLO"
	}
	client := newClient(conn)
	client.CommandTimeout = cfg.Smarthost.ConnectTimeout
	if err := client.Hello(cfg.Hostname); err != nil {
		return "", fmt.Errorf("%s: %w", hello, err)
	}
	var offers []string
	for _, name := range []string{"STARTTLS", "8BITMIME", "SMTPUTF8", "DSN", "SIZE", "AUTH"} {
		if has, _ := client.Extension(name); has {
			offers = append(offers, name)
		}
	}
	if has, _ := client.Extension("STARTTLS"); !has && u.Scheme == "smtp+starttls" {
		return "", errors.New("it does not offer STARTTLS, which smtp+starttls:// must have")
	}
	// RFC 2033 §5 wants PIPELINING; go-smtp goes on with HELO where LHLO is unknown.
	if has, _ := client.Extension("PIPELINING"); !has && hello == "LHLO" {
		return "", errors.New("it does not speak LMTP")
	}
	if err := client.Quit(); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("QUIT: %w", err)
	}
	if len(offers) == 0 {
		return "answers, offers no extension", nil
	}
	return "answers, offers " + strings.Join(offers, " "), nil
}

// checkWebhook connects, and sends nothing. Its errors do not hold the URL, in which a password may stand.
func checkWebhook(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("it is no URL")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// checkStore asks the store whether it answers, is this gateway's, and holds the data that the gateway worked with
// last. An embedded store is held by the gateway while one runs, which is asked then, and is not made here where there
// is none. Nothing is written; log is told what an operator should know.
func checkStore(ctx context.Context, cfg *config.Config, running bool, log *slog.Logger) (string, error) {
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if file := cfg.StoreFile(); file != "" {
		if running {
			return "held by the running gateway", askReady(ctx, cfg)
		}
		return checkStoreFile(ctx, cfg, file, ring)
	}
	store, err := redisstore.Open(cfg.Consent.Store, ring, redisstore.Options{Moving: redisstore.Look, Known: knownPath(cfg), Log: log})
	if errors.Is(err, redisstore.ErrNothing) {
		return "answers, and is new: serve begins it", nil
	} else if err != nil {
		return "", err
	}
	defer store.Close()
	return "answers", store.Ping(ctx)
}

// checkStoreFile is checkStore for an embedded store that no gateway holds.
func checkStoreFile(ctx context.Context, cfg *config.Config, file string, ring *keyring.Ring) (string, error) {
	known, _, err := consent.Known{Path: knownPath(cfg), Print: ring.Fingerprint()}.Load()
	if err != nil {
		return "", err
	}
	const right = "bring the data back, or run: consentgate consent accept-store"
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		if known != "" {
			return "", fmt.Errorf("%w: %s is gone; %s", consent.ErrLost, file, right)
		}
		return "not there yet, serve makes it", checkParent(file)
	}
	store, err := boltstore.Open(file, ring)
	if err != nil {
		return "", err
	}
	defer store.Close()
	if err := store.Ping(ctx); err != nil || known == "" {
		return "answers", err
	}
	now, err := store.Moving(ctx)
	if err == nil && now.Epoch != known && now.Was != known {
		err = fmt.Errorf("%w: %s was begun anew, or is another, since the gateway saw it last; %s", consent.ErrLost, file, right)
	}
	return "answers", err
}

// askReady asks the running gateway whether its store is ready.
func askReady(ctx context.Context, cfg *config.Config) error {
	a, err := connect(ctx, cfg, nobodyServes)
	if errors.Is(err, errNobody) {
		return nil // it has ended meanwhile
	} else if err != nil {
		return err
	}
	defer a.close()
	_, _, err = a.send(ctx, answerTime, "GET", "/readyz", nil, nil)
	return err
}

// checkParent says whether the folder of a file that is not there yet could be used: it, or the
// nearest one above it that exists, is a folder.
func checkParent(file string) error {
	dir := filepath.Dir(file)
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
		if err == nil || !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

type listenKey struct{ key, address string }

func listeners(cfg *config.Config) []listenKey {
	var all []listenKey
	for _, a := range cfg.SMTP.Listen {
		all = append(all, listenKey{"smtp.listen", a})
	}
	for _, a := range cfg.SMTP.ListenTLS {
		all = append(all, listenKey{"smtp.listen_tls", a})
	}
	for _, a := range cfg.SMTP.ListenLMTP {
		all = append(all, listenKey{"smtp.listen_lmtp", a})
	}
	return append(all, listenKey{"unsubscribe.listen", cfg.Unsubscribe.Listen}, listenKey{"admin.listen", cfg.Admin.Listen})
}

// checkFree says whether an address could be listened on. While the gateway runs it holds them.
func checkFree(address string, running bool) (string, error) {
	if strings.HasPrefix(address, "systemd:") {
		return "systemd hands it over at the start", nil
	}
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return "free", nil // not there, or left behind by a process that died
		}
		conn.Close()
		if running {
			return "taken, by the running gateway as it should be", nil
		}
		return "", errors.New("taken: another program answers there")
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		return "free", l.Close()
	}
	if running {
		return "taken, by the running gateway as it should be", nil
	}
	return "", err
}
