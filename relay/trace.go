package relay

import (
	"strings"
	"time"
)

// trace is what the Received field tells of a message's arrival, RFC 5321 §4.4.
type trace struct {
	id, helo, peer, hostname string
	with                     string // the protocol, RFC 3848 and RFC 6531 §4.3
	at                       time.Time
}

func (s *session) trace(id string, env *envelope) trace {
	t := trace{id: id, helo: s.helo, hostname: s.server.cfg.Hostname, with: s.protocol(env), at: s.server.cfg.Now()}
	switch {
	case !s.conn.peer.IsValid():
		t.peer = s.conn.who()
	case s.conn.peer.Is6():
		t.peer = "[IPv6:" + s.conn.peer.String() + "]"
	default:
		t.peer = "[" + s.conn.peer.String() + "]"
	}
	return t
}

// protocol names what a message came by, of the keywords at
// https://www.iana.org/assignments/mail-parameters (with, "S" for TLS and "A" for a login).
func (s *session) protocol(env *envelope) string {
	with := "ESMTP"
	switch {
	case s.lmtp && env.utf8:
		with = "UTF8LMTP"
	case s.lmtp:
		with = "LMTP"
	case env.utf8:
		with = "UTF8SMTP"
	}
	if s.conn.secure {
		with += "S"
	}
	if env.login != nil {
		with += "A"
	}
	return with
}

// received returns the field for the one recipient of a copy, with its CRLF. Naming the
// recipient tells nobody of another.
func (t trace) received(to string) []byte {
	b := make([]byte, 0, 256)
	add := func(parts ...string) {
		for _, p := range parts {
			b = append(b, p...)
		}
	}
	add("Received: ")
	if t.with != "" { // else it is a message of our own
		add("from ", t.helo, " (", t.peer, ")\r\n\t")
	}
	add("by ", t.hostname)
	if t.with != "" {
		add(" with ", t.with)
	}
	add(" id ", t.id, "\r\n\tfor <", to, ">; ")
	return append(t.at.AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700"), "\r\n"...)
}

// digits of an ID: Crockford's base 32, whose order is that of ASCII.
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

// newID names a connection, or a message of our own, by 16 characters that sort by time: 10 of milliseconds, 6 of a counter that begins
// at a random place, so that a restart within a millisecond makes no ID twice.
func (s *Server) newID() string {
	return inDigits(uint64(s.cfg.Now().UnixMilli()), 10) + inDigits(uint64(s.sequence.Add(1)), 6)
}

// inDigits writes the last n digits of v.
func inDigits(v uint64, n int) string {
	var b strings.Builder
	for i := n - 1; i >= 0; i-- {
		b.WriteByte(digits[v>>(5*i)&31])
	}
	return b.String()
}
