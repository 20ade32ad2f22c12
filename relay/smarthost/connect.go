package smarthost

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// kept is a connection that has said EHLO and, if asked to, logged in.
type kept struct {
	hop    *hop
	client *smtp.Client
	conn   net.Conn // what is closed to abort
	expire *time.Timer
	open   bool // a transaction was left unfinished there: a second MAIL would be out of order
}

// connect opens a connection, up to the point where MAIL may follow.
func (c *Client) connect(ctx context.Context, h *hop) (*kept, error) {
	dialer := net.Dialer{Timeout: c.cfg.ConnectTimeout}
	raw, err := dialer.DialContext(ctx, h.network, h.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()

	conn := net.Conn(&deadlineConn{Conn: raw, write: c.limit.dataBlock})
	local := isLoopback(raw.RemoteAddr())
	encrypted := false
	fail := func(err error) (*kept, error) {
		raw.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}

	switch h.security {
	case implicitTLS:
		if conn, err = c.handshake(ctx, conn, h, false); err != nil {
			return fail(err)
		}
		encrypted = true
	default:
		offered, err := c.preamble(conn, h)
		if err != nil {
			return fail(err)
		}
		if offered {
			// What stays on this machine needs no certificate: the usual local MTA has one made
			// for no name at all. Only smtp://, which would go on in clear as well.
			lax := local && h.security == opportunistic
			if conn, err = c.handshake(ctx, conn, h, lax); err != nil {
				return fail(err)
			}
			encrypted = true
		}
		conn = &greetedConn{Conn: conn}
	}

	newClient := smtp.NewClient
	if h.lmtp {
		newClient = smtp.NewClientLMTP
	}
	client := newClient(conn)
	client.CommandTimeout = c.limit.greeting
	client.SubmissionTimeout = c.limit.dataEnd
	if err := client.Hello(c.cfg.Hostname); err != nil {
		return fail(err)
	}
	client.CommandTimeout = c.limit.command
	if c.cfg.Username != "" {
		if !encrypted && !local {
			return fail(errors.New("no TLS: the password is not sent in clear; use smtp+starttls:// or smtps://"))
		}
		if err := c.login(client); err != nil {
			return fail(fmt.Errorf("login: %w", err))
		}
	}
	return &kept{hop: h, client: client, conn: raw}, nil
}

// preamble reads the greeting, says EHLO and, where it is offered, STARTTLS (RFC 3207); true
// means that the TLS handshake is next.
//
// go-smtp's client cannot look before it leaps: it upgrades or it does not, and its first EHLO
// says localhost. So these three steps are done here, on one connection, and go-smtp begins
// with a greeting that greetedConn makes up.
func (c *Client) preamble(conn net.Conn, h *hop) (bool, error) {
	limited := &io.LimitedReader{R: conn, N: 64 << 10}
	br := bufio.NewReader(limited)
	text := textproto.NewReader(br)

	conn.SetReadDeadline(time.Now().Add(c.limit.greeting))
	if _, _, err := text.ReadResponse(220); err != nil {
		return false, fmt.Errorf("greeting: %w", err)
	}
	ask := func(want int, line string) (string, error) {
		conn.SetReadDeadline(time.Now().Add(c.limit.command))
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			return "", err
		}
		_, msg, err := text.ReadResponse(want)
		return msg, err
	}
	offered := false
	hello := "EHLO"
	if h.lmtp {
		hello = "LHLO"
	}
	msg, err := ask(250, hello+" "+c.cfg.Hostname)
	var refused *textproto.Error
	switch {
	case !h.lmtp && errors.As(err, &refused) && refused.Code/100 == 5: // no ESMTP there
	case err != nil:
		return false, fmt.Errorf("%s: %w", hello, err)
	default:
		for i, line := range strings.Split(msg, "\n") {
			if i > 0 && strings.EqualFold(strings.TrimSpace(line), "STARTTLS") {
				offered = true
			}
		}
	}
	if !offered && h.security == startTLS {
		return false, errors.New("STARTTLS is not offered")
	}
	if offered {
		if _, err := ask(220, "STARTTLS"); err != nil {
			return false, fmt.Errorf("STARTTLS: %w", err)
		}
	}
	// Bytes that were sent ahead in clear must not count as said under TLS, RFC 3207 §4.2.
	if br.Buffered() > 0 {
		return false, errors.New("more was said than was asked for")
	}
	conn.SetReadDeadline(time.Time{})
	return offered, nil
}

func (c *Client) handshake(ctx context.Context, conn net.Conn, h *hop, lax bool) (net.Conn, error) {
	cfg := &tls.Config{}
	if c.cfg.TLSConfig != nil {
		cfg = c.cfg.TLSConfig.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = h.host
	}
	if lax {
		cfg.InsecureSkipVerify = true
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

func (c *Client) login(client *smtp.Client) error {
	switch {
	case client.SupportsAuth(sasl.Plain):
		return client.Auth(sasl.NewPlainClient("", c.cfg.Username, c.cfg.Password))
	case client.SupportsAuth(sasl.Login):
		return client.Auth(sasl.NewLoginClient(c.cfg.Username, c.cfg.Password))
	}
	return errors.New("neither AUTH PLAIN nor LOGIN is offered")
}

// keep puts k back for the next copy, or says goodbye if the client is closed meanwhile.
func (c *Client) keep(k *kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.goodbye(k)
		return
	}
	h := k.hop
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, k)
	k.expire = time.AfterFunc(c.limit.idle, func() {
		if h.drop(k) {
			c.farewell(k)
		}
	})
}

// farewell sends QUIT in the background and closes.
func (c *Client) farewell(k *kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goodbye(k)
}

// goodbye needs c.mu, so that Close's Wait never meets an Add.
func (c *Client) goodbye(k *kept) {
	c.wg.Go(func() {
		k.client.CommandTimeout = c.limit.quit
		k.client.Quit() // nothing is left that could be lost
		k.conn.Close()
	})
}

// deadlineConn gives every Write a deadline of its own, since go-smtp sets none while the body
// is written. Reads have theirs from go-smtp, once for each reply; how much is read for one is
// bounded here, since go-smtp bounds a reply's lines but not their number.
type deadlineConn struct {
	net.Conn
	write time.Duration
	read  int // since the last Write
}

// maxReply is far more than any reply, and than a TLS handshake with a long chain of certificates.
const maxReply = 256 << 10

func (c *deadlineConn) Read(p []byte) (int, error) {
	if c.read >= maxReply {
		return 0, errors.New("the reply has no end")
	}
	n, err := c.Conn.Read(p[:min(len(p), maxReply-c.read)])
	c.read += n
	return n, err
}

func (c *deadlineConn) Write(p []byte) (int, error) {
	c.read = 0
	if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// greetedConn begins with a greeting, for a connection whose greeting was already read.
type greetedConn struct {
	net.Conn
	said int
}

const greeting = "220 smarthost\r\n"

func (c *greetedConn) Read(p []byte) (int, error) {
	if c.said < len(greeting) {
		n := copy(p, greeting[c.said:])
		c.said += n
		return n, nil
	}
	return c.Conn.Read(p)
}

// isLoopback reports whether a is on this machine.
func isLoopback(a net.Addr) bool {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.IsLoopback()
	}
	return a.Network() == "unix"
}
