package trackers

import "strings"

// deepest is how many counters around one another are undone.
const deepest = 8

// Link is what is to know of an address that somebody may follow.
type Link struct {
	Rule *Rule // the outermost counter; nil: none

	// Destination is where the link leads in the end, counters undone: absolute http, https,
	// mailto or tel, in ASCII. It is "" if the outermost counter cannot be read, if there are
	// more than 8 around one another, and if there is no counter at all.
	Destination string

	// Opaque says that there is a counter, and that Destination is "" or is itself a counter
	// that cannot be read.
	Opaque bool

	// Identifiers are the names of the parameters that name the person in the address that
	// remains: Destination, or without a counter the address itself.
	Identifiers []string
}

// Link looks at the address of a link: absolute or protocol-relative, HTML entities decoded.
// False: neither a counter nor does it have parameters that name the person. A gateway's
// shell is undone only where a counter stands inside; on an allowed host nothing is found.
func (r *Rules) Link(url string) (Link, bool) {
	a, ok := split(url)
	if !ok {
		return Link{}, false
	}
	rule, raw := r.find(&a)
	if counts(rule) {
		if rule == trackerHost && r.ownPage(&a) {
			return Link{}, false
		}
		l := r.undo(rule, raw)
		return l, l.Rule != nil
	}
	if a.query == "" || r.allow.has(a.host) {
		return Link{}, false
	}
	ids := r.identifiersIn(&a)
	return Link{Identifiers: ids}, len(ids) > 0
}

// counts says whether a rule is about links.
func counts(rule *Rule) bool {
	return rule != nil && (rule.Kind == Click || rule.Kind == Gateway)
}

// undo goes from counter to counter. Gateways' shells are passed through on the way, but one
// that leads to no counter is left around its address.
func (r *Rules) undo(rule *Rule, raw string) Link {
	var l Link
	settled := "" // what the last counter that could be read leads to
	var settledAt address
	for depth := 1; ; depth++ {
		gateway := rule.Kind == Gateway
		if !gateway && l.Rule == nil {
			l.Rule = rule
		}
		dest, ok := accept(raw)
		if !ok || depth > deepest {
			if !gateway || depth > deepest {
				l.Opaque = l.Rule != nil
			}
			if depth > deepest {
				settled = ""
			}
			break
		}
		a, web := split(dest)
		if !gateway {
			settled, settledAt = dest, a
		}
		if !web { // mailto, tel
			break
		}
		if rule, raw = r.find(&a); !counts(rule) || rule == trackerHost && r.ownPage(&a) {
			break
		}
	}
	l.Destination = settled
	if settled != "" && !l.Opaque && !r.allow.has(settledAt.host) {
		l.Identifiers = r.identifiersIn(&settledAt)
	}
	return l
}

// Fetched returns the rule that says what fetching the address (absolute or protocol-relative, HTML
// entities decoded) tells, else nil: one of kind Open; of kind Click, since an image that is fetched from a
// click counter tells as much; or of kind Spacer for an image that looks like a pixel but is part of a
// layout, the same for everybody. A gateway's shell (an image proxy) is what it is wrapped around, but
// never a spacer.
func (r *Rules) Fetched(url string) *Rule {
	for depth := range deepest {
		a, ok := split(url)
		if !ok {
			return nil
		}
		rule, raw := r.find(&a)
		switch {
		case rule == nil, rule.Kind == Spacer && depth > 0:
			return nil
		case rule.Kind != Gateway:
			return rule
		}
		if url, ok = accept(raw); !ok {
			return nil
		}
	}
	return nil
}

// Open returns the rule by which the address of a fetched resource is a known open tracker, else nil.
func (r *Rules) Open(url string) *Rule {
	if rule := r.Fetched(url); rule != nil && rule.Kind != Spacer {
		return rule
	}
	return nil
}

// Spacer says whether the address is that of an image which looks like a pixel but is none.
func (r *Rules) Spacer(url string) bool {
	rule := r.Fetched(url)
	return rule != nil && rule.Kind == Spacer
}

// ownPage says whether the address reads like the sender's page to unsubscribe or to set
// preferences. These are never touched.
func (r *Rules) ownPage(a *address) bool {
	in := func(s string) bool {
		s = strings.ToLower(unescape(s, false))
		for _, w := range r.ownPages {
			if strings.Contains(s, w) {
				return true
			}
		}
		return false
	}
	if in(a.host) || in(a.path) {
		return true
	}
	for q := a.query; q != ""; {
		var p pair
		if p, q = nextPair(q); in(p.name) {
			return true
		}
	}
	return false
}
