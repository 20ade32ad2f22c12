package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a smarthost that keeps what it gets. Some recipients are answered otherwise.
type sink struct {
	server *smtp.Server
	change func(*smtp.Server)
	addr   string
	away   func()

	mu       sync.Mutex
	messages []delivered
	allowed  map[string]bool // who is not answered otherwise any more
	onData   func()          // called behind the dot, before the answer
}

func (k *sink) disallow(to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.allowed, to)
}

// allow lets a recipient through that was answered otherwise so far.
func (k *sink) allow(to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.allowed == nil {
		k.allowed = map[string]bool{}
	}
	k.allowed[to] = true
}

type delivered struct {
	from, to string
	mail     smtp.MailOptions
	rcpt     smtp.RcptOptions
	text     string
}

type sinkSession struct {
	sink *sink
	got  delivered
}

func newSink(t *testing.T, change func(*smtp.Server)) *sink {
	t.Helper()
	k := &sink{}
	k.change = change
	k.serve(t, "127.0.0.1:0")
	return k
}

// serve listens; also once more, where the one before was closed.
func (k *sink) serve(t *testing.T, addr string) {
	t.Helper()
	k.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: k}, nil }))
	k.server.Domain = "sink.example.org"
	k.server.EnableDSN, k.server.EnableSMTPUTF8 = true, true
	k.server.MaxLineLength = 1 << 20
	if k.change != nil {
		k.change(k.server)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	k.addr = l.Addr().String()
	server, served := k.server, make(chan struct{})
	go func() {
		server.Serve(l)
		close(served)
	}()
	k.away = func() {
		server.Close()
		l.Close()
		<-served
	}
	t.Cleanup(k.away)
}

func (s *sinkSession) Mail(from string, opts *smtp.MailOptions) error {
	s.got = delivered{from: from, mail: *opts}
	return nil
}

func (s *sinkSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	s.got.to, s.got.rcpt = to, *opts
	s.sink.mu.Lock()
	allowed := s.sink.allowed[to]
	s.sink.mu.Unlock()
	if allowed {
		return nil
	}
	switch local, _, _ := strings.Cut(to, "@"); local {
	case "nobody":
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<" + to + "> no such user"}
	case "later":
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "greylisted"}
	}
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if f := s.sink.onData; f != nil {
		f()
	}
	switch local, _, _ := strings.Cut(s.got.to, "@"); local {
	case "spam":
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "5.7.1 first line\n5.7.1 second line\nthird line"}
	case "leaving":
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "leaving"}
	}
	s.got.text = string(text)
	s.sink.mu.Lock()
	s.sink.messages = append(s.sink.messages, s.got)
	s.sink.mu.Unlock()
	return nil
}

func (s *sinkSession) Reset()        {}
func (s *sinkSession) Logout() error { return nil }

func (k *sink) got() []delivered {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]delivered(nil), k.messages...)
}

// last returns the message that came last.
func (k *sink) last(t *testing.T) delivered {
	t.Helper()
	all := k.got()
	if len(all) == 0 {
		t.Fatal("the smarthost got nothing")
	}
	return all[len(all)-1]
}

// fixedStore knows some people by the local part of their addresses, the same in all scopes but
// where the scope is "other", in which nobody ever said anything.
type fixedStore struct {
	consent.Store // the rest is not called

	mu      sync.Mutex
	lookups int
	err     error         // of every lookup
	block   chan struct{} // not nil: lookups wait for their context
	short   bool          // answers with too few results
	said    map[string]consent.Record
	applied []consent.Change
}

// fail makes every lookup fail from now on, or none.
func (s *fixedStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// set says what a person decided, by the local part.
func (s *fixedStore) set(local string, tracked, mail consent.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == nil {
		s.said = map[string]consent.Record{}
	}
	var r consent.Record
	r.Mail.State, r.Open.State, r.Click.State = mail, tracked, tracked
	s.said[local] = r
}

var errStoreDown = fmt.Errorf("%w: dial 10.9.8.7:6379: refused", consent.ErrUnreachable)

func (s *fixedStore) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	s.mu.Lock()
	s.lookups++
	err, short := s.err, s.short
	s.mu.Unlock()
	if s.block != nil {
		<-ctx.Done()
		err = ctx.Err()
	}
	results := make([]consent.Result, len(people))
	for i, who := range people {
		r := &results[i]
		r.Scope.Scope, r.Any.Scope = scope, consent.AnyScope
		if r.Err = err; err != nil || scope == "other" {
			continue
		}
		local, _, _ := strings.Cut(who.String(), "@")
		s.mu.Lock()
		said, ok := s.said[local]
		s.mu.Unlock()
		if ok {
			r.Scope = said
			continue
		}
		switch local {
		case "both":
			r.Scope.Open.State, r.Scope.Click.State = consent.Granted, consent.Granted
		case "gone":
			r.Scope.Mail.State = consent.Unsubscribed
		case "bug":
			panic("a bug that knows " + who.String())
		case "shard":
			r.Err = errStoreDown
		}
	}
	if short {
		return nil, nil
	}
	return results, err
}

