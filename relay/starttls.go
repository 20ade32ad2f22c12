package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// STARTTLS, RFC 3207. go-smtp would put its TLS above conn, which could then not see any more what
// it has to look at (lostCR), and it goes on in plain text where the handshake fails. So go-smtp is
// let say its 220 and is then told that the handshake failed. Once it has nothing left of what was
// sent in plain text and asks for a command, the socket goes to another conn, with TLS below it,
// and to another server, which knows nothing of what was said before (§4.2).
type upgrade int

const (
	none      upgrade = iota
	announced         // go-smtp has said 220 and begins its handshake
	failed            // it was told that this failed, and wants to tell the peer
	waiting           // it thinks that it has, and looks for a command
	gone              // the socket is another conn's
	cut               // a command stood behind STARTTLS
)

// startTLSReply is what go-smtp says before it begins a handshake, and at no other time.
const startTLSReply = "220 2.0.0 Ready to start TLS\r\n"

var errUpgrade = errors.New("the handshake is another's")

// upgradeSaid takes what go-smtp says and reports whether the peer is not to hear it.
func (c *conn) upgradeSaid(line []byte) (swallowed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.upgrade {
	case none:
		if string(line) == startTLSReply && c.dialect != nil {
			c.upgrade = announced
		}
		return false, nil
	case failed:
		c.upgrade = waiting
		return true, nil
	case waiting:
		c.cutUpgrade() // the answer to a command that stood behind STARTTLS
	}
	return true, net.ErrClosed
}

// cutUpgrade ends a connection on which something came in plain text with STARTTLS. Somebody in the
// middle may have put it there, so that it be obeyed as if it had come under TLS. It needs c.mu.
func (c *conn) cutUpgrade() {
	c.upgrade, c.ended = cut, true
	c.pool.log.Warn("a command stood behind STARTTLS; the connection is cut", "id", c.id, "peer", c.who())
	c.raw.Close()
}

// upgrading is asked before each read and reports whether there is nothing to read here any more.
func (c *conn) upgrading() (over bool, err error) {
	c.mu.Lock()
	state := c.upgrade
	switch state {
	case announced:
		c.upgrade = failed
	case waiting:
		if len(c.ahead) > 0 {
			defer c.mu.Unlock()
			c.cutUpgrade()
			return true, net.ErrClosed
		}
		c.upgrade = gone
	}
	c.mu.Unlock()
	switch state {
	case none:
		return false, nil
	case announced:
		return true, errUpgrade
	case waiting:
		above := &conn{
			Conn: tls.Server(c.raw, c.dialect.starttls), raw: c.raw, id: c.id, since: c.since, messages: c.messages, pool: c.pool,
			idleTimeout: c.idleTimeout, local: c.local, secure: true, peer: c.peer, silent: true,
		}
		c.pool.replace(c, above)
		c.dialect.upgraded.give(above)
	}
	return true, io.EOF
}

// isUpgrading reports whether STARTTLS was said, so that nothing more may be obeyed here.
func (c *conn) isUpgrading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.upgrade != none
}

// hasGone reports whether the socket is another conn's.
func (c *conn) hasGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.upgrade == gone
}
