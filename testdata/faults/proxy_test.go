package main

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// proxyToEcho is a proxy before a server that says what it hears.
func proxyToEcho(t *testing.T) *proxy {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	p, err := newProxy(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close() })
	return p
}

func TestProxy(t *testing.T) {
	p := proxyToEcho(t)
	const get = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
	ask := func(how behaviour, send string, size int) (string, time.Duration, error) {
		t.Helper()
		p.set(how)
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		begin := time.Now()
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		n, err := io.ReadFull(c, b)
		return string(b[:n]), time.Since(begin), err
	}
	if got, _, err := ask(behaviour{}, get, len(get)); got != get {
		t.Errorf("passed %q, %v", got, err)
	}
	if got, took, err := ask(behaviour{delay: 50 * time.Millisecond}, get, len(get)); got != get || took < 50*time.Millisecond {
		t.Errorf("delayed %q, %v, %v", got, took, err)
	}
	hello := "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"
	want := "%1\r\n$5\r\nproto\r\n:3\r\n-ERR no\r\n-ERR no\r\n"
	if got, _, err := ask(behaviour{answer: "-ERR no\r\n"}, hello+get+get, len(want)); got != want {
		t.Errorf("answered %q, %v", got, err)
	}
	if got, _, err := ask(behaviour{reset: 10}, get, len(get)); err == nil || len(got) >= 10 {
		t.Errorf("reset, and %q came, %v", got, err)
	}
	// What there was ends when the behaviour changes.
	p.set(behaviour{})
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, get); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(get))); err != nil {
		t.Fatal(err)
	}
	p.set(behaviour{})
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("it goes on: %v", err)
	}
}

// What a hole holds up goes on later, over the same connection; who is away is refused; what was cut is told.
func TestProxyHoleAwayAndCut(t *testing.T) {
	p := proxyToEcho(t)
	told := make(chan string, 10)
	p.cut = func(client string) { told <- client }
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn, text string, wait time.Duration) error {
		c.SetDeadline(time.Now().Add(wait))
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, len(text)))
		return err
	}
	c := dial()
	if err := say(c, "hello", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.swallow()
	var timeout net.Error
	if err := say(c, "held", 100*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("through the hole: %v", err)
	}
	p.release()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Errorf("what was held up does not go on: %v", err)
	}
	if len(told) > 0 {
		t.Errorf("%s was cut", <-told)
	}

	p.away()
	if client := <-told; client == "" {
		t.Error("nobody was cut")
	}
	if c, err := net.Dial("tcp", p.addr); err == nil {
		c.Close()
		t.Error("it is away, and takes a connection")
	}
	if err := p.back(); err != nil {
		t.Fatal(err)
	}
	if err := say(dial(), "hello", 5*time.Second); err != nil {
		t.Errorf("it is back: %v", err)
	}
	p.set(behaviour{resetUp: 10})
	for len(told) > 0 {
		<-told
	}
	c, err := net.Dial("tcp", p.addr)
	if err == nil { // it may be reset before it is known to be there
		defer c.Close()
		err = say(c, "a message that is cut", 5*time.Second)
	}
	if err == nil {
		t.Error("nothing was reset")
	}
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Error("the reset was not told")
	}
}
