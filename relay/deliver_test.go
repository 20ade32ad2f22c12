package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/dsn"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/sign"
)

func newSigner(t *testing.T) (*sign.Signer, string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "example.org", "gate1")
	if err != nil {
		t.Fatal(err)
	}
	return sign.New([]*sign.Key{k}, sign.Options{}), "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)
}

func TestSigned(t *testing.T) {
	var record string
	b := start(t, func(c *Config, b *testbed) { c.Signer, record = newSigner(b.t) })
	c := b.hello()
	large := newsletter + "\r\n" + strings.Repeat("<p>a line of the large message of this test, of which there are many.</p>\r\n", 20_000)
	for _, msg := range []string{newsletter, large} {
		if got := c.send("joe@example.com", msg); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		d := b.sink.last(t)
		if !regexp.MustCompile(`\AReceived: (?:.*\r\n\t)+.*\r\nDKIM-Signature: `).MatchString(d.text) {
			t.Errorf("Received does not stand on DKIM-Signature:\n%.500s", d.text)
		}
		if strings.Contains(d.text, "t.example.net") {
			t.Error("the pixel is still there")
		}
		v, err := dkim.VerifyWithOptions(strings.NewReader(d.text), &dkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
		})
		if err != nil || len(v) != 1 || v[0].Err != nil {
			t.Fatalf("%v %+v", err, v)
		}
		for _, name := range []string{"List-Unsubscribe", "List-Unsubscribe-Post"} {
			if !slices.Contains(v[0].HeaderKeys, name) {
				t.Errorf("%s is not signed: %q", name, v[0].HeaderKeys)
			}
		}
	}
	// Somebody else's From leaves without our signature, and is counted.
	if got := c.send("joe@example.com", strings.Replace(newsletter, "news@example.org", "x@example.net", 1)); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if strings.Contains(b.sink.last(t).text, "DKIM-Signature") {
		t.Error("signed for another domain")
	}
	b.counts(t, map[string]float64{"accepted_total": 3, "forwarded_total": 3, "signatures_total result=signed": 2, "signatures_total result=no_key": 1})
}

var tokens = regexp.MustCompile(`https://mail\.example\.org/u/([A-Za-z0-9_-]+)`)

func TestLinks(t *testing.T) {
	b := start(t, nil)
	sealer := token.New(b.ring)
	c := b.hello()
	who, err := consent.ParseAddress("joe@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.send("Joe@Example.COM", "X-Consent-Scope: news\r\nX-Consent-Language: de\r\n"+newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	first := b.sink.last(t).text
	links := tokens.FindAllStringSubmatch(first, -1)
	if len(links) != 2 {
		t.Fatalf("%d links, want one in the field and one in the body:\n%s", len(links), first)
	}
	for _, l := range links {
		claims, err := sealer.Open(l[1])
		if want := (token.Claims{Who: who, Scope: "news", Language: "de"}); err != nil || claims != want {
			t.Errorf("%+v, %v; want %+v", claims, err, want)
		}
	}
	if !strings.Contains(first, "Content-Type: text/html; charset=utf-8") {
		t.Error("content type changed")
	}
	// The same copy through the gateway again: its link is this person's, no second footer.
	again := func(to, scope string) int {
		t.Helper()
		if got := c.send(to, "X-Consent-Scope: "+scope+"\r\n"+strings.TrimSuffix(first, "\r\n")); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		_, body, _ := strings.Cut(b.sink.last(t).text, "\r\n\r\n")
		return len(tokens.FindAllString(body, -1))
	}
	if n := again("joe@example.com", "news"); n != 1 {
		t.Errorf("%d links in the body for the same person and scope", n)
	}
	// Somebody else's link, or that of another scope, does not count.
	if n := again("ann@example.com", "news"); n != 2 {
		t.Errorf("%d links in the body for another person", n)
	}
	if n := again("joe@example.com", "other"); n != 2 {
		t.Errorf("%d links in the body for another scope", n)
	}
}

func TestMailToField(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) { c.MailTo = "unsubscribe@gate.example.org" })
	if got := b.hello().send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	h := header(b.sink.last(t).text)
	m := regexp.MustCompile(`List-Unsubscribe: <https://mail\.example\.org/u/([\w-]+)>,\s*<mailto:unsubscribe@gate\.example\.org\?subject=([\w-]+)>\r\n`).FindStringSubmatch(h)
	if m == nil || m[1] != m[2] {
		t.Errorf("%q in\n%s", m, h)
	}
}

