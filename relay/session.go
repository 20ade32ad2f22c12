package relay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/metrics"
)

// maxLine is the longest line that is taken, in commands and in DATA: go-smtp has one limit for
// both, and HTML that some tools write on one line must pass.
const maxLine = 128 << 10

// session is the dialogue on one connection. go-smtp may run Data in another goroutine than the
// rest (BDAT), and call Reset and Logout meanwhile.
type session struct {
	server *Server
	conn   *conn
	helo   string
	lmtp   bool

	mu       sync.Mutex
	env      *envelope    // nil: no transaction
	login    *login.Login // nil: the peer has not logged in
	failures int          // failed logins
	over     *envelope    // for which Data has returned last, and not since the transfer was reset
	broken   bool         // a transfer by BDAT was reset, which may still be running
}

// envelope is what MAIL and RCPT said. A message never changes its envelope once Data began.
type envelope struct {
	id         string       // of the message to come
	login      *login.Login // who sends, nil if nobody logged in
	stranger   bool         // who may only write to the unsubscribe address
	request    bool         // the recipient is the unsubscribe address, and there is no other
	from       string       // as it goes between angle brackets; "" = the null sender
	utf8       bool         // SMTPUTF8 was asked for
	ret        smtp.DSNReturn
	envelopeID string
	rcpts      []rcpt
	seen       map[string]int // index in rcpts, by rcpt.key
}

// rcpt is one recipient.
type rcpt struct {
	index     int      // in the spool's record of the message, where it is in the spool
	raw       []string // as go-smtp handed it over, without its quotes, each time it was named
	to        string   // as it goes between angle brackets
	who       consent.Address
	notify    []smtp.DSNNotify
	orcptType smtp.DSNAddressType
	orcpt     string
}

// newSession is go-smtp's way to ask for one, at the first EHLO.
func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	own, ok := c.Conn().(*conn)
	if !ok {
		return nil, answer(internal(fmt.Errorf("connection of type %T", c.Conn()))) // which nobody made
	}
	return &session{server: s, conn: own, helo: cleanHelo(c.Hostname()), lmtp: c.Server().LMTP}, nil
}

