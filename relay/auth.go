package relay

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/emersion/go-sasl"

	"github.com/consentgate/consentgate/relay/login"
)

// maxFailures is how many logins may fail on a connection before it is closed.
const maxFailures = 3

// AuthMechanisms is asked for EHLO, and by go-smtp only under TLS.
func (s *session) AuthMechanisms() []string {
	if !s.server.live.Load().desk.Offered() || !s.conn.secure {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// Auth begins a login, RFC 4954 §4.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	say := func(e *Error) error { return s.server.say(s.conn, "AUTH", e) }
	switch {
	case s.AuthMechanisms() == nil:
		return nil, say(refuse(503, "5.5.1", "there is nothing to log in to", nil))
	case s.env != nil:
		return nil, say(refuse(503, "5.5.1", "not within a transaction", nil))
	case mechanism == sasl.Plain:
		return exchange{plainExchange{s.authenticate}, s}, nil
	case mechanism == sasl.Login:
		return exchange{&loginExchange{authenticate: s.authenticate}, s}, nil
	}
	return nil, say(refuse(504, "5.5.4", "this mechanism is not offered", nil))
}

// exchange answers for one of the exchanges below, whose errors are *Error.
type exchange struct {
	sasl.Server
	s *session
}

func (x exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = x.Server.Next(response)
	return challenge, done, x.s.server.say(x.s.conn, "AUTH", err)
}

// authenticate answers a login, which may take many seconds.
func (s *session) authenticate(name, password string) error {
	found, err := s.server.live.Load().desk.Check(s.server.sending, s.conn.peer, name, password)
	if err == nil {
		s.mu.Lock()
		s.login = found
		s.mu.Unlock()
		s.conn.pool.know(s.conn)
		s.server.log.Debug("logged in", "id", s.conn.id, "peer", s.conn.who(), "login", found.Name)
		return nil
	}
	e := refuse(535, "5.7.8", "wrong name or password", nil)
	if errors.Is(err, login.ErrBusy) {
		e = refuse(454, "4.7.0", "too many failed logins, try again later", err)
	}
	s.server.cfg.Metrics.LoginFailed(e.Code == 454)
	s.server.log.loginFailed(s.conn, s.server.live.Load().desk.Known(name), e)
	if s.failures++; s.failures >= maxFailures {
		s.conn.end()
	}
	return e
}

func malformed() error {
	return refuse(501, "5.5.2", "this is not what the mechanism wants", nil)
}

// plainExchange is PLAIN, RFC 4616.
type plainExchange struct {
	authenticate func(name, password string) error
}

func (p plainExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return nil, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, false, malformed()
	}
	if as := parts[0]; len(as) > 0 && !bytes.Equal(as, parts[1]) {
		return nil, false, refuse(535, "5.7.8", "nobody may log in as another", fmt.Errorf("authorization identity given"))
	}
	return nil, true, p.authenticate(string(parts[1]), string(parts[2]))
}

// loginExchange is LOGIN, which is in no RFC; old clients know nothing else. The challenges are those
// of draft-murchison-sasl-login.
type loginExchange struct {
	authenticate func(name, password string) error
	name         []byte
}

func (l *loginExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.name == nil:
		l.name = append([]byte{}, response...)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.authenticate(string(l.name), string(response))
}
