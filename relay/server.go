package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// Server is the relay. It takes no mail before Run.
type Server struct {
	cfg   Config
	store consent.Store
	links *token.Sealer
	next  *smarthost.Client
	spool *spool.Spool // nil in mode stateless
	queue *queue       // with it
	log   journal

	work       work
	listeners  []*gate
	pool       *pool
	smtp, lmtp *dialect
	live       atomic.Pointer[live]

	drainTime  time.Duration
	settleTime time.Duration
	tempFile   func() (*os.File, error)
	sequence   atomic.Uint32
	observed   observation
	copies     copies
	mailTo     consent.Address // of cfg.MailTo; zero = none
	attempts   attempts        // to unsubscribe by mail, in vain

	// sending ends when what is under way is given up, at the end of the draining time.
	sending context.Context
	abandon context.CancelFunc

	mu       sync.Mutex
	closed   bool
	underWay sync.WaitGroup // calls of Data, and what goes on behind them
}

// live is what Reload changes, as a whole.
type live struct {
	Settings
	desk *login.Desk
}

// settings are those of now. What handles a message keeps to one.
func (s *Server) settings() *Settings { return &s.live.Load().Settings }

// Policy is what counts now where the store says nothing of a person.
func (s *Server) Policy() consent.Policy { return s.settings().Policy }

// Reload puts other settings in force, for messages that come from now on, and for what waits in the
// spool. On an error nothing is changed.
func (s *Server) Reload(set Settings) error {
	set.fill(s.cfg.BaseURL, s.cfg.GuardURL)
	desk, err := login.New(set.Logins)
	if err != nil {
		return err
	}
	s.cfg.Metrics.Rules(append(set.Rules.Names(), rewrite.OwnRules()...))
	s.live.Store(&live{set, desk})
	return nil
}

// New checks cfg and binds its listeners, so that a port that is taken is an error here. Without
// a spool there is only mode stateless. Store, sealer, smarthost and spool stay the caller's to close.
func New(cfg Config, store consent.Store, links *token.Sealer, next *smarthost.Client, waiting *spool.Spool) (*Server, error) {
	if cfg.Mode == "" && waiting == nil {
		cfg.Mode = Stateless
	}
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if (waiting == nil) != (cfg.Mode == Stateless) {
		return nil, fmt.Errorf("mode %s and a spool, or the lack of it, do not go together", cfg.Mode)
	}
	s := &Server{
		cfg: cfg, store: store, links: links, next: next, spool: waiting, work: newWork(),
		log:        journal{cfg.Log, cfg.FullAddresses, newUnsaid(cfg.Now)},
		drainTime:  drainTime,
		settleTime: settleTime,
		copies:     copies{who: cfg.KeepCopiesFor, dir: cfg.CopiesDir},
		tempFile:   func() (*os.File, error) { return unlinkedTemp(cfg.TempDir) },
	}
	if cfg.MailTo != "" { // fill has checked it
		s.mailTo, _ = consent.ParseAddress(cfg.MailTo)
	}
	s.pool = &pool{
		max: cfg.MaxConnections, idleTimeout: cfg.IdleTimeout, hostname: cfg.Hostname, proxyFrom: cfg.ProxyFrom,
		log: s.log, replies: retold(cfg.MaxMessageBytes), conns: map[*conn]struct{}{}, newID: s.newID, metrics: cfg.Metrics,
		known: s.allowed, strangers: map[netip.Prefix]int{},
	}
	var seed [4]byte
	rand.Read(seed[:]) // never fails
	s.sequence.Store(binary.BigEndian.Uint32(seed[:]))
	s.sending, s.abandon = context.WithCancel(context.Background())

	if waiting != nil {
		s.queue = newQueue(s, waiting)
	}

	if err := s.Reload(cfg.Settings); err != nil {
		return nil, err
	}
	var secure *tls.Config
	if cfg.TLSCert != "" {
		var err error
		if secure, err = LoadTLS(cfg.TLSCert, cfg.TLSKey, cfg.Log); err != nil {
			return nil, err
		}
	}
	s.smtp, s.lmtp = s.dialect(false, secure), s.dialect(true, secure)

	for _, of := range []struct {
		protocol  string
		addresses []string
		dialect   *dialect
		implicit  *tls.Config
	}{
		{"smtp", cfg.Listen, s.smtp, nil},
		{"smtps", cfg.ListenTLS, s.smtp, secure},
		{"lmtp", cfg.ListenLMTP, s.lmtp, nil},
	} {
		for _, address := range of.addresses {
			all, err := listen(address)
			if err != nil {
				s.closeListeners()
				return nil, err
			}
			for _, l := range all {
				s.listeners = append(s.listeners, &gate{Listener: l, dialect: of.dialect, pool: s.pool, protocol: of.protocol, implicit: of.implicit})
			}
		}
	}
	return s, nil
}

