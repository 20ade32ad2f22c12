package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/net/netutil"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/consent/guard"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/relay/outbox"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
)

type serveCmd struct{ configFlag }

func (serveCmd) Help() string {
	return `Takes mail from senders, and serves the unsubscribe page, the API and the control socket, until SIGTERM or SIGINT. Then what is under way ends, within 30 s. A second signal ends it at once. SIGHUP reads the configuration again; the log says which changes need a restart.

Example:

    consentgate serve --config /etc/consentgate/consentgate.toml`
}

// stopTime is how long requests under way may take once the gateway stops.
const stopTime = 30 * time.Second

// gcPercent is that of runtime/debug unless GOGC says otherwise. A message is garbage soon, so less room for it costs
// no measurable time, and a tenth of the memory is saved.
const gcPercent = 75

func (s serveCmd) Run(ctx context.Context, std streams) (err error) {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	path, err := s.path()
	if err != nil {
		return err
	}
	hangup := hangups()
	ctx = untilSignal(ctx)
	seen, log := newSeen(cfg, std.err)
	umask(socketMask)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}

	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return usageError{err}
	}
	g := &gateway{cfg: cfg, log: log, seen: seen}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.open(ring); err != nil {
		if errors.Is(err, syscall.EROFS) {
			err = fmt.Errorf("%w: a service of systemd writes below /var/lib/consentgate alone, unless its ReadWritePaths= names another folder", err)
		}
		return err
	}
	g.announce(ctx)
	ctx, cancel := context.WithCancel(ctx)
	var reloading sync.WaitGroup
	defer reloading.Wait()
	defer cancel()
	reloading.Go(func() {
		for {
			select {
			case <-hangup:
				g.reload(path)
			case <-ctx.Done():
				return
			}
		}
	})
	return g.run(ctx)
}

// reload reads the configuration again and puts in force what may change while the gateway runs.
// Where it holds a mistake all stays as it is.
func (g *gateway) reload(path string) {
	told := manager{g.log}
	told.tell(daemon.SdNotifyReloading)
	status := "STATUS=The configuration was read again."
	defer func() { told.tell(daemon.SdNotifyReady, status) }()
	fail := func(err error) {
		g.seen.counted.Reloaded(false)
		status = "STATUS=The configuration was not taken over: it holds a mistake, which the log names. What was in force stays."
		g.log.Error("the configuration is not taken over; what was in force stays", "file", path, "err", err)
	}
	cfg, err := config.Load(path, os.LookupEnv)
	if err != nil {
		fail(err)
		return
	}
	set, err := settings(cfg, g.log)
	if err == nil {
		err = g.relay.Reload(set)
	}
	if err != nil {
		fail(err)
		return
	}
	g.seen.counted.Reloaded(true)
	g.log.Info("the configuration was read again", "file", path)
	keys := config.NeedRestart(g.cfg, cfg)
	if ring, err := keyring.Load(cfg.KeyFile); err == nil && !ring.Equal(g.ring) && cfg.KeyFile == g.cfg.KeyFile {
		keys = append(keys, "key_file (what is in it)")
	}
	g.seen.counted.RestartNeeded(len(keys) > 0)
	if len(keys) > 0 {
		g.log.Warn("some changes need a restart", "keys", keys)
		status = "STATUS=The configuration was read again; a restart is needed for " + strings.Join(keys, ", ") + "."
	}
}

// gateway is everything that serves, and what must be closed after it.
type gateway struct {
	cfg     *config.Config
	log     *slog.Logger
	seen    *seen
	ring    *keyring.Ring
	store   consent.Store
	calls   *outbox.Outbox
	next    *smarthost.Client
	relay   *relay.Server
	mover   *mover
	servers []*listening
	closers []func() error
}

// listening is an HTTP server with its bound listener.
type listening struct {
	what string
	http *http.Server
	net.Listener
}

