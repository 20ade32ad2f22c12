package main

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/testdata/process"
)

func somePeers(t *testing.T) *peers {
	t.Helper()
	m, err := newMessage(newsletter(newsletterSize))
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "consentgate-bench-") // t.TempDir's parent lets Postfix's user not through
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ps := &peers{wanted: true, dir: dir, site: &site{dkimKey: key}, message: m, sink: startedSink(t), running: map[string]*peer{}, missing: map[string]string{}}
	t.Cleanup(func() {
		if err := ps.stop(); err != nil {
			t.Error(err)
		}
	})
	return ps
}

// The peers run as they are set up here, and do their work: get tries each with a message. Where a
// machine has not what one needs, that one is skipped.
func TestPeers(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	ps := somePeers(t)
	for _, name := range []string{postfixPlain, postfixSigned, harakaFilter} {
		t.Run(name, func(t *testing.T) {
			program, _, err := harakaProgram()
			if err == nil {
				_, err = os.Stat(program) // a test installs nothing
			}
			if name == harakaFilter && err != nil {
				t.Skip(err)
			}
			for _, need := range []string{"postfix", "opendkim", "node", "npm"} {
				if _, err := exec.LookPath(need); err != nil {
					t.Skip(err)
				}
			}
			if name != harakaFilter && os.Geteuid() != 0 {
				t.Skip("Postfix starts as root only")
			}
			p, err := ps.get(t.Context(), name)
			if err != nil || p == nil {
				t.Fatalf("%v, %s", err, ps.missing[name])
			}
			if pids := p.pids(); len(pids) < 3 || process.PSS(pids) < 1 {
				t.Errorf("processes %d, %f MB", pids, process.PSS(pids))
			}
			if again, err := ps.get(t.Context(), name); again != p || err != nil {
				t.Errorf("asked for again: %v, %v", again, err)
			}
		})
	}
	if v := ps.versions(); len(ps.running) == 3 && (strings.Count(v, "Postfix") != 1 || !strings.Contains(v, "OpenDKIM") || !strings.Contains(v, "Haraka")) {
		t.Errorf("versions %q", v)
	}
}

// What is not installed is left out, and it is said what to install.
func TestPeersAreMissing(t *testing.T) {
	ps := somePeers(t)
	t.Setenv("PATH", t.TempDir())
	for name, want := range map[string]string{postfixPlain: "postfix", postfixSigned: "opendkim", harakaFilter: "npm"} {
		if p, err := ps.get(t.Context(), name); p != nil || err != nil || !strings.Contains(ps.missing[name], want) || !strings.Contains(ps.missing[name], "apt-get install") {
			t.Errorf("%s: %v, %v, %q", name, p, err, ps.missing[name])
		}
	}
}

// A copy that shows that a peer did not do its work is told apart from one that shows it did.
func TestPeersWork(t *testing.T) {
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.unchanged([]byte("Received: x\r\n\r\nhello\r\n.\r\n.two\r\n\r\n.end\r\n")); err != nil {
		t.Error(err)
	}
	if err := m.unchanged([]byte("Received: x\r\n\r\nhello\r\n\r\n.end\r\n")); err == nil {
		t.Error("a body with a line less is unchanged")
	}
	const pixel, footer = `<img width=3D"1" height=3D"1">`, "withdraw track=\r\ning consent"
	for text, want := range map[string]bool{"<p>" + footer: true, "<p>": false, pixel + footer: false} {
		if err := harakaFiltered([]byte(text)); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
