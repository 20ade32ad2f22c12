// Package trackers says which addresses are trackers: open pixels, click counters, and
// parameters that name the person. It sees addresses (URLs) only, one at a time, and answers
// from a set of rules that is data (rules.toml). Nothing is ever fetched: what cannot be read
// from the address itself is reported as opaque.
//
// It is not for HTML, CSS or MIME: finding addresses in a message, decoding entities and
// deciding what becomes of a finding is the work of package rewrite. It knows no consent.
//
// To add a provider, add [[rule]] blocks to rules.toml; how a rule is written stands at the
// top of that file. Only a new way of hiding a destination needs code, in decode.go.
package trackers

import (
	_ "embed"
	"maps"
	"sync"
)

// Kind says what a rule recognises.
type Kind string

const (
	Open    Kind = "open"    // fetching the address tells that the mail was opened
	Click   Kind = "click"   // following the address is counted
	Spacer  Kind = "spacer"  // looks like a pixel but is layout, the same for everybody
	Gateway Kind = "gateway" // a receiving side's shell around a link: no counter of the sender
)

// Rules is an immutable, compiled set of rules, safe for concurrent use.
type Rules struct {
	rules       []*Rule // in order of precedence
	index       index
	identifiers nameSet // parameters that name the person
	signatures  nameSet // parameters that seal the others: an address with one is never changed
	ownPages    []string
	openWords   map[string]bool // see OpenLike
	pixelFiles  map[string]bool
	allow       hostSet
	trackers    hostSet
}

//go:embed rules.toml
var defaultRules []byte

var loadDefault = sync.OnceValue(func() *Rules {
	r, err := Load(defaultRules)
	if err != nil {
		panic("trackers: the built-in rules.toml: " + err.Error()) // the tests load it
	}
	return r
})

// Default returns the built-in rules. They are compiled once.
func Default() *Rules { return loadDefault() }

// With returns rules in which more's are asked first, then r's. A rule of r that has the name
// of one of more's is replaced by it. Hosts given to WithHosts on either side hold.
func (r *Rules) With(more *Rules) *Rules {
	named := make(map[string]bool, len(more.rules))
	for _, rule := range more.rules {
		named[rule.Name] = true
	}
	rules := append([]*Rule(nil), more.rules...)
	for _, rule := range r.rules {
		if !named[rule.Name] {
			rules = append(rules, rule)
		}
	}
	return &Rules{
		rules:       rules,
		index:       buildIndex(rules),
		identifiers: more.identifiers.with(&r.identifiers),
		signatures:  more.signatures.with(&r.signatures),
		ownPages:    append(append([]string(nil), more.ownPages...), r.ownPages...),
		openWords:   union(more.openWords, r.openWords),
		pixelFiles:  union(more.pixelFiles, r.pixelFiles),
		allow:       more.allow.with(r.allow),
		trackers:    more.trackers.with(r.trackers),
	}
}

func union(a, b map[string]bool) map[string]bool {
	all := maps.Clone(b)
	if all == nil {
		all = map[string]bool{}
	}
	maps.Copy(all, a)
	return all
}

// WithHosts returns rules to which hosts are added that are never (allow) or always (tracker)
// treated as trackers. "example.org" means the host and all below it; case, a trailing dot
// and a leading "*." make no difference. An allowed host beats every rule and every tracker
// host. A name that cannot be a host is left out.
func (r *Rules) WithHosts(allow, tracker []string) *Rules {
	c := *r
	c.allow = r.allow.with(newHostSet(allow))
	c.trackers = r.trackers.with(newHostSet(tracker))
	return &c
}

// Allowed says whether the address (absolute or protocol-relative) is on an allowed host.
func (r *Rules) Allowed(url string) bool {
	if len(r.allow) == 0 {
		return false
	}
	a, ok := split(url)
	return ok && r.allow.has(a.host)
}
