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

	"github.com/consentgate/consentgate/relay/metrics"
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
		c := g.connect(raw)
		c.id = g.pool.newID()
		if g.pool.add(c) {
			g.pool.metrics.Connected(g.protocol)
			g.pool.log.Debug("connected", "id", c.id, "peer", c.who(), "protocol", g.protocol)
			return c, nil
		}
		g.pool.metrics.TurnedAway()
		if g.implicit == nil {
			g.pool.sayFull(raw)
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
	c := &conn{Conn: raw, raw: raw, since: time.Now(), pool: g.pool, idleTimeout: g.pool.idleTimeout}
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

// pool holds all connections of a server. Those of strangers, who may not send without a login and have
// not logged in, take no more than three quarters of it, and those of one address no more than a quarter,
// so that nobody from outside keeps the known senders out.
type pool struct {
	max         int
	idleTimeout time.Duration
	hostname    string
	proxyFrom   []netip.Prefix
	log         journal
	replies     map[string]string // see retold
	known       func(*conn) bool  // may it send without a login
	newID       func() string     // names a connection
	metrics     *metrics.Metrics

	mu        sync.Mutex
	conns     map[*conn]struct{}
	strangers map[netip.Prefix]int // how many of conns, by where they are from
	strange   int                  // all of them
	draining  bool
}

// retell returns what is said instead of a line of go-smtp's.
func (p *pool) retell(line []byte) []byte {
	if better, ok := p.replies[string(line)]; ok {
		return []byte(better)
	}
	return line
}

// add takes c in, unless there is no room. Whose connection a balancer's is turns out later, see place.
func (p *pool) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) >= p.max || !c.balancer.IsValid() && !p.place(c) {
		return false
	}
	c.draining = p.draining
	p.conns[c] = struct{}{}
	return true
}

// settle says whether a balancer's connection, whose peer is known now, may stay.
func (p *pool) settle(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, here := p.conns[c]; !here {
		return false // closed meanwhile
	}
	return p.place(c)
}

// place counts c among the strangers if it is one, unless they are too many. Where a balancer names nobody,
// it is its own check, which strangers must not make fail. p.mu is held.
func (p *pool) place(c *conn) bool {
	if !c.peer.IsValid() || p.known(c) {
		return true
	}
	from := origin(c.peer)
	if p.strange >= p.max-p.max/4 || p.strangers[from] >= (p.max+3)/4 {
		return false
	}
	p.strange++
	p.strangers[from]++
	c.stranger.Store(true)
	c.from = from
	return true
}

// know takes c off the strangers: it has logged in, or is gone.
func (p *pool) know(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(c)
}

func (p *pool) forget(c *conn) {
	if !c.stranger.Swap(false) {
		return
	}
	p.strange--
	if p.strangers[c.from]--; p.strangers[c.from] == 0 {
		delete(p.strangers, c.from)
	}
}

// origin is what counts as one address: with IPv6 the /64 that a subscriber gets.
func origin(peer netip.Addr) netip.Prefix {
	bits := 64
	if peer.Is4() {
		bits = 32
	}
	from, _ := peer.Prefix(bits) // fails for the zero Addr alone, which nobody has
	return from
}

// sayFull tells a peer, in plain text, that there is no room for it.
func (p *pool) sayFull(raw net.Conn) {
	// A line this short never waits for room in a fresh socket's buffer.
	raw.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(raw, "421 4.7.0 "+p.hostname+" too many connections, try again later\r\n")
}

// replace puts one in the place of another.
func (p *pool) replace(old, c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, old)
	c.stranger.Store(old.stranger.Swap(false))
	c.from = old.from
	c.draining = p.draining
	p.conns[c] = struct{}{}
}

func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(c)
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
