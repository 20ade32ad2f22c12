package demo

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// sink is a smarthost that accepts all mail and keeps it.
type sink struct {
	server   *smtp.Server
	listener net.Listener
	ended    chan error

	mu   sync.Mutex
	kept []received
}

// received is one message as it came, with the answer that it got.
type received struct {
	to     []string
	raw    []byte
	answer string // "250 2.0.0 …"
}

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("smarthost: %w", err)
	}
	s := &sink{listener: l, ended: make(chan error, 1)}
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	s.server.Domain = "smarthost.example.org"
	s.server.MaxLineLength = 128 << 10 // it cuts DATA as well
	s.server.ReadTimeout = time.Minute
	s.server.WriteTimeout = time.Minute
	s.server.ErrorLog = log.New(io.Discard, "", 0) // what matters shows in the answers
	go func() { s.ended <- s.server.Serve(l) }()
	return s, nil
}

func (s *sink) address() string { return s.listener.Addr().String() }

// take returns what came since the last call.
func (s *sink) take() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept
	s.kept = nil
	return kept
}

func (s *sink) close() error {
	err := s.server.Close()
	s.listener.Close() // Serve may not have come to it yet; a second Close says nothing new
	<-s.ended
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

type sinkSession struct {
	sink *sink
	to   []string
}

func (s *sinkSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	text := fmt.Sprintf("kept as copy %d", len(s.sink.kept)+1)
	s.sink.kept = append(s.sink.kept, received{to: s.to, raw: raw, answer: "250 2.0.0 " + text})
	// An "error" of code 250 is how go-smtp lets a backend word its own success.
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: text}
}

func (s *sinkSession) Reset()        { s.to = nil }
func (s *sinkSession) Logout() error { return nil }
