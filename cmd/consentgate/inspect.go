package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/relay/mailing"
	"github.com/consentgate/consentgate/rewrite"
)

type inspectCmd struct {
	Files  []string `arg:"" name:"file" placeholder:"FILE.eml" help:"A message; - for standard input. Several: the same mailing as it went to several people."`
	Config string   `placeholder:"FILE" help:"Configuration file, for the rules and the policy. Without it: the defaults."`
	JSON   bool     `help:"One JSON document, for programs: addresses are whole."`
}

func (inspectCmd) Help() string {
	return `Lists every tracker found: what it is, where, by which rule, and what would become of it in a copy for a person without any consent. Nothing is sent, fetched or asked.

Given several copies of one mailing, it also compares them: an address that differs from copy to copy is personal, whatever its host. For those that no rule covers it prints a rule to put into rewrite.rules_file.

The addresses may name the people who got the copies.

Examples:

    consentgate inspect newsletter.eml
    consentgate inspect to-anna.eml to-ben.eml > report.txt`
}

// inspection is what is said of one message.
type inspection struct {
	File       string    `json:"file"`
	Subject    string    `json:"subject,omitempty"`
	Unreadable string    `json:"unreadable,omitempty"` // why a copy without consent is refused
	Clipped    []clipped `json:"clipped,omitempty"`
	Findings   []finding `json:"findings"`
	message    *rewrite.Message
}

// clipped is an HTML part whose end Gmail hides behind a link.
type clipped struct {
	Part  string `json:"part"`
	Bytes int    `json:"bytes"`
}

// finding is one tracker.
type finding struct {
	Kind        rewrite.Kind   `json:"kind"` // "open" or "click"
	Action      rewrite.Action `json:"action"`
	Opaque      bool           `json:"opaque,omitempty"` // a counter whose destination cannot be read
	Vector      string         `json:"vector"`
	Part        string         `json:"part,omitempty"`
	Rule        string         `json:"rule"`
	Provider    string         `json:"provider,omitempty"`
	Why         string         `json:"why"`
	URL         string         `json:"url,omitempty"`
	Destination string         `json:"destination,omitempty"`
}

// comparison is what several copies of one mailing tell.
type comparison struct {
	Alike    float64    `json:"alike"` // the share of addresses that have a counterpart in all copies
	Same     int        `json:"same"`
	Personal []personal `json:"personal"`
	Rules    []string   `json:"rules"`
}

type personal struct {
	Sort    mailing.Sort `json:"sort"`
	Vector  string       `json:"vector"`
	Part    string       `json:"part,omitempty"`
	Differs []string     `json:"differs"`
	Rule    string       `json:"covered_by,omitempty"` // "" if nothing covers it yet
	Propose int          `json:"proposed_rule"`        // index into rules, -1 for none
	URLs    []string     `json:"urls"`                 // in the order of the files
}

