package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/relay/mailing"
	"github.com/consentgate/consentgate/rewrite"
)

type verifyDeliveryCmd struct {
	Sent     string `arg:"" placeholder:"SENT.eml" help:"The copy as it left the gateway; delivery.keep_copies_for keeps those for one address."`
	Received string `arg:"" placeholder:"RECEIVED.eml" help:"The same copy as it reached the mailbox, with its whole header; - for standard input."`
	Config   string `placeholder:"FILE" help:"Configuration file, for the rules. Without it: the built-in ones."`
	JSON     bool   `help:"One JSON document, for programs."`
}

func (verifyDeliveryCmd) Help() string {
	return `Says what something behind the gateway did to a copy: pixels and counters put in, links changed, the unsubscribe fields taken out, signatures broken. The exit status is 1 where the reader is tracked by what the copy did not have when it left. Nothing is sent, fetched or asked.

Example:

    consentgate verify-delivery /var/lib/consentgate/copies/20260301T090000Z-0AVX9.eml from-the-mailbox.eml`
}

// delivery is what is said, for programs.
type delivery struct {
	Tracked    bool              `json:"tracked"`
	Alike      float64           `json:"alike"`
	Fetched    []deliveredURL    `json:"fetched"`        // put in, fetched on opening
	Changed    []changedURL      `json:"changed_links"`  // go elsewhere than they were sent
	Counters   []deliveredURL    `json:"new_counters"`   // put in
	Links      []deliveredURL    `json:"new_links"`      // put in, no known counter
	Removed    []deliveredURL    `json:"removed_links"`  //
	Fields     []string          `json:"changed_fields"` // of the List pair
	Signatures []brokenSignature `json:"broken_signatures"`
}

type deliveredURL struct {
	Vector   string `json:"vector"`
	Part     string `json:"part,omitempty"`
	URL      string `json:"url"`
	Rule     string `json:"rule,omitempty"`
	Provider string `json:"provider,omitempty"`
}

type changedURL struct {
	Sent     deliveredURL `json:"sent"`
	Received deliveredURL `json:"received"`
}

type brokenSignature struct {
	Domain   string   `json:"domain"`
	Selector string   `json:"selector"`
	Why      []string `json:"why"`
}

func (c verifyDeliveryCmd) Run(std streams) error {
	cfg := config.Default()
	if c.Config != "" {
		var err error
		if cfg, err = config.Load(c.Config, os.LookupEnv); err != nil {
			return usageError{err}
		}
	}
	// A link of ours is one like any other here: it may have been changed too.
	cfg.Unsubscribe.BaseURL, cfg.Rewrite.OpaqueLinks = placeholderBase, string(rewrite.OpaqueKeep)
	sent, err := inspect(cfg, c.Sent, std.in)
	if err != nil {
		return err
	}
	received, err := inspect(cfg, c.Received, std.in)
	if err != nil {
		return err
	}
	d, err := mailing.CompareDelivered(sent.message, received.message)
	if err != nil {
		return err
	}
	out := newDelivery(d)
	if c.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(out)
	} else {
		out.print(std.out)
	}
	if err == nil && out.Tracked {
		err = errReported
	}
	return err
}

func newDelivery(d *mailing.Delivered) *delivery {
	one := func(f rewrite.Finding) deliveredURL {
		return deliveredURL{f.Vector, f.Part, f.URL, f.Rule, f.Provider}
	}
	list := func(all []rewrite.Finding) []deliveredURL {
		out := make([]deliveredURL, len(all))
		for i, f := range all {
			out[i] = one(f)
		}
		return out
	}
	out := &delivery{
		Tracked: d.Tracked(), Alike: d.Alike,
		Fetched: list(d.Fetched), Counters: list(d.Counters), Links: list(d.Links), Removed: list(d.RemovedLinks),
		Changed: []changedURL{}, Fields: append([]string{}, d.Fields...), Signatures: []brokenSignature{},
	}
	for _, l := range d.Changed {
		out.Changed = append(out.Changed, changedURL{one(l.Sent), one(l.Received)})
	}
	for _, s := range d.Signatures {
		b := brokenSignature{Domain: s.Domain, Selector: s.Selector}
		switch {
		case s.Gone:
			b.Why = append(b.Why, "it is gone")
		case !s.BodyHolds:
			b.Why = append(b.Why, "the body was changed")
		}
		if len(s.Fields) > 0 {
			b.Why = append(b.Why, "signed fields were changed: "+strings.Join(s.Fields, ", "))
		}
		out.Signatures = append(out.Signatures, b)
	}
	return out
}

func (d *delivery) print(out io.Writer) {
	if d.Alike < 0.5 {
		fmt.Fprintf(out, "These do not look like the same copy: only %.0f %% of the addresses that were sent have come. What follows may be nonsense.\n\n", d.Alike*100)
	}
	if d.Tracked {
		fmt.Fprintf(out, "TRACKING WAS PUT IN behind the gateway:\n\n")
	} else {
		fmt.Fprintf(out, "No tracking was put in behind the gateway.\n")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(what string, u deliveredURL, address string) {
		rule := u.Rule
		if u.Provider != "" {
			rule += " (" + u.Provider + ")"
		}
		fmt.Fprintf(table, "  %s\t%s\tpart %s\t%s\t%s\n", what, printable(u.Vector), orHeader(u.Part), printable(rule), address)
	}
	for _, u := range d.Fetched {
		row("fetched on opening", u, shorten(u.URL, 90))
	}
	for _, u := range d.Counters {
		row("counter put in", u, shorten(u.URL, 90))
	}
	for _, l := range d.Changed {
		row("link changed", l.Received, shorten(l.Sent.URL, 60)+" → "+shorten(l.Received.URL, 90))
	}
	table.Flush() // into out, whose errors the end of the program shows
	if len(d.Links)+len(d.Removed)+len(d.Fields)+len(d.Signatures) == 0 {
		return
	}
	fmt.Fprintf(out, "\nAlso changed:\n\n")
	table = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, u := range d.Links {
		row("link put in", u, shorten(u.URL, 90))
	}
	for _, u := range d.Removed {
		row("link taken out", u, shorten(u.URL, 90))
	}
	table.Flush()
	for _, name := range d.Fields {
		fmt.Fprintf(out, "  %s is not what was sent: mailboxes may offer another way to unsubscribe, or none\n", name)
	}
	for _, s := range d.Signatures {
		fmt.Fprintf(out, "  the signature of %s (selector %s) is broken: %s\n", printable(s.Domain), printable(s.Selector), printable(strings.Join(s.Why, "; ")))
	}
}
