package relay

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

const (
	mailFrom = "MAIL FROM:<news@example.org>\r\n"
	rcptTo   = "RCPT TO:<joe@example.com>\r\n"
)

// Each command that is not accepted is counted once, whoever answers it, and the log tells of it.
func TestRefusedIsCounted(t *testing.T) {
	plain := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00shop\x00wrong")) + "\r\n"
	for name, tt := range map[string]struct {
		way     string
		said    string   // behind EHLO
		refused []string // "command reason" of each that is not accepted
	}{
		"nothing":               {"plain", "NOOP\r\nRSET\r\nVRFY joe\r\n" + mailFrom + rcptTo + "RSET\r\n", nil},
		"unknown":               {"plain", "FOOO\r\nxyz\r\n\r\n", []string{"other unknown", "other syntax", "other unknown"}},
		"not implemented":       {"plain", "EXPN list\r\nTURN\r\n", []string{"other unknown", "other unknown"}},
		"greeting":              {"plain", "EHLO\r\nHELO \r\nLHLO x\r\n", []string{"EHLO syntax", "EHLO syntax", "EHLO unknown"}},
		"MAIL":                  {"plain", "mail to:<x>\r\nMAIL FROM:<a@b> FOO=1\r\nMAIL FROM:<a@b> BODY=x\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nMAIL FROM:<a@b> RET=x\r\nMAIL FROM:<a@b> SIZE=99999999999\r\n", []string{"MAIL syntax", "MAIL syntax", "MAIL syntax", "MAIL syntax", "MAIL syntax", "MAIL too_large"}},
		"MAIL of ours":          {"plain", "MAIL FROM:<a@b> SIZE=99999999\r\nMAIL FROM:<a\xc3\xa4@b>\r\n" + mailFrom + mailFrom, []string{"MAIL too_large", "MAIL address", "MAIL sequence"}},
		"RCPT":                  {"plain", rcptTo + mailFrom + "RCPT joe\r\nRCPT TO:<joe@example.com> NOTIFY=x\r\nRCPT TO:<joe@example.com> FOO\r\nRCPT TO:<joe@ex$mple.com>\r\n", []string{"RCPT sequence", "RCPT syntax", "RCPT syntax", "RCPT syntax", "RCPT address"}},
		"a second recipient":    {"plain", mailFrom + rcptTo + "RCPT TO:<ann@example.com>\r\nRCPT TO:<bob@example.com>\r\n", []string{"RCPT recipients", "RCPT recipients"}},
		"DATA":                  {"plain", "DATA\r\nDATA x\r\n" + mailFrom + "DATA\r\n", []string{"DATA sequence", "DATA syntax", "DATA sequence"}},
		"message":               {"plain", mailFrom + rcptTo + "DATA\r\nSubject: a\x00b\r\n\r\n.\r\n", []string{"DATA content"}},
		"claim":                 {"plain", mailFrom + rcptTo + "DATA\r\nX-Consent-Class: nonsense\r\n\r\n.\r\n", []string{"DATA policy"}},
		"loop":                  {"plain", mailFrom + rcptTo + "DATA\r\n" + strings.Repeat("Received: x\r\n", 100) + "\r\n.\r\n", []string{"DATA loop"}},
		"BDAT":                  {"plain", "BDAT x\r\nBDAT\r\nBDAT 3 FIRST\r\nBDAT 5 LAST\r\nabc\r\n", []string{"BDAT syntax", "BDAT syntax", "BDAT syntax", "BDAT sequence"}},
		"BDAT of ours":          {"plain", mailFrom + rcptTo + "BDAT 9 LAST\r\na: \x00b\r\n\r\n", []string{"DATA content"}},
		"within BDAT":           {"plain", mailFrom + rcptTo + "BDAT 6\r\na: b\r\n" + "DATA\r\nRSET\r\nFOOO\r\n", []string{"BDAT sequence", "other unknown"}},
		"AUTH without TLS":      {"plain", plain, []string{"AUTH tls"}},
		"AUTH":                  {"implicit TLS", "AUTH\r\nAUTH CRAM-MD5\r\nAUTH PLAIN $\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN YQ==\r\n" + plain, []string{"AUTH syntax", "AUTH syntax", "AUTH syntax", "AUTH syntax", "AUTH syntax", "AUTH login"}},
		"AUTH in lines":         {"implicit TLS", "AUTH LOGIN\r\nc2hvcA==\r\nd3Jvbmc=\r\n", []string{"AUTH login"}},
		"STARTTLS under TLS":    {"implicit TLS", "STARTTLS\r\n", []string{"STARTTLS sequence"}},
		"line":                  {"plain", "MAIL FROM:<" + strings.Repeat("a", maxLine) + "\r\n", []string{"MAIL line"}},
		"LMTP, for each":        {"LMTP", mailFrom + rcptTo + "RCPT TO:<ann@example.com>\r\nDATA\r\na: \x00\r\n\r\n.\r\n", []string{"DATA content"}},
		"too many errors":       {"plain", "FOOO\r\nFOOO\r\nFOOO\r\nFOOO\r\n", []string{"other unknown", "other unknown", "other unknown", "other unknown"}},
		"what a smarthost says": {"plain", mailFrom + "RCPT TO:<nobody@example.com>\r\nDATA\r\na: b\r\n\r\n.\r\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, logins)
			c := ways[tt.way](b)
			sent := c.Conn
			go func() {
				for line := range strings.SplitAfterSeq(tt.said+"QUIT\r\n", "\r\n") {
					sent.Write([]byte(line)) // where the gateway has closed, that is seen below
				}
			}()
			for {
				reply, err := c.reply()
				if err != nil || strings.HasPrefix(reply, "221 ") {
					break
				}
				if strings.ContainsAny(reply, "\x01") {
					t.Errorf("%q", reply)
				}
			}
			want := map[string]float64{"refused_total": float64(len(tt.refused))}
			for _, r := range tt.refused {
				command, reason, _ := strings.Cut(r, " ")
				want["refused_total command="+command+" reason="+reason]++
			}
			b.counts(t, want)
			lines := strings.Count(b.log.String(), "command not accepted") + strings.Count(b.log.String(), "command refused") + strings.Count(b.log.String(), `msg="message refused"`)
			if lines < len(tt.refused) {
				t.Errorf("%d lines in the log about %d:\n%s", lines, len(tt.refused), b.log)
			}
		})
	}
}

