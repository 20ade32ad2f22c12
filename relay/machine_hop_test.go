package relay

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// What a scripted next hop does with one attempt to deliver to a recipient.
const (
	hopAccepts        = iota
	hopRcptLater      // 450 to RCPT
	hopRcptRefused    // 550 to RCPT
	hopDataLater      // 451 behind the dot
	hopDataRefused    // 554 behind the dot
	hopDropsAtRcpt    // the connection ends instead of the reply to RCPT
	hopDropsWithin    // and within the message
	hopDropsKept      // and behind the dot, and the hop has the copy
	hopDropsUnkept    // and behind the dot, and it has not
	hopSaysNonsense   // behind the dot, and it has not
	hopSlow           // nothing is said behind the dot until the script is over, then 250
	hopSlowAndRefuses // the same, then 554
	hopBehaviours
)

// deed is what a copy is to the machine: a transaction, named by its ENVID, and a recipient with
// the reports that were asked for.
type deed struct {
	tx     string
	person string
	notify string
}

// arrived counts what came of the copies of one deed.
type arrived struct {
	acknowledged int // 250 was said
	kept         int // acknowledged, and those that the hop has without having said so
	uncertain    int // how often it has said nothing that makes sense behind the dot
	refused      int // for good
	texts        []string
}

// scriptedHop is a next hop that does with each recipient's attempts what it was told, in that
// order, and accepts what comes behind.
type scriptedHop struct {
	l        net.Listener
	released chan struct{} // closed when the slow ones may answer

	mu      sync.Mutex
	script  map[string][]int // by person
	copies  map[deed]*arrived
	reports map[string]map[string]int // by the sender that they go to, and the recipient that they name
	conns   map[net.Conn]struct{}
	wg      sync.WaitGroup
}

func newScriptedHop(t testing.TB) *scriptedHop {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &scriptedHop{l: l, released: make(chan struct{}), script: map[string][]int{}, copies: map[deed]*arrived{},
		reports: map[string]map[string]int{}, conns: map[net.Conn]struct{}{}}
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns[c] = struct{}{}
			h.mu.Unlock()
			h.wg.Go(func() {
				h.serve(c)
				c.Close()
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
			})
		}
	})
	return h
}

// then adds what is done with a later attempt for a person.
func (h *scriptedHop) then(person string, does int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script[person] = append(h.script[person], does)
}

// next is what is done with this attempt.
func (h *scriptedHop) next(person string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.script[person]
	if len(left) == 0 {
		return hopAccepts
	}
	h.script[person] = left[1:]
	return left[0]
}

func (h *scriptedHop) close() {
	h.l.Close()
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *scriptedHop) note(d deed, f func(*arrived)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.copies[d]
	if a == nil {
		a = &arrived{}
		h.copies[d] = a
	}
	f(a)
}

var (
	hopEnvelopeID = regexp.MustCompile(` ENVID=(\S+)`)
	hopNotify     = regexp.MustCompile(` NOTIFY=(\S+)`)
	hopAddress    = regexp.MustCompile(`<([^@>]*)`)
	hopReported   = regexp.MustCompile(`(?m)^Final-Recipient: rfc822; ([^@]+)@`)
)

func (h *scriptedHop) serve(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(s string) bool { _, err := io.WriteString(c, s+"\r\n"); return err == nil }
	if !say("220 hop.example.org ESMTP") {
		return
	}
	var d deed
	does, open, taken := hopAccepts, false, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "250 2.0.0 ok"
		switch verb {
		case "EHLO":
			answer = "250-hop.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN"
			open, taken = false, false
		case "RSET":
			open, taken = false, false
		case "MAIL":
			if open { // RFC 5321 §4.1.4
				answer = "503 5.5.1 nested MAIL"
				break
			}
			d, open, taken = deed{}, true, false
			if m := hopEnvelopeID.FindStringSubmatch(line); m != nil {
				d.tx = m[1]
			}
		case "RCPT":
			if !open {
				answer = "503 5.5.1 no MAIL"
				break
			}
			d.person = hopAddress.FindStringSubmatch(line)[1]
			if m := hopNotify.FindStringSubmatch(line); m != nil {
				d.notify = m[1]
			}
			switch does = h.next(d.person); does {
			case hopRcptLater:
				answer = "450 4.2.1 greylisted"
			case hopRcptRefused:
				h.note(d, func(a *arrived) { a.refused++ })
				answer = "550 5.1.1 no such user"
			case hopDropsAtRcpt:
				return
			}
			taken = answer[0] == '2'
		case "DATA":
			if !taken {
				answer = "554 5.5.1 no valid recipients"
				break
			}
			if !say("354 go on") || does == hopDropsWithin {
				return
			}
			var text strings.Builder
			for line = ""; line != ".\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
				if line != ".\r\n" {
					text.WriteString(strings.TrimPrefix(line, "."))
				}
			}
			open, taken = false, false
			if answer = h.dot(d, does, text.String()); answer == "" {
				return
			}
		case "QUIT":
			say("221 2.0.0 bye")
			return
		}
		if !say(answer) {
			return
		}
	}
}

// dot takes a message and returns what is said to it; "" ends the connection.
func (h *scriptedHop) dot(d deed, does int, text string) string {
	if d.tx == "" { // no envelope of the machine's: a report
		h.mu.Lock()
		defer h.mu.Unlock()
		named := h.reports[d.person]
		if named == nil {
			named = map[string]int{}
			h.reports[d.person] = named
		}
		for _, m := range hopReported.FindAllStringSubmatch(text, -1) {
			named[m[1]]++
		}
		return "250 2.0.0 ok"
	}
	if does == hopSlow || does == hopSlowAndRefuses {
		<-h.released
	}
	switch does {
	case hopDataLater:
		return "451 4.3.0 later"
	case hopDataRefused, hopSlowAndRefuses:
		h.note(d, func(a *arrived) { a.refused++ })
		return "554 5.7.1 no"
	case hopDropsKept:
		h.note(d, func(a *arrived) { a.uncertain++; a.kept++; a.texts = append(a.texts, text) })
		return ""
	case hopDropsUnkept:
		h.note(d, func(a *arrived) { a.uncertain++ })
		return ""
	case hopSaysNonsense:
		h.note(d, func(a *arrived) { a.uncertain++ })
		return "nonsense"
	}
	h.note(d, func(a *arrived) { a.acknowledged++; a.kept++; a.texts = append(a.texts, text) })
	return "250 2.0.0 ok"
}
