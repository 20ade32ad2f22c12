// Package smarthost is the way out: it hands one copy for one recipient to the next hop and
// returns what the next hop said, word for word.
//
// Connections are kept and used again. The next hops are tried in the order in which they are
// configured, and one that failed is left alone for a while as long as there is another. A
// copy is offered a second time only where it is certain that the next hop does not have it:
// once the final dot is on its way, a lost connection is ErrUncertain and nothing is tried
// again, since that could deliver twice.
//
// The package is not for queues and retries later on (package spool), and it never changes a
// message.
package smarthost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// Config says where mail goes and how.
type Config struct {
	URLs               []string // smtp://, smtp+starttls://, smtps://, lmtp:// with host and, if not the usual one, port, or lmtp+unix:///path; in order of preference
	Username, Password string   // both empty: no AUTH
	Hostname           string   // the EHLO name
	MaxConnections     int      // at the same time, to all next hops together; 0 = 20
	MaxPerSecond       int      // copies, to all next hops together; 0 = no limit
	ConnectTimeout     time.Duration
	TLSConfig          *tls.Config // nil: the system's roots; ServerName is set from the URL where empty

	// Took is told how long a next hop, by its address, took for a copy that it was offered, and the code of its
	// answer, 0 where it gave none. nil: nobody wants to know.
	Took func(hop string, code int, took time.Duration)
}

// Envelope is what goes into MAIL and RCPT. The addresses are without angle brackets, a local
// part that needs quotes has them. The DSN parameters (RFC 3461) are passed on where the next
// hop offers DSN, and left out where it does not.
type Envelope struct {
	From, To string // From "" is the null sender
	UTF8     bool   // SMTPUTF8 is needed: an address or the header is not ASCII (RFC 6531)
	Body8Bit bool   // 8BITMIME is needed (RFC 6152)

	Return                smtp.DSNReturn
	EnvelopeID            string
	Notify                []smtp.DSNNotify
	OriginalRecipientType smtp.DSNAddressType
	OriginalRecipient     string
}

// Reply is what the next hop answered.
type Reply struct {
	Code     int    // 250, 4yz or 5yz
	Enhanced [3]int // RFC 3463; all zero where the next hop gave none
	Text     string // without the codes; the lines of a reply of several are parted by "\n"
	Host     string // host:port of the next hop that answered, or the path of its socket
	DSN      bool   // whether it offers DSN, so that it makes the reports that were asked for
}

// String is the reply on one line, codes first.
func (r Reply) String() string {
	s := strconv.Itoa(r.Code)
	if r.Enhanced != [3]int{} {
		s += fmt.Sprintf(" %d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	return s + " " + strings.ReplaceAll(r.Text, "\n", " ")
}

// Accepted reports whether the next hop took the copy.
func (r Reply) Accepted() bool { return r.Code/100 == 2 }

var (
	// ErrUnreachable is wrapped where no next hop could be talked to. The copy is certain not to
	// have been taken.
	ErrUnreachable = errors.New("no smarthost can be reached")
	// ErrBusy is returned where all of Config.MaxConnections were in use for a minute.
	ErrBusy = errors.New("all connections to the smarthost are in use")
	// ErrUncertain is wrapped where the connection was lost, or nonsense came, after the final
	// dot was sent: the next hop may have the copy or not.
	ErrUncertain = errors.New("the smarthost did not say whether it took the message")
	// ErrNo8BitMIME is returned where Envelope.Body8Bit is set and the next hop lacks 8BITMIME.
	ErrNo8BitMIME = errors.New("the smarthost does not offer 8BITMIME")
	// ErrNoSMTPUTF8 is returned where Envelope.UTF8 is set and each next hop lacks SMTPUTF8.
	ErrNoSMTPUTF8 = errors.New("the smarthost does not offer SMTPUTF8")
	// ErrAddress is wrapped where an address of the envelope could not be sent safely.
	ErrAddress = errors.New("address is not fit for SMTP")
	// ErrSource is wrapped where the copy itself could not be read; nothing was delivered.
	ErrSource = errors.New("the message could not be read")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("smarthost client is closed")
)

// timeouts of each step, RFC 5321 §4.5.3.2.
type timeouts struct {
	greeting, command, dataInit, dataBlock, dataEnd time.Duration

	slot    time.Duration // waiting for one of MaxConnections
	idle    time.Duration // how long a kept connection is kept
	penalty time.Duration // how long a next hop that failed is left alone
	quit    time.Duration // waiting for the 221, and for what is said to half a message
}

var rfc5321 = timeouts{
	greeting:  5 * time.Minute,  // §4.5.3.2.1
	command:   5 * time.Minute,  // §4.5.3.2.2, §4.5.3.2.3
	dataInit:  2 * time.Minute,  // §4.5.3.2.4
	dataBlock: 3 * time.Minute,  // §4.5.3.2.5
	dataEnd:   10 * time.Minute, // §4.5.3.2.6
	slot:      time.Minute,
	idle:      30 * time.Second,
	penalty:   30 * time.Second,
	quit:      2 * time.Second,
}

// Client hands copies to the next hops. It is safe for concurrent use.
type Client struct {
	cfg   Config
	limit timeouts
	now   func() time.Time
	hops  []*hop
	slots chan struct{} // holds one element for each connection in use
	pace  *pace

	trying atomic.Pointer[context.CancelFunc] // ends what Watch tries now, nil where it does not

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // farewells to kept connections
}

// New checks the configuration. It opens no connection.
func New(cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("no smarthost URL")
	}
	if cfg.Hostname == "" || !isPlain(cfg.Hostname) {
		return nil, fmt.Errorf("the EHLO name %q is not a host name", cfg.Hostname)
	}
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = 20
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = 30 * time.Second
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, errors.New("the smarthost needs both username and password, or neither")
	}
	c := &Client{cfg: cfg, limit: rfc5321, now: time.Now, slots: make(chan struct{}, cfg.MaxConnections), pace: newPace(cfg.MaxPerSecond)}
	for _, u := range cfg.URLs {
		h, err := parseURL(u)
		if err != nil {
			return nil, err
		}
		c.hops = append(c.hops, h)
	}
	return c, nil
}

