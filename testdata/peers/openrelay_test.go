package peers

import (
	"os/exec"
	"strings"
	"testing"
)

// TestOpenRelay runs nmap's scripts against a gateway on which nobody may send without a login: its tricks to
// get mail relayed, its list of commands, its guesses of users, and its three holes of other servers. Where the
// gateway takes mail to the unsubscribe address from anybody, the tricks get as far as RCPT.
func TestOpenRelay(t *testing.T) {
	t.Parallel()
	nmap := needs(t, "nmap")
	for name, edits := range map[string][]string{
		"nobody":         nil,
		"to unsubscribe": {"[unsubscribe]", "[unsubscribe]\nmailto = \"unsubscribe@gate.example.org\""},
	} {
		t.Run(name, func(t *testing.T) {
			end := startSink(t)
			g := startGateway(t, end.url(), edits...)
			out, err := finish(exec.Command(nmap, "-n", "-Pn", "-sT", "-p", g.smtp,
				"--script", "+smtp-open-relay,+smtp-commands,+smtp-enum-users,+smtp-vuln-cve2010-4344,+smtp-vuln-cve2011-1720,+smtp-vuln-cve2011-1764",
				"--script-args", "smtp-open-relay.domain=example.org,smtp-open-relay.to=victim@example.com,smtp-enum-users.methods={VRFY,EXPN,RCPT}", "127.0.0.1"))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"smtp-commands", "PIPELINING", "Server isn't an open relay, authentication needed"} {
				if !strings.Contains(out, want) {
					t.Errorf("nmap does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(strings.ReplaceAll(out, "NOT VULNERABLE", ""), "VULNERABLE") {
				t.Errorf("nmap found a hole:\n%s", out)
			}
			end.mu.Lock()
			defer end.mu.Unlock()
			if n := len(end.mails); n != 0 {
				t.Errorf("%d messages were relayed", n)
			}
		})
	}
}