// Mail begins a transaction, RFC 5321 §4.1.1.2.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	env, err := s.mail(from, opts)
	if err != nil {
		s.refused(s.conn.id, "MAIL", err)
		return answer(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.env = env
	s.conn.enter(transaction)
	return nil
}

func (s *session) mail(from string, opts *smtp.MailOptions) (*envelope, error) {
	if s.conn.isDraining() {
		return nil, refuse(421, "4.3.2", "shutting down, try again later", errLeaving)
	}
	s.mu.Lock()
	if s.login != nil { // it may have been taken away by Reload
		s.login = s.server.live.Load().desk.Still(s.login)
	}
	nested, who, broken := s.env != nil, s.login, s.broken
	s.mu.Unlock()
	if broken {
		s.conn.limitRest(0, false)
		s.conn.end()
		return nil, refuse(421, "4.3.2", "a transfer by BDAT was broken off on this connection, use another", errLeaving).because(metrics.RefusedSequence)
	}
	if nested { // RFC 5321 §4.1.4: go-smtp would keep the recipients of the first
		return nil, refuse(503, "5.5.1", "a transaction is under way; end it or say RSET", nil)
	}
	stranger := who == nil && !s.server.allowed(s.conn)
	if stranger && s.server.cfg.MailTo == "" {
		return nil, unauthenticated()
	}
	if opts.Size > s.server.cfg.MaxMessageBytes { // RFC 1870 §6.1
		return nil, tooLarge()
	}
	env := &envelope{id: s.conn.messageID(), login: who, stranger: stranger, utf8: opts.UTF8, ret: opts.Return, envelopeID: opts.EnvelopeID, seen: map[string]int{}}
	if from != "" {
		var err error
		// A report to the sender may have to be sent there.
		if env.from, _, err = recipient(from, opts.UTF8); err != nil {
			return nil, addressError(err, "5.1.7")
		}
	}
	return env, nil
}

func unauthenticated() error { return refuse(530, "5.7.0", "authentication required", nil) }

// allowed reports whether the peer of c may send without having logged in.
func (s *Server) allowed(c *conn) bool {
	if c.local {
		return true
	}
	for _, network := range s.settings().AllowNetworks {
		if network.Contains(c.peer) {
			return true
		}
	}
	return false
}

// addressError answers an address that cannot be used: RFC 6531 §3.5 where it needs SMTPUTF8,
// else RFC 5321 §4.1.1.3 with the given code of RFC 3463 §3.2.
func addressError(err error, enhanced string) error {
	if errors.Is(err, errUTF8) {
		return refuse(553, "5.6.7", "this address needs SMTPUTF8", err)
	}
	return refuse(501, enhanced, "this is not a mail address", err)
}

// Rcpt adds a recipient, RFC 5321 §4.1.1.3. go-smtp counts them: 452 4.5.3 for one too many.
func (s *session) Rcpt(raw string, opts *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.env == nil {
		return s.server.say(s.conn, "RCPT", refuse(503, "5.5.1", "MAIL comes first", nil))
	}
	to, who, err := recipient(raw, s.env.utf8)
	if err != nil {
		err = addressError(err, "5.1.3")
		s.refused(s.env.id, "RCPT", err)
		return answer(err)
	}
	if err := s.mayReach(s.env, who); err != nil {
		s.refused(s.env.id, "RCPT", err)
		return answer(err)
	}
	r := rcpt{
		to: to, who: who,
		notify:    slices.Clone(opts.Notify),
		orcptType: opts.OriginalRecipientType,
		orcpt:     opts.OriginalRecipient,
	}
	i, again := s.env.seen[r.key()]
	if !again {
		i = len(s.env.rcpts)
		s.env.seen[r.key()] = i
		s.env.rcpts = append(s.env.rcpts, r)
	}
	s.env.rcpts[i].raw = append(s.env.rcpts[i].raw, raw)
	return nil
}

// key is the same for recipients that make one: who is named twice gets one copy. Those whose reports
// would differ stay two.
func (r rcpt) key() string {
	at := strings.LastIndexByte(r.to, '@') + 1
	key := r.to[:at] + strings.ToLower(r.to[at:])
	if len(r.notify) > 0 || r.orcptType != "" || r.orcpt != "" {
		key += fmt.Sprintf("\x00%q %s %s", r.notify, r.orcptType, r.orcpt) // no address holds a NUL
	}
	return key
}

// Data takes the message and answers for all recipients at once.
func (s *session) Data(r io.Reader) error {
	id, outcomes, err := s.transact(r, false)
	if err != nil {
		return answer(err)
	}
	say := outcomes[0]
	for _, o := range outcomes {
		switch o.fate() {
		case done:
			return accepted(id)
		case later: // a 5yz for all would end what can still be delivered
			say = o
		}
	}
	return answer(say.err)
}

// LMTPData takes the message and answers for each recipient, RFC 2033 §4.2. What is returned
// answers for those that no status was set for.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	s.mu.Lock()
	env := s.env
	s.mu.Unlock()
	id, outcomes, err := s.transact(r, true)
	if err != nil {
		// go-smtp answers once, and not once a recipient, for a chunk that was not read.
		io.Copy(io.Discard, r)
		return answer(err)
	}
	for i, o := range outcomes {
		said := accepted(id)
		if o.err != nil {
			said = answer(o.err)
		}
		for _, raw := range env.rcpts[i].raw {
			status.SetStatus(raw, said)
		}
	}
	return nil
}

