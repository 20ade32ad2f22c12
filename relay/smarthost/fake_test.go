package smarthost

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a next hop that says what the test wants. reply gets the number of the connection
// (from 1) and the line that came in ("" for the greeting, "." for the end of the data) and
// returns the answer; hangUp closes the connection, silence says nothing.
type fake struct {
	t     *testing.T
	l     net.Listener
	tls   *tls.Config // for STARTTLS
	once  bool        // close behind each message
	deaf  bool        // read nothing behind DATA
	lax   bool        // take DATA without a recipient
	reply func(conn int, line string) string

	mu       sync.Mutex
	conns    int
	replies  int
	lines    []string
	messages []string
	wg       sync.WaitGroup
	end      chan bool // closed with the test
}

const (
	hangUp  = "\x00hang up"
	silence = "\x00silence"
)

// agreeable answers as a next hop with all extensions that takes everything.
func agreeable(_ int, line string) string {
	verb, _, _ := strings.Cut(line, " ")
	switch verb {
	case "":
		return "220 sink.example.org ESMTP"
	case "EHLO", "LHLO":
		return "250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN"
	case "DATA":
		return "354 go on"
	case ".":
		return "250 2.0.0 taken as 42"
	case "QUIT":
		return "221 2.0.0 bye"
	case "STARTTLS":
		return "220 2.0.0 go on"
	}
	return "250 2.1.0 ok"
}

func newFake(t *testing.T, reply func(conn int, line string) string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveFake(t, l, reply)
}

func serveFake(t *testing.T, l net.Listener, reply func(conn int, line string) string) *fake {
	f := &fake{t: t, l: l, reply: reply, end: make(chan bool)}
	var open sync.Map
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns++
			n := f.conns
			f.mu.Unlock()
			open.Store(c, true)
			f.wg.Go(func() {
				f.serve(n, c)
				c.Close()
				open.Delete(c)
			})
		}
	})
	t.Cleanup(func() {
		close(f.end)
		l.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		f.wg.Wait()
	})
	return f
}

func (f *fake) serve(n int, c net.Conn) {
	said, refused := "", false
	say := func(line string) bool {
		said = f.reply(n, line)
		f.mu.Lock()
		f.replies++ // so that one reply comes behind another for the race detector, too
		f.mu.Unlock()
		switch verb, _, _ := strings.Cut(line, " "); {
		case verb == "EHLO" && !pipelining:
			said = strings.ReplaceAll(said, "250-PIPELINING\r\n", "")
		case verb == "MAIL", verb == "RCPT":
			refused = verb == "RCPT" && refused || said[0] >= '4'
		case verb == "DATA" && refused && !f.lax:
			said = "554 5.5.1 no valid recipients"
		}
		switch a := said; a {
		case hangUp:
			return false
		case silence:
			io.Copy(io.Discard, c)
			return false
		default:
			_, err := io.WriteString(c, a+"\r\n")
			return err == nil
		}
	}
	if !say("") {
		return
	}
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		if !say(line) {
			return
		}
		switch line {
		case "STARTTLS":
			secure := tls.Server(c, f.tls)
			if secure.Handshake() != nil {
				return
			}
			c, r = secure, bufio.NewReader(secure)
		case "DATA":
			if !strings.HasPrefix(said, "354") {
				continue
			}
			if f.deaf {
				<-f.end
				return
			}
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			f.mu.Lock()
			f.messages = append(f.messages, b.String())
			f.mu.Unlock()
			if !say(".") || f.once {
				return
			}
		case "QUIT":
			return
		}
	}
}

func (f *fake) url(scheme string) string { return scheme + "://" + f.l.Addr().String() }

// seen returns what came in: connections, command lines, messages.
func (f *fake) seen() (int, []string, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns, append([]string(nil), f.lines...), append([]string(nil), f.messages...)
}

// certificate makes a self-signed one for 127.0.0.1, or as change has it, and the pool that
// trusts it.
func certificate(t *testing.T, change func(*x509.Certificate)) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}
