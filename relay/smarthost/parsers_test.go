package smarthost

import (
	"bufio"
	"bytes"
	"io"
	"net"
	stdtextproto "net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/emersion/go-smtp"
)

// readOnly is a connection of which only what came in is read.
type readOnly struct {
	net.Conn
	*bytes.Reader
}

func (r readOnly) Read(p []byte) (int, error)    { return r.Reader.Read(p) }
func (readOnly) SetReadDeadline(time.Time) error { return nil }

var replyLines = regexp.MustCompile(`(?m)^(\d\d\d)`)
var bareCode = regexp.MustCompile(`(?m)^\d{3}\r?$`)

// FuzzReply: a reply is read as net/textproto reads it, one behind the other, and nothing else is taken
// for one; an enhanced code comes back in front of the text.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "250-2.0.0 a\r\n250 2.0.0 b\r\n", "550\r\n", "250-a\r\n251 b\r\n", "25 x\r\n", "250-a\r\n", "650 x\r\n", "250 \xff\n", "250_x\r\n", "550 5.1.1\r\n", "550 5.1.1 x\r\n250 ok\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		w := newWire(readOnly{Reader: bytes.NewReader(in)}, timeouts{})
		theirs := stdtextproto.NewReader(bufio.NewReader(bytes.NewReader(in)))
		for {
			got, err := w.read(time.Second)
			code, text, bad := theirs.ReadResponse(0)
			if err != nil {
				// It takes lines with other codes, any code of three digits, and a line without an end.
				if bad == nil && code >= 200 && code <= 599 && len(in) < maxReply && bytes.HasSuffix(in, []byte("\n")) {
					for _, m := range replyLines.FindAllStringSubmatch(string(in), -1) {
						if m[1] != replyLines.FindString(string(in)) {
							return
						}
					}
					if !strings.Contains(text, "\n") && strings.Count(string(in), "\n") == 1 {
						t.Fatalf("%q is no reply, %v; by net/textproto %d %q", in, err, code, text)
					}
				}
				return
			}
			if got.code < 200 || got.code > 599 || got.positive() && got.refusal() {
				t.Fatalf("%q is read as %+v", in, got)
			}
			if bad != nil || bareCode.Match(in) { // it wants a space behind the code, and takes a line without one for text
				return
			}
			lines := strings.Split(text, "\n")
			for i := range lines {
				lines[i] = printable(lines[i])
			}
			text = strings.Join(lines, "\n")
			if strings.ContainsFunc(got.text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Fatalf("%q is read as %+v, which steers a terminal", in, got)
			}
			if got.code != code || strings.TrimRight(got.text, " ") != strings.TrimRight(text, " ") {
				t.Fatalf("%q is read as %+v, by net/textproto %d %q", in, got, code, text)
			}
			r := got.reply()
			if r.Enhanced != [3]int{} && r.Enhanced[0] != got.code/100 {
				t.Fatalf("%+v has the enhanced code %v", got, r.Enhanced)
			}
			if r.Enhanced == [3]int{} && r.Text != got.text {
				t.Fatalf("%+v has the text %q", got, r.Text)
			}
		}
	})
}

// heard is what a server was told of an envelope.
type heard struct {
	from, to string
	mail     smtp.MailOptions
	rcpt     smtp.RcptOptions
}

func (h *heard) Mail(from string, o *smtp.MailOptions) error { h.from, h.mail = from, *o; return nil }
func (h *heard) Rcpt(to string, o *smtp.RcptOptions) error   { h.to, h.rcpt = to, *o; return nil }
func (*heard) Data(io.Reader) error                          { return nil }
func (*heard) Reset()                                        {}
func (*heard) Logout() error                                 { return nil }

