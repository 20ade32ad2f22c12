// Package mailing finds out what no list of trackers knows, by comparing the copies of one mailing
// as they went to several people: an address that differs from copy to copy is about the person,
// whatever its host.
//
// It sees what package rewrite found, with Options.Everything set, and answers from that alone; so it
// does when it holds a copy as it reached the mailbox against the copy as it left. It is not for deciding
// what leaves: an operator reads its answer and puts the rules that it proposes into the rules_file.
package mailing

import (
	"strings"

	"github.com/consentgate/consentgate/rewrite"
)

// Copy is one person's copy.
type Copy struct {
	Findings []rewrite.Finding // of rewrite.Parse with Options.Everything
	Own      []string          // the addresses in its List-Unsubscribe field
}

// Sort says what a personal address is for.
type Sort string

const (
	Pixel       Sort = "pixel"       // fetched on opening, and not seen or known as a tracker
	Picture     Sort = "picture"     // fetched on opening and seen: it may differ for another reason
	Link        Sort = "link"        // followed by a click
	Unsubscribe Sort = "unsubscribe" // the sender's own page to unsubscribe; it has to differ
)

// Personal is an address that differs from copy to copy.
type Personal struct {
	Sort    Sort
	Finding rewrite.Finding // in the first copy
	Others  []string        // the address in each of the other copies, "" where it has none
	Differs []string        // where: "host", "path segment 3", "parameter u", "fragment"
	// Covered says that a rule or the looks of the address make the gateway treat it as a tracker
	// already: Finding.Rule. Else Rule is an index into Report.Rules, -1 where no rule can be
	// proposed.
	Covered bool
	Rule    int
}

// Report is what a comparison found.
type Report struct {
	Personal []Personal
	Rules    []string // for the rules_file, each checked by loading it; together they load too
	Same     int      // addresses that are the same in all copies
	Unpaired int      // addresses of the first copy that have no counterpart in some other
}

// Alike says which share of the addresses have a counterpart in all copies, 0 to 1. Below a half the
// copies are hardly those of one mailing.
func (r *Report) Alike() float64 {
	all := r.Same + r.Unpaired + len(r.Personal)
	if all == 0 {
		return 1
	}
	return float64(r.Same+len(r.Personal)) / float64(all)
}

// Compare looks for addresses that differ between the copies, of which there must be two at least.
func Compare(copies []Copy) Report {
	first := addresses(copies[0])
	others := make([][]string, len(first))
	paired := make([]int, len(first))
	for n, c := range copies[1:] {
		for i := range others {
			others[i] = append(others[i], "")
		}
		theirs := addresses(c)
		for _, p := range align(first, theirs, shape) {
			others[p.a][n] = theirs[p.b].URL
			paired[p.a]++
		}
	}
	var r Report
	seen := map[string]bool{}
	rules := proposals{known: map[string]int{}}
	for i, f := range first {
		where := differences(f.URL, others[i])
		switch {
		case paired[i] < len(copies)-1:
			r.Unpaired++
		case len(where) == 0:
			r.Same++
		default:
			if key := string(f.Kind) + f.URL; seen[key] {
				continue // the same address again
			} else {
				seen[key] = true
			}
			p := Personal{Finding: f, Others: others[i], Differs: where, Rule: -1}
			p.Sort = sortOf(f, copies[0].Own)
			p.Covered = f.Rule != "" && p.Sort != Unsubscribe
			if !p.Covered && p.Sort != Unsubscribe {
				p.Rule = rules.add(&p)
			}
			r.Personal = append(r.Personal, p)
		}
	}
	r.Rules = rules.texts
	return r
}

// addresses are the findings that have one.
func addresses(c Copy) []rewrite.Finding {
	var out []rewrite.Finding
	for _, f := range c.Findings {
		if f.URL != "" && f.Kind != rewrite.Unsubscribe {
			out = append(out, f)
		}
	}
	return out
}

func sortOf(f rewrite.Finding, own []string) Sort {
	for _, o := range own {
		if f.URL == o {
			return Unsubscribe
		}
	}
	switch {
	case f.Kind == rewrite.ClickTracker && f.Rule == "" && isOwnPage(f.URL):
		return Unsubscribe
	case f.Kind == rewrite.ClickTracker:
		return Link
	case f.Rule != "":
		return Pixel
	}
	return Picture
}

// isOwnPage reports whether an address reads like the sender's page to unsubscribe or to set
// preferences. Package trackers has the list that decides; here it only sorts.
func isOwnPage(url string) bool {
	lower := strings.ToLower(url)
	for _, word := range []string{"unsub", "optout", "opt-out", "opt_out", "preference", "abmeld", "desinscri", "desabonn"} {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}
