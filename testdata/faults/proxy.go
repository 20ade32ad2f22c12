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

// proxy stands between the gateways and a Redis, and does it wrong as it is told.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	how   behaviour
	conns map[net.Conn]bool
}

// behaviour is what a proxy does to a connection that begins; the zero value is nothing.
type behaviour struct {
	delay  time.Duration // of each answer
	answer string        // to every command instead of Redis
	reset  int           // connections are reset after at most so many bytes of answers; 0 = never
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			how := p.how
			p.mu.Unlock()
			go func() {
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
			}()
		}
	}()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes what is done. The connections that there are end, so that no answer of before is
// taken for one to a later command.
func (p *proxy) set(how behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.how = how
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.set(behaviour{})
}

// pass carries bytes both ways until one side ends.
func (p *proxy) pass(c net.Conn, how behaviour) {
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		defer up.Close()
		io.Copy(up, c)
	}()
	if how.reset > 0 {
		io.CopyN(c, up, int64(rand.IntN(how.reset)))
		c.(*net.TCPConn).SetLinger(0)
		return
	}
	type chunk struct {
		due   time.Time
		bytes []byte
	}
	chunks := make(chan chunk, 1000)
	go func() {
		defer c.Close()
		for k := range chunks {
			time.Sleep(time.Until(k.due))
			if _, err := c.Write(k.bytes); err != nil {
				up.Close()
			}
		}
	}()
	defer close(chunks)
	for {
		b := make([]byte, 16<<10)
		n, err := up.Read(b)
		if n > 0 {
			chunks <- chunk{time.Now().Add(how.delay), b[:n]}
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
