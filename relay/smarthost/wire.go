package smarthost

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// wire is a connection to a next hop, and the lines of SMTP and LMTP on it.
type wire struct {
	net.Conn
	limit timeouts
	r     *bufio.Reader
	out   []byte // what is to be sent, from begin on
}

const (
	maxReply  = 64 << 10 // bytes of one reply, all of its lines; RFC 5321 §4.5.3.1.5 wants 512 a line
	blockSize = 64 << 10 // bytes that are sent at once
)

func newWire(conn net.Conn, limit timeouts) *wire {
	return &wire{Conn: conn, limit: limit, r: bufio.NewReaderSize(conn, 1<<10)}
}

// flush sends what is in w.out. left is how many bytes of it were not handed over, 0 without an error.
func (w *wire) flush() (left int, err error) {
	if len(w.out) == 0 {
		return 0, nil
	}
	w.SetWriteDeadline(time.Now().Add(w.limit.dataBlock))
	n, err := w.Conn.Write(w.out)
	left = len(w.out) - n
	w.out = w.out[:0]
	return left, err
}

// ask sends one command and reads the reply to it.
func (w *wire) ask(wait time.Duration, command string) (answer, error) {
	w.out = append(append(w.out, command...), "\r\n"...)
	if _, err := w.flush(); err != nil {
		return answer{}, err
	}
	return w.read(wait)
}

// answer is a reply: its code, and its lines without the code, parted by "\n", as printable leaves them.
type answer struct {
	code int
	text string
}

// Error is the reply on one line, where it is no good news.
func (a answer) Error() string {
	return strconv.Itoa(a.code) + " " + strings.ReplaceAll(a.text, "\n", " ")
}

func (a answer) positive() bool { return a.code/100 == 2 }
func (a answer) refusal() bool  { return a.code/100 == 4 || a.code/100 == 5 }

// read reads one reply, RFC 5321 §4.2. The error says that none came in time, or that it was none.
func (w *wire) read(wait time.Duration) (answer, error) {
	w.SetReadDeadline(time.Now().Add(wait))
	var a answer
	var lines []byte
	for size := 0; ; {
		line, err := w.line(maxReply - size)
		if err != nil {
			return answer{}, err
		}
		size += len(line)
		code, text, more, ok := parseLine(line)
		if !ok || a.code != 0 && code != a.code {
			return answer{}, fmt.Errorf("this is no SMTP reply: %.60q", line)
		}
		a.code = code
		if !more && lines == nil {
			a.text = text
			return a, nil
		}
		if lines != nil {
			lines = append(lines, '\n')
		}
		lines = append(lines, text...)
		if !more {
			a.text = string(lines)
			return a, nil
		}
		if lines == nil {
			lines = []byte{}
		}
	}
}

var errNoEnd = errors.New("the reply has no end")

// line reads a line of at most limit bytes, without its end. Like most programs it takes a bare LF.
func (w *wire) line(limit int) (string, error) {
	var long []byte
	for {
		part, err := w.r.ReadSlice('\n')
		if len(long)+len(part) > limit {
			return "", errNoEnd
		}
		if err == bufio.ErrBufferFull {
			long = append(long, part...)
			continue
		}
		if err != nil {
			return "", err
		}
		if long != nil {
			part = append(long, part...)
		}
		return strings.TrimSuffix(string(part[:len(part)-1]), "\r"), nil
	}
}

// parseLine takes a line of a reply apart; more says that another one follows.
func parseLine(line string) (code int, text string, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return 0, "", false, false
		}
		code = code*10 + int(line[i]-'0')
	}
	if len(line) == 3 {
		return code, "", false, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, printable(line[4:]), line[3] == '-', true
}

// printable puts a question mark in the place of what a terminal obeys or does not show, since what a next hop says is
// printed and logged. It is UTF-8 then.
func printable(line string) string {
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return strings.Map(Printable, line)
		}
	}
	return line
}

// Printable is r where it may be shown to people: a blank for white space, and a question mark for what steers a
// terminal, a header field or the direction of writing, or is no UTF-8.
func Printable(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case !unicode.IsPrint(r) || r == utf8.RuneError:
		return '?'
	}
	return r
}

// reply is a as the package's callers get it. An enhanced code (RFC 2034 §4: at the beginning of each
// line) counts where its class is that of the reply (RFC 3463 §2); anything else is text.
func (a answer) reply() Reply {
	r := Reply{Code: a.code, Text: a.text}
	first, rest, _ := strings.Cut(a.text, " ")
	if e, ok := parseEnhanced(first); ok && e[0] == a.code/100 {
		r.Enhanced = e
		r.Text = strings.ReplaceAll(rest, "\n"+first+" ", "\n")
	}
	return r
}

// parseEnhanced reads a status code of RFC 3463 §2.
func parseEnhanced(s string) (e [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 10)
		if err != nil || n > 999 {
			return e, false
		}
		e[i] = int(n)
	}
	return e, true
}
