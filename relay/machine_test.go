package relay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzSession takes bytes for a script of what a client says on its connections, what the next hop
// does with each copy, and what people decide meanwhile. A model of RFC 5321 §4.3.2 says which replies
// are right in each state, and at the end the copies are counted: see machine.judge.
func FuzzSession(f *testing.F) {
	for _, s := range machineSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 200 {
			return
		}
		newMachine(t, script).run()
	})
}

// The first byte is the way in (see newMachine), then come operations with what belongs to them.
var machineSeeds = [][]byte{
	{0, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opData, 0, opQuit},
	{1, opHello, opMail, 0, opRcpt, 1, 0, opChunk, 0, 30, opChunk, 0, 90, opChunk, 0, 255, opQuit},
	{2, opHello, opMail, 0, opRcpt, 1, 0, opData, 0, opMail, 1, opRcpt, 0, 1, opData, 2},
	{8, opHop, 0, hopDataRefused, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opData, 0},
	{4, opHop, 0, hopRcptRefused, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 1, opRcpt, 3, 0, opData, 0},
	{12, opHop, 1, hopSlow, opHop, 0, hopSlowAndRefuses, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opData, 0, opDecide, 1},
	{0, opHop, 0, hopDropsKept, opHop, 1, hopDropsWithin, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opRcpt, 4, 0, opData, 0},
	{0, opHello, opMail, 0, opRcpt, 0, 0, opChunk, 0, 40, opReset, opMail, 0, opAgain, opHello, opMail, 0, opRcpt, 0, 0, opData, 3},
	{0, opHello, opMail, 0, opRcpt, 0, 0, opCut, 40, opAgain, opHello, opMail, 0, opRcpt, 1, 0, opRcpt, 0, 0, opAbort},
	{8, opRcpt, 0, 0, opData, 0, opMail, 0, opHello, opMail, 2, opMail, 3, opMail, 0, opMail, 0, opHello, opOther, 0, opOther, 1, opOther, 2, opOther, 3, opOther, 4},
	{0, opHop, 0, hopDataRefused, opHop, 1, hopDropsAtRcpt, opHop, 2, hopDataLater, opWhole, 0, 31, opDecide, 2, opWhole, 2, 63, opWhole, 6, 3},
	{1, opHop, 0, hopDropsKept, opHop, 1, hopSlow, opHop, 2, hopSlowAndRefuses, opWhole, 0, 31, opDecide, 1, opWhole, 0, 31, opAgain, opWhole, 6, 31},
	{10, opHello, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opChunk, 3, 255, opMail, 0, opRcpt, 0, 0, opRcpt, 1, 0, opChunk, 1, 100, opChunk, 1, 255},
	{0, opHello, opMail, 0, opRcpt, 0, 0, opCut, 254, opHello, opMail, 0, opRcpt, 0, 0, opCut, 255, opHello, opMail, 0, opRcpt, 0, 0, opCut, 252},
	{4, opHop, 0, hopRcptRefused, opWhole, 0, 1, opWhole, 0, 1, opHop, 1, hopRcptLater, opWhole, 0, 2},
	{16, opWhole, 0, 1, opHop, 0, hopDropsKept, opWhole, 0, 1, opHop, 0, hopDropsAtRcpt, opWhole, 0, 1, opHop, 0, hopDropsWithin, opWhole, 0, 1, opHop, 0, hopSaysNonsense, opWhole, 0, 1},
	{32, opHello, opMail, 0, opLogin, 0, opTLS, 0, opMail, 0, opHello, opMail, 0, opLogin, 1, opLogin, 0, opMail, 0, opLogin, 0, opTLS, 0, opRcpt, 1, 0, opData, 0, opQuit},
	{32, opHello, opTLS, 0, opHello, opLogin, 2, opMail, 0, opRcpt, 0, 0, opData, 2, opMail, 0, opRcpt, 1, 0, opData, 0, opQuit},
	{33, opHello, opTLS, 1, opHello, opTLS, 2, opTLS, 0, opHello, opLogin, 2, opHello, opMail, 0, opRcpt, 0, 0, opChunk, 0, 30, opTLS, 0, opHalf},
	{34, opWhole, 0, 31, opAbort, opWhole, 2, 3, opHalf, opHello, opTLS, 0, opHello, opLogin, 3, opLogin, 4, opLogin, 1, opLogin, 1, opLogin, 1, opMail, 0},
	{44, opHop, 0, hopDataRefused, opWhole, 0, 31, opMail, 0, opRcpt, 0, 0, opReset, opHello, opMail, 0, opRcpt, 1, 0, opCut, 40, opWhole, 1, 1},
	{16, opHello, opMail, 0, opRcpt, 0, 0, opData, 1, opMail, 0, opRcpt, 0, 2, opData, 4, opMail, 0, opRcpt, 3, 2, opData, 5, opHalf},
}