func TestPassingOn(t *testing.T) {
	b := start(t, nil)
	c := b.hello()
	c.say(`MAIL FROM:<"a> RET=FULL"@example.org> RET=HDRS ENVID=x+3Dy SMTPUTF8 BODY=8BITMIME`)
	c.expect("250")
	c.say(`RCPT TO:<jöe@example.com> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;jöe@example.com`)
	c.expect("250")
	c.say("DATA")
	c.expect("354")
	c.raw("Subject: grüße\r\n\r\nhällo\r\n.\r\n")
	c.expect("250")
	d := b.sink.last(t)
	if d.from != "a> RET=FULL@example.org" || d.to != "jöe@example.com" { // go-smtp's server takes the quotes off
		t.Errorf("from %q to %q", d.from, d.to)
	}
	if d.mail.Return != smtp.DSNReturnHeaders || d.mail.EnvelopeID != "x=y" || !d.mail.UTF8 || d.mail.Body != smtp.Body8BitMIME || d.mail.Size != int64(len(d.text)) {
		t.Errorf("%+v, message of %d", d.mail, len(d.text))
	}
	want := smtp.RcptOptions{
		Notify:                []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyDelayed},
		OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: "jöe@example.com",
	}
	if !reflect.DeepEqual(d.rcpt, want) {
		t.Errorf("%+v, want %+v", d.rcpt, want)
	}
	if !strings.Contains(d.text, "\r\n\tfor <jöe@example.com>; ") || !strings.Contains(d.text, "with UTF8SMTP id") {
		t.Errorf("%.300s", d.text)
	}
}

// The smarthost is as old as RFC 821: no EHLO, and no bytes over 127.
func TestOldSmarthost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	got := new(strings.Builder) // read once done is closed
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 old.example.org\r\n")
			for r := bufio.NewReader(c); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				switch {
				case strings.HasPrefix(line, "DATA"):
					io.WriteString(c, "354 go on\r\n")
					for line != ".\r\n" && err == nil {
						line, err = r.ReadString('\n')
						got.WriteString(line)
					}
				case strings.HasPrefix(line, "EHLO"):
					io.WriteString(c, "500 what\r\n")
					continue
				}
				io.WriteString(c, "250 ok\r\n")
			}
			c.Close()
		}
	}()
	b := start(t, func(_ *Config, b *testbed) {
		b.sink = &sink{addr: l.Addr().String()}
		b.next = newNext(b.t, l.Addr().String())
	})
	c := b.hello()
	if got := c.send("joe@example.com", "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nh\u00e4llo"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	if got := c.send("joe@example.com", "Subject: x\r\n\r\nplain"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	b.next.Close() // so that the loop above ends
	l.Close()
	<-done
	if s := got.String(); !strings.Contains(s, "h=C3=A4llo") || !strings.Contains(s, "\r\nplain") || strings.ContainsFunc(s, func(r rune) bool { return r > 127 }) {
		t.Errorf("the smarthost got %q", s)
	}
}

// The path behind Data takes any number of recipients: one lookup for all, a copy for each.
func TestSeveralRecipients(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) { c.Signer, _ = newSigner(b.t) })
	defer b.closeListeners()
	env := &envelope{from: "news@example.org"}
	for _, to := range []string{"both@example.com", "joe@example.com", "gone@example.com", "shard@example.com", "nobody@example.com"} {
		path, who, err := recipient(to, false)
		if err != nil {
			t.Fatal(err)
		}
		env.rcpts = append(env.rcpts, rcpt{to: path, who: who})
	}
	body, err := receive(strings.NewReader(newsletter), 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.read("1", env, body)
	if err != nil {
		t.Fatal(err)
	}
	m.trace = trace{id: "1", helo: "x", peer: "[127.0.0.1]", hostname: "gate.example.org"}
	outcomes := make([]*outcome, len(env.rcpts))
	b.attempt(context.Background(), context.Background(), m, func(i int, o *outcome) { outcomes[i] = o })
	if b.store.lookups != 1 {
		t.Errorf("%d lookups", b.store.lookups)
	}
	want := []string{"", "", "550 5.7.1", "451 4.3.0", "550 5.1.1"}
	for i, o := range outcomes {
		got := ""
		if o.err != nil {
			got = o.err.Error()
		}
		if !strings.HasPrefix(got, want[i]) || (want[i] == "" && got != "") {
			t.Errorf("%s: %q, want %q", env.rcpts[i].to, got, want[i])
		}
	}
	got := b.sink.got()
	if len(got) != 2 {
		t.Fatalf("%d copies", len(got))
	}
	for _, d := range got {
		if strings.Contains(d.text, "open.gif") != (d.to == "both@example.com") {
			t.Error("the pixel is with the wrong person")
		}
		for _, r := range env.rcpts { // nobody learns of another
			if r.to != d.to && r.to != "joe@example.com" && strings.Contains(d.text, r.to) {
				t.Errorf("the copy for %s names %s", d.to, r.to)
			}
		}
	}
	b.counts(t, map[string]float64{"accepted_total": 0, "forwarded_total": 2, "bounced_total": 1, "suppressed_total how=refused": 1, "deferred_total reason=store": 1})
}

