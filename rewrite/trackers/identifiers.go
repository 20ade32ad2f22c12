package trackers

import "strings"

// A nameSet holds names of query parameters, lower case, and beginnings of names.
type nameSet struct {
	exact    map[string]struct{}
	prefixes []string
	first    [256]bool // the first bytes of them all, to rule most names out at once
}

// newNameSet takes names, case ignored, perhaps with one "*" at the end.
func newNameSet(globs []string) nameSet {
	s := nameSet{exact: map[string]struct{}{}}
	for _, g := range globs {
		s.add(strings.ToLower(g))
	}
	return s
}

func (s *nameSet) add(glob string) {
	if glob == "" {
		return
	}
	s.first[glob[0]] = true
	if p, ok := strings.CutSuffix(glob, "*"); ok {
		s.prefixes = append(s.prefixes, p)
	} else {
		s.exact[glob] = struct{}{}
	}
}

func (s *nameSet) with(more *nameSet) nameSet {
	all := nameSet{exact: map[string]struct{}{}}
	for _, set := range []*nameSet{s, more} {
		for n := range set.exact {
			all.add(n)
		}
		for _, p := range set.prefixes {
			all.add(p + "*")
		}
	}
	return all
}

// longestName is longer than every parameter that we know; longer ones are not compared.
const longestName = 64

// has says whether a name, as it stands in a query, is in the set.
func (s *nameSet) has(written string) bool {
	if written == "" || !s.first[lower(written[0])] && written[0] != '%' && written[0] > ' ' {
		return false
	}
	var buf [longestName]byte
	n := 0
	for i := 0; i < len(written); {
		c, w := decodedByte(written, i)
		i += w
		if c == '\t' || c == '\n' || c == '\r' { // browsers drop them
			continue
		}
		if n == len(buf) {
			return false
		}
		buf[n] = lower(c)
		n++
	}
	if _, ok := s.exact[string(buf[:n])]; ok {
		return true
	}
	for _, p := range s.prefixes {
		if n >= len(p) && string(buf[:len(p)]) == p {
			return true
		}
	}
	return false
}

// identifiersIn returns the names (decoded, as they were written) of the parameters that may
// be stripped from the address because they name the person. There are none where a
// signature seals the query, and none on unsubscribe and preference pages, which need them.
func (r *Rules) identifiersIn(a *address) []string {
	var names []string
	for q := a.query; q != ""; {
		var p pair
		if p, q = nextPair(q); r.identifiers.has(p.name) {
			names = append(names, unescape(p.name, false))
		}
	}
	if names == nil || r.signed(a.query) || r.ownPage(a) {
		return nil
	}
	return names
}

func (r *Rules) signed(query string) bool {
	for query != "" {
		var p pair
		if p, query = nextPair(query); r.signatures.has(p.name) {
			return true
		}
	}
	return false
}

// StripIdentifiers returns the address without the parameters that name the person; every
// other byte stays as it was. An address on an allowed host, one that is itself a counter,
// one that is signed and an unsubscribe or preference page is returned as it is.
func (r *Rules) StripIdentifiers(url string) string {
	start := strings.IndexByte(url, '?')
	if start < 0 {
		return url
	}
	end := len(url)
	if i := strings.IndexByte(url, '#'); i >= 0 {
		end = i
	}
	if start >= end {
		return url
	}
	a, ok := split(url)
	if !ok {
		return url
	}
	if rule, _ := r.find(&a); counts(rule) || r.allow.has(a.host) || len(r.identifiersIn(&a)) == 0 {
		return url
	}
	var kept []string
	for part := range strings.SplitSeq(url[start+1:end], "&") {
		name, _, _ := strings.Cut(part, "=")
		if !r.identifiers.has(name) {
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return url[:start] + url[end:]
	}
	left := url[:start+1] + strings.Join(kept, "&") + url[end:]
	if trimmed := browserTrim(left); trimmed != left { // white space that stood inside may now be at the end
		if again := r.StripIdentifiers(trimmed); again != trimmed {
			return again
		}
	}
	return left
}