// Operations of a script.
const (
	opHello  = iota
	opMail   // variant
	opRcpt   // person, variant
	opData   // variant of the message
	opChunk  // variant of the message, how much of it; 200 and more is the rest, and LAST
	opReset  //
	opOther  // variant
	opFlush  // what was said goes out, and the replies are read
	opQuit   //
	opHalf   // the client's side of the connection ends
	opAbort  // the connection ends, with what was said on its way
	opAgain  // a new connection
	opHop    // person, what the next hop does with the next attempt
	opDecide // person: withdraws; who has nothing to withdraw unsubscribes
	opCut    // how much of a message goes out behind DATA, or BDAT LAST, before the connection ends
	opWhole  // variant of the message, and bits for who gets it: all that it takes from EHLO on
	opTLS    // variant of STARTTLS
	opLogin  // variant of AUTH
	operations
)

const machinePeople = 5

// machine runs one script.
type machine struct {
	*testbed
	t      *testing.T
	script []byte
	hop    *scriptedHop
	people *machineStore
	lmtp   bool
	each   bool // a command a time, not a group (RFC 2920)
	pieces bool // what is sent goes out in small pieces
	closed bool // the server offers TLS, and takes mail only behind a login

	tcp     *net.TCPConn
	conn    net.Conn // tcp, or TLS above it
	r       *bufio.Reader
	out     bytes.Buffer
	waiting []said // what is in out, or was sent, and not answered
	bodies  int
	body    string // what is left of the message that goes out in chunks

	// What the server must think of this connection.
	greeted bool
	secure  bool
	known   bool // by a login
	shop    bool // which is that of the shop
	tx      *deal
	chunked bool // a chunk was taken that is not the last
	broken  bool // a transfer by chunks was broken off
	errors  int  // that it counts
	wrong   int  // logins
	lines   int  // that were sent, chunks included: too many of a stranger without a message are answered with 421
	over    bool // it may end the connection

	mistaken bool // somebody has given a wrong password
	all      []*deal
}

// said is a command with the replies that are right for it when its turn has come.
type said struct {
	line  string
	right func() []int
	then  func(code int)
}

// deal is a transaction: what the client wanted from MAIL on.
type deal struct {
	name    string
	null    bool   // the null sender
	shop    bool   // behind a login that may send marketing mail alone
	rcpts   []deed // accepted, in order, twice where they are named twice
	text    string
	odd     bool // pieced together from more than one message
	ended   bool // the client has sent the end
	codes   map[deed]int
	tracked map[string]bool // who had agreed when it ended
	reached map[string]bool // who was subscribed then
}

