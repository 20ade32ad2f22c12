package peers

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Postfix's smtp-sink behind, by LMTP over a unix socket, without 8BITMIME: the copies are converted
// before they are signed.
func TestLMTPBehind(t *testing.T) {
	t.Parallel()
	program := needs(t, "smtp-sink")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			dir := folder(t)
			socket := filepath.Join(dir, "lmtp")
			run := exec.Command(program, "-L", "-8", "-u", "root", "-d", "mail.", "unix:"+socket, "10")
			run.Dir = dir
			start(t, run).ready(t, func() bool {
				c, err := net.Dial("unix", socket)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			g := startGateway(t, "lmtp+unix://"+socket, `mode = "cutthrough"`, `mode = "`+mode+`"`)
			g.agree(t, "both@example.org")
			if err := submit(t, sender(t, g), letter, "news@shop.example.net", false, "none@example.org", "both@example.org"); err != nil {
				t.Fatal(err)
			}
			var dumped []mail
			for range every(t, 20*time.Millisecond, 20*time.Second) {
				if dumped = readDump(t, dir); len(dumped) == 2 && strings.HasPrefix(g.queued(t), "nothing waits") {
					break
				}
			}
			if len(dumped) != 2 {
				t.Fatalf("%d mails came", len(dumped))
			}
			for _, m := range dumped {
				if m.from != "news@shop.example.net" || m.to != "none@example.org" && m.to != "both@example.org" {
					t.Errorf("a mail from %s to %s", m.from, m.to)
				}
				g.verify(t, m)
				if i := bytes.IndexFunc(m.text, func(r rune) bool { return r > 0x7f }); i >= 0 {
					t.Errorf("it is not 7-bit: %q", m.text[i:])
				}
				tracked(t, m, m.to == "both@example.org")
			}
			if dumped[0].to == dumped[1].to {
				t.Errorf("both came to %s", dumped[0].to)
			}
		})
	}
}

// readDump reads what smtp-sink wrote: fields of its own, then the message, with LF.
func readDump(t testing.TB, dir string) (found []mail) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "mail.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var m mail
		rest := string(text)
		for {
			line, after, _ := strings.Cut(rest, "\n")
			name, value, _ := strings.Cut(line, ": ")
			if !strings.HasPrefix(name, "X-") {
				break
			}
			switch value = strings.Trim(value, "<>"); name {
			case "X-Mail-Args":
				m.from, _, _ = strings.Cut(value, ">")
			case "X-Rcpt-Args":
				m.to, _, _ = strings.Cut(value, ">")
			}
			rest = after
		}
		m.text = []byte(strings.ReplaceAll(rest, "\n", "\r\n"))
		found = append(found, m)
	}
	return found
}
