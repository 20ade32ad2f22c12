package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// security is how a client gets its TLS.
type security string

const (
	startTLS security = "STARTTLS"
	implicit security = "implicit TLS"
)

// client is a program that hands one message over: to whom it is, how it gets its TLS, and how it
// logs in. It returns what the program said; err is that it failed.
type client func(t *testing.T, g *gateway, file string, e exchange) (said string, err error)

type exchange struct {
	from      string
	to        []string
	security  security
	mechanism string // PLAIN or LOGIN
	password  string
}

// port is that of the gateway for this exchange.
func (e exchange) port(g *gateway) string {
	if e.security == implicit {
		return g.smtps
	}
	return g.smtp
}

// finish runs a program to its end.
func finish(cmd *exec.Cmd) (said string, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

var clients = []struct {
	name    string
	program string
	send    client
}{
	{"swaks", "swaks", swaks},
	{"curl", "curl", curl},
	{"msmtp", "msmtp", msmtp},
	{"smtplib", "python3", smtplib},
}

func swaks(t *testing.T, g *gateway, file string, e exchange) (string, error) {
	args := []string{"--server", "127.0.0.1:" + e.port(g), "--ehlo", "shop.example.net", "--from", e.from, "--to", strings.Join(e.to, ","),
		"--tls-verify", "--tls-ca-path", g.ca,
		"--auth", e.mechanism, "--auth-user", loginName, "--auth-password", e.password,
		"--data", "@" + file, "--timeout", "20s"}
	if e.security == implicit {
		args = append(args, "--tls-on-connect")
	} else {
		args = append(args, "--tls")
	}
	return finish(exec.Command("swaks", args...))
}

func curl(t *testing.T, g *gateway, file string, e exchange) (string, error) {
	scheme := "smtp"
	if e.security == implicit {
		scheme = "smtps"
	}
	args := []string{"-sS", "-v", "--max-time", "20", scheme + "://localhost:" + e.port(g) + "/shop.example.net", "--ssl-reqd", "--cacert", g.ca,
		"--user", loginName + ":" + e.password, "--login-options", "AUTH=" + e.mechanism, "--mail-from", e.from, "--upload-file", file}
	for _, to := range e.to {
		args = append(args, "--mail-rcpt", to)
	}
	return finish(exec.Command("curl", args...))
}

// msmtp is called as programs call sendmail: the message on standard input, with LF.
func msmtp(t *testing.T, g *gateway, file string, e exchange) (string, error) {
	config := filepath.Join(t.TempDir(), "msmtprc")
	text := fmt.Sprintf("account gate\nhost localhost\nport %s\ntls on\ntls_starttls %s\ntls_trust_file %s\nauth %s\nuser %s\npassword %s\ndomain shop.example.net\naccount default : gate\n",
		e.port(g), map[security]string{startTLS: "on", implicit: "off"}[e.security], g.ca, strings.ToLower(e.mechanism), loginName, e.password)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", err
	}
	message, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("msmtp", append([]string{"-C", config, "-i", "-f", e.from, "--"}, e.to...)...)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n")))
	return finish(cmd)
}

func smtplib(t *testing.T, g *gateway, file string, e exchange) (string, error) {
	args := []string{"smtplib_send.py", e.port(g), string(e.security), g.ca, e.mechanism, loginName, e.password, file, e.from}
	return finish(exec.Command("python3", append(args, e.to...)...))
}

// Each client hands over the letter, with each kind of TLS and of login, and each copy comes to the
// end once and as it should; the client understands a refusal, and a wrong password.
func TestClients(t *testing.T) {
	t.Parallel()
	end := startSink(t)
	g := startGateway(t, end.url())
	g.agree(t, "both@example.org")
	file := filepath.Join(t.TempDir(), "letter.eml")
	write(t, file, letter)

	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			needs(t, c.program)
			for i, how := range []struct {
				security
				mechanism string
			}{{startTLS, "PLAIN"}, {startTLS, "LOGIN"}, {implicit, "PLAIN"}, {implicit, "LOGIN"}} {
				e := exchange{fmt.Sprintf("%s-%d@shop.example.net", c.name, i), []string{"none@example.org", "both@example.org"}, how.security, how.mechanism, loginPassword}
				if said, err := c.send(t, g, file, e); err != nil {
					t.Errorf("%s, %s: %v\n%s", how.security, how.mechanism, err, said)
					continue
				}
				g.judge(t, end.await(t, e.from, "none@example.org"), false)
				g.judge(t, end.await(t, e.from, "both@example.org"), true)
			}
			e := exchange{c.name + "@shop.example.net", []string{"refused@example.org"}, startTLS, "PLAIN", loginPassword}
			if said, err := c.send(t, g, file, e); err == nil || !strings.Contains(said, noSuchPerson) {
				t.Errorf("a refused recipient: %v\n%s", err, said)
			}
			e.to = []string{"later@example.org"}
			if said, err := c.send(t, g, file, e); err != nil {
				t.Errorf("a recipient who is put off: %v\n%s", err, said)
			}
			g.judge(t, end.await(t, e.from, "later@example.org"), false)
			e.password = "wrong"
			if said, err := c.send(t, g, file, e); err == nil {
				t.Errorf("a wrong password passed\n%s", said)
			}
		})
	}
}

// smtp-source cannot log in, and comes by the unix socket, as who may.
func TestSMTPSource(t *testing.T) {
	t.Parallel()
	source := needs(t, "smtp-source")
	end := startSink(t)
	g := startGateway(t, end.url())
	const sessions, messages = 10, 100
	for _, c := range []struct {
		name, socket string
		flags        []string
	}{{"SMTP", "smtp", nil}, {"LMTP", "lmtp", []string{"-L"}}} {
		from := strings.ToLower(c.name) + "-source@shop.example.net"
		args := append(c.flags, "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(messages), "-r", "2", "-l", "20000", "-f", from, "-t", "load@example.org", "unix:"+filepath.Join(g.dir, c.socket))
		if said, err := finish(exec.Command(source, args...)); err != nil || said != "" {
			t.Fatalf("%s: %v\n%s", c.name, err, said)
		}
		for _, to := range []string{"load@example.org", "2load@example.org"} {
			if n := len(end.of(from, to)); n != messages {
				t.Errorf("%s: %d of %d messages came for %s", c.name, n, messages, to)
			}
		}
	}
}