// newMachine reads the way in: bits 0-1 mode and protocol, 2 a command a time, 3 in small pieces, 4 mode
// stateless, 5 behind TLS and a login.
func newMachine(t *testing.T, script []byte) *machine {
	m := &machine{t: t, script: script, hop: newScriptedHop(t), people: newMachineStore()}
	way := m.byte()
	m.lmtp, m.each, m.pieces, m.closed = way&2 != 0, way&4 != 0, way&8 != 0, way&32 != 0
	m.testbed = prepare(t, func(c *Config, b *testbed) {
		switch {
		case way&16 == 0 && way&1 == 0:
			withSpool(Cutthrough)(c, b)
		case way&16 == 0:
			withSpool(Spooled)(c, b)
		}
		if m.closed {
			logins(c, b)
			c.TLSCert, c.TLSKey = machineCertificate(t)
			c.ListenTLS, c.ListenLMTP, c.AllowNetworks = nil, nil, nil
		}
		if m.lmtp {
			c.Listen, c.ListenLMTP = nil, []string{"127.0.0.1:0"}
		}
		c.FirstRetry, c.MaxRecipients, c.MaxMessageBytes = time.Millisecond, 6, 4000
		b.sink = &sink{} // not asked
		b.next = newNext(t, m.hop.l.Addr().String())
	})
	m.Server.store = m.people
	m.Server.settleTime = 20 * time.Millisecond
	t.Cleanup(m.hop.close)
	m.testbed.run()
	return m
}

func (m *machine) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf(format+"\nscript %v\nlog:\n%s", append(args, m.script, m.log)...)
}

func (m *machine) byte() int {
	if len(m.script) == 0 {
		return 0
	}
	b := m.script[0]
	m.script = m.script[1:]
	return int(b)
}

func (m *machine) run() {
	script := m.script
	connections := 0
	for len(m.script) > 0 && len(m.all) < 6 {
		op := m.byte() % operations
		if m.conn == nil && op != opHop && op != opDecide {
			if connections++; connections > 4 {
				break
			}
			m.connect()
		}
		m.do(op)
		if m.each && m.conn != nil {
			m.flush()
		}
	}
	m.script = script // for messages
	if m.conn != nil {
		m.flush()
	}
	if m.conn != nil {
		m.hangUp()
	}
	m.drain()
	m.halt()
	m.judge()
}

func (m *machine) do(op int) {
	switch op {
	case opHello:
		m.hello()
	case opMail:
		m.mail(m.byte() % 5)
	case opRcpt:
		m.rcpt(m.byte()%machinePeople, m.byte()%4)
	case opData:
		m.data(m.message(m.byte()))
	case opChunk:
		m.chunk(m.byte(), m.byte())
	case opReset:
		m.say("RSET", func() []int { return []int{250} }, func(int) { m.reset() })
		m.body = ""
	case opOther:
		m.other(m.byte() % 8)
	case opFlush:
		m.flush()
	case opQuit:
		m.say("QUIT", func() []int { return []int{221} }, func(int) { m.over = true })
		m.flush()
		m.hangUp()
	case opHalf:
		m.flush()
		m.hangUp()
	case opAbort:
		m.abort()
	case opAgain:
		m.flush()
		m.hangUp()
	case opHop:
		person, does := m.person(m.byte()%machinePeople), m.byte()%hopBehaviours
		if m.Server.cfg.Mode == Stateless && does >= hopSlow { // nobody is answered before it does
			does = hopAccepts
		}
		m.hop.then(person, does)
	case opDecide:
		m.flush()
		m.people.decide(m.person(m.byte() % machinePeople))
	case opWhole:
		variant, who := m.byte(), m.byte()
		if m.closed && !m.known {
			m.logIn()
		} else if !m.greeted {
			m.hello()
		}
		m.mail(0)
		for i := range machinePeople {
			if who>>i&1 != 0 {
				m.rcpt(i, who>>5&3)
			}
		}
		m.data(m.message(variant))
	case opTLS:
		m.startTLS(m.byte() % 3)
	case opLogin:
		m.auth(m.byte() % 5)
	case opCut:
		n := m.byte()
		m.flush()
		m.cut(n)
	}
}

func (m *machine) person(i int) string { return "p" + strconv.Itoa(i) }

func (m *machine) connect() {
	c, err := net.Dial("tcp", m.Addrs()[0].String())
	if err != nil {
		m.fatalf("%v", err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second)) // nothing here takes a second: this is how a hang shows
	m.tcp, m.conn, m.r = c.(*net.TCPConn), c, bufio.NewReader(c)
	m.greeted, m.secure, m.known, m.shop, m.tx, m.chunked, m.broken, m.errors, m.wrong, m.lines, m.over, m.body = false, false, false, false, nil, false, false, 0, 0, 0, false, ""
	m.out.Reset()
	m.waiting = []said{{"the greeting", func() []int { return []int{220} }, func(int) {}}}
}

