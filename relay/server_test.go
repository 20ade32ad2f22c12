package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/metrics"
)

func TestNewRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := Config{Hostname: "gate.example.org", Listen: []string{"127.0.0.1:0"}, BaseURL: "https://mail.example.org"}
	for name, change := range map[string]func(*Config){
		"no hostname":     func(c *Config) { c.Hostname = "" },
		"hostname":        func(c *Config) { c.Hostname = "a b" },
		"no listener":     func(c *Config) { c.Listen = nil },
		"no base URL":     func(c *Config) { c.BaseURL = "" },
		"mailto":          func(c *Config) { c.MailTo = "nobody" },
		"no such address": func(c *Config) { c.Listen = []string{"nonsense"} },
		"port taken":      func(c *Config) { c.Listen = append(c.Listen, taken.Addr().String()) },
	} {
		cfg := good
		change(&cfg)
		_, err := New(cfg, &fixedStore{}, token.New(keyring.Ephemeral()), nil, nil)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if name == "port taken" && (!errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String())) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smtp")
	// A process that was killed leaves its socket file.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	listen := func(c *Config, _ *testbed) {
		c.Listen = []string{"unix:" + path}
		c.AllowNetworks = nil // a unix socket always may
	}
	b := start(t, listen)
	if got := b.hello().send("joe@example.com", newsletter); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	if h := header(b.sink.last(t).text); !strings.HasPrefix(h, "Received: from client.example.org (unix socket) by ") {
		t.Error(h)
	}
	// One that lives is not pushed aside, nor is a file that is no socket.
	cfg := Config{Hostname: "gate.example.org", BaseURL: "https://mail.example.org"}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, file} {
		cfg.Listen = []string{"unix:" + p}
		if _, err := New(cfg, &fixedStore{}, token.New(keyring.Ephemeral()), nil, nil); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestAllowNetworks(t *testing.T) {
	s := &Server{cfg: Config{Metrics: metrics.New()}}
	if err := s.Reload(Settings{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"192.0.2.7": true, "192.0.3.7": false, "::ffff:192.0.2.7": true, "2001:db8::1": true, "2001:db9::1": false, "::1": false} {
		g := &gate{pool: &pool{}, dialect: &dialect{}}
		c := g.connect(remote{net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1))})
		if got := s.allowed(c); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// remote is a connection of which only the peer's address is asked.
type remote struct{ addr net.Addr }

func (r remote) RemoteAddr() net.Addr             { return r.addr }
func (remote) LocalAddr() net.Addr                { return nil }
func (remote) Read([]byte) (int, error)           { return 0, io.EOF }
func (remote) Write(p []byte) (int, error)        { return len(p), nil }
func (remote) Close() error                       { return nil }
func (remote) SetDeadline(time.Time) error        { return nil }
func (remote) SetReadDeadline(t time.Time) error  { return nil }
func (remote) SetWriteDeadline(t time.Time) error { return nil }

func TestTooManyConnections(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) {
		c.MaxConnections = 2
		c.Listen = append(c.Listen, "127.0.0.1:0")
	})
	first, second := b.hello(), b.hello()
	third := b.dial()
	third.expect("421 4.7.0 gate.example.org too many connections")
	third.expectEnd()
	// The limit is for all listeners together.
	other, err := net.Dial("tcp", b.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got, _ := io.ReadAll(other); !strings.HasPrefix(string(got), "421 4.7.0") {
		t.Errorf("%q", got)
	}
	first.say("QUIT")
	first.expect("221")
	first.expectEnd()
	// The place is free once the server has closed too, which first has just seen.
	deadline := time.Now().Add(10 * time.Second)
	for {
		fourth := b.dial()
		got, err := fourth.reply()
		fourth.Close()
		if err == nil && strings.HasPrefix(got, "220") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got := second.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
}

func TestIdle(t *testing.T) {
	short := func(c *Config, _ *testbed) { c.IdleTimeout = 300 * time.Millisecond }
	t.Run("no greeting back", func(t *testing.T) {
		c := start(t, short).dial()
		c.expect("220")
		c.expect("421 4.4.2")
		c.expectEnd()
	})
	t.Run("in a transaction", func(t *testing.T) {
		c := start(t, short).hello()
		c.envelope("joe@example.com")
		c.expect("421 4.4.2")
		c.expectEnd()
	})
	t.Run("within DATA", func(t *testing.T) {
		b := start(t, short)
		c := b.hello()
		c.envelope("joe@example.com")
		c.say("DATA")
		c.expect("354")
		c.raw("Subject: hello\r\n\r\nhel")
		c.expect("421 4.4.2")
		c.expectEnd()
		if n := len(b.sink.got()); n != 0 {
			t.Errorf("%d messages", n)
		}
	})
	t.Run("within a BDAT chunk", func(t *testing.T) {
		b := start(t, short)
		c := b.hello()
		c.envelope("joe@example.com")
		c.raw("BDAT 100 LAST\r\nSubject: hello\r\n\r\nhel")
		c.expect("421 4.4.2 waited too long for the message")
		if n := len(b.sink.got()); n != 0 {
			t.Errorf("%d messages", n)
		}
	})
}

// A command without its end is not a command: go-smtp would run it all the same, and then take the
// silence behind it for the chunk's end.
func TestIdleWithinCommand(t *testing.T) {
	for name, cut := range map[string]struct{ said, want string }{
		"EHLO":           {"EHLO sho", "421 4.4.2"},
		"RCPT":           {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>", "421 4.4."},
		"DATA":           {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA", "421 4.4.2"},
		"BDAT":           {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nBDAT 100 LAST", "421 4.4.2"},
		"BDAT, second":   {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nBDAT 25\r\nSubject: hello\r\n\r\nhello\r\nBDAT 100 LAST", "421 4.4."},
		"between chunks": {"EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nBDAT 25\r\nSubject: hello\r\n\r\nhello\r\n", "421 4.4."},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, _ *testbed) { c.IdleTimeout = 100 * time.Millisecond })
			c := b.dial()
			c.raw(cut.said)
			last := ""
			for {
				got, err := c.reply()
				if err != nil {
					break
				}
				last = got
			}
			if !strings.HasPrefix(last, cut.want) {
				t.Errorf("the last answer is %q, want %q", last, cut.want)
			}
			b.stop()
			if err := <-b.done; err != nil {
				t.Fatal(err)
			}
			b.done <- nil
			if got := b.sink.got(); len(got) != 0 {
				t.Errorf("the smarthost got %q", got[0].text)
			}
		})
	}
}

// A client that does not read its answers is cut, however many commands it sends.
func TestDeaf(t *testing.T) {
	c := start(t, func(c *Config, _ *testbed) { c.IdleTimeout = 100 * time.Millisecond }).dial()
	commands := []byte(strings.Repeat("EHLO x\r\n", 10_000))
	for sent := 0; ; {
		n, err := c.Write(commands)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) || sent > 1<<30 {
			t.Fatalf("it is not, after %d bytes", sent)
		}
		if err != nil {
			break
		}
	}
}

// A slow but steady upload takes far longer than the idle timeout and is taken all the same.
func TestSlowAndSteady(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) { c.IdleTimeout = 400 * time.Millisecond })
	c := b.hello()
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range 20 {
		<-tick.C
		if i == 0 {
			c.raw("Subject: hello\r\n\r\n")
		}
		c.raw("slowly" + strings.Repeat(".", 60) + "\r\n") // over minRate
	}
	c.raw(".\r\n")
	c.expect("250 2.0.0")
	if n := strings.Count(b.sink.last(t).text, "slowly"); n != 20 {
		t.Errorf("%d lines", n)
	}
}

