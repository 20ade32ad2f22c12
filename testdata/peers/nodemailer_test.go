package peers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// nodemailer is the version that is installed for the test.
const nodemailer = "10.6.1"

// Nodemailer writes a newsletter itself, with each kind of TLS and of login, over one connection
// (pool) as shops do; to an address that needs SMTPUTF8; and with a request for a report.
func TestNodemailer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fetches Nodemailer")
	}
	node, npm := needs(t, "node"), needs(t, "npm")
	dir := t.TempDir()
	install := exec.Command(npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "nodemailer@"+nodemailer)
	if said, err := finish(install); err != nil {
		t.Skipf("npm cannot fetch nodemailer@%s here: %v %s", nodemailer, err, tail(said, 3))
	}
	end := startSink(t)
	g := startGateway(t, end.url())
	g.agree(t, "both@example.org")
	send := func(from, security, mechanism string, to ...string) (string, error) {
		port := g.smtp
		if security == "implicit TLS" {
			port = g.smtps
		}
		cmd := exec.Command(node, append([]string{"nodemailer_send.js", filepath.Join(dir, "node_modules", "nodemailer"), port, security, g.ca, mechanism, loginName, loginPassword, from, pixel, counted}, to...)...)
		return finish(cmd)
	}
	for i, how := range [][2]string{{"STARTTLS", "PLAIN"}, {"STARTTLS", "LOGIN"}, {"implicit TLS", "PLAIN"}, {"implicit TLS", "LOGIN"}} {
		from := fmt.Sprintf("nodemailer-%d@shop.example.net", i)
		if said, err := send(from, how[0], how[1], "none@example.org", "both@example.org", "zoë@example.org"); err != nil {
			t.Errorf("%s: %v\n%s", how, err, said)
			continue
		}
		for _, to := range []string{"none@example.org", "both@example.org", "zoë@example.org"} {
			m := end.await(t, from, to)
			g.verify(t, m)
			tracked(t, m, to == "both@example.org")
			// Nodemailer's own way to write these.
			for _, want := range []string{"=?UTF-8?Q?B=C3=BCcher?=", "filename=data.bin", "\r\n\r\nAAECAwQF\r\n"} {
				if !strings.Contains(string(m.text), want) {
					t.Errorf("%s, %s: %q is not in it:\n%s", how, to, want, m.text)
				}
			}
			if m.options.UTF8 != (to == "zoë@example.org") {
				t.Errorf("%s, %s: SMTPUTF8 is %v", how, to, m.options.UTF8)
			}
			if len(m.rcpt.Notify) != 1 || m.rcpt.Notify[0] != smtp.DSNNotifyFailure || m.options.EnvelopeID != "order-7" || m.options.Return != smtp.DSNReturnHeaders {
				t.Errorf("%s, %s: what was said about reports came as %+v %+v", how, to, m.options, m.rcpt)
			}
		}
	}
	if said, err := send("nodemailer@shop.example.net", "STARTTLS", "PLAIN", "refused@example.org"); err == nil || !strings.Contains(said, noSuchPerson) {
		t.Errorf("a refused recipient: %v\n%s", err, said)
	}
}