func (c inspectCmd) Run(std streams) error {
	cfg := config.Default()
	cfg.Unsubscribe.BaseURL, cfg.Rewrite.OpaqueLinks = placeholderBase, string(rewrite.OpaqueKeep)
	if c.Config != "" {
		var err error
		if cfg, err = config.Load(c.Config, os.LookupEnv); err != nil {
			return usageError{err}
		}
	}
	var all []*inspection
	for _, file := range c.Files {
		one, err := inspect(cfg, file, std.in)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	var compared *comparison
	if len(all) > 1 {
		compared = compare(all)
	}
	if c.JSON {
		out := json.NewEncoder(std.out)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		return out.Encode(struct {
			Messages   []*inspection `json:"messages"`
			Comparison *comparison   `json:"comparison,omitempty"`
		}{all, compared})
	}
	for _, one := range all {
		one.print(std.out, cfg)
	}
	if compared != nil {
		compared.print(std.out, c.Files)
	}
	return nil
}

// inspect reads one message and asks what a copy without consent would do without.
func inspect(cfg *config.Config, file string, stdin io.Reader) (*inspection, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := readMessage(in, cfg.SMTP.MaxMessageBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	known, err := rules(cfg)
	if err != nil {
		return nil, err
	}
	options, err := rewriteOptions(cfg)
	if err != nil {
		return nil, err
	}
	options.Everything = true
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), known, options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	one := &inspection{File: file, message: m, Findings: []finding{}}
	if s := m.Fields("Subject"); len(s) > 0 {
		one.Subject = s[0]
	}
	for _, h := range m.HTMLParts() {
		if h.Bytes > gmailClips {
			one.Clipped = append(one.Clipped, clipped(h))
		}
	}
	without := rewrite.Variant{Link: placeholderBase + "/u/placeholder", OneClick: placeholderBase + "/u/placeholder"}
	copy, err := m.Render(without)
	if err != nil {
		one.Unreadable = err.Error()
		for _, f := range m.Findings() {
			one.add(f, rewrite.Kept)
		}
		return one, nil
	}
	for _, o := range copy.Outcomes() {
		one.add(*o.Finding, o.Action)
	}
	return one, nil
}

// gmailClips is how much of an HTML part Gmail shows, in bytes, as senders have measured it.
const gmailClips = 102 << 10

func (one *inspection) add(f rewrite.Finding, action rewrite.Action) {
	if f.Kind == rewrite.Unsubscribe || f.Rule == "" {
		return
	}
	one.Findings = append(one.Findings, finding{
		Kind: f.Kind, Action: action, Vector: f.Vector, Part: f.Part, Rule: f.Rule, Provider: f.Provider, Why: f.Why, URL: f.URL, Destination: f.Destination,
		Opaque: f.Kind == rewrite.ClickTracker && f.Provider != "" && f.Destination == "",
	})
}

func (one *inspection) print(out io.Writer, cfg *config.Config) {
	fmt.Fprintf(out, "%s\n", printable(one.File))
	if one.Unreadable != "" {
		fmt.Fprintf(out, "\n  A copy for a person without consent would be refused: %s.\n", printable(one.Unreadable))
	}
	for _, c := range one.Clipped {
		fmt.Fprintf(out, "\n  Gmail would clip part %s: its HTML has %d bytes, over %d. What stands at the end, a footer too, is behind a link there.\n", c.Part, c.Bytes, gmailClips)
	}
	count := map[rewrite.Action]int{}
	for _, section := range []struct {
		title string
		has   func(finding) bool
	}{
		{"Open trackers", func(f finding) bool { return f.Kind == rewrite.OpenTracker }},
		{"Click trackers", func(f finding) bool { return f.Kind == rewrite.ClickTracker && !f.Opaque }},
		{"Click counters whose destination cannot be read", func(f finding) bool { return f.Opaque }},
	} {
		var rows []finding
		for _, f := range one.Findings {
			if section.has(f) {
				rows = append(rows, f)
				count[f.Action]++
			}
		}
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n  %s\n\n", section.title)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range rows {
			rule := f.Rule
			if f.Provider != "" {
				rule += " (" + f.Provider + ")"
			}
			what := string(f.Action)
			if f.Destination != "" && (f.Action == rewrite.Undone || f.Action == rewrite.Stripped) {
				what += " to " + shorten(f.Destination, 60)
			}
			fmt.Fprintf(table, "  %s\tpart %s\t%s\t%s\t%s\n", printable(f.Vector), orHeader(f.Part), printable(rule), what, shorten(f.URL, 70))
		}
		table.Flush() // into out, whose errors the end of the program shows
		for _, why := range reasons(rows) {
			fmt.Fprintf(out, "  %s\n", why)
		}
		if rows[0].Opaque {
			fmt.Fprintf(out, "  opaque_links is %q. A link with data-consent-href=\"…\" names its destination itself, and that wins.\n", cfg.Rewrite.OpaqueLinks)
		}
	}
	switch n := len(one.Findings); n {
	case 0:
		fmt.Fprintf(out, "\n  No tracker found.\n\n")
	default:
		fmt.Fprintf(out, "\n  %d found. In a copy without consent: %d removed, %d undone, %d stripped, %d unlinked, %d kept.\n\n", n,
			count[rewrite.Removed], count[rewrite.Undone], count[rewrite.Stripped], count[rewrite.Unlinked], count[rewrite.Kept])
	}
}