// A connection that breaks within a message must not have the first half delivered.
func TestHalfAMessage(t *testing.T) {
	for name, half := range map[string]string{
		"DATA":             "DATA\r\nSubject: hello\r\n\r\nhello\r\n",
		"DATA with a dot":  "DATA\r\nSubject: hello\r\n\r\nhello\r\n.",
		"BDAT LAST":        "BDAT 100 LAST\r\nSubject: hello\r\n\r\nhello\r\n",
		"BDAT LAST, empty": "BDAT 100 LAST\r\n",
		"BDAT":             "BDAT 100\r\nSubject: hello\r\n\r\nhello\r\n",
		"between chunks":   "BDAT 25\r\nSubject: hello\r\n\r\nhello\r\n",
		"no last chunk":    "BDAT 25\r\nSubject: hello\r\n\r\nhello\r\nQUIT\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, nil)
			c := b.hello()
			c.raw("MAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\n" + half)
			c.Conn.(*net.TCPConn).CloseWrite()
			for {
				if _, err := c.reply(); err != nil {
					break
				}
			}
			b.stop()
			if err := <-b.done; err != nil {
				t.Fatal(err)
			}
			b.done <- nil
			if got := b.sink.got(); len(got) != 0 {
				t.Errorf("the smarthost got %q", got[0].text)
			}
		})
	}
}

