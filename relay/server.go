package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
)

// Server is the relay. It takes no mail before Run.
type Server struct {
	cfg    Config
	store  consent.Store
	links  *token.Sealer
	signer *sign.Signer
	next   *smarthost.Client
	spool  *spool.Spool // nil in mode stateless
	queue  *queue       // with it
	log    journal

	listeners []net.Listener
	pool      *pool
	smtp      *smtp.Server

	drainTime  time.Duration
	settleTime time.Duration
	tempFile   func() (*os.File, error)
	sequence   atomic.Uint32
	stats      counters

	// sending ends when what is under way is given up, at the end of the draining time.
	sending context.Context
	abandon context.CancelFunc

	mu       sync.Mutex
	closed   bool
	underWay sync.WaitGroup // calls of Data, and what goes on behind them
}

// New checks cfg and binds its listeners, so that a port that is taken is an error here. Without
// a signer copies are not signed; without a spool there is only mode stateless. Store, sealer, signer,
// smarthost and spool stay the caller's to close.
func New(cfg Config, store consent.Store, links *token.Sealer, signer *sign.Signer, next *smarthost.Client, waiting *spool.Spool) (*Server, error) {
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
		cfg: cfg, store: store, links: links, signer: signer, next: next, spool: waiting,
		log:        journal{cfg.Log, cfg.FullAddresses},
		pool:       &pool{max: cfg.MaxConnections, idleTimeout: cfg.IdleTimeout, hostname: cfg.Hostname, conns: map[*conn]struct{}{}},
		drainTime:  drainTime,
		settleTime: settleTime,
		tempFile:   func() (*os.File, error) { return unlinkedTemp(cfg.TempDir) },
	}
	var seed [4]byte
	rand.Read(seed[:]) // never fails
	s.sequence.Store(binary.BigEndian.Uint32(seed[:]))
	s.sending, s.abandon = context.WithCancel(context.Background())

	if waiting != nil {
		s.queue = newQueue(s, waiting)
	}

	s.smtp = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.smtp.Domain = cfg.Hostname
	s.smtp.ErrorLog = s.log
	s.smtp.MaxLineLength = maxLine
	// By DATA, go-smtp takes one byte less than what it announces, by BDAT all.
	s.smtp.MaxMessageBytes = cfg.MaxMessageBytes
	s.smtp.MaxRecipients = cfg.MaxRecipients
	if cfg.Mode == Stateless {
		s.smtp.MaxRecipients = 1 // the smarthost's answer is one recipient's
	}
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.EnableDSN = true
	// ReadTimeout and WriteTimeout stay 0: go-smtp sets them once a command, conn each time.

	for _, address := range cfg.Listen {
		l, err := listen(address)
		if err != nil {
			s.closeListeners()
			return nil, err
		}
		s.listeners = append(s.listeners, &gate{l, s.pool})
	}
	return s, nil
}

// Addrs returns what is listened on, in the order of Config.Listen.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Run serves until ctx is done. Then no new transaction begins (421), those under way end, and
// after 30 s at most all is closed. It returns nil then, and an error where serving fails by
// itself. It is called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.abandon()
	failed := make(chan error, len(s.listeners))
	var serving sync.WaitGroup
	for _, l := range s.listeners {
		serving.Go(func() {
			if err := s.smtp.Serve(l); err != nil {
				failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		})
	}
	queueing, stopQueue := context.WithCancel(ctx)
	defer stopQueue()
	if s.queue != nil {
		serving.Go(func() { s.queue.run(queueing, s.sending) })
	}
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
	s.smtp.Shutdown(limit) // its error is the end of limit, or that of closing a listener
	s.closeListeners()     // one that Serve had not come to yet is not closed by Shutdown
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	// What is left has had its time. (go-smtp's own Close does nothing after Shutdown.)
	s.abandon()
	s.pool.closeAll()
	s.underWay.Wait()
	serving.Wait()
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
}

// listen binds "host:port" or "unix:/path". The socket file of a process that died is replaced.
func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && isStale(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// isStale reports whether path is a socket that nobody listens on.
func isStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
