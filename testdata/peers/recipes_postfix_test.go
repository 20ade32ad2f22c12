package peers

import (
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// postfixGateway runs the one that a recipe of Postfix's has lines for, in gateway.toml. Of the smarthost that they name,
// part is another one here.
func postfixGateway(t testing.TB, recipe, part, here string, edits ...string) *gateway {
	t.Helper()
	return runRecipe(t, replaced(t, merged(t, readRecipe(t, "consentgate.toml"), readRecipe(t, recipe+"/gateway.toml")), part, here), edits...)
}

// merged sets the keys of a few lines of TOML in a text that has their sections.
func merged(t testing.TB, text, lines string) string {
	t.Helper()
	section := ""
	for line := range strings.Lines(lines) {
		key, _, isKey := strings.Cut(line, " = ")
		if !isKey {
			section = line
			continue
		}
		block := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(section) + `(?:[^\[\n].*\n)*`)
		if !strings.HasPrefix(section, "[") || !block.MatchString(text) {
			t.Fatalf("no section %q for %q", section, line)
		}
		text = block.ReplaceAllStringFunc(text, func(own string) string {
			own = regexp.MustCompile("(?m)^"+regexp.QuoteMeta(key)+" = .*\n").ReplaceAllString(own, "")
			return section + line + strings.TrimPrefix(own, section)
		})
	}
	return text
}

// debianCF is what Debian's package leaves in main.cf (12, bookworm, set up as "Internet Site"), over mainCF, of which so
// stays what keeps this Postfix on its own ports and folders. The machine's name and domains are those of the tests, and its
// users' mail goes to the end, too, of which PORT is the port.
const debianCF = `smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
myorigin = shop.example.net
append_dot_mydomain = no
readme_directory = no
smtpd_tls_cert_file = /etc/ssl/certs/ssl-cert-snakeoil.pem
smtpd_tls_key_file = /etc/ssl/private/ssl-cert-snakeoil.key
smtpd_tls_security_level = may
smtp_tls_CApath = /etc/ssl/certs
smtp_tls_security_level = may
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
mydestination = $myhostname, shop.example.net, localhost
relayhost = [127.0.0.1]:PORT
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
local_transport = smtp:[127.0.0.1]:PORT
`

// startDebian runs a Postfix as Debian installs it, with a recipe's lines, in front of the end.
func startDebian(t testing.TB, port string, end *sink, main, master string) *postfix {
	t.Helper()
	return startPostfix(t, port, strings.ReplaceAll(debianCF, "PORT", end.port)+main, master)
}

// recipeMail is the newsletter to all three, as a mailing list has it.
func recipeMail(t testing.TB) string {
	return "From: The shop <" + recipeSender + ">\nTo: readers@example.org\nSubject: Books\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + readRecipe(t, "newsletter.html")
}

var recipeReaders = []string{"none@example.org", "both@example.org", "gone@example.org"}

// cronMail is what cron has to say to root.
const cronMail = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@shop> backup\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nAuto-Submitted: auto-generated\n\nhttps://shop.example.net/reset/1a2b3c went wrong\n"

// judgePostfix looks at the copies, and at the report to the sender.
func (g *gateway) judgePostfix(t testing.TB, p *postfix, end *sink) {
	t.Helper()
	g.judgeAll(t, end)
	if report := end.await(t, "", recipeSender); !strings.Contains(string(report.text), "gone@example.org") || !strings.Contains(string(report.text), "5.7.1") {
		t.Errorf("the report:\n%s", report.text)
	}
	p.empty(t)
}