// transact takes the message of the transaction under way and says what became of it; the outcomes
// are in the order of its recipients. each says that the sender gets an answer a recipient. An
// error, which is an *Error, says that it came to no delivery.
func (s *session) transact(r io.Reader, each bool) (id string, outcomes []*outcome, err error) {
	defer func() {
		if !errors.Is(err, smtp.ErrDataReset) { // go-smtp answers by itself, or nobody is told
			s.server.refused("DATA", err)
		}
	}()
	s.mu.Lock()
	env := s.env
	s.mu.Unlock()
	if env == nil || len(env.rcpts) == 0 {
		return "", nil, refuse(503, "5.5.1", "MAIL and RCPT come first", nil)
	}
	if s.conn.isUpgrading() || !s.server.begin() {
		return "", nil, refuse(421, "4.3.2", "shutting down, try again later", errLeaving)
	}
	defer s.server.underWay.Done()
	s.conn.flush() // what was said of the envelope does not wait for the message; an error shows when it is read
	s.during(env, func() { s.conn.enter(data) })
	defer func() {
		if !errors.Is(err, smtp.ErrDataReset) {
			s.during(env, func() { s.over = env })
		}
	}()

	id = env.id
	defer s.server.caught(id, &err)
	if env.request {
		outcomes, err = s.unsubscribe(r, id, env)
		return id, outcomes, err
	}

	// By BDAT, r is a pipe. Where RSET came right behind it, this may run when a later DATA was said, and
	// would take the lines of that.
	if _, chunks := r.(*io.PipeReader); !chunks {
		if lines := s.conn.dataLines(); lines != nil {
			defer lines.close()
			r = io.MultiReader(lines, r)
		}
	}
	body, err := receive(r, s.server.cfg.MaxMessageBytes, s.server.tempFile)
	if err != nil {
		s.during(env, func() { s.conn.limitRest(s.server.cfg.MaxMessageBytes, errors.Is(err, smtp.ErrTooLongLine)) })
		return id, nil, s.reject(id, env, err)
	}
	kept := false
	defer func() {
		if !kept {
			body.Close()
		}
	}()
	m, err := s.server.read(id, env, body)
	if err != nil {
		return id, nil, s.reject(id, env, err)
	}
	m.trace = s.trace(id, env)
	s.server.log.received(m, s.conn)
	kept = true // after a panic, too: a copy that is on its way would read what is lent to another message by then
	outcomes, kept, err = s.server.submit(m, each)
	for _, o := range outcomes {
		if o.err == nil {
			s.server.cfg.Metrics.Accepted(m.class)
		}
	}
	return id, outcomes, err
}

// reject logs a message that came to no delivery, and returns err.
func (s *session) reject(id string, env *envelope, err error) error {
	s.server.log.rejected(id, s.conn, env, err)
	return err
}

// refused counts and logs a command that was not accepted. id is that of the transaction, or of the connection.
func (s *session) refused(id, command string, err error) {
	s.server.refused(command, err)
	s.server.log.refused(id, s.conn, command, err)
}

// refused counts a command, or a message, "DATA", that was not accepted; nil is one that was.
func (s *Server) refused(command string, err error) {
	var e *Error
	if errors.As(err, &e) {
		why := e.why
		if why == "" {
			why = metrics.RefusalOf(command, e.Code, e.Enhanced)
		}
		s.cfg.Metrics.Refused(command, why)
	}
}

// say answers a command, and counts and logs it where it was not accepted.
func (s *Server) say(c *conn, command string, err error) error {
	if err != nil {
		s.refused(command, err)
		c.notAccepted(command, err.Error())
	}
	return answer(err)
}

// Reset ends the transaction, if there is one. Behind chunks without a last one there is no other: what
// go-smtp does with what Data returns, whenever that is, is to take it for the answer to the message whose
// transfer it began last.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.env != nil && s.over != s.env && s.conn.isChunked() {
		s.broken = true
	}
	s.over = nil
	s.env = nil
	s.conn.enter(idle)
}

// during runs f unless the transaction of env is over: by BDAT, Data may still be running when
// RSET has already been answered.
func (s *session) during(env *envelope, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.env == env {
		f()
	}
}

// Logout is called when the connection ends.
func (s *session) Logout() error { return nil }
