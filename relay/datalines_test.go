package relay

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/metrics"
)

// spoken is a connection on which everything was said beforehand, and comes in pieces.
type spoken struct {
	net.Conn
	pieces []string
	heard  strings.Builder
	writes []string
	closed chan bool
}

func (s *spoken) over() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (s *spoken) Read(p []byte) (int, error) {
	if s.over() || len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *spoken) Write(p []byte) (int, error) {
	if s.over() {
		return 0, net.ErrClosed
	}
	s.writes = append(s.writes, string(p))
	return s.heard.Write(p)
}

func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }
func (s *spoken) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (s *spoken) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (s *spoken) Close() error                     { close(s.closed); return nil }

// taker takes messages as session does, with dataLines or without.
type taker struct {
	*conn
	fast  bool
	lines int // messages read by dataLines
	got   []string
}

func (b *taker) Mail(from string, _ *smtp.MailOptions) error {
	b.got = append(b.got, "MAIL "+from)
	b.enter(transaction)
	return nil
}
func (b *taker) Rcpt(to string, _ *smtp.RcptOptions) error { return nil }
func (b *taker) Reset()                                    { b.enter(idle) }
func (b *taker) Logout() error                             { return nil }
func (b *taker) Data(r io.Reader) error {
	b.flush()
	b.enter(data)
	if b.fast {
		if lines := b.dataLines(); lines != nil {
			b.lines++
			defer lines.close()
			r = io.MultiReader(lines, r)
		}
	}
	body, err := receive(r, 1<<20, func() (*os.File, error) { return nil, errors.New("no file") })
	if err != nil {
		b.got = append(b.got, err.Error())
		b.limitRest(1<<20, errors.Is(err, smtp.ErrTooLongLine))
		return answer(err)
	}
	text, err := io.ReadAll(io.NewSectionReader(body, 0, body.size))
	b.got = append(b.got, fmt.Sprintf("%q %v %v", text, body.header8Bit, err))
	return nil
}

// dialogue says the pieces to a server and returns what came of it.
func dialogue(pieces []string, fast bool) *taker {
	raw := &spoken{pieces: pieces, closed: make(chan bool)}
	p := testPool(1)
	c := &conn{Conn: raw, raw: raw, pool: p, idleTimeout: time.Minute}
	b := &taker{conn: c, fast: fast}
	v := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return b, nil }))
	v.Domain, v.MaxLineLength, v.ErrorLog = "gate.example.org", maxLine, p.log
	l := newHandover()
	served := make(chan bool)
	go func() { v.Serve(l); close(served) }()
	l.give(c)
	<-raw.closed
	v.Close()
	<-served
	b.got = append(b.got, raw.heard.String())
	return b
}

const toJoe = "EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\n"

// What is read below go-smtp is what go-smtp would have read, wherever the pieces end, and what
// follows is obeyed or not as before.
func sameAsBefore(t *testing.T, data string, step int) (read int) {
	t.Helper()
	all := toJoe + data + "\r\n.\r\nNOOP\r\n" + toJoe[len("EHLO x\r\n"):] + "next\r\n.\r\n"
	cut := func() (pieces []string) {
		pieces = []string{all[:len(toJoe)]}
		for rest := all[len(toJoe):]; rest != ""; {
			n := min(step, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		return pieces
	}
	slow, fast := dialogue(cut(), false), dialogue(cut(), true)
	if s, f := strings.Join(slow.got, "\n"), strings.Join(fast.got, "\n"); s != f {
		t.Fatalf("%.300q in steps of %d:\nbefore %.2000s\nnow    %.2000s", data, step, s, f)
	}
	return fast.lines
}

func TestDataLines(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	many := strings.Repeat("a line\r\n.with a dot\r\n", 10000)
	for _, data := range append([]string{
		"", "Subject: x\r\n\r\ntext", "..\r\n", ".", ".\r\n.", "a\r\n..b", "a\r\r\n.b", "a\nb", "\n.\n", "\x00", "ä: ö\r\n\r\nü",
		long, "a\r\n" + long + "\r\n..b", many, many + "\r\n..\r\n" + many, many[:64<<10] + "..", long + "\n.", ".\rx", "x\r\n.\r",
		strings.Repeat("x", maxLine+5), many + many + many + many + many + many,
	}, falseEnds...) {
		for _, step := range []int{1 << 20, 4096, 7, 1} {
			if step < 4096 && len(data) > 1000 {
				continue
			}
			if read := sameAsBefore(t, data, step); read == 0 {
				t.Fatalf("%.99q: go-smtp read all itself", data)
			}
		}
	}
}

func FuzzDataLines(f *testing.F) {
	for _, end := range falseEnds {
		f.Add("Subject: x\r\n\r\n..a"+end+smuggled, uint8(255))
	}
	f.Fuzz(func(t *testing.T, data string, step uint8) { sameAsBefore(t, data, int(step)+1) })
}

// A transfer by BDAT that was reset, and begins only when a later DATA was said, takes nothing of that
// message: the rest of it would pass for all.
func TestLateChunksTakeNoLines(t *testing.T) {
	b := start(t, nil)
	c := &conn{pool: b.Server.pool, lines: true, ahead: []byte("Subject: hello\r\n\r\nhello\r\n.\r\n")}
	s := &session{server: b.Server, conn: c, env: &envelope{rcpts: make([]rcpt, 1)}}
	r, w := io.Pipe()
	w.CloseWithError(smtp.ErrDataReset)
	if err := s.Data(r); err == nil {
		t.Error("it was accepted")
	}
	lines := c.dataLines()
	if lines == nil {
		t.Fatal("the lines are gone")
	}
	defer lines.close()
	if got, err := io.ReadAll(lines); string(got) != "Subject: hello\r\n\r\nhello\r\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// testPool holds up to max connections, of peers that all need no login.
func testPool(max int) *pool {
	return &pool{
		max: max, idleTimeout: time.Minute, hostname: "gate.example.org", log: journal{Logger: slog.New(slog.DiscardHandler)},
		known: func(*conn) bool { return true }, newID: func() string { return "1" }, metrics: metrics.New(), conns: map[*conn]struct{}{},
	}
}