// open opens and binds everything, so that nothing serves unless all can.
func (g *gateway) open(ring *keyring.Ring) error {
	cfg := g.cfg
	g.ring = ring
	if err := g.openControl(); err != nil {
		return err
	}
	set, err := settings(cfg, g.log)
	if err != nil {
		return err
	}
	next, err := newSmarthost(cfg, g.seen.counted.SmarthostTook)
	if err != nil {
		return usageError{err}
	}
	g.next = next
	g.closers = append(g.closers, func() error { next.Close(); return nil })
	_, _, hops := next.State()
	for hop := range hops {
		g.seen.counted.Smarthost(hop)
	}
	waiting, err := openSpool(cfg, g.log)
	if err != nil {
		return err
	}
	if waiting != nil {
		g.closers = append(g.closers, waiting.Close)
	}
	store, err := openServed(cfg, ring, g.log)
	if err != nil {
		return err
	}
	g.mover = &mover{from: cfg.Consent.Store, store: store, ring: ring, now: time.Now, stopping: make(chan struct{})}
	store = g.seen.counted.Store(store)
	g.calls = newOutbox(cfg, ring, store, waiting, g.log, g.seen.counted.Called)
	memory := cache.New(g.calls.Told(), cache.Options{TTL: cfg.Consent.Cache, Log: g.log})
	g.store = memory
	g.closers = append(g.closers, g.store.Close)
	links := token.New(ring)

	page, err := publicPage(cfg)
	if err != nil {
		return err
	}
	page.Store, page.Links, page.Ring, page.Log, page.Now = g.store, links, ring, g.log, time.Now
	page.Policy = func() consent.Policy { return g.relay.Policy() }
	page.Unsubscribed = g.calls.Unsubscribed
	page.Count = g.seen.counted.Page
	if cfg.Unsubscribe.ConfirmGrants {
		page.SendLetter = g.sendLetter
	}
	public := belowBase(cfg.Unsubscribe.BaseURL, web.NewPublic(page))
	hits := token.NewHits(ring)
	if base := cfg.Tracking.BaseURL; base != "" { // in mode "keep" as well: mail that left guarded is opened for years
		public = besides(public, base, guard.New(guard.Config{
			Store:   g.store,
			Hits:    hits,
			Policy:  func() consent.Policy { return g.relay.Policy() },
			Forward: guard.Forward(cfg.Tracking.ForwardAddress),
			Client:  func(r *http.Request) netip.Addr { return web.Client(r, cfg.Unsubscribe.TrustedProxies) },
			Log:     g.log,
			Count:   g.seen.counted.Guard,
		}))
	}
	if err := g.listen("unsubscribe", cfg.Unsubscribe.Listen, public); err != nil {
		return err
	}
	if cfg.Unsubscribe.TLSCert != "" {
		secure, err := relay.LoadTLS(cfg.Unsubscribe.TLSCert, cfg.Unsubscribe.TLSKey, g.log)
		if err != nil {
			return err
		}
		g.servers[len(g.servers)-1].http.TLSConfig = secure
		g.seen.certificates["unsubscribe"] = func() (time.Time, bool) { return relay.CertificateEnds(secure) }
	}
	ready := []func(context.Context) error{func(context.Context) error {
		if err := g.seen.counted.StoreWritable(); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		return nil
	}}
	if waiting != nil {
		ready = append(ready, func(context.Context) error {
			switch err := waiting.Room(probeSize, 1); {
			case err == nil:
				return nil
			case errors.Is(err, spool.ErrFull):
				return errors.New("spool: no room")
			default: // says where the spool is
				g.log.Warn("the spool takes no messages", "err", err)
				return errors.New("spool: it takes no messages")
			}
		})
	}
	forget := func(who consent.Address) error {
		err := g.calls.Forget(who)
		if waiting != nil {
			err = errors.Join(err, relay.Forget(waiting, who))
		}
		return err
	}
	var tokens *web.Tokens
	if cfg.Admin.TokenFile != "" {
		if tokens, err = web.LoadTokens(cfg.Admin.TokenFile, g.log); err != nil {
			return usageError{err}
		}
	}
	metricsPage, statusPage := g.seen.serve(g, waiting, next, memory)
	admin := web.NewAdmin(web.AdminConfig{Store: g.store, Imports: store, Source: consent.FromAPI, Log: g.log, FullAddresses: cfg.Log.Addresses == "full", Now: time.Now, Ready: ready, Forget: forget, Tokens: tokens,
		Alive: func(ctx context.Context) error { return g.relay.Alive(ctx) }, Metrics: metricsPage, Status: statusPage})
	if err := g.listen("admin", cfg.Admin.Listen, admin); err != nil {
		return err
	}
	var seed consent.Address
	if text := cfg.Delivery.KeepCopiesFor; text != "" {
		if seed, err = consent.ParseAddress(text); err != nil {
			return usageError{err}
		}
	}
	if g.relay, err = relay.New(relay.Config{
		Hostname:        cfg.Hostname,
		Listen:          cfg.SMTP.Listen,
		ListenTLS:       cfg.SMTP.ListenTLS,
		ListenLMTP:      cfg.SMTP.ListenLMTP,
		TLSCert:         cfg.SMTP.TLSCert,
		TLSKey:          cfg.SMTP.TLSKey,
		ProxyFrom:       cfg.SMTP.ProxyProtocolFrom,
		MaxMessageBytes: cfg.SMTP.MaxMessageBytes,
		MaxRecipients:   cfg.SMTP.MaxRecipients,
		MaxConnections:  cfg.SMTP.MaxConnections,
		IdleTimeout:     cfg.SMTP.IdleTimeout,
		BaseURL:         cfg.Unsubscribe.BaseURL,
		KeepCopiesFor:   seed,
		CopiesDir:       copiesDir(cfg),
		GuardURL:        guardURL(cfg),
		Hits:            hits,
		MailTo:          cfg.Unsubscribe.MailTo,
		Chain:           cfg.Unsubscribe.Chain,
		Unsubscribed:    g.calls.Unsubscribed,
		Copied:          tellCopies(cfg, g.calls),
		FullAddresses:   cfg.Log.Addresses == "full",
		Log:             g.log,
		Metrics:         g.seen.counted,
		Now:             time.Now,
		Mode:            relay.Mode(cfg.Delivery.Mode),
		MaxDeliveries:   cfg.Smarthost.MaxConnections,
		Settings:        set,
	}, g.store, links, next, waiting); err != nil {
		return bindError(smtpKey(cfg, err), err)
	}
	control := http.NewServeMux()
	control.Handle("/", web.NewAdmin(web.AdminConfig{Store: g.store, Imports: store, Source: consent.FromCLI, Log: g.log, FullAddresses: cfg.Log.Addresses == "full", Now: time.Now, Forget: forget}))
	control.Handle("POST /v1/migrate", g.mover)
	control.Handle("GET "+heldPath, serveHeld(g.mover.store))
	control.Handle("/v1/queue", g.relay.QueueAPI())
	control.Handle("/v1/queue/", g.relay.QueueAPI())
	for _, s := range g.servers {
		if s.what == "control" {
			s.http.Handler = control
		}
	}
	return nil
}

