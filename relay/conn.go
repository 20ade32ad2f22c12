package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
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

// What a connection must keep to.
const (
	// openTime is how long a PROXY header and the TLS handshake may take together.
	openTime = 20 * time.Second
	// minRate is the least number of bytes a second, between one answer and the next, that a peer
	// has to send once the idle timeout is over. Without it one byte a minute would keep a
	// connection for ever.
	minRate = 500
)

// chunkReply is what go-smtp says to a chunk that is not the last, and at no other time.
const chunkReply = "250 2.0.0 Continue\r\n"

// conn is what go-smtp's server reads from and writes to. It adds what go-smtp does not have: what
// comes before the dialogue (a PROXY header, TLS), a deadline for each read and each write, an end
// to what is read behind a refused message, the draining of idle connections, and errors that keep
// half a message from passing for a whole one.
//
// TLS is below it, so that what it looks at is always what go-smtp will see.
type conn struct {
	net.Conn          // with TLS, above the decryption
	raw      net.Conn // the socket
	pool     *pool

	idleTimeout time.Duration
	local       bool       // a unix socket
	secure      bool       // under TLS
	peer        netip.Addr // zero: a balancer does not say
	balancer    netip.Addr // the peer of the socket, which has to say whose connection it is; zero = none
	dialect     *dialect   // of a connection on which STARTTLS may be said, else nil

	// These are for one goroutine: go-smtp writes the greeting before it reads.
	opened bool
	silent bool   // the greeting was said before STARTTLS
	lost   lostCR // used by Read alone

	mu       sync.Mutex
	phase    phase
	upgrade  upgrade
	draining bool
	ahead    []byte    // was read, and go-smtp does not have it yet
	whole    bool      // what go-smtp has ends with the line that it got last, so that it has used it up
	lines    bool      // and then it said 354, so that the message can be read below it
	chunked  bool      // it has taken a chunk that is not the last
	poisoned bool      // lostCR has found one: nothing more is read
	ended    bool      // that was said, a read or a write timed out, or the budget is used up: nothing more is read
	timedOut bool      // a read did
	unsaid   bool      // and go-smtp may not have said so: it was not within a message
	overlong bool      // a line was: go-smtp closes
	limited  bool      // a message was refused before its end:
	budget   int64     // so many bytes more are swallowed
	answered time.Time // when the last answer was written
	received int64     // bytes since then
	once     sync.Once
}

// open reads what comes before the dialogue.
func (c *conn) open() error {
	if err := c.raw.SetDeadline(time.Now().Add(min(openTime, c.idleTimeout))); err != nil {
		return err
	}
	if c.balancer.IsValid() {
		var err error
		if c.peer, err = readProxy(c.raw); errors.Is(err, errMute) {
			return err
		} else if err != nil {
			c.pool.log.Warn("a balancer's connection without a PROXY header was refused", "peer", c.balancer, "err", err)
			return err
		}
	}
	if secure, ok := c.Conn.(*tls.Conn); ok {
		if err := secure.Handshake(); err != nil {
			c.pool.log.Info("no TLS with a peer", "peer", c.who(), "err", err)
			return err
		}
	}
	return c.raw.SetDeadline(time.Time{})
}

// who names the peer for logs and Received fields.
func (c *conn) who() string {
	switch {
	case c.local:
		return "unix socket"
	case c.peer.IsValid():
		return c.peer.String()
	}
	return "unknown"
}

// Read gives go-smtp one line at a time, but for the data of a message.
func (c *conn) Read(p []byte) (int, error) {
	if over, err := c.upgrading(); over {
		return 0, err
	}
	n, err := c.take(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || n == 0 {
		c.whole = false
		return n, err
	}
	if end := bytes.IndexByte(p[:n], '\n') + 1; c.phase != data && end > 0 && end < n {
		c.ahead = slices.Insert(c.ahead, 0, p[end:n]...)
		n = end
	}
	c.whole = c.phase != data && p[n-1] == '\n'
	if i := c.lost.find(p[:n]); i >= 0 {
		c.poisoned = true
		if i == 0 {
			c.ended = true
			return 0, poison
		}
		return i, nil // the next Read says so; what came before may belong to other messages
	}
	return n, nil
}

// take reads what was read ahead, or what comes next.
func (c *conn) take(p []byte) (int, error) {
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
	if len(c.ahead) > 0 {
		defer c.mu.Unlock()
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	// Setting a deadline under the lock: drain must not be undone by it.
	deadline := time.Now().Add(c.idleTimeout)
	if slow := c.answered.Add(c.idleTimeout + time.Duration(c.received)*time.Second/minRate); slow.Before(deadline) {
		deadline = slow
	}
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
	c.received += int64(n)
	if c.limited {
		if c.budget -= int64(n); c.budget < 0 {
			c.ended = true
			return 0, io.EOF
		}
	}
	switch {
	case n > 0: // an error comes again
		return n, nil
	case err == io.EOF && c.phase != idle:
		// go-smtp takes EOF within a BDAT chunk for the end of the chunk, so that a connection
		// that breaks there would have half a message delivered.
		return 0, io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.ended, c.timedOut = true, true
		if c.phase == data {
			return 0, stalled
		}
		c.unsaid = true
	}
	return 0, err
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

// Write sends an answer, of which go-smtp writes one line at a time.
func (c *conn) Write(p []byte) (int, error) {
	if !c.opened {
		c.opened = true
		if err := c.open(); err != nil {
			c.end()
			return 0, err
		}
		if c.silent {
			c.answer()
			return len(p), nil
		}
	}
	c.mu.Lock()
	c.lines = c.whole && bytes.HasPrefix(p, []byte("354 "))
	c.chunked = c.chunked || string(p) == chunkReply
	c.mu.Unlock()
	if swallowed, err := c.upgradeSaid(string(p)); swallowed {
		return len(p), err
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.idleTimeout)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c.Conn, c.pool.retell(string(p))); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) { // go-smtp would go on with the next command
			c.end()
		}
		return 0, err
	}
	c.answer()
	return len(p), nil
}

// answer notes that the peer was answered, so that its next command has its own time.
func (c *conn) answer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered, c.received = time.Now(), 0
}

// end lets nothing more be read, so that go-smtp closes the connection.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// Close may be called more than once.
func (c *conn) Close() error {
	if c.hasGone() {
		return nil // it is another's now
	}
	err := net.ErrClosed
	c.once.Do(func() {
		c.linger()
		c.end() // go-smtp goes on with what was read ahead
		err = c.Conn.Close()
		c.pool.remove(c)
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
	if p == idle {
		c.chunked = false
	}
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

// isChunked reports whether a chunk that is not the last was taken in this transaction.
func (c *conn) isChunked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chunked
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