// A client may close its side once it has said all, and still reads the answers.
func TestHalfClosed(t *testing.T) {
	b := start(t, nil)
	c := b.dial()
	c.raw("EHLO x\r\nMAIL FROM:<news@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\nSubject: hello\r\n\r\nhello\r\n.\r\nQUIT\r\n")
	c.Conn.(*net.TCPConn).CloseWrite()
	for _, want := range []string{"220", "250", "250", "250", "354", "250 2.0.0", "221"} {
		c.expect(want)
	}
	c.expectEnd()
}

func TestTooLarge(t *testing.T) {
	for _, how := range []string{"DATA", "BDAT"} {
		t.Run(how, func(t *testing.T) {
			b := start(t, func(c *Config, _ *testbed) { c.MaxMessageBytes = 100_000 })
			c := b.hello()
			big := "Subject: big\r\n\r\n" + strings.Repeat("seventy bytes of a message that is too large, and more, and more.\r\n", 2000)
			c.envelope("joe@example.com")
			if how == "DATA" {
				c.say("DATA")
				c.expect("354")
				c.raw(big + ".\r\n")
			} else {
				c.raw("BDAT 90000\r\n" + big[:90000])
				c.expect("250")
				c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(big)-90000, big[90000:]))
			}
			c.expect("552 5.3.4")
			// The rest was not taken for commands, and the connection is in order.
			if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
				t.Error(got)
			}
			if n := len(b.sink.got()); n != 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// A client that goes on for ever behind a refusal is cut, and gets its answer.
func TestEndless(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) { c.MaxMessageBytes = 100_000 })
	c := b.hello()
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	line := []byte(strings.Repeat("and on and on\r\n", 1000))
	sent := 0
	for sent < 100<<20 {
		n, err := c.Write(line)
		if sent += n; err != nil {
			break
		}
	}
	if sent >= 100<<20 {
		t.Errorf("%d bytes were taken", sent)
	}
	if got, err := c.reply(); err == nil && !strings.HasPrefix(got, "552 5.3.4") {
		t.Errorf("%q", got)
	}
}

func TestLongLines(t *testing.T) {
	b := start(t, nil)
	c := b.hello()
	line := strings.Repeat("x", maxLine-10)
	if got := c.send("joe@example.com", "Subject: long\r\n\r\n"+line); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if !strings.Contains(b.sink.last(t).text, line) {
		t.Error("the line was changed")
	}
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	c.raw("Subject: too long\r\n\r\n" + line + line + "\r\n.\r\n")
	c.expect("554 5.6.0 a line is longer than")
	if n := len(b.sink.got()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// A client that is in the middle of a line of 10 MB gets its answer before the connection ends.
func TestVeryLongLine(t *testing.T) {
	c := start(t, nil).hello()
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	c.raw("Subject: " + strings.Repeat("x", 10<<20) + "\r\n\r\nhello\r\n.\r\n")
	c.expect("554 5.6.0 a line is longer than")
}

// What does not stay in memory goes through a file without a name, and comes out the same.
func TestLargeMessage(t *testing.T) {
	dir := t.TempDir()
	b := start(t, func(c *Config, _ *testbed) { c.TempDir = dir })
	b.sink.onData = func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("in the folder: %v, %v", left, err)
		}
	}
	c := b.hello()
	body := strings.Repeat("0123456789 is a line of the large message of this test, and there are many.\r\n", 40_000)
	if got := c.send("joe@example.com", "Subject: large\r\n\r\n"+body); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if !strings.Contains(b.sink.last(t).text, body) {
		t.Error("the body was changed")
	}
}

