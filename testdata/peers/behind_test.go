package peers

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// smarthost is what the tests of a smarthost want to know of it.
type smarthost struct {
	end     *sink  // where it sends
	refused string // what its answer to "unknown" holds
	spool   bool   // the gateway answers before it asks the smarthost
	no8Bit  bool   // it does not pass on that a message is 8-bit
	open    func() // from now on it takes mail for "later"; before, it answers 4yz
}

// sender logs in under TLS.
func sender(t testing.TB, g *gateway) *smtp.Client {
	t.Helper()
	c, err := smtp.DialStartTLS("127.0.0.1:"+g.smtp, g.trust(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Auth(sasl.NewPlainClient("", loginName, loginPassword)); err != nil {
		t.Fatal(err)
	}
	return c
}

// submit sends a message with all that DSN knows, and returns the answer.
func submit(t testing.TB, c *smtp.Client, text, from string, utf8 bool, to ...string) error {
	t.Helper()
	if err := c.Mail(from, &smtp.MailOptions{UTF8: utf8, Body: smtp.Body8BitMIME, EnvelopeID: "order-7", Return: smtp.DSNReturnHeaders}); err != nil {
		t.Fatal(err)
	}
	for _, who := range to {
		kind := smtp.DSNAddressTypeRFC822
		if utf8 {
			kind = smtp.DSNAddressTypeUTF8
		}
		if err := c.Rcpt(who, &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed}, OriginalRecipientType: kind, OriginalRecipient: "old." + who}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return w.Close()
}

// check sends through g to a smarthost, and looks at what came to the end.
func (s smarthost) check(t *testing.T, g *gateway) {
	g.agree(t, "both@example.org")
	c := sender(t, g)

	const from = "news@shop.example.net"
	if err := submit(t, c, letter, from, false, "none@example.org", "both@example.org", "unknown@example.org", "later@example.org"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"none@example.org", "both@example.org"} {
		m := s.end.await(t, from, to)
		g.judge(t, m, to == "both@example.org")
		if m.options.EnvelopeID != "order-7" || m.options.Return != smtp.DSNReturnHeaders || m.options.Body != smtp.Body8BitMIME && !s.no8Bit ||
			m.rcpt.OriginalRecipient != "old."+to || fmt.Sprint(m.rcpt.Notify) != "[FAILURE DELAY]" && fmt.Sprint(m.rcpt.Notify) != "[DELAY FAILURE]" {
			t.Errorf("%s: what was said about reports and 8-bit came as %+v %+v", to, m.options, m.rcpt)
		}
	}
	report := s.end.await(t, "", from)
	for _, want := range []string{"Reporting-MTA: dns; gate.example.org", "Final-Recipient: rfc822; unknown@example.org", "Original-Recipient: rfc822; old.unknown@example.org", s.refused} {
		if !strings.Contains(string(report.text), want) {
			t.Errorf("the report lacks %q:\n%s", want, report.text)
		}
	}
	// The one who was put off waits, and comes once.
	if left := g.queued(t); !strings.Contains(left, "example.org") {
		t.Errorf("nothing waits: %s", left)
	}
	s.open()
	g.judge(t, s.end.await(t, from, "later@example.org"), false)

	// Alone, a refusal is the answer, in the smarthost's own words; from the spool it is a report.
	err := submit(t, c, letter, "alone@shop.example.net", false, "unknown@example.org")
	switch {
	case s.spool && err == nil:
		if m := s.end.await(t, "", "alone@shop.example.net"); !strings.Contains(string(m.text), s.refused) {
			t.Errorf("the report lacks %q:\n%s", s.refused, m.text)
		}
	case s.spool || err == nil || !strings.Contains(err.Error(), s.refused):
		t.Errorf("one who is refused alone: %v", err)
	}
	if err := submit(t, c, strings.Replace(letter, "X-Folded: one", "X-Folded: grün", 1), "zoë@shop.example.net", true, "zoë@example.org"); err != nil {
		t.Errorf("SMTPUTF8: %v", err)
	} else if m := s.end.await(t, "zoë@shop.example.net", "zoë@example.org"); !m.options.UTF8 || m.rcpt.OriginalRecipientType != smtp.DSNAddressTypeUTF8 || m.rcpt.OriginalRecipient != "old.zoë@example.org" {
		t.Errorf("SMTPUTF8 came as %+v %+v", m.options, m.rcpt)
	} else {
		g.verify(t, m)
		tracked(t, m, false)
	}
	for range every(t, 20*time.Millisecond, 20*time.Second) {
		if strings.HasPrefix(g.queued(t), "nothing waits") {
			break
		}
	}
	if left := g.queued(t); !strings.HasPrefix(left, "nothing waits") {
		t.Errorf("still in the spool:\n%s", left)
	}
	for _, to := range []string{"none@example.org", "both@example.org", "later@example.org"} {
		if n := len(s.end.of(from, to)); n != 1 {
			t.Errorf("%d copies for %s", n, to)
		}
	}
	g.stop(t) // before the smarthost, which waits for the connections that are kept to it
}

var modes = []string{"cutthrough", "spool"}

// Postfix as smarthost, by STARTTLS with its certificate checked. It greylists by a policy service.
func TestPostfixBehind(t *testing.T) {
	t.Parallel()
	needsRoot(t, "Postfix")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			end := startSink(t)
			port, policy := freePort(t), startPolicy(t)
			g := startGateway(t, "smtp+starttls://localhost:"+port, `mode = "cutthrough"`, `mode = "`+mode+`"`)
			p := startPostfix(t, port, fmt.Sprintf(`relayhost = [127.0.0.1]:%s
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
smtpd_recipient_restrictions = check_recipient_access inline:{ {unknown@example.org = 550 5.1.1 %s} }, check_policy_service inet:127.0.0.1:%s
`, end.port, g.cert, g.key, noSuchPerson, policy.port), port+" inet n - n - 10 smtpd\n")
			smarthost{end: end, refused: noSuchPerson, spool: mode == "spool", open: policy.open}.check(t, g)
			p.empty(t)
		})
	}
}

// policy is a policy service of Postfix's that puts off who is called "later" until it is opened.
type policy struct {
	port string
	mu   sync.Mutex
	yes  bool
}

func startPolicy(t testing.TB) *policy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &policy{port: fmt.Sprint(l.Addr().(*net.TCPAddr).Port)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close() })
	return p
}

// serve answers requests, which are lines of name=value up to an empty one.
func (p *policy) serve(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	action := "dunno"
	for lines.Scan() {
		p.mu.Lock()
		if line := lines.Text(); strings.HasPrefix(line, "recipient=later@") && !p.yes {
			action = "450 4.7.1 greylisted, come again"
		} else if line == "" {
			fmt.Fprintf(c, "action=%s\n\n", action)
			action = "dunno"
		}
		p.mu.Unlock()
	}
}

func (p *policy) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.yes = true
}
