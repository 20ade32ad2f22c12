package consent

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of decisions in README.md")

// The table of decisions. A cell holds every value that its row is for; together the rows of a
// table cover each combination exactly once, which the tests check. The README shows the same
// rows.

const never State = "" // nothing recorded

var (
	anyMail     = []State{never, Subscribed, Unsubscribed}
	anyTracking = []State{never, Unset, Granted, Denied}
	silent      = []State{never, Unset}
	anyDefault  = []State{Granted, Denied}
	anyClass    = []Class{Marketing, Transactional}
)

type mailRow struct {
	scope, star []State
	class       []Class
	want        Verdict
	reason      Reason
}

var mailTable = []mailRow{
	{anyMail, []State{Unsubscribed}, []Class{Marketing}, Suppress, ByAnyScope},
	{[]State{Unsubscribed}, []State{never, Subscribed}, []Class{Marketing}, Suppress, ByScope},
	{anyMail, []State{Unsubscribed}, []Class{Transactional}, Send, ByClass},
	{[]State{Unsubscribed}, []State{never, Subscribed}, []Class{Transactional}, Send, ByClass},
	{[]State{Subscribed}, []State{never, Subscribed}, anyClass, Send, ByScope},
	{[]State{never}, []State{Subscribed}, anyClass, Send, ByAnyScope},
	{[]State{never}, []State{never}, anyClass, Send, ByDefault},
}

type trackingRow struct {
	scope, star, whenUnset []State
	want                   bool
	reason                 Reason
}

var trackingTable = []trackingRow{
	{[]State{Granted}, anyTracking, anyDefault, true, ByScope},
	{[]State{Denied}, anyTracking, anyDefault, false, ByScope},
	{silent, []State{Granted}, anyDefault, true, ByAnyScope},
	{silent, []State{Denied}, anyDefault, false, ByAnyScope},
	{silent, silent, []State{Granted}, true, ByDefault},
	{silent, silent, []State{Denied}, false, ByDefault},
}

type unreachableRow struct {
	class  []Class
	policy []Verdict
	want   Verdict
	reason Reason
}

var unreachableTable = []unreachableRow{
	{[]Class{Marketing}, []Verdict{Defer}, Defer, ByUnreachable},
	{[]Class{Marketing}, []Verdict{Send}, Send, ByUnreachable},
	{[]Class{Transactional}, []Verdict{Defer, Send}, Send, ByClass},
}

// one returns the only row that match is true for.
func one[R any](t *testing.T, rows []R, match func(R) bool) R {
	t.Helper()
	var found []R
	for _, r := range rows {
		if match(r) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d rows of the table are for this case: %+v", len(found), found)
	}
	return found[0]
}