// dialect makes the servers of one; secure is nil where there is no certificate.
func (s *Server) dialect(lmtp bool, secure *tls.Config) *dialect {
	server := func(tls *tls.Config) *smtp.Server {
		v := smtp.NewServer(smtp.BackendFunc(s.newSession))
		v.LMTP = lmtp
		v.Domain = s.cfg.Hostname
		v.ErrorLog = s.log
		v.MaxLineLength = maxLine
		v.MaxMessageBytes = 0 // receive counts, and retold announces it
		v.MaxRecipients = s.cfg.MaxRecipients
		if s.cfg.Mode == Stateless && !lmtp {
			v.MaxRecipients = 1 // the smarthost's answer is one recipient's
		}
		v.EnableSMTPUTF8 = true
		v.EnableDSN = true
		v.TLSConfig = tls // only so that it offers STARTTLS, see starttls.go
		// ReadTimeout and WriteTimeout stay 0: go-smtp sets them once a command, conn each time.
		return v
	}
	d := &dialect{plain: server(secure), secure: server(nil), starttls: secure, upgraded: newHandover()}
	d.secure.AllowInsecureAuth = true // the TLS is below conn, where go-smtp does not see it
	return d
}

// Addr is what is listened on, and for what: "smtp", "smtps" or "lmtp".
type Addr struct {
	net.Addr
	Protocol string
}

// Addrs returns what is listened on, in the order of Config.Listen, ListenTLS and ListenLMTP.
func (s *Server) Addrs() []Addr {
	addrs := make([]Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = Addr{l.Addr(), l.protocol}
	}
	return addrs
}

// Run serves until ctx is done. Then no new transaction begins (421), those under way end, and
// after 30 s at most all is closed. It returns nil then, and an error where serving fails by
// itself. It is called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.abandon()
	failed := make(chan error, len(s.listeners)+2)
	var serving, accepting, upgrading sync.WaitGroup
	serve := func(loop *sync.WaitGroup, server *smtp.Server, l net.Listener) {
		loop.Go(func() {
			if err := server.Serve(l); err != nil {
				failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		})
	}
	for _, l := range s.listeners {
		serve(&accepting, l.server(), l)
	}
	serve(&upgrading, s.smtp.secure, s.smtp.upgraded)
	serve(&upgrading, s.lmtp.secure, s.lmtp.upgraded)
	queueing, stopQueue := context.WithCancel(ctx)
	defer stopQueue()
	if s.queue != nil {
		serving.Go(func() { s.queue.run(queueing, s.sending) })
	}
	serving.Go(func() { s.observed.run(queueing, s.log.Logger) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopQueue()

	limit, cancel := context.WithTimeout(context.Background(), s.drainTime)
	defer cancel()
	// What still waits for the next hop is given up a little before the end, so that its sender
	// is told to try again and does not have to guess.
	answer := time.AfterFunc(s.drainTime-s.drainTime/15, s.abandon)
	defer answer.Stop()
	s.pool.drain()
	// A server is shut down once it takes no more connections: go-smtp counts one in and waits for all at
	// the same time, else. What says STARTTLS meanwhile goes from the plain ones to the others. An error
	// is the end of limit, or that of closing a listener twice.
	s.closeListeners()
	accepting.Wait()
	s.smtp.plain.Shutdown(limit)
	s.lmtp.plain.Shutdown(limit)
	s.smtp.upgraded.Close()
	s.lmtp.upgraded.Close()
	upgrading.Wait()
	s.smtp.secure.Shutdown(limit)
	s.lmtp.secure.Shutdown(limit)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	// Copies that nobody waits for are under way, too: one that is cut may be delivered all the same, and
	// leaves once more after the next start.
	ended := make(chan struct{})
	go func() {
		s.underWay.Wait()
		serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-s.sending.Done():
	}
	// What is left has had its time. (go-smtp's own Close does nothing after Shutdown.)
	s.abandon()
	s.pool.closeAll()
	<-ended
	s.observed.tell(s.log.Logger)
	return err
}

// begin counts a message in, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.underWay.Add(1)
	return true
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.smtp.upgraded.Close()
	s.lmtp.upgraded.Close()
}