// Postfix in front: as content filter, and with the gateway as its relayhost, in the modes that the recipes are for.
func TestRecipePostfixInFront(t *testing.T) {
	t.Parallel()
	needsRoot(t, "Postfix")
	with := "Postfix " + version(t, needs(t, "postconf"), "-dh", "mail_version")
	const tooMany = "said: 452 4.5.3"

	t.Run("content filter", func(t *testing.T) {
		const shop = "127.0.0.2"
		// A main.cf of somebody who lets the shop in and nobody else, checks header fields and keeps an archive: what the
		// way back says of all that is needed.
		const strict = `only = check_client_access inline:{ {` + shop + ` = OK} }, reject
mynetworks = ` + shop + `
smtpd_client_restrictions = $only
smtpd_helo_restrictions = $only
smtpd_sender_restrictions = $only
smtpd_relay_restrictions = $only
smtpd_recipient_restrictions = $only
smtpd_data_restrictions = $only
smtpd_end_of_data_restrictions = $only
always_bcc = archive@example.com
header_checks = regexp:{ {/^Subject: Books/ PREPEND X-Checked: here} }
`
		filter := func(t *testing.T, end *sink, in, main string, edits ...string) (*gateway, *postfix) {
			back := freePort(t)
			g := postfixGateway(t, "postfix-filter", "127.0.0.1:10026", "127.0.0.1:"+back, edits...)
			master := replaced(t, replaced(t, file(t, prepare(t, "postfix-filter", g)+"/master.cf"), ":10026 ", ":"+back+" "), ":10025 ", ":"+in+" ")
			// No fewer connections than the gateway makes by default, or mail waits for one.
			if service := strings.Fields(master[strings.Index(master, back):]); len(service) < 7 || service[6] != "-" {
				t.Errorf("the way back has the limit %v", service)
			}
			return g, startDebian(t, in, end, strings.ReplaceAll(main, "GATE", g.smtp), master)
		}
		submit := func(t *testing.T, port, text string, to ...string) {
			t.Helper()
			c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(shop)}}).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			client := smtp.NewClient(c)
			defer client.Close()
			if err := client.SendMail(recipeSender, to, strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
				t.Error(err)
			}
		}
		end, in := startSink(t), freePort(t)
		g, p := filter(t, end, in, strict)
		submit(t, in, recipeMail(t), recipeReaders...)
		g.judgePostfix(t, p, end)
		if m := end.await(t, recipeSender, "none@example.org"); strings.Count(string(m.text), "X-Checked: here") != 1 {
			t.Errorf("header_checks did not see it once:\n%s", m.text)
		}
		if n := len(end.of(recipeSender, "archive@example.com")); n != 2 {
			t.Errorf("%d in the archive, of two copies", n)
		}
		submit(t, in, "From: <"+recipeSender+">\nSubject: Your password\nX-Consent-Class: transactional\n\nhttps://shop.example.net/reset/1a2b3c\n", "gone@example.org")
		g.judgeReset(t, end.await(t, recipeSender, "gone@example.org"))
		// What the system sends does not pass the gateway.
		p.sendmail(t, cronMail, "root@shop.example.net", "root")
		if m := end.await(t, "root@shop.example.net", "root@shop.example.net"); strings.Contains(string(m.text), "gate.example.org") || strings.Contains(string(m.text), linkPrefix) {
			t.Errorf("cron's mail:\n%s", m.text)
		}
		// Somebody who filters all mail nonetheless: the way back says itself that it is not filtered again.
		end = startSink(t)
		g, p = filter(t, end, freePort(t), "content_filter = gate:[127.0.0.1]:GATE\n")
		p.sendmail(t, recipeMail(t), recipeSender, recipeReaders...)
		g.judgePostfix(t, p, end)
		// One recipient a transaction.
		end, in = startSink(t), freePort(t)
		g, p = filter(t, end, in, readRecipe(t, "postfix-filter/stateless.cf"), `mode = "cutthrough"`, `mode = "stateless"`)
		submit(t, in, recipeMail(t), recipeReaders...)
		g.judgePostfix(t, p, end)
		if strings.Contains(p.log(t), tooMany) {
			t.Errorf("Postfix tried several recipients at once:\n%s", p.log(t))
		}
		note(t, "postfix-filter", with+", modes cutthrough, stateless")
	})

	relay := func(t *testing.T, mode, settings string) (*gateway, *postfix, *sink) {
		end := startSink(t)
		g := postfixGateway(t, "postfix-relayhost", "smtp+starttls://smtp.provider.example:587", end.url(), `mode = "cutthrough"`, `mode = "`+mode+`"`)
		dir := prepare(t, "postfix-relayhost", g)
		p := startDebian(t, "", end, replaced(t, file(t, dir+"/"+settings), "/etc/postfix/", dir+"/"), "")
		p.sendmail(t, recipeMail(t), recipeSender, recipeReaders...)
		g.judgePostfix(t, p, end)
		return g, p, end
	}
	t.Run("relayhost", func(t *testing.T) {
		for mode, settings := range map[string]string{"cutthrough": "main.cf", "spool": "main.cf", "stateless": "stateless.cf"} {
			g, p, end := relay(t, mode, settings)
			if strings.Contains(p.log(t), tooMany) {
				t.Errorf("mode %s: Postfix tried several recipients at once:\n%s", mode, p.log(t))
			}
			if mode != "cutthrough" {
				continue
			}
			// Root's mail goes to somebody who has followed the link of a newsletter: cron's, and another program's.
			for from, text := range map[string]string{
				"cron@shop.example.net":    strings.Replace(cronMail, "To: root", "To: backup", 1),
				"another@shop.example.net": strings.Replace(cronMail, " (Cron Daemon)", "", 1),
				"both@shop.example.net":    cronMail,
			} {
				p.sendmail(t, text, from, "gone@example.org")
				g.judgeReset(t, end.await(t, from, "gone@example.org"))
			}
		}
		note(t, "postfix-relayhost", with+", modes cutthrough, spool, stateless")
	})
	// What the recipe says of stateless without the limit: it is told 452, and nothing is lost.
	t.Run("stateless without the limit", func(t *testing.T) {
		if _, p, _ := relay(t, "stateless", "main.cf"); !strings.Contains(p.log(t), tooMany) {
			t.Errorf("Postfix was not told %q:\n%s", tooMany, p.log(t))
		}
	})
}