// Who is told that it says too much is counted, and who is told after a silence that this is the end is not.
func TestStrangersCommandsAreCounted(t *testing.T) {
	b := start(t, func(c *Config, _ *testbed) { c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	c := b.hello()
	for range maxCommands {
		c.say("NOOP")
	}
	for reply := ""; !strings.HasPrefix(reply, "421"); {
		var err error
		if reply, err = c.reply(); err != nil {
			t.Fatal(err)
		}
	}
	b.counts(t, map[string]float64{"refused_total": 1, "refused_total command=other reason=too_many": 1})
	b.hello()
	b.halt() // drained: 421
	b.counts(t, map[string]float64{"refused_total": 1})
}

// An opt-out by mail that the store did not take is seen as such.
func TestMailtoIsCounted(t *testing.T) {
	b := start(t, strangers)
	tok := b.token()
	b.hello().send(requestAddress, request(tok))
	b.hello().send(requestAddress, request("hello"))
	b.store.fail(errStoreDown)
	b.hello().send(requestAddress, request(tok))
	b.counts(t, map[string]float64{"mailto_total result=ok": 1, "mailto_total result=bad": 1, "mailto_total result=down": 1,
		"refused_total command=DATA reason=store": 1, "refused_total command=DATA reason=policy": 1, "refused_total": 2})
}

// What an operator takes out of the queue does not vanish from the sums.
func TestQueueRemoveIsCounted(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		b.sink = newSink(b.t, nil)
		b.next = newNext(b.t, "127.0.0.1:1")
	})
	b.hello().sendTo("", "joe@example.com", "ann@example.com")
	all := b.spool.All()
	if len(all) != 1 {
		t.Fatal(all)
	}
	for _, status := range []int{http.StatusNoContent, http.StatusNotFound} {
		w := httptest.NewRecorder()
		b.QueueAPI().ServeHTTP(w, httptest.NewRequest("DELETE", "/v1/queue/"+all[0].ID, nil))
		if w.Code != status {
			t.Error(w.Code, w.Body)
		}
	}
	b.counts(t, map[string]float64{"accepted_total": 2, "queue_removed_total": 2})
}

// The gateway's own reports are a class of their own, and no decisions.
func TestReportsAreCountedApart(t *testing.T) {
	b := start(t, withSpool(Spooled))
	b.hello().sendTo("", "nobody@example.com")
	b.wait("a report", func() bool { return len(b.spool.All()) == 0 && len(b.sink.got()) == 1 })
	b.counts(t, map[string]float64{"accepted_total": 1, "bounced_total": 1, "bounced_total class=marketing": 1, "reports_total about=failed": 1,
		"forwarded_total": 1, "forwarded_total class=report": 1, "decisions_total purpose=mail": 1})
	if b.counted(t, "forwarded_total", "class="+string(consent.Transactional)) != 0 {
		t.Error("a report is none that was sent in")
	}
}