// sendLetter sends a mail that the page wrote, from the domain that mail is signed for.
func (g *gateway) sendLetter(ctx context.Context, l web.Letter) error {
	domain := g.cfg.DKIM.Domain
	if domain == "" {
		domain = g.cfg.Hostname
	}
	return g.relay.SendLetter(ctx, relay.Letter{
		To: l.To, FromName: g.cfg.Unsubscribe.Company, From: "no-reply@" + domain,
		Subject: l.Subject, Text: l.Text, Language: l.Language, Scope: l.Scope,
	})
}

// smtpKey is the key of the listener that err is about.
func smtpKey(cfg *config.Config, err error) string {
	for _, l := range listeners(cfg) {
		if err != nil && strings.HasPrefix(err.Error(), "listen on "+l.address+": ") {
			return l.key
		}
	}
	return "smtp.listen"
}

// openControl binds the control socket before the store is opened, so that a second gateway on
// the same folder is told so in these words. A machine without a place for the socket, such as
// a sidecar with a read-only disk, runs without one.
func (g *gateway) openControl() error {
	path := controlPath(g.cfg)
	l, err := listenControl(path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		g.log.Warn("no control socket: consentgate consent cannot speak to this gateway", "path", path, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	g.serve("control", l, nil) // its handler needs the store
	return nil
}

func (g *gateway) listen(what, address string, h http.Handler) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return bindError(what+".listen", err)
	}
	g.serve(what, l, h)
	return nil
}