// pipes is a listener of connections within the process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (pipes) Close() error   { return nil }
func (pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// FuzzCommands: MAIL and RCPT are one line each whatever stands in an envelope that checkPath lets
// through, and where go-smtp's server takes them it hears what was meant, and no parameter more.
func FuzzCommands(f *testing.F) {
	f.Add("news@example.org", "joe@example.com", "e1", "rfc822;x", byte(0), true)
	f.Add("", `"a b> NOTIFY=NEVER"@example.com`, "a=b +c", "jo+e@x", byte(7), false)
	f.Add("ä@example.org", "ö@example.com", "\x7f", "ü@x\\{", byte(15), true)
	f.Fuzz(func(t *testing.T, from, to, envid, orcpt string, bits byte, unicode bool) {
		if checkPath(from, true) != nil || checkPath(to, false) != nil {
			return
		}
		env := Envelope{From: from, To: to, UTF8: bits&1 != 0, EnvelopeID: envid, OriginalRecipient: orcpt, OriginalRecipientType: smtp.DSNAddressTypeRFC822}
		if bits&2 != 0 {
			env.Return = smtp.DSNReturnHeaders
		}
		if bits&4 != 0 {
			env.Notify = []smtp.DSNNotify{smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure}
		}
		if unicode {
			env.OriginalRecipientType = smtp.DSNAddressTypeUTF8
		}
		k := &kept{extensions: map[string]string{"8BITMIME": "", "SIZE": "", "SMTPUTF8": "", "DSN": ""}}
		mail, rcpt := k.appendMail(nil, &env, 42), k.appendRcpt(nil, &env)
		for _, line := range [][]byte{mail, rcpt} {
			if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }); i != len(line)-2 || !bytes.HasSuffix(line, []byte("\r\n")) {
				t.Fatalf("%q is not one line", line)
			}
		}
		got, ok := hear(t, mail, rcpt)
		if !ok {
			return
		}
		plain := func(s string) bool { return !strings.ContainsAny(s, `"\`) && !strings.HasPrefix(s, "@") }
		if plain(from) && got.from != from || plain(to) && got.to != to {
			t.Fatalf("%q and %q are heard as %q and %q", mail, rcpt, got.from, got.to)
		}
		if got.mail.UTF8 != env.UTF8 || got.mail.Return != env.Return || got.mail.Size != 42 || got.mail.Auth != nil || len(got.rcpt.Notify) != len(env.Notify) {
			t.Fatalf("%q and %q are heard as %+v", mail, rcpt, got)
		}
		if isPrintable(envid) && got.mail.EnvelopeID != envid {
			t.Fatalf("%q is heard as %q", mail, got.mail.EnvelopeID)
		}
		if isPrintable(orcpt) && got.rcpt.OriginalRecipient != orcpt {
			t.Fatalf("%q is heard as %q", rcpt, got.rcpt.OriginalRecipient)
		}
	})
}

// hear says both commands to go-smtp's server; ok is false where it refuses one.
func hear(t *testing.T, mail, rcpt []byte) (h *heard, ok bool) {
	h = &heard{}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return h, nil }))
	s.Domain, s.EnableDSN, s.EnableSMTPUTF8 = "hop.example.org", true, true
	client, server := net.Pipe()
	l := make(pipes, 1)
	l <- server
	close(l)
	served := make(chan struct{})
	go func() { s.Serve(l); close(served) }()
	defer func() { client.Close(); <-served; s.Close() }()
	w := newWire(client, timeouts{dataBlock: 10 * time.Second})
	say := func(line []byte) int {
		if line != nil {
			w.out = append(w.out, line...)
			if _, err := w.flush(); err != nil {
				t.Fatal(err)
			}
		}
		a, err := w.read(10 * time.Second)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return a.code
	}
	say(nil)
	say([]byte("EHLO client.example.org\r\n"))
	return h, say(mail) == 250 && say(rcpt) == 250
}

// FuzzURL: an address that is taken names a host and a port, or a socket, and an error repeats no password.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"smtp://mail.example.org", "smtps://[2001:db8::1]:465", "lmtp+unix:///run/x", "smtp://u:swordfish@h", "smtp:u:swordfish@h", "smtp:#:swordfish@", "lmtp://]", "smtp://h:x", "http://h", "smtp+starttls://h:587/?a", "lmtp://h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseURL(s)
		if err != nil {
			if strings.Contains(s, ":swordfish@") && strings.Contains(err.Error(), "swordfish") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if h.network == "unix" {
			if !strings.HasPrefix(h.addr, "/") || !h.lmtp {
				t.Fatalf("%q is %+v", s, h)
			}
			return
		}
		if host, port, err := net.SplitHostPort(h.addr); err != nil || host != h.host || host == "" || port == "" {
			t.Fatalf("%q is %q: %v", s, h.addr, err)
		}
	})
}
