package main

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sink is a smarthost that takes everything, counts it and throws it away.
type sink struct {
	addr       string
	listener   net.Listener
	recipients atomic.Int64
	last       atomic.Int64 // when the last message was whole, in Unix nanoseconds

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	keep   chan []byte // where the next messages go, nil = nowhere
	tally  *tally      // where the next messages are counted, nil = nowhere
	wg     sync.WaitGroup
}

func startSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{addr: l.Addr().String(), listener: l, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if s.add(c) {
				s.wg.Go(func() { s.serve(c) })
			}
		}
	})
	return s, nil
}

func (s *sink) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// close ends all.
func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// capture sends each message from now on to into; nil ends that.
func (s *sink) capture(into chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = into
}

// tally is what a sink has got of the messages behind a number.
type tally struct {
	after   int64
	copies  atomic.Int64 // of all recipients
	mu      sync.Mutex
	arrived []event
}

// count begins a tally of the messages whose number is greater than after, and ends the one before.
func (s *sink) count(after int64) *tally {
	t := &tally{after: after}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally = t
	return t
}

func (t *tally) add(e event) {
	if t == nil || e.n <= t.after {
		return
	}
	t.mu.Lock()
	t.arrived = append(t.arrived, e)
	t.mu.Unlock()
	t.copies.Add(int64(e.recipients))
}

func (s *sink) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	r := bufio.NewReaderSize(c, 64<<10)
	w := bufio.NewWriter(c)
	w.WriteString("220 sink.example.org ESMTP\r\n")
	rcpts := 0
	for {
		// Answers to pipelined commands leave together (RFC 2920 §3.2).
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		switch string(bytes.ToUpper(verb)) {
		case "EHLO":
			w.WriteString("250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
		case "MAIL", "RSET":
			rcpts = 0
			w.WriteString("250 2.0.0 ok\r\n")
		case "RCPT":
			rcpts++
			w.WriteString("250 2.1.5 ok\r\n")
		case "DATA":
			w.WriteString("354 go on\r\n")
			if w.Flush() != nil {
				return
			}
			n, ok := s.data(r)
			if !ok {
				return
			}
			now := time.Now()
			s.mu.Lock()
			counted := s.tally
			s.mu.Unlock()
			counted.add(event{n, rcpts, now})
			s.last.Store(now.UnixNano())
			s.recipients.Add(int64(rcpts))
			rcpts = 0
			w.WriteString("250 2.0.0 taken\r\n")
		case "QUIT":
			w.WriteString("221 2.0.0 bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("502 5.5.1 not here\r\n")
		}
	}
}

// data reads a message to its final dot, RFC 5321 §4.1.1.4, and returns its number, 0 where it has
// none; ok is false where the connection broke.
func (s *sink) data(r *bufio.Reader) (n int64, ok bool) {
	s.mu.Lock()
	keep := s.keep
	s.mu.Unlock()
	var kept []byte
	lineStart, header := true, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull { // a part of a line that is longer than the buffer will do
			return 0, false
		}
		if lineStart && len(line) == 3 && string(line) == ".\r\n" {
			break
		}
		if header && lineStart {
			header = len(line) > 2 // to the empty line
			if found := numbered(line); found > 0 {
				n = found
			}
		}
		if keep != nil {
			if lineStart && line[0] == '.' {
				line = line[1:]
			}
			kept = append(kept, line...)
		}
		lineStart = err == nil
	}
	if keep != nil {
		keep <- kept
	}
	return n, true
}

// numbered returns the number that message.append wrote into the Message-ID field, 0 where line is
// another.
func numbered(line []byte) (n int64) {
	rest, ok := bytes.CutPrefix(line, []byte(messageID))
	if !ok {
		return 0
	}
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n
}
