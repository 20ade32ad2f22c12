package smarthost

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
)

// kept is a connection that has said EHLO and, if asked to, logged in.
type kept struct {
	*wire
	hop        *hop
	raw        net.Conn          // what is closed to abort
	extensions map[string]string // what was offered, with its parameters; the keys in upper case
	expire     *time.Timer
	begun      bool // a transaction was left unfinished there: a second MAIL would be out of order
	used       bool // it was kept before
}

func (k *kept) offers(extension string) bool {
	_, ok := k.extensions[extension]
	return ok
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
	k := &kept{wire: newWire(raw, c.limit), hop: h, raw: raw}
	if err := c.prepare(ctx, k); err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return k, nil
}

// prepare reads the greeting, says EHLO, goes over to TLS and logs in.
func (c *Client) prepare(ctx context.Context, k *kept) error {
	local := isLoopback(k.raw.RemoteAddr())
	encrypted := k.hop.security == implicitTLS
	if encrypted {
		if err := c.handshake(ctx, k, false); err != nil {
			return err
		}
	}
	greeting, err := k.read(c.limit.greeting)
	if err == nil && greeting.code != 220 {
		err = greeting
	}
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if err := k.hello(c.cfg.Hostname); err != nil {
		return err
	}
	switch offered := k.offers("STARTTLS"); {
	case encrypted:
	case !offered && k.hop.security == startTLS:
		return errors.New("STARTTLS is not offered")
	case offered:
		a, err := k.ask(c.limit.command, "STARTTLS")
		if err == nil && a.code != 220 {
			err = a
		}
		if err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
		// Bytes that were sent ahead in clear must not count as said under TLS, RFC 3207 §4.2.
		if k.r.Buffered() > 0 {
			return errors.New("more was said than was asked for")
		}
		// What stays on this machine needs no certificate: the usual local MTA has one made
		// for no name at all. Only smtp://, which would go on in clear as well.
		if err := c.handshake(ctx, k, local && k.hop.security == opportunistic); err != nil {
			return err
		}
		encrypted = true
		if err := k.hello(c.cfg.Hostname); err != nil { // RFC 3207 §4.2: what was said before is forgotten
			return err
		}
	}
	if c.cfg.Username == "" {
		return nil
	}
	if !encrypted && !local {
		return errors.New("no TLS: the password is not sent in clear; use smtp+starttls:// or smtps://")
	}
	if err := k.login(c.cfg.Username, c.cfg.Password); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return nil
}

// hello says EHLO, or LHLO, and HELO where that is not known; it takes down what is offered.
func (k *kept) hello(hostname string) error {
	verb := "EHLO"
	if k.hop.lmtp {
		verb = "LHLO"
	}
	k.extensions = map[string]string{}
	a, err := k.ask(k.limit.command, verb+" "+hostname)
	if err == nil && !k.hop.lmtp && (a.code == 500 || a.code == 502) { // no ESMTP there
		verb = "HELO"
		a, err = k.ask(k.limit.command, verb+" "+hostname)
	}
	if err == nil && a.code != 250 {
		err = a
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	for i, line := range strings.Split(a.text, "\n") {
		if i > 0 && verb != "HELO" {
			keyword, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
			k.extensions[strings.ToUpper(keyword)] = parameters
		}
	}
	return nil
}

func (c *Client) handshake(ctx context.Context, k *kept, lax bool) error {
	cfg := &tls.Config{}
	if c.cfg.TLSConfig != nil {
		cfg = c.cfg.TLSConfig.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = k.hop.host
	}
	if lax {
		cfg.InsecureSkipVerify = true
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	k.raw.SetDeadline(time.Time{}) // those of the lines before; the handshake has its own
	secure := tls.Client(k.raw, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	k.wire = newWire(secure, c.limit)
	return nil
}

// login logs in by AUTH, RFC 4954.
func (k *kept) login(username, password string) error {
	mechanisms := strings.Fields(strings.ToUpper(k.extensions["AUTH"]))
	var mechanism sasl.Client
	switch {
	case slices.Contains(mechanisms, sasl.Plain):
		mechanism = sasl.NewPlainClient("", username, password)
	case slices.Contains(mechanisms, sasl.Login):
		mechanism = sasl.NewLoginClient(username, password)
	default:
		return errors.New("neither AUTH PLAIN nor LOGIN is offered")
	}
	name, first, err := mechanism.Start()
	if err != nil {
		return err
	}
	line := "AUTH " + name
	if first != nil {
		line += " " + base64.StdEncoding.EncodeToString(first)
	}
	for {
		a, err := k.ask(k.limit.command, line)
		switch {
		case err != nil:
			return err
		case a.code == 235:
			return nil
		case a.code != 334:
			return a
		}
		challenge, err := base64.StdEncoding.DecodeString(a.text)
		if err != nil {
			return fmt.Errorf("challenge: %w", err)
		}
		next, err := mechanism.Next(challenge)
		if err != nil {
			return err
		}
		line = base64.StdEncoding.EncodeToString(next)
	}
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
	k.used = true
	h.kept = append(h.kept, k)
	if k.expire != nil {
		k.expire.Reset(c.limit.idle) // take has stopped it
		return
	}
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
		k.limit.dataBlock = c.limit.quit
		k.ask(c.limit.quit, "QUIT") // nothing is left that could be lost
		k.raw.Close()
	})
}

// isLoopback reports whether a is on this machine.
func isLoopback(a net.Addr) bool {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.IsLoopback()
	}
	return a.Network() == "unix"
}