func (s *fixedStore) Apply(_ context.Context, changes []consent.Change) ([]consent.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return make([]consent.Result, len(changes)), s.err
	}
	s.applied = append(s.applied, changes...)
	return make([]consent.Result, len(changes)), nil
}

// changes returns what was applied since it was last asked.
func (s *fixedStore) changes() []consent.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := s.applied
	s.applied = nil
	return changes
}
func (s *fixedStore) Ping(context.Context) error     { return nil }
func (s *fixedStore) Writable(context.Context) error { return nil }
func (s *fixedStore) Close() error                   { return nil }

// testbed is a relay between a client and a sink.
type testbed struct {
	*Server
	t     *testing.T
	sink  *sink
	store *fixedStore
	ring  *keyring.Ring
	next  *smarthost.Client
	spool *spool.Spool
	dir   string // of the spool
	log   *lockedBuffer
	stop  context.CancelFunc
	done  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a relay. change may set its configuration and what belongs to it, before it is made.
func start(t *testing.T, change func(*Config, *testbed)) *testbed {
	t.Helper()
	b := prepare(t, change)
	b.run()
	return b
}

// run runs what prepare made until the test ends, or stop.
func (b *testbed) run() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop, b.done = cancel, make(chan error, 1)
	go func() { b.done <- b.Run(ctx) }()
	b.t.Cleanup(b.halt)
}

// halt stops what runs, in good order. A second call does nothing.
func (b *testbed) halt() {
	b.stop()
	select {
	case err := <-b.done:
		if err != nil {
			b.t.Errorf("Run: %v", err)
		}
		b.done <- nil
	case <-time.After(20 * time.Second):
		b.t.Error("Run does not end")
	}
}

func prepare(t *testing.T, change func(*Config, *testbed)) *testbed {
	t.Helper()
	b := &testbed{t: t, store: &fixedStore{}, ring: keyring.Ephemeral(), log: &lockedBuffer{}}
	cfg := Config{
		Hostname: "gate.example.org",
		Listen:   []string{"127.0.0.1:0"},
		BaseURL:  "https://mail.example.org",
		TempDir:  t.TempDir(),
		Log:      slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:      func() time.Time { return time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC) },
		Settings: Settings{
			AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			KnownScopes:   []consent.Scope{"news.example.org", "other"},
			Policy:        consent.Policy{WhenUnreachable: consent.Defer},
		},
	}
	if change != nil {
		change(&cfg, b)
	}
	if b.sink == nil {
		b.sink = newSink(t, nil)
	}
	if b.next == nil {
		b.next = newNext(t, b.sink.addr)
	}
	var err error
	if b.Server, err = New(cfg, b.store, token.New(b.ring), b.next, b.spool); err != nil {
		t.Fatal(err)
	}
	return b
}