// Send offers one copy to the next hops. size is its length in bytes, for the SIZE parameter.
// body may be written more than once, where a kept connection turned out to be dead.
//
// A nil error means that a next hop answered: Reply is its final word, a refusal included. Of
// the errors only ErrUncertain leaves open whether the copy was taken. When ctx ends, the
// connection in use is closed. Waiting for MaxPerSecond is within ctx, too: where ctx would end
// before, ErrUnreachable comes at once.
func (c *Client) Send(ctx context.Context, env Envelope, body io.WriterTo, size int64) (Reply, error) {
	if err := checkPath(env.From, true); err != nil {
		return Reply{}, err
	}
	if err := checkPath(env.To, false); err != nil {
		return Reply{}, err
	}
	if err := c.pace.wait(ctx); err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	release, err := c.slot(ctx)
	if err != nil {
		return Reply{}, err
	}
	defer release()

	var last, lacking error
	for _, h := range c.order() {
		began := time.Now()
		reply, err := c.sendTo(ctx, h, env, body, size)
		var broken *transportError
		lost := errors.As(err, &broken)
		if c.cfg.Took != nil && (err == nil || lost || errors.Is(err, ErrUncertain)) {
			c.cfg.Took(h.addr, reply.Code, time.Since(began))
		}
		if errors.Is(err, ErrNoSMTPUTF8) { // another may offer it, at once or when it is back
			lacking = err
			continue
		}
		if !lost {
			if err == nil {
				h.heard(c.now(), time.Time{})
			}
			return reply, err
		}
		last = err
		if ctx.Err() != nil {
			break
		}
		h.heard(c.now(), c.now().Add(c.limit.penalty))
	}
	if last == nil {
		return Reply{}, lacking
	}
	return Reply{}, fmt.Errorf("%w: %w", ErrUnreachable, last)
}

// sendTo tries a kept connection and, where that one is dead, a fresh one. The error is a
// *transportError where the next hop, not the message, is at fault and the copy was not taken.
func (c *Client) sendTo(ctx context.Context, h *hop, env Envelope, body io.WriterTo, size int64) (Reply, error) {
	k := h.take()
	for k != nil && !k.quiet() {
		k.raw.Close()
		k = h.take()
	}
	if k != nil {
		reply, err := c.transact(ctx, k, env, body, size)
		var broken *transportError
		if !errors.As(err, &broken) || ctx.Err() != nil {
			return reply, err
		}
	}
	k, err := c.connect(ctx, h)
	if err != nil {
		return Reply{}, &transportError{h.addr, err}
	}
	return c.transact(ctx, k, env, body, size)
}

// slot waits until one of MaxConnections is free.
func (c *Client) slot(ctx context.Context) (release func(), err error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	release = func() { <-c.slots }
	select {
	case c.slots <- struct{}{}:
		return release, nil
	default:
	}
	if stop := c.trying.Load(); stop != nil {
		(*stop)()
	}
	timer := time.NewTimer(c.limit.slot)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	case <-timer.C:
		return nil, ErrBusy
	}
}

// State returns how many connections have a copy on its way, how many may, and for each next hop that was tried, by its
// address, whether it worked the last time.
func (c *Client) State() (inUse, limit int, hops map[string]bool) {
	hops = map[string]bool{}
	for _, h := range c.hops {
		if works, last, _ := h.state(); !last.IsZero() {
			hops[h.addr] = works
		}
	}
	return len(c.slots), cap(c.slots), hops
}

// order returns the next hops as they are to be tried: those left alone come last.
func (c *Client) order() []*hop {
	if len(c.hops) == 1 {
		return c.hops
	}
	now := c.now()
	var fit, resting []*hop
	for _, h := range c.hops {
		if h.resting(now) {
			resting = append(resting, h)
		} else {
			fit = append(fit, h)
		}
	}
	return append(fit, resting...)
}

// Close says goodbye on all kept connections and waits for that, a few seconds at most. Sends
// that are under way are not interrupted (their context is for that), later ones fail.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, h := range c.hops {
		for k := h.take(); k != nil; k = h.take() {
			c.farewell(k)
		}
	}
	c.wg.Wait()
}

// transportError is a next hop that cannot be talked to.
type transportError struct {
	addr string
	err  error
}

func (e *transportError) Error() string { return e.addr + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }
