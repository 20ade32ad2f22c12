package peers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// Postfix hands its mail to the gateway: by STARTTLS and by implicit TLS, logged in, the
// certificate checked; and by LMTP.
func TestPostfixInFront(t *testing.T) {
	t.Parallel()
	needsRoot(t, "Postfix")
	end := startSink(t)
	g := startGateway(t, end.url())
	starttls, secure := "[localhost]:"+g.smtp, "[localhost]:"+g.smtps
	p := startPostfix(t, "", fmt.Sprintf(`
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{ {%[1]s = %[3]s:%[4]s}, {%[2]s = %[3]s:%[4]s} }
smtp_tls_CAfile = %[5]s
smtp_tls_security_level = verify
smtp_tls_verify_cert_match = hostname
transport_maps = inline:{ {starttls.example.org = gate-starttls:%[1]s}, {single.example.org = gate-single:%[1]s}, {tls.example.org = gate-tls:%[2]s}, {lmtp.example.org = gate-lmtp:unix:%[6]s} }
default_transport = gate-starttls:%[1]s
`, starttls, secure, loginName, loginPassword, g.ca, filepath.Join(g.dir, "lmtp")),
		gate("gate-starttls", "smtp", "smtp_sasl_mechanism_filter=plain")+
			gate("gate-single", "smtp", "smtp_sasl_mechanism_filter=login")+
			gate("gate-tls", "smtp", "smtp_tls_wrappermode=yes", "smtp_sasl_mechanism_filter=login")+
			gate("gate-lmtp", "lmtp"))
	p.own(t, filepath.Join(g.dir, "lmtp"))

	for _, c := range []struct {
		name, domain, with string
	}{{"STARTTLS", "starttls", "ESMTPSA"}, {"implicit TLS", "tls", "ESMTPSA"}, {"LMTP", "lmtp", "LMTP"}} {
		t.Run(c.name, func(t *testing.T) {
			from := c.domain + "@shop.example.net"
			none, both, later, refused := "none@"+c.domain+".example.org", "both@"+c.domain+".example.org", "later@"+c.domain+".example.org", "refused@"+c.domain+".example.org"
			g.agree(t, both)
			// All in one: the sender hears of the one who is refused by a report, and of nobody else.
			p.sendmail(t, letter, from, "-N", "failure,delay", "-V", "order-7", none, both, later, refused)
			for _, to := range []string{none, both, later} {
				m := end.await(t, from, to)
				g.judge(t, m, to == both)
				if m.options.EnvelopeID != "order-7" || fmt.Sprint(m.rcpt.Notify) != "[FAILURE DELAY]" && fmt.Sprint(m.rcpt.Notify) != "[DELAY FAILURE]" || m.rcpt.OriginalRecipient != to {
					t.Errorf("what was said about reports came as %+v %+v", m.options, m.rcpt)
				}
				if !strings.Contains(string(m.text), " with "+c.with+" id ") {
					t.Errorf("it did not come by %s:\n%s", c.with, m.text)
				}
			}
			report := end.await(t, "", from)
			for _, want := range []string{"Final-Recipient: rfc822; " + refused, "5.1.1", noSuchPerson, "Original-Envelope-Id: order-7"} {
				if !strings.Contains(string(report.text), want) {
					t.Errorf("the report lacks %q:\n%s", want, report.text)
				}
			}
			for _, never := range []string{linkPrefix, "Final-Recipient: rfc822; " + none} {
				if strings.Contains(string(report.text), never) {
					t.Errorf("the report holds %q:\n%s", never, report.text)
				}
			}
		})
	}
	// A refusal of one recipient goes straight back to Postfix, which tells the sender itself, in a
	// report that passes the gateway as machine mail.
	t.Run("one recipient", func(t *testing.T) {
		const from, refused = "single@shop.example.net", "refused@single.example.org"
		p.sendmail(t, letter, from, refused)
		report := end.await(t, "", from)
		for _, want := range []string{"550 5.1.1 " + noSuchPerson, "Reporting-MTA: dns; postfix.example.org", "MAILER-DAEMON@postfix.example.org"} {
			if !strings.Contains(string(report.text), want) {
				t.Errorf("the report lacks %q:\n%s", want, report.text)
			}
		}
		if strings.Contains(string(report.text), linkPrefix) {
			t.Errorf("a footer in a report:\n%s", report.text)
		}
	})
	t.Run("SMTPUTF8", func(t *testing.T) {
		const from, to = "utf8@shop.example.net", "zoë@starttls.example.org"
		p.sendmail(t, strings.Replace(letter, "X-Folded: one", "X-Folded: grün", 1), from, "-O", "SMTPUTF8", to)
		m := end.await(t, from, to)
		g.verify(t, m)
		tracked(t, m, false)
		if !m.options.UTF8 || m.options.Body != smtp.Body8BitMIME || !strings.Contains(string(m.text), "X-Folded: grün\r\n") {
			t.Errorf("%+v\n%s", m.options, m.text)
		}
	})
	p.empty(t)
}

// One Postfix before and behind: mail that comes in goes through the gateway as content filter and
// back into another port of the same Postfix, and from there out.
func TestContentFilter(t *testing.T) {
	t.Parallel()
	needsRoot(t, "Postfix")
	end := startSink(t)
	in, back := freePort(t), freePort(t)
	g := startGateway(t, "smtp://127.0.0.1:"+back, `allow_networks = []`, `allow_networks = ["127.0.0.0/8"]`)
	g.agree(t, "both@example.org")
	p := startPostfix(t, in, "relayhost = [127.0.0.1]:"+end.port+"\n",
		in+" inet n - n - 10 smtpd\n  -o content_filter=gate:[127.0.0.1]:"+g.smtp+"\n"+
			back+" inet n - n - 10 smtpd\n  -o content_filter=\n  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters\n"+
			gate("gate", "smtp", "smtp_send_xforward_command=yes", "disable_dns_lookups=yes"))
	const from = "filter@shop.example.net"
	to := []string{"none@example.org", "both@example.org", "later@example.org", "refused@example.org"}
	c := dial(t, in)
	if err := c.SendMail(from, to, strings.NewReader(letter)); err != nil {
		t.Fatal(err)
	}
	for _, who := range to[:3] {
		m := end.await(t, from, who)
		g.judge(t, m, who == "both@example.org")
		if n := strings.Count(string(m.text), "\r\nReceived: ") + 1; n != 3 {
			t.Errorf("%d Received fields, want 3: in, gateway, back\n%s", n, m.text)
		}
	}
	// It was refused behind the gateway's back, so the report is Postfix's, of mail that it had.
	if report := end.await(t, "", from); !strings.Contains(string(report.text), "Reporting-MTA: dns; postfix.example.org") {
		t.Errorf("the report is not Postfix's:\n%s", report.text)
	}
	p.empty(t)
}

// dial opens a connection to a port of 127.0.0.1 without TLS.
func dial(t testing.TB, port string) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Hello("shop.example.net"); err != nil {
		t.Fatal(err)
	}
	return c
}
