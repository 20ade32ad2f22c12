package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress says how far a long job is: on a terminal in one line that changes, else in a line now
// and then.
type progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	total    int64  // of what at counts, 0 where nobody knows
	unit     string // what there are lines of

	start, said time.Time
	from        int64   // where this run began
	marks       [2]mark // how far it was some time ago, for what is left: the first pages of a store are slow
	width       int     // of what stands on the terminal
}

func newProgress(out io.Writer, now func() time.Time, total, from int64) *progress {
	file, ok := out.(*os.File)
	at := now()
	return &progress{
		out: out, terminal: ok && term.IsTerminal(int(file.Fd())), now: now,
		total: total, unit: "lines", start: at, said: at, from: from, marks: [2]mark{{at, from}, {at, from}},
	}
}

// mark is how far a job was at a time.
type mark struct {
	at   time.Time
	done int64
}

// markEvery is how far apart marks are: what is left is estimated from the last one to two of these.
const markEvery = 10 * time.Second

const barWidth = 24

// at says that done of the total is done, and how many lines this run has dealt with; it prints
// that where it is time to.
func (p *progress) at(done int64, lines int) {
	now := p.now()
	pause := 10 * time.Second
	if p.terminal {
		pause = 200 * time.Millisecond
	}
	if now.Sub(p.said) < pause {
		return
	}
	p.said = now
	if done < p.marks[1].done { // begun anew, since a store did not answer
		p.start, p.from, p.marks = now, 0, [2]mark{{now, done}, {now, done}}
		return
	}
	if now.Sub(p.marks[1].at) >= markEvery {
		defer func() { p.marks = [2]mark{p.marks[1], {now, done}} }()
	}
	text := fmt.Sprintf("%d %s, %.0f/s", lines, p.unit, float64(lines)/now.Sub(p.start).Seconds())
	if since := p.marks[0]; p.total > 0 && done > since.done {
		share := min(float64(done)/float64(p.total), 1)
		left := time.Duration(float64(now.Sub(since.at)) * float64(p.total-done) / float64(done-since.done)).Round(time.Second)
		text = fmt.Sprintf("%3.0f%%, %s, %s left", share*100, text, max(left, 0))
		if p.terminal {
			full := int(share * barWidth)
			text = "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] " + text
		}
	}
	if !p.terminal {
		fmt.Fprintln(p.out, text)
		return
	}
	fmt.Fprintf(p.out, "\r%-*s", p.width, text)
	p.width = len(text)
}

// clear makes room for something else on the terminal.
func (p *progress) clear() {
	if p.width > 0 {
		fmt.Fprintf(p.out, "\r%*s\r", p.width, "")
		p.width = 0
	}
}