func (g *gateway) serve(what string, l net.Listener, h http.Handler) {
	g.servers = append(g.servers, &listening{what, newHTTPServer(h, g.log), netutil.LimitListener(l, maxHTTPConnections)})
	g.closers = append(g.closers, func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
}

// announce logs what serves where, and what an operator would not want to find out later.
func (g *gateway) announce(ctx context.Context) {
	version, commit := build()
	g.log.Info("consentgate starts", "version", version, "commit", commit, "hostname", g.cfg.Hostname)
	for _, note := range notes(g.cfg) {
		g.log.Warn(note)
	}
	if keys, err := dkimKeys(g.cfg); err == nil { // they could be read before
		for _, k := range keys {
			g.log.Info("copies are signed", "key", k.Name(), "by", k.By())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := g.store.Ping(ctx); err != nil {
		g.log.Warn("the consent store does not answer: until it does, marketing mail gets what consent.when_unreachable says and transactional mail leaves untracked",
			"when_unreachable", g.cfg.Consent.WhenUnreachable, "err", err)
	}
	for _, a := range g.relay.Addrs() {
		g.log.Info("listening", "for", a.Protocol, "address", a.String())
	}
	for _, s := range g.servers {
		g.log.Info("listening", "for", s.what, "address", s.Addr().String())
	}
}

// run serves until ctx is done or something fails, and returns when all has ended.
func (g *gateway) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The control socket ends last: over it people may be moved to another store, which is to know what is decided
	// until the very end.
	last, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	var (
		wg, control sync.WaitGroup
		mu          sync.Mutex
		failed      error
	)
	start := func(wg *sync.WaitGroup, ctx context.Context, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
			cancel() // one that ends by itself ends the others
		})
	}
	start(&wg, ctx, g.relay.Run)
	start(&wg, ctx, g.calls.Run)
	start(&wg, ctx, g.watch)
	for _, s := range g.servers {
		if s.what == "control" {
			start(&control, last, s.run)
		} else {
			start(&wg, ctx, s.run)
		}
	}
	wg.Go(func() { g.retain(ctx) })
	told := manager{g.log}
	wg.Go(func() { told.watch(ctx, g.relay.Alive) })
	g.log.Info("consentgate is ready")
	told.tell(daemon.SdNotifyReady, "STATUS=Takes mail.")
	<-ctx.Done()
	g.log.Info("consentgate stops: what is under way ends first")
	told.tell(daemon.SdNotifyStopping, "STATUS=Takes no more mail; what is under way ends first.")
	wg.Wait()
	g.mover.handOver()
	done()
	control.Wait()
	g.log.Info("consentgate has stopped")
	return failed
}

// retainEvery is how often history that is over its time is looked for.
const retainEvery = 24 * time.Hour

// retain deletes history that is over consent.history_retention and proves nothing in force, until ctx
// is done. The first time comes soon, so that a gateway that is often restarted does it too.
func (g *gateway) retain(ctx context.Context) {
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		n, err := g.store.Purge(ctx, time.Now().Add(-g.cfg.Consent.HistoryRetention))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.log.Warn("history that is over its time could not be deleted; it is tried again", "deleted", n, "err", err)
			timer.Reset(time.Hour)
			continue
		case n > 0:
			g.log.Info("history over its time was deleted", "events", n)
		}
		timer.Reset(retainEvery)
	}
}

// run serves until ctx is done; requests under way then have stopTime to end.
func (s *listening) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			failed <- s.http.ServeTLS(s.Listener, "", "")
		} else {
			failed <- s.http.Serve(s.Listener)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("%s: %w", s.what, err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := s.http.Shutdown(limit); err != nil {
		s.http.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	return nil
}

// close closes what open opened, the last one first.
func (g *gateway) close() error {
	var err error
	for i := len(g.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, g.closers[i]())
	}
	return err
}

// belowBase lets h, which knows paths from the root, serve the page below the path of the
// public address as well. A proxy in front may have taken that path off, or not.
func belowBase(base string, h http.Handler) http.Handler {
	u, err := url.Parse(base)
	if err != nil || u.Path == "" {
		return h
	}
	below := http.StripPrefix(u.Path, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, u.Path+"/") {
			below.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// besides lets the guard serve its own paths, from the root or below its public address base, and page all
// others. The host that is asked for makes no difference: a proxy in front may give another name.
func besides(page http.Handler, base string, hits http.Handler) http.Handler {
	below := belowBase(base, hits)
	u, err := url.Parse(base)
	if err != nil { // the configuration was checked
		return page
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, relay.GuardPath) || strings.HasPrefix(r.URL.Path, u.Path+relay.GuardPath) {
			below.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}

// bindError says what to do about an address that cannot be listened on.
func bindError(key string, err error) error {
	var syscallErr *os.SyscallError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relay.ErrNotHandedOver):
		return usageError{err}
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: stop the program that holds it, or change %s", err, key)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: a port below 1024 needs CAP_NET_BIND_SERVICE, or change %s", err, key)
	case errors.As(err, &syscallErr):
		return fmt.Errorf("%w: change %s", err, key)
	}
	return err
}