// reasons explains the rules of a section in plain words, each once.
func reasons(rows []finding) []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range rows {
		line := printable(f.Rule) + ": " + f.Why
		if f.Provider == "" && !seen[line] {
			seen[line] = true
			out = append(out, line)
		}
	}
	return out
}

func orHeader(part string) string {
	if part == "" {
		return "header"
	}
	return part
}

// printable takes out of a text what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, strings.ToValidUTF8(s, "·"))
}

// shorten leaves out the middle of what is longer than n characters.
func shorten(s string, n int) string {
	r := []rune(printable(s))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n*2/3]) + "…" + string(r[len(r)-n/3:])
}

func compare(all []*inspection) *comparison {
	var copies []mailing.Copy
	for _, one := range all {
		c := mailing.Copy{Findings: one.message.Findings()}
		for _, body := range one.message.Fields("List-Unsubscribe") {
			for _, uri := range strings.Split(body, ",") {
				c.Own = append(c.Own, strings.Trim(uri, " \t<>"))
			}
		}
		copies = append(copies, c)
	}
	r := mailing.Compare(copies)
	out := &comparison{Alike: r.Alike(), Same: r.Same, Personal: []personal{}, Rules: append([]string{}, r.Rules...)}
	for _, p := range r.Personal {
		one := personal{Sort: p.Sort, Vector: p.Finding.Vector, Part: p.Finding.Part, Differs: p.Differs, Propose: p.Rule, URLs: append([]string{p.Finding.URL}, p.Others...)}
		if p.Covered {
			one.Rule = p.Finding.Rule
		}
		out.Personal = append(out.Personal, one)
	}
	return out
}

func (c *comparison) print(out io.Writer, files []string) {
	fmt.Fprintf(out, "Compared: %d copies\n\n", len(files))
	if c.Alike < 0.5 {
		fmt.Fprintf(out, "  These do not look like copies of one mailing: only %.0f %% of the addresses of the first have a counterpart in all others. What follows may be nonsense.\n\n", c.Alike*100)
	}
	if len(c.Personal) == 0 {
		fmt.Fprintf(out, "  No address differs: none of %d is personal.\n", c.Same)
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range c.Personal {
		says := "not covered, and no rule can be proposed"
		switch {
		case p.Rule != "":
			says = "covered: " + p.Rule
		case p.Sort == mailing.Unsubscribe:
			says = "left alone"
		case p.Propose >= 0:
			says = fmt.Sprintf("not covered: rule %d below", p.Propose+1)
		}
		if p.Sort == mailing.Picture {
			says += ", uncertain"
		}
		fmt.Fprintf(table, "  %s\t%s\tpart %s\t%s\t%s\t%s\n", p.Sort, printable(p.Vector), orHeader(p.Part), printable(strings.Join(p.Differs, ", ")), printable(says), shorten(p.URLs[0], 60))
	}
	table.Flush()
	fmt.Fprintf(out, "\n  %d personal, %d the same in all copies.\n", len(c.Personal), c.Same)
	if len(c.Rules) > 0 {
		fmt.Fprintf(out, "\nFor rewrite.rules_file (the examples name the people who got these copies; shorten them if that matters):\n\n")
		for i, text := range c.Rules {
			fmt.Fprintf(out, "# %d\n%s\n", i+1, strings.TrimSpace(text))
			fmt.Fprintln(out)
		}
	}
}
