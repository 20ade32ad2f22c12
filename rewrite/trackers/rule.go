package trackers

import "strings"

// A Rule recognises addresses of one shape of one provider.
type Rule struct {
	Name     string // unique in its file, e.g. "mailjet-click"
	Provider string // for people to read, e.g. "Mailjet"
	Kind     Kind

	hosts  []hostGlob // empty: any host
	path   pathPattern
	query  []condition
	decode decoder // nil: the destination cannot be read
	vanity bool    // the hosts are not the provider's own: see matches
}

// A condition is a parameter that must be there.
type condition struct {
	name    pattern
	literal string  // the name, where it is no pattern
	value   pattern // nil: any
}

// matches says whether the rule fires for the address and, where it has a decoder, what
// that read. On hosts that are not the provider's own, a rule with a decoder fires only if
// something like an address was read, since there the path alone proves little.
func (r *Rule) matches(a *address) (raw string, fires bool) {
	if !r.onHost(a.host) || !r.path.match(a.path) || !r.hasParams(a) {
		return "", false
	}
	if r.decode == nil {
		return "", true
	}
	raw, ok := r.decode(*a)
	if r.vanity && !(ok && looksLikeAddress(raw)) {
		return "", false
	}
	return raw, true
}

func (r *Rule) onHost(host string) bool {
	if len(r.hosts) == 0 {
		return true
	}
	for _, g := range r.hosts {
		if g.match(host) {
			return true
		}
	}
	return false
}

func (r *Rule) hasParams(a *address) bool {
	for i := range r.query {
		if !r.query[i].in(a) {
			return false
		}
	}
	return true
}

func (c *condition) in(a *address) bool {
	if c.literal != "" && a.initials()&initial(c.literal) == 0 {
		return false
	}
	for query := a.query; query != ""; {
		var p pair
		p, query = nextPair(query)
		if (c.literal != "" && p.name == c.literal || c.name.match(p.name)) && (c.value == nil || c.value.match(p.value)) {
			return true
		}
	}
	return false
}

// An index finds the few rules that may fire for an address. The numbers are places in
// Rules.rules, ascending.
type index struct {
	byLabel   map[string][]int32 // rules of certain hosts, by hostGlob.key
	bySegment map[string][]int32 // rules of any host, by the first segment of their path
	byFirst   map[string][]int32 // those whose first segment is a pattern, by the hosts' first label
	rest      []int32            // those that have none, either
}

func buildIndex(rules []*Rule) index {
	x := index{byLabel: map[string][]int32{}, bySegment: map[string][]int32{}, byFirst: map[string][]int32{}}
	add := func(m map[string][]int32, key string, i int32) {
		if l := m[key]; len(l) == 0 || l[len(l)-1] != i {
			m[key] = append(l, i)
		}
	}
	for n, r := range rules {
		i := int32(n)
		anyHost := len(r.hosts) == 0
		for _, g := range r.hosts {
			if g.any {
				anyHost = true
			} else {
				add(x.byLabel, g.key(), i)
			}
		}
		if !anyHost {
			continue
		}
		if len(r.path.segs) > 0 {
			if lit, ok := r.path.segs[0].literal(); ok {
				add(x.bySegment, lit, i)
				continue
			}
		}
		if r.firstLabels() {
			for _, g := range r.hosts {
				add(x.byFirst, g.labels[0], i)
			}
			continue
		}
		x.rest = append(x.rest, i)
	}
	return x
}

// firstLabels says whether all hosts of the rule are of the form "click.**".
func (r *Rule) firstLabels() bool {
	for _, g := range r.hosts {
		if !g.any || strings.ContainsAny(g.labels[0], "*?") {
			return false
		}
	}
	return len(r.hosts) > 0
}

// find returns the first rule that fires for the address, nil if none, and what its decoder
// read. On an allowed host there is none. Empty segments in the path hide nothing.
func (r *Rules) find(a *address) (rule *Rule, raw string) {
	if r.allow.has(a.host) {
		return nil, ""
	}
	rule, raw = r.fires(a)
	if (rule == nil || rule.Kind == Spacer) && strings.Contains(a.path, "//") {
		b := *a
		b.path = withoutEmpty(a.path)
		if found, read := r.fires(&b); found != nil {
			rule, raw = found, read
		}
	}
	if (rule == nil || rule.Kind == Gateway || rule.Kind == Spacer) && r.trackers.has(a.host) {
		return trackerHost, ""
	}
	return rule, raw
}

// fires returns the first rule that fires for the address as it stands.
func (r *Rules) fires(a *address) (rule *Rule, raw string) {
	first := a.path
	if first != "" {
		first = first[1:]
	}
	if i := strings.IndexByte(first, '/'); i >= 0 {
		first = first[:i]
	}
	if strings.IndexByte(first, '%') >= 0 {
		first = unescape(first, false)
	}
	label := a.host
	if i := strings.IndexByte(label, '.'); i >= 0 {
		label = label[:i]
	}
	best := int32(len(r.rules))
	x := &r.index
	for _, candidates := range [4][]int32{x.byLabel[hostKey(a.host)], x.bySegment[first], x.byFirst[label], x.rest} {
		for _, i := range candidates {
			if i >= best {
				break
			}
			if s, ok := r.rules[i].matches(a); ok {
				best, rule, raw = i, r.rules[i], s
				break
			}
		}
	}
	return rule, raw
}

// trackerHost is the rule by which an address on one of WithHosts' tracker hosts fires.
var trackerHost = &Rule{Name: "tracker_hosts", Provider: "configuration", Kind: Click}

// Names returns the names of the rules that say that an address is a tracker.
func (r *Rules) Names() []string {
	names := []string{trackerHost.Name}
	for _, rule := range r.rules {
		if rule.Kind == Open || rule.Kind == Click {
			names = append(names, rule.Name)
		}
	}
	return names
}
