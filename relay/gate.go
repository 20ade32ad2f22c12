package relay

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// dialect is SMTP or LMTP: one server for what is plain and one for what is under TLS, since
// go-smtp does not see the TLS below conn.
type dialect struct {
	plain, secure *smtp.Server
	starttls      *tls.Config // nil: there is no certificate
	upgraded      *handover   // the connections on which STARTTLS was said
}

// gate is a listener that lets a limited number of connections in, over all listeners that
// share a pool.
type gate struct {
	net.Listener
	*dialect
	pool     *pool
	protocol string                    // "smtp", "smtps" or "lmtp"
	implicit *tls.Config               // TLS from the first byte; nil = not
	busy     atomic.Pointer[time.Time] // since when what came in is dealt with; nil = the next is waited for
}

// server is the one that speaks to those that come in here.
func (g *gate) server() *smtp.Server {
	if g.implicit != nil {
		return g.secure
	}
	return g.plain
}

// Accept returns the next connection that there is room for. The others are told so, if that can be
// said without TLS.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.busy.Store(nil)
		raw, err := g.Listener.Accept()
		now := time.Now()
		g.busy.Store(&now)
		if err != nil {
			return nil, err
		}
		if c := g.connect(raw); g.pool.add(c) {
			return c, nil
		}
		if g.implicit == nil {
			// A line this short never waits for room in a fresh socket's buffer.
			raw.SetDeadline(time.Now().Add(time.Second))
			io.WriteString(raw, "421 4.7.0 "+g.pool.hostname+" too many connections, try again later\r\n")
		}
		raw.Close()
	}
}

// stuck reports whether no connection was waited for in the last acceptWithin before now.
func (g *gate) stuck(now time.Time) bool {
	since := g.busy.Load()
	return since != nil && now.Sub(*since) > acceptWithin
}

// acceptWithin is far above what the accept loop needs between two connections, and above the second that it
// waits where the system has no room for more.
const acceptWithin = 10 * time.Second

// connect makes a conn of what came in. Nothing is read yet.
func (g *gate) connect(raw net.Conn) *conn {
	c := &conn{Conn: raw, raw: raw, pool: g.pool, idleTimeout: g.pool.idleTimeout}
	if g.implicit != nil {
		c.Conn, c.secure = tls.Server(raw, g.implicit), true
	} else if g.starttls != nil {
		c.dialect = g.dialect
	}
	switch a := raw.RemoteAddr().(type) {
	case *net.TCPAddr:
		c.peer = a.AddrPort().Addr().Unmap().WithZone("")
		if slices.ContainsFunc(g.pool.proxyFrom, func(p netip.Prefix) bool { return p.Contains(c.peer) }) {
			c.balancer, c.peer = c.peer, netip.Addr{}
		}
	case *net.UnixAddr:
		c.local = true
	}
	return c
}

// pool holds all connections of a server.
type pool struct {
	max         int
	idleTimeout time.Duration
	hostname    string
	proxyFrom   []netip.Prefix
	log         journal
	replies     map[string]string // see retold

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

// retell returns what is said instead of a line of go-smtp's.
func (p *pool) retell(line string) string {
	if better, ok := p.replies[line]; ok {
		return better
	}
	return line
}

// add takes c in, unless there is no room.
func (p *pool) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) >= p.max {
		return false
	}
	c.draining = p.draining
	p.conns[c] = struct{}{}
	return true
}

// replace puts one in the place of another.
func (p *pool) replace(old, c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, old)
	c.draining = p.draining
	p.conns[c] = struct{}{}
}

func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	for c := range p.conns {
		c.drain()
	}
}

// closeAll cuts what is left.
func (p *pool) closeAll() {
	p.mu.Lock()
	left := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		left = append(left, c)
	}
	p.mu.Unlock()
	var closing sync.WaitGroup
	for _, c := range left {
		closing.Go(func() { c.Close() }) // a peer that does not read makes TLS wait for it
	}
	closing.Wait()
}

// handover is the listener of the connections that go from one server to another.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give waits until c is taken; where nobody takes any more, it is closed.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.UnixAddr{Name: "STARTTLS", Net: "unix"} }
