package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
)

// machineCertificate is one for all machines, since making it takes longer than a script.
var machineCertificate = func() func(t *testing.T) (certFile, keyFile string) {
	var once sync.Once
	var cert, key []byte
	return func(t *testing.T) (certFile, keyFile string) {
		dir := t.TempDir()
		certFile, keyFile = dir+"/cert.pem", dir+"/key.pem"
		once.Do(func() {
			c, k := writeCertificate(t, dir, "gate.example.org")
			cert, _ = os.ReadFile(c)
			key, _ = os.ReadFile(k)
		})
		if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
			t.Fatal(err)
		}
		return certFile, keyFile
	}
}()

// startTLS says STARTTLS, RFC 3207. Variant 0 goes on with the handshake; 1 has a command behind it in plain text,
// as somebody in the middle puts one there; 2 has no handshake follow.
func (m *machine) startTLS(variant int) {
	m.flush()
	if m.conn == nil {
		return
	}
	m.body = ""
	line := "STARTTLS\r\n"
	if variant == 1 {
		line += "NOOP\r\n"
	}
	m.send([]byte(line))
	code, ok := m.reply("STARTTLS")
	if !ok {
		return
	}
	switch {
	case (code == 421 || code == 500) && m.over: // too many errors, among others
		return
	case code == 421 && m.talks():
		m.over = true
		return
	case !m.closed, m.secure:
		if code != 454 && code != 502 && code != 503 && !m.over {
			m.fatalf("%d to a STARTTLS that is not offered", code)
		}
	case code == 220:
		m.upgrade(variant)
		return
	case m.greeted && !m.chunked && !m.broken || code != 502 && code != 503 && !(m.broken && code == 421):
		m.fatalf("%d to STARTTLS", code)
	}
	if variant == 1 {
		if code, ok := m.reply("NOOP"); ok && code != 250 && !m.over && !m.talks() {
			m.fatalf("%d to NOOP behind a STARTTLS that is not offered", code)
		}
	}
}

// upgrade is what follows the 220.
func (m *machine) upgrade(variant int) {
	switch variant {
	case 0:
		above := tls.Client(m.tcp, &tls.Config{InsecureSkipVerify: true})
		if err := above.Handshake(); err != nil {
			m.fatalf("handshake: %v", err)
		}
		m.conn, m.r = above, bufio.NewReader(above)
		// All that was said before is forgotten, RFC 3207 section 4.2.
		m.secure, m.greeted, m.known, m.tx, m.chunked, m.broken, m.errors = true, false, false, nil, false, false, 0
		return
	case 2:
		m.send([]byte("EHLO client.example.org\r\n"))
		m.tcp.CloseWrite()
	}
	m.over = true
	rest, err := io.ReadAll(m.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		m.fatalf("the connection does not end behind a STARTTLS without a handshake")
	}
	if bytes.Contains(rest, []byte("\r\n")) { // an alert is none
		m.fatalf("what stood behind STARTTLS in plain text is answered: %q", rest)
	}
	m.forget()
}

// endWriting ends the client's side.
func (m *machine) endWriting() {
	if above, ok := m.conn.(*tls.Conn); ok {
		above.CloseWrite()
	}
	m.tcp.CloseWrite()
}

// auth says AUTH, RFC 4954: variant 0 PLAIN, 1 with a wrong password, 2 LOGIN, 3 PLAIN that is broken off, 4 a
// mechanism that nobody offers.
func (m *machine) auth(variant int) {
	m.flush()
	if m.conn == nil {
		return
	}
	m.body = ""
	coded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	line := []string{"AUTH PLAIN " + coded("\x00free\x00secret"), "AUTH PLAIN " + coded("\x00shop\x00wrong"), "AUTH LOGIN", "AUTH PLAIN", "AUTH XYZZY"}[variant]
	m.send([]byte(line + "\r\n"))
	code, ok := m.reply(line)
	for _, more := range map[int][]string{2: {coded("shop"), coded("secret")}, 3: {"*"}}[variant] {
		if ok && code == 334 {
			m.send([]byte(more + "\r\n"))
			code, ok = m.reply(line)
		}
	}
	if !ok || m.over {
		return
	}
	fits := m.closed && m.secure && m.greeted && !m.known && m.tx == nil && !m.chunked && !m.broken
	switch {
	case code == 421 && m.talks():
		m.over = true
	case code == 454 && variant == 1: // too many were wrong
	case fits && variant == 1 && code == 535:
		m.mistaken = true
		if m.wrong++; m.wrong >= maxFailures {
			m.over = true
		}
	case fits && (variant == 0 || variant == 2) && (code == 235 || code == 454 && m.mistaken):
		m.known, m.shop = code == 235, variant == 2
	case fits && variant == 3 && code == 501, fits && variant == 4 && code == 504:
	case !fits && (code == 502 || code == 503 || code == 504 || code == 523 || code == 421 && m.broken):
	default:
		m.fatalf("%d to %q; greeted %v, TLS %v, login %v, transaction %v", code, line, m.greeted, m.secure, m.known, m.tx != nil)
	}
}

// logIn says all that it takes to send mail.
func (m *machine) logIn() {
	if !m.greeted {
		m.hello()
	}
	if m.flush(); m.conn != nil && !m.secure {
		m.startTLS(0)
		if m.conn == nil {
			return
		}
		m.hello()
	}
	m.auth(0)
}
