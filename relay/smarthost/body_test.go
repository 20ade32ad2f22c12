package smarthost

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// memory is a connection that keeps what is written, up to a limit.
type memory struct {
	net.Conn
	bytes.Buffer
	limit int // 0 = none
}

func (m *memory) Read([]byte) (int, error)         { return 0, io.EOF }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
func (m *memory) Write(p []byte) (int, error) {
	if m.limit > 0 && m.Len()+len(p) > m.limit {
		n, _ := m.Buffer.Write(p[:m.limit-m.Len()])
		return n, errors.New("cut off")
	}
	return m.Buffer.Write(p)
}

// dotted sends the pieces and the final dot.
func dotted(m *memory, pieces ...[]byte) (sent bool, err error) {
	b := newBody(newWire(m, rfc5321))
	for _, p := range pieces {
		if _, err := b.Write(p); err != nil {
			return false, err
		}
	}
	return b.end()
}

func TestBody(t *testing.T) {
	for in, want := range map[string]string{
		"":                     ".\r\n",
		"x\r\n":                "x\r\n.\r\n",
		"x":                    "x\r\n.\r\n",
		".":                    "..\r\n.\r\n",
		".\r\n":                "..\r\n.\r\n",
		"a\r\n.\r\n..\r\nb":    "a\r\n..\r\n...\r\nb\r\n.\r\n",
		"\r\n.b\r\n.\r\n.\r\n": "\r\n..b\r\n..\r\n..\r\n.\r\n",
		"a.b\r\nc.":            "a.b\r\nc.\r\n.\r\n",
	} {
		var m memory
		if _, err := dotted(&m, []byte(in)); err != nil || m.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, m.String(), err, want)
		}
	}
	for _, in := range []string{"\n", "a\nb", "a\rb", "a\r", "\r\r\n", "a\n\r", "a\r\n\n.\r\n", "a\r\n\r.\r\n", "a\n.\r\n", "\r"} {
		for cut := range len(in) + 1 {
			var m memory
			if _, err := dotted(&m, []byte(in[:cut]), []byte(in[cut:])); !errors.Is(err, errLineEnds) || strings.HasSuffix(m.String(), "\r\n.\r\n") {
				t.Errorf("%q cut at %d: %q, error %v", in, cut, m.String(), err)
			}
		}
	}
}

// Across the blocks that are sent.
func TestBodyOfManyBlocks(t *testing.T) {
	in := bytes.Repeat([]byte(".line\r\n"), 40000)
	for _, step := range []int{len(in), blockSize, 1000, 7} {
		var m memory
		var pieces [][]byte
		for rest := in; len(rest) > 0; {
			n := min(len(rest), step)
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if _, err := dotted(&m, pieces...); err != nil {
			t.Fatal(err)
		}
		if want := append(bytes.Repeat([]byte("..line\r\n"), 40000), ".\r\n"...); !bytes.Equal(m.Bytes(), want) {
			t.Errorf("in steps of %d: %d bytes, want %d", step, m.Len(), len(want))
		}
	}
}

// Where the final dot was handed over in part, the next hop may have it; before, it does not.
func TestBodyCutOff(t *testing.T) {
	text := []byte("Subject: x\r\n\r\nhello\r\n")
	all := len(text) + len(".\r\n")
	for limit := 1; limit < all; limit++ {
		sent, err := dotted(&memory{limit: limit}, text)
		if err == nil || sent != (limit > len(text)) {
			t.Errorf("%d of %d bytes: sent %v, error %v", limit, all, sent, err)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n..\r\n"), uint16(3), false)
	f.Add([]byte(".\r\n\r\n.\r"), uint16(1), false)
	f.Fuzz(func(t *testing.T, in []byte, step uint16, strict bool) {
		if strict { // most of what is made up would be refused
			in = bytes.ReplaceAll(bytes.ReplaceAll(in, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		}
		var pieces [][]byte
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		var m memory
		sent, err := dotted(&m, pieces...)
		pairs := bytes.Count(in, []byte("\r\n"))
		if good := bytes.Count(in, []byte("\r")) == pairs && bytes.Count(in, []byte("\n")) == pairs; !good {
			if !errors.Is(err, errLineEnds) {
				t.Fatalf("%.99q in steps of %d: error %v", in, step, err)
			}
			return
		}
		if err != nil || !sent {
			t.Fatalf("%.99q in steps of %d: %v", in, step, err)
		}
		r := bufio.NewReader(&m.Buffer)
		got, err := textproto.NewReader(r).ReadDotBytes()
		want := bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
		if len(want) > 0 && want[len(want)-1] != '\n' {
			want = append(want, '\n')
		}
		if err != nil || !bytes.Equal(got, want) || r.Buffered() > 0 {
			t.Fatalf("%.99q in steps of %d: read back %.99q, %v, %d bytes behind", in, step, got, err, r.Buffered())
		}
	})
}
