package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proxy stands between two that speak TCP, a gateway and its Redis for one, and does it wrong as it is told.
type proxy struct {
	addr   string
	target string
	cut    func(client string) // is told the address, towards the target, of each connection that is cut on purpose; nil = nobody is

	mu       sync.Mutex
	listener net.Listener // nil while it is away
	how      behaviour
	hole     chan struct{}       // not nil while nothing passes; closed when all goes on
	conns    map[net.Conn]string // by that of the client: its address towards the target
}

// behaviour is what a proxy does to a connection that begins; the zero value is nothing.
type behaviour struct {
	delay   time.Duration // of each answer
	answer  string        // to every command instead of Redis
	reset   int           // connections are reset after fewer bytes of answers than that, and one at least; 0 = never, else 2 or more
	resetUp int           // the same for what is sent to the target
	rate    int           // bytes a second, each way; 0 = no limit
}

func newProxy(target string) (*proxy, error) {
	p := &proxy{addr: "127.0.0.1:0", target: target, conns: map[net.Conn]string{}}
	return p, p.back()
}

// back listens, again where it was away.
func (p *proxy) back() error {
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.addr, p.listener = l.Addr().String(), l
	p.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return nil
}

// away cuts all connections, and refuses further ones until it is back.
func (p *proxy) away() {
	p.mu.Lock()
	p.listener.Close()
	p.listener = nil
	p.mu.Unlock()
	p.set(behaviour{})
}

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	p.conns[c] = ""
	how := p.how
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		c.Close()
	}()
	if how.answer != "" {
		answerAll(c, how.answer)
	} else {
		p.pass(c, how)
	}
}

// set changes what is done. The connections that there are end, so that no answer of before is
// taken for one to a later command.
func (p *proxy) set(how behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.how = how
	for c, client := range p.conns {
		p.tell(client)
		c.Close()
	}
}

func (p *proxy) tell(client string) {
	if p.cut != nil && client != "" {
		p.cut(client)
	}
}

// swallow lets nothing pass any more, and breaks no connection: whoever waits for an answer waits.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole == nil {
		p.hole = make(chan struct{})
	}
}

// release lets pass what was held up, and what comes.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole != nil {
		close(p.hole)
		p.hole = nil
	}
}

// open waits until there is no hole.
func (p *proxy) open() {
	for {
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		if hole == nil {
			return
		}
		<-hole
	}
}

func (p *proxy) close() {
	p.away()
	p.release()
}

// pass carries bytes both ways until one side ends.
func (p *proxy) pass(c net.Conn, how behaviour) {
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	client := up.LocalAddr().String()
	p.mu.Lock()
	p.conns[c] = client
	p.mu.Unlock()
	var reset sync.Once
	cut := func() {
		reset.Do(func() {
			p.tell(client)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			up.Close()
		})
	}
	go func() {
		if how.resetUp > 0 {
			if _, err := io.CopyN(up, c, 1+int64(rand.IntN(how.resetUp-1))); err == nil {
				cut()
			}
			up.Close()
			return
		}
		p.carry(up, c, behaviour{rate: how.rate})
	}()
	if how.reset > 0 {
		if _, err := io.CopyN(c, up, 1+int64(rand.IntN(how.reset-1))); err == nil {
			cut()
		}
		return
	}
	p.carry(c, up, how)
}

// carry copies until one side ends, each piece as late and as slowly as it is to be.
func (p *proxy) carry(to, from net.Conn, how behaviour) {
	type chunk struct {
		due   time.Time
		bytes []byte
	}
	chunks, done := make(chan chunk, 1000), make(chan struct{})
	go func() {
		defer close(done)
		defer to.Close()
		for k := range chunks {
			time.Sleep(time.Until(k.due))
			p.open()
			if _, err := to.Write(k.bytes); err != nil {
				from.Close()
			}
		}
	}()
	defer func() { close(chunks); <-done }()
	size := 16 << 10
	if how.rate > 0 {
		size = max(how.rate/50, 1)
	}
	for {
		b := make([]byte, size)
		n, err := from.Read(b)
		if n > 0 {
			chunks <- chunk{time.Now().Add(how.delay), b[:n]}
			if how.rate > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(how.rate))
			}
		}
		if err != nil {
			return
		}
	}
}

// answerAll gives one answer to every command but those by which a client introduces itself, which a
// Redis that loads its data answers too.
func answerAll(c net.Conn, answer string) {
	r := bufio.NewReader(c)
	for {
		name, err := command(r)
		if err != nil {
			return
		}
		reply := answer
		switch name {
		case "HELLO":
			reply = "%1\r\n$5\r\nproto\r\n:3\r\n"
		case "CLIENT", "SELECT":
			reply = "+OK\r\n"
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// command reads one and returns its name.
func command(r *bufio.Reader) (string, error) {
	n, err := length(r, '*')
	name := ""
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = length(r, '$'); err != nil {
			break
		}
		word := make([]byte, size+2)
		if _, err = io.ReadFull(r, word); i == 0 {
			name = strings.ToUpper(string(word[:size]))
		}
	}
	return name, err
}

func length(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q is no command", line)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if n < 0 || n > 64<<20 {
		err = errors.New("a length out of bounds")
	}
	return n, err
}