func TestFullDisk(t *testing.T) {
	for name, tt := range map[string]struct {
		tempFile func() (*os.File, error)
		want     string
	}{
		"full":      {func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }, "452 4.3.1 no room"},
		"no inodes": {func() (*os.File, error) { return nil, &os.PathError{Op: "open", Path: "/secret", Err: syscall.ENOSPC} }, "452 4.3.1 no room"},
		"broken":    {func() (*os.File, error) { return nil, &os.PathError{Op: "open", Path: "/secret", Err: syscall.EIO} }, "451 4.3.0 internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			b := prepare(t, nil)
			b.tempFile = tt.tempFile
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- b.Run(ctx) }()
			c := b.hello()
			got := c.send("joe@example.com", "Subject: large\r\n\r\n"+strings.Repeat("a line\r\n", 300_000))
			if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "secret") {
				t.Errorf("%q", got)
			}
			if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
				t.Errorf("a small one: %q", got)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	entered, goOn := make(chan bool), make(chan bool)
	b := start(t, func(_ *Config, b *testbed) {
		b.sink = newSink(b.t, nil)
		b.sink.onData = func() { entered <- true; <-goOn }
	})
	lazy := b.hello()  // says nothing
	early := b.hello() // has begun
	early.envelope("joe@example.com")
	busy := b.hello() // waits for the smarthost
	busy.envelope("ann@example.com")
	busy.say("DATA")
	busy.expect("354")
	busy.raw("Subject: hello\r\n\r\nhello\r\n.\r\n")
	<-entered

	b.stop()
	lazy.expect("421 4.4.2")
	lazy.expectEnd()
	// Who is idle hears of it a moment before the listener closes.
	refused := false
	for range 1000 {
		c, err := net.Dial("tcp", b.Addrs()[0].String())
		if refused = err != nil; refused {
			break
		}
		c.Close()
		runtime.Gosched()
	}
	if !refused {
		t.Error("a new connection is still taken")
	}
	// Transactions under way end, and no other begins behind them.
	early.say("DATA")
	early.expect("354")
	early.raw("Subject: hello\r\n\r\nhello\r\n.\r\n")
	<-entered
	select {
	case err := <-b.done:
		t.Fatalf("Run ended before its transactions: %v", err)
	default:
	}
	busy.raw("MAIL FROM:<second@example.org>\r\n")
	goOn <- true
	goOn <- true
	busy.expect("250 2.0.0")
	early.expect("250 2.0.0")
	busy.expect("421 4.")
	early.expect("421 4.4.2")
	if err := <-b.done; err != nil {
		t.Error(err)
	}
	b.done <- nil
	if n := len(b.sink.got()); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// What is not done in time is cut.
func TestDrainEnds(t *testing.T) {
	entered, goOn := make(chan bool, 1), make(chan bool)
	defer close(goOn)
	b := prepare(t, func(_ *Config, b *testbed) {
		b.sink = newSink(b.t, nil)
		b.sink.onData = func() { entered <- true; <-goOn }
	})
	b.drainTime = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stuck := b.hello()
	stuck.envelope("joe@example.com")
	c := b.hello()
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	c.raw("Subject: hello\r\n\r\nhello\r\n.\r\n")
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not end")
	}
	// That message may have been delivered or not, so it is not answered with yes.
	if got, err := c.reply(); err == nil && strings.HasPrefix(got, "2") {
		t.Errorf("%q", got)
	}
}

// A server that is stopped at once, or before it began, ends too.
func TestStopAtOnce(t *testing.T) {
	for range 20 {
		b := prepare(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := b.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// A listener that breaks is Run's error.
func TestListenerFails(t *testing.T) {
	b := prepare(t, nil)
	b.listeners[0].Close()
	if err := b.Run(context.Background()); err == nil {
		t.Error("no error")
	}
}

func TestID(t *testing.T) {
	b := prepare(t, nil)
	defer b.closeListeners()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b.cfg.Now = func() time.Time { now = now.Add(time.Millisecond); return now }
	last, seen := "", map[string]bool{}
	for range 1000 {
		id := b.newID()
		if len(id) != 16 || strings.Trim(id, digits) != "" || id[:10] <= last || seen[id] {
			t.Fatalf("%q after %q", id, last)
		}
		last, seen[id] = id[:10], true
	}
}
