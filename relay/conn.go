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
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/metrics"
)

// What Read returns where go-smtp may hand the error to the peer as it is (within a BDAT chunk it
// does), which takes its own type.
var (
	poison  = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the message holds a bare CR"}
	stalled = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "waited too long for the message"}
)

var (
	// errFull: strangers have all the connections that they may have.
	errFull = errors.New("too many connections")
	// errTalks: a stranger has said more than maxCommands.
	errTalks = errors.New("too many commands")
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
	// maxCommands is how many commands a stranger may say without a message: those are cheap to ask and
	// not to answer.
	maxCommands = 100
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
	id       string   // in the log; those of its messages begin with it
	since    time.Time
	pool     *pool

	idleTimeout time.Duration
	local       bool       // a unix socket
	secure      bool       // under TLS
	peer        netip.Addr // zero: a balancer does not say
	balancer    netip.Addr // the peer of the socket, which has to say whose connection it is; zero = none
	dialect     *dialect   // of a connection on which STARTTLS may be said, else nil

	stranger atomic.Bool  // counted among the strangers; the pool's to change
	from     netip.Prefix // and as one from there; the pool's

	// These are for one goroutine: go-smtp writes the greeting before it reads.
	opened bool
	silent bool   // the greeting was said before STARTTLS
	lost   lostCR // used by Read alone

	writing sync.Mutex // is locked before mu
	held    []byte     // answers that are to be sent
	told    bool       // the last of them was added: go-smtp, which takes a piece of a command for a whole one, is not heard

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
	commands int       // since the last message began
	asked    bool      // go-smtp has a command that it has not answered,
	verb     [8]byte   // which begins so
	messages int       // transactions that were begun
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
			c.pool.log.Warn("a balancer's connection without a PROXY header was refused", "id", c.id, "peer", c.balancer, "err", err)
			return err
		}
		if !c.pool.settle(c) {
			c.pool.metrics.TurnedAway()
			if !c.secure {
				c.pool.sayFull(c.raw)
			}
			return errFull
		}
	}
	if secure, ok := c.Conn.(*tls.Conn); ok {
		if err := secure.Handshake(); err != nil {
			c.pool.log.Info("no TLS with a peer", "id", c.id, "peer", c.who(), "err", err)
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

// messageID names the next message of the connection.
func (c *conn) messageID() string {
	c.mu.Lock()
	c.messages++
	number := c.messages
	c.mu.Unlock()
	n := 3
	for number>>(5*n) > 0 {
		n++
	}
	return c.id + "-" + inDigits(uint64(number), n)
}

// RemoteAddr is for go-smtp's log.
func (c *conn) RemoteAddr() net.Addr { return named{c.raw.RemoteAddr(), c.id} }

// named is an address with the ID of the connection from there.
type named struct {
	net.Addr
	id string
}

// Read gives go-smtp one line at a time, but for the data of a message.
func (c *conn) Read(p []byte) (int, error) {
	if over, err := c.upgrading(); over {
		return 0, err
	}
	n, err := c.take(p)
	n, err = c.check(p, n, err)
	if err == errTalks {
		c.pool.metrics.Refused(c.command(), metrics.RefusedTooMany)
		c.writing.Lock()
		defer c.writing.Unlock()
		c.held = append(c.held, "421 4.7.0 "+c.pool.hostname+" too many commands without a message\r\n"...) // Close sends it
		c.told = true
		return 0, io.EOF
	}
	return n, err
}

// check looks at what take has read, and puts back what stands behind a command.
func (c *conn) check(p []byte, n int, err error) (int, error) {
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
	if c.phase != data && !c.asked { // else it belongs to a login, or is a piece of a command or of a chunk
		c.asked, c.verb = true, [8]byte{}
		copy(c.verb[:], p[:n])
	}
	c.whole = c.phase != data && p[n-1] == '\n'
	if c.whole {
		if c.commands++; c.commands > maxCommands && c.stranger.Load() {
			c.ended = true
			return 0, errTalks
		}
	}
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

// take reads what was read ahead, of commands one line, or what comes next.
func (c *conn) take(p []byte) (int, error) {
	if !c.commandWaits() {
		c.flush() // an error shows in what is read
	}
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
		n := len(c.ahead)
		if end := bytes.IndexByte(c.ahead, '\n') + 1; c.phase != data && end > 0 {
			n = end
		}
		n = copy(p, c.ahead[:n])
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

// Write sends an answer, of which go-smtp writes one line at a time. It is held back where more of it
// comes at once, or where the next command is there already (RFC 2920 §3.2), so that both leave together.
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
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.told {
		return len(p), nil
	}
	c.mu.Lock()
	c.lines = c.whole && bytes.HasPrefix(p, []byte("354 "))
	c.chunked = c.chunked || string(p) == chunkReply
	c.asked = c.asked && (p[0] == '3' || isContinued(p))
	c.mu.Unlock()
	if swallowed, err := c.upgradeSaid(p); swallowed {
		return len(p), err
	}
	line := c.pool.retell(p)
	if p[0] >= '4' && !isContinued(p) {
		line = c.refused(line)
	}
	c.held = append(c.held, line...)
	if !isContinued(p) && !c.commandWaits() {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// isContinued reports whether a line of a reply is not the last one, RFC 5321 §4.2.1.
func isContinued(line []byte) bool { return len(line) > 3 && line[3] == '-' }

// commandWaits reports whether go-smtp finds a command when it looks for the next.
func (c *conn) commandWaits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.upgrade == none && c.phase != data && !c.ended && !c.poisoned && bytes.IndexByte(c.ahead, '\n') >= 0
}

// flush sends what was held back, before anything is waited for.
func (c *conn) flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.send()
}

// send is flush for those who hold c.writing.
func (c *conn) send() error {
	if len(c.held) == 0 {
		return nil
	}
	out := c.held
	c.held = nil
	if cap(out) <= keptReplies {
		c.held = out[:0]
	}
	err := c.SetWriteDeadline(time.Now().Add(c.idleTimeout))
	if err == nil {
		_, err = c.Conn.Write(out)
	}
	switch {
	case err == nil:
		c.answer()
	case errors.Is(err, os.ErrDeadlineExceeded): // go-smtp would go on with the next command
		c.end()
	}
	return err
}

// answer notes that the peer was answered, so that its next command has its own time.
func (c *conn) answer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered, c.received = time.Now(), 0
}

// keptReplies is how large a connection's buffer for replies may be to be used again.
const keptReplies = 1 << 10

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
		if c.writing.TryLock() { // else it is somebody who waits for the peer
			c.sayLast()
			c.writing.Unlock()
		}
		c.linger()
		c.end() // go-smtp goes on with what was read ahead
		err = c.Conn.Close()
		c.pool.remove(c)
		c.pool.log.disconnected(c)
	})
	return err
}

// sayLast sends what is held back of a connection that is closed behind a command, with others there. It needs
// c.writing.
func (c *conn) sayLast() {
	if len(c.held) > 0 && c.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		c.Conn.Write(c.held) // whatever comes of it, the connection is closed next
	}
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
	if c.phase = p; p == data {
		c.commands = 0
	}
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
