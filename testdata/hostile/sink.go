package main

import (
	"io"
	"net"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"
)

// sink is a smarthost that takes everything and keeps, of each message, only who it was for and its
// first unsubscribe link.
type sink struct {
	server *smtp.Server
	l      net.Listener

	mu    sync.Mutex
	got   map[string]int // by recipient
	links map[string]string
}

func startSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{l: l, got: map[string]int{}, links: map[string]string{}}
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	s.server.Domain = "sink.example.org"
	s.server.MaxLineLength = 1 << 20
	go s.server.Serve(l)
	return s, nil
}

func (s *sink) addr() string { return s.l.Addr().String() }
func (s *sink) close()       { s.server.Close() }

// count is how many messages came for a recipient.
func (s *sink) count(to string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[to]
}

// link is the token of the unsubscribe link in a message to that recipient.
func (s *sink) link(to string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links[to]
}

type sinkSession struct {
	sink *sink
	to   []string
}

func (s *sinkSession) Reset()                               { s.to = nil }
func (s *sinkSession) Logout() error                        { return nil }
func (s *sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	head := make([]byte, 16<<10)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	const begin = "<https://mail.example.org/u/"
	_, link, _ := strings.Cut(string(head[:n]), begin)
	link, _, _ = strings.Cut(link, ">")
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for _, to := range s.to {
		s.sink.got[to]++
		s.sink.links[to] = link
	}
	return nil
}
