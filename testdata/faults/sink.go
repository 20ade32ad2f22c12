package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// sink is a smarthost that goes wrong at random while it is told to, and remembers what it took.
type sink struct {
	addr   string
	server *smtp.Server
	wrong  atomic.Bool
	busy   atomic.Bool   // every recipient is answered 451
	brief  bool          // of the text only what is judged is kept
	late   time.Duration // how late what is for the tardy is answered

	mu      sync.Mutex
	random  *rand.Rand
	copies  map[copyOf]int       // how often it took which
	text    map[copyOf]string    // what it took first
	came    map[copyOf]time.Time // when that was
	unsaid  map[copyOf]bool      // it took it and did not say so
	reports map[copyOf]string    // what a report says of which
	visits  map[string]*visit    // the open ones, by the client's address
}

// copyOf names a copy: the message by its own mark, and the recipient.
type copyOf struct{ mark, to string }

func newSink(seed uint64) (*sink, error) {
	k := &sink{random: rand.New(rand.NewPCG(seed, 1)), copies: map[copyOf]int{}, unsaid: map[copyOf]bool{}, text: map[copyOf]string{}, came: map[copyOf]time.Time{}, reports: map[copyOf]string{}, visits: map[string]*visit{}}
	k.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if k.at(3) {
			return nil, &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "not now"}
		}
		v := &visit{sink: k, conn: c.Conn()}
		k.mu.Lock()
		k.visits[v.conn.RemoteAddr().String()] = v
		k.mu.Unlock()
		return v, nil
	}))
	k.server.Domain, k.server.MaxLineLength = "sink.example.org", 1<<20
	k.server.EnableDSN, k.server.EnableSMTPUTF8 = true, true
	k.server.ErrorLog = silent{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k.addr = l.Addr().String()
	go k.server.Serve(l)
	return k, nil
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// at is true in percent of the calls, and never while all is well.
func (k *sink) at(percent int) bool {
	if !k.wrong.Load() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.random.IntN(100) < percent
}

// visit is one connection.
type visit struct {
	sink *sink
	conn net.Conn
	from string
	to   []string

	// Under the sink's lock:
	cut  bool     // no answer arrives any more
	last []copyOf // what it brought last
}

// cutOff notes that the connection from that address was cut on its way: the answer to what it brought last
// may not have arrived, nor that to what is still read.
func (k *sink) cutOff(client string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.visits[client]; v != nil {
		v.cut = true
		for _, c := range v.last {
			k.unsaid[c] = true
		}
	}
}

// reset cuts the connection so that the other side sees it broken.
func (v *visit) reset() error {
	if c, ok := v.conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	v.conn.Close()
	return errors.New("reset")
}

func (v *visit) stall() { time.Sleep(2 * time.Second) }

func later() error {
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "first line\nnot now, says the second"}
}
func never() error {
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "not here"}
}

func (v *visit) Mail(from string, _ *smtp.MailOptions) error {
	switch k := v.sink; {
	case k.at(2):
		return v.reset()
	case k.at(4):
		return later()
	case k.at(1):
		v.stall()
	}
	v.from, v.to = from, nil
	return nil
}

func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch k := v.sink; {
	case k.at(2):
		return v.reset()
	case k.busy.Load() || k.at(6):
		return later()
	case v.from != "" && k.at(4): // a report that is refused for good is nobody's loss but its reader's
		return never()
	}
	v.to = append(v.to, to)
	return nil
}

func (v *visit) Data(r io.Reader) error {
	k := v.sink
	if k.at(2) {
		io.CopyN(io.Discard, r, 500)
		return v.reset()
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	switch {
	case k.at(2):
		return v.reset()
	case k.at(6):
		return later()
	case v.from != "" && k.at(3):
		return never()
	}
	mute := k.at(3)
	k.mu.Lock()
	v.last = k.take(v.from, v.to, text, mute || v.cut)
	k.mu.Unlock()
	switch {
	case mute:
		return v.reset()
	case k.at(1):
		v.stall()
	case kindOf(v.to[0]) == tardy:
		time.Sleep(k.late)
	}
	return nil
}

func (v *visit) Reset() {}

func (v *visit) Logout() error {
	k, client := v.sink, v.conn.RemoteAddr().String()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.visits[client] == v {
		delete(k.visits, client)
	}
	return nil
}

var (
	markField = regexp.MustCompile(`(?m)^Subject: mark ([0-9a-z-]+)\r?$`)
	final     = regexp.MustCompile(`(?m)^Final-Recipient: rfc822; (\S+)\r?$`)
	statusOf  = regexp.MustCompile(`(?m)^Status: (\S+)\r?$`)
)

// take notes what arrived and returns that: a copy, or a report about some; mute says that nobody will be told.
// The sink is locked.
func (k *sink) take(from string, to []string, text []byte, mute bool) (copies []copyOf) {
	if from != "" {
		if m := markField.FindSubmatch(text); m != nil {
			for _, r := range to {
				c := copyOf{string(m[1]), r}
				copies = append(copies, c)
				k.unsaid[c] = k.unsaid[c] || mute
				if k.copies[c]++; k.copies[c] == 1 {
					k.text[c], k.came[c] = k.judged(text, c.mark), time.Now()
				}
			}
		}
		return copies
	}
	// The mark stands in the header that the report brings back.
	m := markField.FindSubmatch(text)
	if m == nil {
		return nil
	}
	status := ""
	scan := bufio.NewScanner(bytes.NewReader(text))
	scan.Buffer(nil, 1<<20)
	who := ""
	for scan.Scan() {
		line := strings.TrimSuffix(scan.Text(), "\r")
		if f := final.FindStringSubmatch(line); f != nil {
			who = f[1]
		}
		if s := statusOf.FindStringSubmatch(line); s != nil && who != "" {
			status = s[1]
			k.reports[copyOf{string(m[1]), who}] = status
			who = ""
		}
	}
	return nil
}

// judged is what is kept of a copy's text.
func (k *sink) judged(text []byte, mark string) string {
	if !k.brief {
		return string(text)
	}
	kept := ""
	for _, what := range []string{pixel, "end of " + mark} {
		if bytes.Contains(text, []byte(what)) {
			kept += what
		}
	}
	return kept
}

func (k *sink) close() error {
	if err := k.server.Close(); err != nil {
		return fmt.Errorf("the sink: %w", err)
	}
	return nil
}