func newNext(t *testing.T, addr string) *smarthost.Client {
	t.Helper()
	c, err := smarthost.New(smarthost.Config{URLs: []string{"smtp://" + addr}, Hostname: "gate.example.org", ConnectTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// client speaks SMTP line by line.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// dial connects to the first listener and does not read the greeting.
func (b *testbed) dial() *client {
	b.t.Helper()
	return b.dialTo("smtp")
}

// dialTo connects to the first listener for a protocol.
func (b *testbed) dialTo(protocol string) *client {
	b.t.Helper()
	i := slices.IndexFunc(b.Addrs(), func(a Addr) bool { return a.Protocol == protocol })
	if i < 0 {
		b.t.Fatalf("nothing listens for %s", protocol)
	}
	a := b.Addrs()[i]
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{b.t, c, bufio.NewReader(c)}
}

// hello connects and says EHLO.
func (b *testbed) hello() *client {
	b.t.Helper()
	c := b.dial()
	c.expect("220")
	c.say("EHLO client.example.org")
	c.expect("250")
	return c
}

// handshake begins TLS on the connection.
func (c *client) handshake() {
	c.t.Helper()
	c.r = nil
	secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}) // who the server is has a test of its own
	if err := secure.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.Conn, c.r = secure, bufio.NewReader(secure)
}

// ways are all ways in, up to behind EHLO.
var ways = map[string]func(b *testbed) *client{
	"plain": (*testbed).hello,
	"STARTTLS": func(b *testbed) *client {
		c := b.hello()
		c.say("STARTTLS")
		c.expect("220 2.0.0")
		c.handshake()
		c.say("EHLO client.example.org")
		c.expect("250")
		return c
	},
	"implicit TLS": func(b *testbed) *client {
		c := b.dialTo("smtps")
		c.handshake()
		c.expect("220")
		c.say("EHLO client.example.org")
		c.expect("250")
		return c
	},
	"LMTP": func(b *testbed) *client {
		c := b.dialTo("lmtp")
		c.expect("220")
		c.say("LHLO client.example.org")
		c.expect("250")
		return c
	},
}

// allWays listens for all of them.
func allWays(c *Config, b *testbed) {
	c.ListenTLS, c.ListenLMTP = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	c.TLSCert, c.TLSKey = writeCertificate(b.t, b.t.TempDir(), "gate.example.org")
}

// logins adds two, both with the password "secret".
func logins(c *Config, b *testbed) {
	allWays(c, b)
	const hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"
	c.Logins = []login.Login{
		{Name: "shop", Hash: hash, Scopes: []consent.Scope{"orders", "newsletter"}, Classes: []consent.Class{consent.Marketing}, FromDomains: []string{"example.org", "shop.example"}},
		{Name: "free", Hash: hash},
	}
}

// writeCertificate makes a self-signed one for a name, in cert.pem and key.pem.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// say sends a line.
func (c *client) say(format string, args ...any) {
	c.t.Helper()
	c.raw(fmt.Sprintf(format, args...) + "\r\n")
}

// raw sends bytes as they are. That the peer closed meanwhile is seen when the answer is read.
func (c *client) raw(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil && !errors.Is(err, net.ErrClosed) {
		c.t.Logf("write: %v", err)
	}
}

// reply reads a reply of one or more lines; the error is io.EOF where the connection ended.
func (c *client) reply() (string, error) {
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(lines, "\n"), err
		}
		line = strings.TrimSuffix(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

// expect reads a reply that begins like that and returns it.
func (c *client) expect(prefix string) string {
	c.t.Helper()
	got, err := c.reply()
	if err != nil || !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %q, %v; want %q", got, err, prefix)
	}
	return got
}

func (c *client) expectEnd() {
	c.t.Helper()
	if got, err := c.reply(); err == nil || got != "" {
		c.t.Fatalf("got %q, want the end of the connection", got)
	}
}

// envelope says MAIL and RCPT.
func (c *client) envelope(to string) {
	c.t.Helper()
	c.say("MAIL FROM:<news@example.org>")
	c.expect("250")
	c.say("RCPT TO:<%s>", to)
	c.expect("250")
}

// send sends a message to one recipient and returns the answer.
func (c *client) send(to, message string) string {
	c.t.Helper()
	c.envelope(to)
	c.say("DATA")
	c.expect("354")
	c.raw(strings.ReplaceAll(message, "\r\n.", "\r\n..") + "\r\n.\r\n")
	got, err := c.reply()
	if err != nil {
		c.t.Fatalf("answer to the message: %q, %v", got, err)
	}
	return got
}

const newsletter = "From: News <news@example.org>\r\nTo: joe@example.com\r\nSubject: hello\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: text/html; charset=utf-8\r\n\r\n" +
	"<html><body><p>Hello!</p><img src=\"https://t.example.net/open.gif\" width=\"1\" height=\"1\"></body></html>"

// header returns the header of a message, unfolded.
func header(text string) string {
	h, _, _ := strings.Cut(text, "\r\n\r\n")
	return strings.NewReplacer("\r\n\t", " ", "\r\n ", " ").Replace(h) + "\r\n"
}
