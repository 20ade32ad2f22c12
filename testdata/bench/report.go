package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// section is what one part found.
type section struct {
	title, text string
	table       [][]string
	aims        []aim
	picture     string // the name of a file beside the report
	took        time.Duration
}

// report is what a run found.
type report struct {
	machine  string
	disk     string
	versions string            // of the gateway and of Redis
	peers    string            // their versions
	missing  map[string]string // peers that were not measured, and why
	sign     float64           // CPU ms of a bare rsa.Sign
	own      float64           // the same of a signature as the gateway makes it
	by       string            // by what
	runs     int
	window   time.Duration
	people   int
	loudest  float64 // what others used of the machine in % in the worst half of the runs of a row
	sections []*section
}

// tooLoud is the share of the machine in %, used by others, from which on figures are not to be
// quoted: by then messages/s and ratios are off by more than what one would want to compare.
const tooLoud = 10

// text is the report in Markdown, whose tables can be read as they are.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Messages through consentgate serve\n\n")
	fmt.Fprintf(&b, "Measured %s on %s. Queues, spool and logs are on %s.\n", time.Now().UTC().Format("2 January 2006, 15:04 UTC"), r.machine, r.disk)
	fmt.Fprintf(&b, "Recipients go round among %d people: a quarter each with both consents, opens only, clicks only, no record. Real redis-server, RSA-2048, log level info into a file. "+
		"Medians of %d runs of %s behind a warm-up; each run of the gateway is followed by one of a peer, and ratios are medians of those of neighbouring runs.\n", r.people, r.runs, r.window)
	fmt.Fprintf(&b, "Versions: %s.", r.versions)
	if r.peers != "" {
		fmt.Fprintf(&b, " Beside it: %s.", r.peers)
	}
	if r.sign > 0 {
		fmt.Fprintf(&b, "\nA bare rsa.Sign (RSA-2048, PKCS #1 v1.5, SHA-256): %.2f ms CPU. A signature as the gateway makes it, by %s: %.2f ms; "+
			"the one that is called static has no OpenSSL in it and signs by rsa.Sign.", r.sign, r.by, r.own)
	}
	b.WriteString("\n\n")
	for _, name := range []string{postfixPlain, postfixSigned, harakaFilter} {
		if why := r.missing[name]; why != "" {
			fmt.Fprintf(&b, "**%s was left out: %s.**\n\n", name, why)
		}
	}
	if r.loudest > tooLoud {
		fmt.Fprintf(&b, "**The machine was not quiet** (others used %.0f %% of it in half of the runs of a row): do not quote these figures, repeat.\n\n", r.loudest)
	}
	b.WriteString(whatIsCompared)
	b.WriteString(r.summary())
	for _, s := range r.sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", s.title, s.text)
		if s.picture != "" {
			fmt.Fprintf(&b, "![%s](%s)\n\n", s.title, s.picture)
		}
		if s.table != nil {
			writeTable(&b, s.table)
		}
		aims := [][]string{{"", "measured", "aim", "met"}}
		for _, a := range s.aims {
			aims = append(aims, a.cells())
		}
		if s.aims != nil {
			b.WriteByte('\n')
			writeTable(&b, aims)
		}
		fmt.Fprintf(&b, "\nThis part took %s.\n", s.took.Round(time.Second))
	}
	var all time.Duration
	for _, s := range r.sections {
		all += s.took
	}
	fmt.Fprintf(&b, "\nAll parts took %s together.\n", all.Round(time.Second))
	b.WriteString(notes)
	return b.String()
}

// summary says how many aims are met, and names those that are not.
func (r *report) summary() string {
	met, asked, missing := 0, 0, 0
	var not []string
	for _, s := range r.sections {
		for _, a := range s.aims {
			switch {
			case a.sense == "":
			case a.missing != "":
				missing++
			case a.met():
				met++
				asked++
			default:
				cells := a.cells()
				not = append(not, fmt.Sprintf("%s: %s: %s, aim %s", s.title, a.what, cells[1], cells[2]))
				asked++
			}
		}
	}
	for _, s := range r.sections {
		if s.table == nil {
			not = append(not, s.title+": the part failed, see there")
		}
	}
	text := fmt.Sprintf("\n**%d of %d aims are met.**", met, asked)
	if missing > 0 {
		text += fmt.Sprintf(" %d more were not measured.", missing)
	}
	if len(not) > 0 {
		text += " Not met:\n\n- " + strings.Join(not, "\n- ")
	}
	return text + "\n"
}

const whatIsCompared = `What each does with a message:

- consentgate looks up the recipient's consent in Redis, removes trackers where it is missing, adds the
  footer and the one-click pair, signs. Mode cutthrough offers the copy to the smarthost before it
  answers, and writes to its spool only what the smarthost does not take; so it does **not** queue
  durably, as Postfix does. Mode stateless has no spool at all. Mode spool has the message on disk,
  synced, before it answers, as Postfix.
- Postfix queues the message on disk, synced, before it answers; it does not look into it.
- Postfix + opendkim does the same and has it signed, RSA-2048, before it is queued.
- Haraka, in two processes, cuts pixels of 1x1 by a regular expression and appends a footer, queues on
  disk, synced, and delivers from there; no lookup, no signature, no links.
`

const notes = `
- messages/s counts from the first connection until the sink has the last message and the sender the
  last answer. CPU is user and system time of the gateway's process (the peer: of all its processes)
  from /proc, without that of redis-server, load generator and sink, which run on the same cores.
- answer: from the last byte of a message given to the kernel to the answer to it.
- memory: RSS behind a run, and the highest of the process's life; PSS where several processes
  share pages.
- others' load: what programs that have no part in this used of the machine meanwhile. Above a
  few per cent messages/s and ratios say little (CPU a message stands it better).
- Before a gateway or a peer is measured, a copy is checked: of the gateway for each kind of person that
  DKIM verifies, the one-click pair is there, the open pixel only where it may be; of a peer that its
  body is as it was, or signed, or filtered. A message that is refused, or does not reach the sink
  for each of its recipients, or reaches it more often, fails the row and the run.

Again: make bench, as root with postfix, opendkim, nodejs and npm for all peers, or make bench PEER=0
without; one part: go run ./testdata/bench -only NAME, see -h.
`

// writeTable writes a Markdown table with aligned columns.
func writeTable(b *strings.Builder, table [][]string) {
	width := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for n, line := range table {
		for i, cell := range line {
			if pad := width[i] - len([]rune(cell)); i == 0 {
				fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", pad))
			} else {
				fmt.Fprintf(b, "| %s%s ", strings.Repeat(" ", pad), cell)
			}
		}
		b.WriteString("|\n")
		if n == 0 {
			for i, w := range width {
				if i == 0 {
					b.WriteString("|" + strings.Repeat("-", w+2))
				} else {
					b.WriteString("|" + strings.Repeat("-", w+1) + ":")
				}
			}
			b.WriteString("|\n")
		}
	}
}

// thisMachine says what the figures were taken on.
func thisMachine() string {
	model := "an unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		load = ", load average before the run " + first
	}
	return fmt.Sprintf("%s, %d cores shared with whatever else runs there, %s, %s/%s%s",
		model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, load)
}

// fileSystem is the kind of the one that dir is on, from /proc/mounts: in memory, a sync costs
// nothing.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "an unknown file system"
	}
	kind := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 2 {
			kind[f[1]] = f[2]
		}
	}
	for ; ; dir = filepath.Dir(dir) {
		if found := kind[dir]; found != "" {
			return found
		}
		if dir == "/" || dir == "." {
			return "an unknown file system"
		}
	}
}
