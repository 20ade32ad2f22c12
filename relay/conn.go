package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// What Read returns where go-smtp may hand the error to the peer as it is (within a BDAT chunk it
// does), which takes its own type.
var (
	poison  = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the message holds a bare CR"}
	stalled = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "waited too long for the message"}
)

// phase says where in its dialogue a connection is.
type phase int

const (
	idle        phase = iota // no transaction
	transaction              // MAIL was accepted
	data                     // the message is on its way, or being delivered
)

// conn is what go-smtp's server reads from and writes to. It adds what go-smtp does not have: a
// deadline for each read and each write, an end to what is read behind a refused message, the
// draining of idle connections, and errors that keep half a message from passing for a whole one.
type conn struct {
	net.Conn
	idleTimeout time.Duration
	local       bool // a unix socket
	peer        netip.Addr
	onClose     func()

	lost lostCR // used by Read alone, which one goroutine calls

	mu       sync.Mutex
	phase    phase
	draining bool
	poisoned bool  // lostCR has found one: nothing more is read
	ended    bool  // that was said, a read or a write timed out, or the budget is used up: nothing more is read
	timedOut bool  // a read did
	unsaid   bool  // and go-smtp may not have said so: it was not within a message
	overlong bool  // a line was: go-smtp closes
	limited  bool  // a message was refused before its end:
	budget   int64 // so many bytes more are swallowed
	once     sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	switch {
	case c.poisoned && !c.ended:
		c.ended = true
		c.mu.Unlock()
		return 0, poison
	case c.ended:
		defer c.mu.Unlock()
		return 0, c.over()
	}
	// Setting a deadline under the lock: drain must not be undone by it.
	deadline := time.Now().Add(c.idleTimeout)
	if c.draining && c.phase == idle {
		deadline = time.Unix(1, 0)
	}
	err := c.SetReadDeadline(deadline)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}

	n, err := c.Conn.Read(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.lost.find(p[:n]); i >= 0 {
		c.poisoned = true
		if i == 0 {
			c.ended = true
			return 0, poison
		}
		return i, nil // the next Read says so; what came before may belong to other messages
	}
	if c.limited {
		if c.budget -= int64(n); c.budget < 0 {
			c.ended = true
			return 0, io.EOF
		}
	}
	switch {
	case err == io.EOF && c.phase != idle:
		// go-smtp takes EOF within a BDAT chunk for the end of the chunk, so that a connection
		// that breaks there would have half a message delivered.
		return n, io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.ended, c.timedOut = true, true
		if c.phase == data {
			return n, stalled
		}
		c.unsaid = true
	}
	return n, err
}

// over is what Read returns once nothing more is read; it needs c.mu. go-smtp takes the piece of a
// command that came before a failed read for a whole command, forgets the failure and reads on: a
// BDAT that was cut there must not find its chunk at an end, or half a message would be delivered.
func (c *conn) over() error {
	switch {
	case c.phase != idle && c.timedOut:
		return stalled
	case c.phase != idle:
		return io.ErrUnexpectedEOF
	case c.unsaid:
		return os.ErrDeadlineExceeded
	}
	return io.EOF
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idleTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) { // go-smtp would go on with the next command
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
	}
	return n, err
}

// Close may be called more than once.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.linger()
		err = c.Conn.Close()
		c.onClose()
	})
	return err
}

// linger swallows what a peer still sends on a connection that is cut within a message: closing
// with unread bytes resets the connection, and the peer might never see its answer.
func (c *conn) linger() {
	c.mu.Lock()
	cut := c.poisoned || c.overlong || (c.ended && c.limited)
	rest, wait := int64(1<<20), time.Second
	if c.overlong { // most of the line may be still to come
		rest, wait = c.budget, 5*time.Second
	}
	c.mu.Unlock()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !cut || !ok || half.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(wait)) == nil {
		io.CopyN(io.Discard, c.Conn, rest) // whatever comes of it, the connection is closed next
	}
}

// enter notes the phase. A new transaction, or none, lifts what a refused message brought.
func (c *conn) enter(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = p
	if p != data {
		c.limited = false
	}
}

// limitRest bounds what is still read of a refused message: go-smtp swallows it to its end,
// however long it takes. overlong says that it was refused for a line that is too long, behind which
// go-smtp closes the connection.
func (c *conn) limitRest(n int64, overlong bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overlong = c.overlong || overlong
	if !c.limited {
		c.limited, c.budget = true, n
	}
}

// isDraining reports whether no new transaction may begin.
func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// drain lets a transaction under way end; an idle connection is told at once, by go-smtp, which
// answers a read that timed out with 421.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.phase == idle {
		c.SetReadDeadline(time.Unix(1, 0)) // fails only where it is closed already
	}
}

// gate is a listener that lets a limited number of connections in, over all listeners that
// share a pool.
type gate struct {
	net.Listener
	pool *pool
}

// pool holds all connections of a server.
type pool struct {
	max         int
	idleTimeout time.Duration
	hostname    string

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

// Accept returns the next connection that there is room for. The others are told so.
func (g *gate) Accept() (net.Conn, error) {
	for {
		raw, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := g.pool.add(raw); c != nil {
			return c, nil
		}
		// A line this short never waits for room in a fresh socket's buffer.
		raw.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(raw, "421 4.7.0 "+g.pool.hostname+" too many connections, try again later\r\n")
		raw.Close()
	}
}

func (p *pool) add(raw net.Conn) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) >= p.max {
		return nil
	}
	c := &conn{Conn: raw, idleTimeout: p.idleTimeout, draining: p.draining}
	c.onClose = func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}
	switch a := raw.RemoteAddr().(type) {
	case *net.TCPAddr:
		c.peer = a.AddrPort().Addr().Unmap().WithZone("")
	case *net.UnixAddr:
		c.local = true
	}
	p.conns[c] = struct{}{}
	return c
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
	for _, c := range left {
		c.Close()
	}
}
