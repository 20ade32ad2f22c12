package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

func head(version string) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	return fmt.Sprintf(`# The gateway under attack

Made by make hostile on %s; %s, %d cores shared by the gateway, those who attack it and those who do not; %s.

`, time.Now().UTC().Format("2 January 2006, 15:04 UTC"), model, runtime.NumCPU(), version)
}

const tail = `
Each row is a gateway of its own: mode cutthrough, store in a file, RSA-2048, smtp.max_connections at its default
of 1,000, idle_timeout 20 s (default 5 min) so that the slow can be seen to be cut. Strangers come from 250 addresses
that have to log in. Messages are sent by one who need not.

- honest mails, pages: sent and opened a few times a second meanwhile, each on a new connection; every mail was
  answered 250 and came out, every page was the page. longest wait: from the connection to the answer.
- memory: resident, before, at its highest, and at the end of the attack, before the runtime gives it back.
- The run fails where a gateway ends, takes more memory or lets the honest wait longer than is allowed for the
  attack, or takes a token or a password that nobody has.
`