func TestDecideAnswered(t *testing.T) {
	tracked := func(scope, star, whenUnset State) trackingRow {
		return one(t, trackingTable, func(r trackingRow) bool {
			return slices.Contains(r.scope, scope) && slices.Contains(r.star, star) && slices.Contains(r.whenUnset, whenUnset)
		})
	}
	cases := 0
	for _, scopeMail := range anyMail {
		for _, starMail := range anyMail {
			for _, class := range anyClass {
				mail := one(t, mailTable, func(r mailRow) bool {
					return slices.Contains(r.scope, scopeMail) && slices.Contains(r.star, starMail) && slices.Contains(r.class, class)
				})
				for _, scopeOpen := range anyTracking {
					for _, starOpen := range anyTracking {
						for _, openDefault := range anyDefault {
							open := tracked(scopeOpen, starOpen, openDefault)
							for _, scopeClick := range anyTracking {
								for _, starClick := range anyTracking {
									for _, clickDefault := range anyDefault {
										click := tracked(scopeClick, starClick, clickDefault)
										for _, unreachable := range []Verdict{Defer, Send} { // plays no part
											r := Result{
												Scope: Record{Mail: Entry{State: scopeMail}, Open: Entry{State: scopeOpen}, Click: Entry{State: scopeClick}},
												Any:   Record{Mail: Entry{State: starMail}, Open: Entry{State: starOpen}, Click: Entry{State: starClick}},
											}
											p := Policy{OpenWhenUnset: openDefault, ClickWhenUnset: clickDefault, WhenUnreachable: unreachable}
											want := Decision{Mail: mail.want, MailReason: mail.reason,
												Open: open.want, OpenReason: open.reason, Click: click.want, ClickReason: click.reason}
											if got := Decide(r, class, p); got != want {
												t.Fatalf("Decide(%+v, %s, %+v)\n got %+v\nwant %+v", r, class, p, got, want)
											}
											cases++
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
	if want := 3 * 3 * 2 * (4 * 4 * 2) * (4 * 4 * 2) * 2; cases != want {
		t.Errorf("%d cases tried, want %d", cases, want)
	}
}

func TestDecideUnreachable(t *testing.T) {
	granted := Record{Mail: Entry{State: Subscribed}, Open: Entry{State: Granted}, Click: Entry{State: Granted}}
	for _, class := range anyClass {
		for _, policy := range []Verdict{Defer, Send} {
			row := one(t, unreachableTable, func(r unreachableRow) bool {
				return slices.Contains(r.class, class) && slices.Contains(r.policy, policy)
			})
			for _, err := range []error{ErrUnreachable, ErrForeign, errors.New("a record that cannot be read")} {
				// Whatever else stands in the result, and whatever the policy: nobody is tracked.
				for _, r := range []Result{{Err: err}, {Err: err, Scope: granted, Any: granted}} {
					got := Decide(r, class, Policy{OpenWhenUnset: Granted, ClickWhenUnset: Granted, WhenUnreachable: policy})
					want := Decision{Mail: row.want, MailReason: row.reason, OpenReason: ByUnreachable, ClickReason: ByUnreachable}
					if got != want {
						t.Errorf("%s, %s, %v: got %+v, want %+v", class, policy, err, got, want)
					}
				}
			}
		}
	}
}

// What is no known word never lets anything through.
func TestDecideOddWords(t *testing.T) {
	odd := Record{Mail: Entry{State: "odd"}, Open: Entry{State: "odd"}, Click: Entry{State: "GRANTED"}}
	if d := Decide(Result{Scope: odd, Any: odd}, Marketing, Policy{OpenWhenUnset: "yes", ClickWhenUnset: ""}); d.Open || d.Click {
		t.Errorf("tracked by odd words: %+v", d)
	}
	unsubscribed := Result{Any: Record{Mail: Entry{State: Unsubscribed}}}
	if d := Decide(unsubscribed, "odd", Policy{}); d.Mail != Suppress {
		t.Errorf("an odd class lifted suppression: %+v", d)
	}
	if d := Decide(Result{Err: ErrUnreachable}, "odd", Policy{WhenUnreachable: "odd"}); d.Mail != Defer {
		t.Errorf("an odd policy lifted deferral: %+v", d)
	}
}

// decisions renders the table as Markdown.
func decisions() string {
	var b strings.Builder
	b.WriteString("May the mail go?\n\n| in this scope | in `*` | class | mail | because of |\n|---|---|---|---|---|\n")
	for _, r := range mailTable {
		fmt.Fprintf(&b, "| %s | %s | %s | **%s** | %s |\n", cell(r.scope, anyMail), cell(r.star, anyMail), cell(r.class, anyClass), r.want, r.reason)
	}
	b.WriteString("\nMay opens (clicks) be tracked? The same for every class.\n\n| in this scope | in `*` | `when_unset` | tracked | because of |\n|---|---|---|---|---|\n")
	for _, r := range trackingTable {
		fmt.Fprintf(&b, "| %s | %s | %s | **%s** | %s |\n", cell(r.scope, anyTracking), cell(r.star, anyTracking), cell(r.whenUnset, anyDefault), yes(r.want), r.reason)
	}
	b.WriteString("\nThe store does not answer, or not for this person: nothing is tracked.\n\n| class | `when_unreachable` | mail | because of |\n|---|---|---|---|\n")
	for _, r := range unreachableTable {
		fmt.Fprintf(&b, "| %s | %s | **%s** | %s |\n", cell(r.class, anyClass),
			strings.Replace(cell(r.policy, []Verdict{Defer, Send}), string(Send), "untracked", 1), r.want, r.reason)
	}
	return b.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// cell writes the values of a cell, or "any" where they are all.
func cell[T ~string](values, all []T) string {
	if len(values) == len(all) {
		return "any"
	}
	var words []string
	for _, v := range values {
		if v == "" {
			v = "nothing"
		}
		words = append(words, string(v))
	}
	return strings.Join(words, ", ")
}

func TestREADMEShowsTheTable(t *testing.T) {
	const path, start, end = "../README.md", "<!-- decisions:start -->\n", "<!-- decisions:end -->"
	readme, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(readme), start)
	block, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Skip("README.md has no place for the table of decisions yet: a line " + strings.TrimSpace(start) + " and a line " + end)
	}
	if block == decisions() {
		return
	}
	if !*update {
		t.Fatalf("README.md shows another table of decisions; run go test ./consent -run README -update. It should be:\n%s", decisions())
	}
	if err := os.WriteFile(path, []byte(before+start+decisions()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
