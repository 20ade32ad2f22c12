package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what a run found.
type report struct {
	options
	message  *message
	machine  string
	versions string // of the gateway and of Redis
	peer     string // its versions
	noPeer   string // why there is none
	rsa      []float64
	rows     []*row
}

// row is one thing measured with one number of connections.
type row struct {
	name        string
	conns       int
	sharesPages bool // several processes, so memory is PSS
	peak        float64
	runs        []figures
}

// median of what of takes from the runs.
func (r *row) median(of func(figures) float64) float64 {
	values := make([]float64, len(r.runs))
	for i, f := range r.runs {
		values[i] = of(f)
	}
	return median(values)
}

func (r *row) rate() float64 { return r.median(func(f figures) float64 { return f.rate }) }

// spread is the slowest and the fastest run.
func (r *row) spread() string {
	values := make([]float64, len(r.runs))
	for i, f := range r.runs {
		values[i] = f.rate
	}
	return fmt.Sprintf("%.0f–%.0f", slices.Min(values), slices.Max(values))
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// tooLoud is the share of the machine in %, used by others, from which on figures are not to be
// quoted: by then messages/s and ratios are off by more than what one would want to compare.
const tooLoud = 10

// text is the report in Markdown, whose tables can be read as they are.
func (r *report) text() string {
	var b strings.Builder
	sign := median(r.rsa)
	fmt.Fprintf(&b, "# Messages through consentgate serve\n\n")
	fmt.Fprintf(&b, "Measured %s on %s.\n", time.Now().UTC().Format("2 January 2006, 15:04 UTC"), r.machine)
	fmt.Fprintf(&b, "Message: %s, %d bytes. %d recipient(s) a message, in turn among %d people: a quarter each with both consents, opens only, clicks only, no record.\n",
		r.message.path, r.message.size(), r.rcpts, r.people)
	fmt.Fprintf(&b, "Mode stateless, real redis-server, RSA-2048, log level info into a file. Medians of %d runs of %s behind a warm-up of %s.\n",
		r.runs, r.window, r.warmUp)
	fmt.Fprintf(&b, "Versions: %s.\n", r.versions)
	if r.peer != "" {
		fmt.Fprintf(&b, "Beside it: %s. Each run of the gateway is followed by one of theirs.\n", r.peer)
	}
	b.WriteByte('\n')

	table := [][]string{{"", "connections", "messages/s", "slowest–fastest", "CPU ms/message", "beside rsa.Sign", "answer p50 ms", "p99 ms", "memory MB", "peak MB", "others' load"}}
	for _, row := range r.rows {
		cpu := row.median(func(f figures) float64 { return f.cpu })
		line := []string{row.name, fmt.Sprint(row.conns), fmt.Sprintf("%.0f", row.rate()), row.spread(), "", "",
			fmt.Sprintf("%.1f", row.median(func(f figures) float64 { return f.p50 })),
			fmt.Sprintf("%.1f", row.median(func(f figures) float64 { return f.p99 })), "", "",
			fmt.Sprintf("%.0f %%", row.median(func(f figures) float64 { return f.others }))}
		if cpu > 0 {
			line[4] = fmt.Sprintf("%.2f", cpu)
			if row.peak > 0 {
				line[5] = fmt.Sprintf("%.2f", cpu-sign)
			}
			line[8] = fmt.Sprintf("%.0f", row.median(func(f figures) float64 { return f.memory }))
			if row.sharesPages {
				line[8] += " (PSS)"
			}
		}
		if row.peak > 0 {
			line[9] = fmt.Sprintf("%.0f", row.peak)
		}
		table = append(table, line)
	}
	writeTable(&b, table)
	fmt.Fprintf(&b, "\nA bare rsa.Sign (RSA-2048, PKCS #1 v1.5, SHA-256) on one core: %.2f ms CPU.\n", sign)
	if r.noPeer != "" {
		fmt.Fprintf(&b, "Postfix + opendkim: %s.\n", r.noPeer)
	}
	for _, ratio := range r.ratios() {
		b.WriteString(ratio)
	}
	for _, row := range r.rows {
		if others := row.median(func(f figures) float64 { return f.others }); others > tooLoud {
			fmt.Fprintf(&b, "\n**The machine was not quiet** (others used %.0f %% of it in half of the runs of a row): do not quote these figures, repeat.\n", others)
			break
		}
	}
	b.WriteString(notes)
	return b.String()
}

// ratios are the gateway's messages/s by the peer's.
func (r *report) ratios() (lines []string) {
	for _, own := range r.rows {
		for _, other := range r.rows {
			if own.name == "consentgate" && other.sharesPages && own.conns == other.conns {
				lines = append(lines, fmt.Sprintf("With %d connections: **%.1f times** the messages/s of %s. Postfix queues durably before it answers; mode stateless keeps nothing and passes on the smarthost's answer.\n",
					own.conns, own.rate()/other.rate(), other.name))
			}
		}
	}
	return lines
}

const notes = `
- messages/s counts from the first connection until the sink has the last message. CPU is user and
  system time of the gateway's process (the peer: of all its processes) from /proc, without that of
  redis-server, load generator and sink, which run on the same cores.
- answer: from the last byte of a message given to the kernel to the answer to it.
- memory: RSS behind a run, and the highest of the process's life; PSS where several processes
  share pages.
- others' load: what programs that have no part in this used of the machine meanwhile. Above a
  few per cent messages/s and ratios say little (CPU a message stands it better).
- Before anything is measured, a copy for each kind of person is checked: DKIM verifies, the
  one-click pair is there, the open pixel only where it may be. Any message that is refused or
  does not reach the sink ends the run with an error.

Again: make bench, or make bench PEER=1 as root with postfix and opendkim installed; this part
alone: go run ./testdata/bench -h.
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
