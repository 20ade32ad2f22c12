package peers

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// sink is the end of the way: a mail server that keeps what it takes. A recipient whose name begins
// with "refused" is refused for good; one whose name begins with "later", the first time.
type sink struct {
	port string

	mu    sync.Mutex
	mails []mail
	later map[string]bool // who was put off already
}

// mail is one message for one recipient, as it came.
type mail struct {
	from, to string
	options  smtp.MailOptions
	rcpt     smtp.RcptOptions
	text     []byte
}

const noSuchPerson = "no such person here"

func startSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{port: port, later: map[string]bool{}}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	server.Domain = "sink.example.org"
	server.MaxLineLength = 1 << 20
	server.EnableSMTPUTF8 = true
	server.EnableDSN = true
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("sink: %v", err)
		}
	})
	return s
}

// url is that of the sink as the gateway's smarthost.
func (s *sink) url() string { return "smtp://127.0.0.1:" + s.port }

// of returns what came from one for another.
func (s *sink) of(from, to string) (found []mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mails {
		if m.from == from && m.to == to {
			found = append(found, m)
		}
	}
	return found
}

// await waits for the one mail from one for another.
func (s *sink) await(t testing.TB, from, to string) mail {
	t.Helper()
	for range every(t, 5*time.Millisecond, 20*time.Second) {
		if got := s.of(from, to); len(got) > 0 {
			if len(got) > 1 {
				t.Errorf("%d mails from <%s> to <%s>", len(got), from, to)
			}
			return got[0]
		}
	}
	t.Fatalf("no mail from <%s> to <%s> came to the end within 20 s", from, to)
	return mail{}
}

type sinkSession struct {
	sink *sink
	mail mail
	to   []mail
}

func (s *sinkSession) Mail(from string, o *smtp.MailOptions) error {
	s.mail, s.to = mail{from: from, options: *o}, nil
	return nil
}

func (s *sinkSession) Rcpt(to string, o *smtp.RcptOptions) error {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	switch {
	case strings.HasPrefix(to, "refused"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: noSuchPerson}
	case strings.HasPrefix(to, "later") && !s.sink.later[s.mail.from+to]:
		s.sink.later[s.mail.from+to] = true
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted, come again"}
	}
	m := s.mail
	m.to, m.rcpt = to, *o
	s.to = append(s.to, m)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for _, m := range s.to {
		m.text = text
		s.sink.mails = append(s.sink.mails, m)
	}
	return nil
}

func (s *sinkSession) Reset()        { s.mail, s.to = mail{}, nil }
func (s *sinkSession) Logout() error { return nil }