// Postfix behind, as the smarthost, which also takes mail for its own domain from anybody.
func TestRecipePostfixBehind(t *testing.T) {
	t.Parallel()
	needsRoot(t, "Postfix")
	end := startSink(t)
	port := freePort(t)
	g := postfixGateway(t, "postfix-behind", `127.0.0.1:25"`, `127.0.0.1:`+port+`"`)
	dir := prepare(t, "postfix-behind", g)
	// Debian's main.cf would do. So that it is the recipe's lines that do, others stand before them.
	const others = "mynetworks = 192.0.2.1\nsmtpd_relay_restrictions = reject\n"
	p := startDebian(t, port, end, others+file(t, dir+"/main.cf")+"smtpd_authorized_xclient_hosts = 127.0.0.1\n", port+" inet n - n - - smtpd\n")
	sender := prepare(t, "smtplib", g)
	for _, to := range []string{"none@example.org", "both@example.org"} {
		if said, err := execute(t, sender, needs(t, "python3"), "send.py", to); err != nil {
			t.Fatalf("%s: %v\n%s", to, err, said)
		}
	}
	if said, err := execute(t, sender, needs(t, "python3"), "send.py", "gone@example.org"); err == nil {
		t.Errorf("who has unsubscribed is sent to:\n%s", said)
	}
	g.judgeAll(t, end)
	// A reply from elsewhere is taken, and relayed nowhere.
	for to, want := range map[string]int{recipeSender: 250, "somebody@elsewhere.example": 454} {
		if code := stranger(t, port, to); code != want {
			t.Errorf("a stranger's mail to %s is answered %d, want %d", to, code, want)
		}
	}
	g.stop(t) // before Postfix, which waits for the connections that are kept to it
	p.empty(t)
	note(t, "postfix-behind", "Postfix "+version(t, needs(t, "postconf"), "-dh", "mail_version"))
}

// stranger connects to a Postfix as if from another network, and returns the answer to a recipient.
func stranger(t testing.TB, port, to string) (code int) {
	t.Helper()
	c, err := textproto.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, line := range []string{"", "EHLO elsewhere.example", "XCLIENT ADDR=192.0.2.7 NAME=elsewhere.example", "EHLO elsewhere.example", "MAIL FROM:<a@elsewhere.example>", "RCPT TO:<" + to + ">"} {
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				t.Fatal(err)
			}
		}
		if code, _, err = c.ReadResponse(0); err != nil {
			t.Fatal(err)
		}
	}
	return code
}
