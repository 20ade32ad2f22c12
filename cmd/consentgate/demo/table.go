package demo

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/consentgate/consentgate/consent"
)

const (
	labelWidth  = 20
	columnWidth = 15
	lineWidth   = labelWidth + 5*columnWidth
)

// row is one line of the table: what is said of each person, under a label.
type row struct {
	Label string
	Cells []string // in the order of people
	rule  bool     // a line above, in the terminal
}

// rows is the table of the round.
func (r *round) rows() []row {
	var all []row
	add := func(label string, cell func(o *outcome) string) {
		w := row{Label: label}
		for i := range r.copies {
			w.Cells = append(w.Cells, cell(&r.copies[i]))
		}
		all = append(all, w)
	}
	// arrived leaves the cell empty for whom there is no copy.
	arrived := func(cell func(o *outcome) string) func(o *outcome) string {
		return func(o *outcome) string {
			if o.raw == nil {
				return "–"
			}
			return cell(o)
		}
	}
	count := func(gone string, n func(t *tally) int) func(o *outcome) string {
		return arrived(func(o *outcome) string {
			kept, removed := n(&o.report.kept), n(&o.report.removed)
			switch {
			case kept == 0 && removed == 0:
				return "0"
			case removed == 0:
				return fmt.Sprintf("%d kept", kept)
			case kept == 0:
				return fmt.Sprintf("%d %s", removed, gone)
			}
			return fmt.Sprintf("%d kept/%d gone", kept, removed)
		})
	}
	add("mail", func(o *outcome) string { return state(o.record.Mail.State, consent.Subscribed) })
	add("opens", func(o *outcome) string { return state(o.record.Open.State, consent.Unset) })
	add("clicks", func(o *outcome) string { return state(o.record.Click.State, consent.Unset) })
	add("open pixels", count("removed", func(t *tally) int { return t.pixels }))
	all[len(all)-1].rule = true
	add("counted links", count("undone", func(t *tally) int { return t.counters - t.opaque }))
	add("  of these nested", count("undone", func(t *tally) int { return t.nested }))
	add("opaque links", arrived(func(o *outcome) string {
		s := count("gone", func(t *tally) int { return t.opaque })(o)
		if !o.decision.Click {
			s += " (1)"
		}
		return s
	}))
	add("personal parameters", count("stripped", func(t *tally) int { return t.persons }))
	add("all other addresses", count("gone", func(t *tally) int { return t.others }))
	add("unsubscribe links", arrived(func(o *outcome) string {
		return fmt.Sprintf("%d text, %d HTML", o.report.linkText, o.report.linkHTML)
	}))
	add("List-Unsubscribe", arrived(func(o *outcome) string {
		if o.report.listPairs == 1 {
			return "pair inserted"
		}
		return fmt.Sprintf("%d pairs", o.report.listPairs)
	}))
	add("DKIM signature", arrived(func(o *outcome) string {
		if o.report.signed {
			return "verifies"
		}
		return "FAILS"
	}))
	add("gateway said", func(o *outcome) string { return code(o.answer) })
	all[len(all)-1].rule = true
	add("smarthost said", func(o *outcome) string {
		if o.relayed == "" {
			return "never asked"
		}
		return code(o.relayed)
	})
	add("as consent wants", func(o *outcome) string {
		if len(o.report.deviations) > 0 {
			return "NO"
		}
		return "yes"
	})
	return all
}

// state is a recorded state; otherwise is what stands for none.
func state(s, otherwise consent.State) string {
	if s == "" {
		s = otherwise
	}
	return string(s)
}

// code is the two codes of an answer.
func code(answer string) string {
	f := strings.Fields(answer)
	return strings.Join(f[:min(2, len(f))], " ")
}

// writeTable writes the round for a terminal: no line is longer than 100 columns, but for what
// deviates.
func (r *round) writeTable(w io.Writer) error {
	var b strings.Builder
	rule := strings.Repeat("-", lineWidth) + "\n"
	fmt.Fprintf(&b, "\nRound %d: “%s”, to five people at example.org\n", r.number, r.letter.subject())
	b.WriteString("Read from the copies that reached the smarthost, each compared with the original.\n\n")
	b.WriteString(pad("", labelWidth))
	for i := range r.copies {
		b.WriteString(pad(r.copies[i].name+"@", columnWidth))
	}
	b.WriteString("\n" + rule)
	for _, w := range r.rows() {
		if w.rule {
			b.WriteString(rule)
		}
		b.WriteString(pad(w.Label, labelWidth))
		for _, c := range w.Cells {
			b.WriteString(pad(c, columnWidth))
		}
		b.WriteString("\n")
	}
	b.WriteString(rule)
	r.writeLinks(&b)
	b.WriteString("\nAnswers:\n")
	for _, o := range r.copies {
		fmt.Fprintf(&b, "  %s %s\n", pad(o.who.String(), 18), cut("gateway:   "+o.answer, 79))
		if o.relayed != "" {
			fmt.Fprintf(&b, "  %s %s\n", pad("", 18), cut("smarthost: "+o.relayed, 79))
		}
	}
	if all := r.deviations(); len(all) > 0 {
		b.WriteString("\nNOT WHAT CONSENT CALLS FOR:\n")
		for _, d := range all {
			b.WriteString("  " + d + "\n")
		}
		if r.log != "" {
			b.WriteString("The gateway's warnings:\n" + r.log)
		}
	} else {
		b.WriteString("\nEvery copy is what its consent calls for.\n")
	}
	// Spaces at the ends of lines are of no use to anybody.
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

// writeLinks shows where the links lead in a copy without consent to clicks.
func (r *round) writeLinks(b *strings.Builder) {
	for _, o := range r.copies {
		if o.raw == nil || o.decision.Click {
			continue
		}
		fmt.Fprintf(b, "(1) kept: its destination is encrypted, and asking the counter would be a click\n\nLinks in the copy for %s:\n", o.who)
		shown := map[string]bool{}
		for _, c := range o.report.changes {
			if shown[c.before] || c.did != "undone" && c.did != "stripped" && c.did != "opaque" {
				continue
			}
			shown[c.before] = true
			k, _ := knownAddress(c.before)
			through, to := k.counter, bare(c.after)
			switch {
			case c.did == "opaque":
				to = "stays at " + to
			case through == "":
				through = "a direct link"
			}
			if c.did != "opaque" && k.person {
				through += ", stripped"
			}
			fmt.Fprintf(b, "  %s -> %s\n", pad(through, 24), cut(to, 60))
		}
		return
	}
}

// bare is an address without its scheme.
func bare(url string) string {
	url = strings.TrimPrefix(url, "https://")
	return strings.TrimPrefix(url, "http://")
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// cut shortens a text to so many characters.
func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}
