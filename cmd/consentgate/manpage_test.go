package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

const manFile = "../../deploy/consentgate.1"

// manPage writes the command as a page for man(1), in the macros of man(7).
func manPage(command *verbDoc) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	text := func(s string) {
		for i, paragraph := range strings.Split(s, "\n\n") {
			if i > 0 {
				line(".PP")
			}
			if !strings.HasPrefix(paragraph, "    ") {
				line("%s", roff(paragraph))
				continue
			}
			line(".EX")
			for l := range strings.SplitSeq(paragraph, "\n") {
				line("%s", roff(l))
			}
			line(".EE")
		}
	}
	line(`.\" Made of the command by go test ./cmd/consentgate -run Deploy -update.`)
	line(`.TH CONSENTGATE 1 2026-11-30 consentgate "User Commands"`) // a page made of the code has no other date; lint wants one
	line(".nh\n.ad l")
	line(".SH NAME\nconsentgate \\- %s", roff(strings.TrimSuffix(command.help, ".")))
	line(".SH SYNOPSIS\n.B consentgate\n.I verb\n.RI [ flags ]")
	line(".SH DESCRIPTION")
	text(command.help + "\n\n" + strings.ReplaceAll(command.detail, ":  consentgate demo", ":\n\n    consentgate demo"))
	line(".SH VERBS")
	for _, v := range command.all() {
		if len(v.verbs) > 0 {
			continue
		}
		line(".SS %s", roff(strings.TrimPrefix(usage(v), "consentgate ")))
		text(v.help)
		if v.detail != "" {
			line(".PP")
			text(v.detail)
		}
		for _, a := range v.args {
			line(".TP\n.I %s\n%s", roff(a.holder), roff(a.help))
		}
		for _, f := range v.flags {
			if f.name == "help" {
				continue
			}
			if f.holder == "" {
				line(".TP\n.B \\-\\-%s\n%s", roff(f.name), roff(f.help))
			} else {
				line(".TP\n.BI \\-\\-%s= %s\n%s", roff(f.name), roff(f.holder), roff(f.help))
			}
		}
	}
	line(".SH EXIT STATUS\n0: done. 1: failed. 2: wrong usage or wrong configuration. Errors go to standard error, one line each.")
	line(".SH FILES")
	line(".TP\n.I %s\nThe configuration, where the working directory has no %s. Every key, with what it does:", config.Places[1], config.Places[0])
	line(".EX\n    consentgate init \\-\\-example\n.EE")
	line(".TP\n.I /var/lib/consentgate\nKeys, spool, control socket and the embedded store, unless the configuration says otherwise.")
	line(".SH SIGNALS\nSIGTERM and SIGINT end\n.B serve\nonce what is under way is done. SIGHUP lets it read its configuration again.")
	return b.String()
}

// usage is how a verb is called.
func usage(v *verbDoc) string {
	s := v.path
	for _, a := range v.args {
		one := a.holder
		if a.many {
			one += " ..."
		}
		if a.optional {
			one = "[" + one + "]"
		}
		s += " " + one
	}
	if len(v.flags) > 1 { // besides --help
		s += " [flags]"
	}
	return s
}

// roff escapes text for a line of a man page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "'", `\(aq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func TestDeployManPage(t *testing.T) {
	page := manPage(described())
	holdTo(t, manFile, page)
	for _, v := range described().all() {
		for _, f := range v.flags {
			if f.name != "help" && !strings.Contains(page, `\-\-`+roff(f.name)) {
				t.Errorf("--%s of %s is not in it", f.name, v.path)
			}
		}
	}
	t.Run("mandoc", func(t *testing.T) {
		lint(t, "mandoc", "-Tlint", "-Wwarning", manFile)
	})
	t.Run("groff", func(t *testing.T) {
		out := lint(t, "groff", "-man", "-ww", "-z", manFile)
		if out != "" {
			t.Error(out)
		}
	})
}

// lint runs a checker of man pages, if it is there, and returns what it complains about.
func lint(t *testing.T, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not in PATH; this test needs a real one (make need installs it on Debian)", program)
	}
	said, err := exec.Command(path, args...).CombinedOutput()
	if len(said) > 0 {
		t.Errorf("%s: %v\n%s", program, err, said)
	}
	return string(said)
}