// say adds a command to the group that goes out next.
func (m *machine) say(line string, right func() []int, then func(code int)) {
	if m.conn == nil {
		return
	}
	m.out.WriteString(line + "\r\n")
	m.waiting = append(m.waiting, said{line, right, then})
}

// send writes bytes; that the server has closed shows where its replies are read.
func (m *machine) send(p []byte) {
	m.lines += bytes.Count(p, []byte("\n"))
	for len(p) > 0 {
		n := len(p)
		if m.pieces {
			n = min(n, 7)
		}
		if _, err := m.conn.Write(p[:n]); err != nil {
			return
		}
		p = p[n:]
	}
}

// talks reports whether a stranger may have said too much without a message, which is answered with 421.
func (m *machine) talks() bool { return m.closed && !m.known && m.lines > maxCommands }

// flush sends the group and reads the replies.
func (m *machine) flush() {
	if m.conn == nil {
		return
	}
	m.send(m.out.Bytes())
	m.out.Reset()
	for len(m.waiting) > 0 && m.conn != nil {
		next := m.waiting[0]
		m.waiting = m.waiting[1:]
		code, ok := m.reply(next.line)
		if !ok {
			return
		}
		if right := next.right(); code == 421 {
			if !slices.Contains(right, 421) && !m.over && !m.talks() {
				m.fatalf("421 to %q", next.line)
			}
			m.over = true
		} else if !m.over && !slices.Contains(right, code) {
			m.fatalf("%d to %q, right would be %v", code, next.line, right)
		}
		next.then(code)
	}
}

// reply reads one. ok is false where the connection ended, as it may.
func (m *machine) reply(to string) (code int, ok bool) {
	for first := 0; ; {
		line, err := m.r.ReadString('\n')
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				m.fatalf("no reply to %q", to)
			}
			if !m.over {
				m.fatalf("the connection ended before the reply to %q: %v", to, err)
			}
			m.forget()
			return 0, false
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) < 5 || len(line) > 512+2 || line[3] != ' ' && line[3] != '-' {
			m.fatalf("%q is no line of a reply", line)
		}
		if code, err = strconv.Atoi(line[:3]); err != nil || code < 200 || code > 599 || first != 0 && code != first {
			m.fatalf("%q is no line of a reply", line)
		}
		if first = code; line[3] == ' ' {
			return code, true
		}
	}
}

// hangUp ends the client's side, and expects the server to end too, whatever it says to that.
func (m *machine) hangUp() {
	if m.conn == nil {
		return
	}
	m.endWriting()
	if _, err := io.Copy(io.Discard, m.r); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			m.fatalf("the server does not end a connection that the client ended")
		}
	}
	m.forget()
}

// abort ends the connection without reading what is answered.
func (m *machine) abort() {
	if m.conn == nil {
		return
	}
	m.send(m.out.Bytes())
	m.out.Reset()
	// What was sent to its end may have been taken, and who is counted as a recipient is not known: the
	// server's replies would say. So the replies are guessed as good as they can be.
	for _, next := range m.waiting {
		if right := next.right(); len(right) > 0 {
			next.then(-right[0])
		}
	}
	m.tcp.SetLinger(0)
	m.tcp.Close()
	m.forget()
}

func (m *machine) forget() {
	m.conn.Close()
	m.conn, m.waiting, m.tx = nil, nil, nil
	m.out.Reset()
}

// reset ends the transaction, as RSET and EHLO do.
func (m *machine) reset() {
	m.broken = m.broken || m.chunked
	m.tx, m.chunked = nil, false
}

// drain lets the slow answer and people's shard come back, and waits until nothing waits in the spool.
func (m *machine) drain() {
	close(m.hop.released)
	m.people.heal()
	if m.spool == nil {
		return
	}
	m.wait("the spool", func() bool {
		all := m.spool.All()
		for _, w := range all {
			m.Server.queue.retry(w.ID)
		}
		return len(all) == 0
	})
}