// A bug met while handling one message costs that message, for now, and nothing else.
func TestPanic(t *testing.T) {
	for _, how := range []string{"DATA", "BDAT"} {
		t.Run(how, func(t *testing.T) {
			b := start(t, nil)
			c := b.hello()
			var got string
			if how == "DATA" {
				got = c.send("bug@example.com", newsletter)
			} else {
				c.envelope("bug@example.com")
				c.raw("BDAT 18 LAST\r\nSubject: hello\r\n\r\n")
				got, _ = c.reply()
			}
			if !strings.HasPrefix(got, "451 4.3.0 internal error") || strings.Contains(got, "example") {
				t.Errorf("%q", got)
			}
			if got := c.send("joe@example.com", newsletter); !strings.HasPrefix(got, "250") {
				t.Errorf("the next: %q", got)
			}
			log := b.log.String()
			if !regexp.MustCompile(`panic while handling a message.*id=[0-9a-z]{16}-[0-9a-z]{3} .*relay_test\.go.*deliver\.go`).MatchString(log) || strings.Contains(log, "bug@example") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// Where it is only observed, the log sums up what would have been done.
func TestObserved(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) { c.Observe = true })
	c := b.hello()
	for _, to := range []string{"joe@example.com", "both@example.com", "ann@example.com"} {
		if got := c.send(to, newsletter); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	b.halt()
	if want := `copies=3 would_change=2 would_refuse=0 "findings.open kept"=1 "findings.open removed"=2 rules.size=2`; !strings.Contains(b.log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, b.log)
	}
}

// The ID of the answer is that of Received and of the log.
func TestOneIDEverywhere(t *testing.T) {
	b := start(t, nil)
	got := b.hello().send("joe@example.com", newsletter)
	id, ok := strings.CutPrefix(got, "250 2.0.0 ")
	if !ok || len(id) != 20 || id[16:] != "-001" {
		t.Fatal(got)
	}
	if !strings.Contains(b.sink.last(t).text, " id "+id+"\r\n") {
		t.Error("not in Received")
	}
	if !strings.Contains(b.log.String(), "id="+id) {
		t.Error("not in the log")
	}
}

func TestJournalMasks(t *testing.T) {
	j := journal{}
	for in, want := range map[string]string{
		"550 5.1.1 <joe@example.org>: no such user": "550 5.1.1 <j•••@example.org>: no such user",
		`"joe doe"@example.org is full`:             `"•••@example.org is full`,
		"to=joe+x=y@[127.0.0.1];":                   "t•••@[127.0.0.1];",
		"jöe@exämple.org and ann@example.org.":      "j•••@exämple.org and a•••@example.org.",
		"bounce+joe=example.com@example.org":        "b•••@example.org",
		`not a mail address: "joe@example.org"`:     `not a mail address: "j•••@example.org"`,
		"nothing here":                              "nothing here",
	} {
		if got := j.text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := (journal{full: true}).text("<joe@example.org>"); got != "<joe@example.org>" {
		t.Error(got)
	}
}

// What a smarthost says of somebody whom the log masks.
func TestJournalSaid(t *testing.T) {
	m := &message{env: &envelope{from: "perm.anna-maria.o's@shop.example"}}
	r := rcpt{to: "anna@example.org"}
	said := "mailbox anna unknown, see https://x.example/?r=anna%2540example.org; <perm.anna-maria.o's@shop.example>"
	want := "mailbox a••• unknown, see https://x.example/?r=a•••@example.org; <p•••@shop.example>"
	if got := (journal{}).said(said, m, r); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (journal{full: true}).said(said, m, r); got != said {
		t.Error(got)
	}
}

// A JSON log says the same as one of text.
func TestJournalJSON(t *testing.T) {
	var b bytes.Buffer
	j := journal{Logger: slog.New(logbook.NewJSON(&b, slog.LevelInfo))}
	j.reporting(&message{}, "x", dsn.Delayed, 1)
	j.waits(&message{}, 1, 4*time.Second)
	for _, want := range []string{`"about":"delayed"`, `"next":"4s"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, b.String())
		}
	}
}
