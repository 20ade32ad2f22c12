package e2e

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// sink is a smarthost that takes everything and keeps it.
type sink struct {
	addr string

	mu     sync.Mutex
	copies map[path][]byte
	twice  []path
}

// path is what tells one copy from another: the envelope, which passes unchanged.
type path struct{ from, to string }

func startSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String(), copies: map[path][]byte{}}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	server.Domain = "sink.example.org"
	server.MaxLineLength = 16 << 20
	server.MaxMessageBytes = 256 << 20
	server.EnableSMTPUTF8 = true
	server.EnableDSN = true
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("sink: %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("sink: %v", err)
		}
	})
	return s
}

// get returns the copy of an envelope, nil if none came.
func (s *sink) get(p path) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copies[p]
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.copies)
}

type sinkSession struct {
	sink *sink
	path path
}

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error { s.path.from = from; return nil }
func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error   { s.path.to = to; return nil }
func (s *sinkSession) Reset()                                      { s.path = path{} }
func (s *sinkSession) Logout() error                               { return nil }

func (s *sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if _, again := s.sink.copies[s.path]; again {
		s.sink.twice = append(s.sink.twice, s.path)
	}
	s.sink.copies[s.path] = text
	return nil
}
