package trackers

import (
	"fmt"
	"strings"
)

// A hostSet holds hosts, each with all below it.
type hostSet map[string]struct{}

func newHostSet(names []string) hostSet {
	s := make(hostSet, len(names))
	for _, n := range names {
		if h, ok := canonicalHost(strings.TrimPrefix(strings.TrimSpace(n), "*.")); ok {
			s[h] = struct{}{}
		}
	}
	return s
}

func (s hostSet) with(more hostSet) hostSet {
	all := make(hostSet, len(s)+len(more))
	for h := range s {
		all[h] = struct{}{}
	}
	for h := range more {
		all[h] = struct{}{}
	}
	return all
}

func (s hostSet) has(host string) bool {
	if len(s) == 0 {
		return false
	}
	for {
		if _, ok := s[host]; ok {
			return true
		}
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return false
		}
		host = host[i+1:]
	}
}

// A hostGlob is one entry of a rule's hosts:
//
//	click.example.org   this host
//	*.example.org       every host below it, any number of labels
//	public-*.example.org "*" beside other characters: any text within the label
//	trk.example?.org    "?": one digit, or none; "??" up to two
//	click.**            every host whose first label is this, whatever follows
type hostGlob struct {
	labels []string // last label first
	above  bool     // one or more labels stand in front
	any    bool     // one or more labels stand behind; then labels holds one label
}

func parseHostGlob(s string) (hostGlob, error) {
	var g hostGlob
	rest := s
	if r, ok := strings.CutSuffix(rest, ".**"); ok {
		if strings.Contains(r, ".") || r == "" || r == "*" {
			return g, fmt.Errorf("host %q: one label stands before .**", s)
		}
		g.any, rest = true, r
	} else if r, ok := strings.CutPrefix(rest, "*."); ok {
		g.above, rest = true, r
	}
	// Wildcards are no part of host names; everything else must be one.
	plain := strings.NewReplacer("*", "x", "?", "0").Replace(rest)
	if h, ok := canonicalHost(plain); !ok || len(h) != len(rest) && strings.ContainsAny(rest, "*?") {
		return g, fmt.Errorf("host %q is no host name", s)
	} else if !strings.ContainsAny(rest, "*?") {
		rest = h
	}
	labels := strings.Split(strings.ToLower(rest), ".")
	for _, l := range labels {
		if strings.Count(l, "*") > 1 {
			return g, fmt.Errorf("host %q: one * a label", s) // so that matching stays linear
		}
	}
	for i := len(labels) - 1; i >= 0; i-- {
		g.labels = append(g.labels, labels[i])
	}
	if g.any {
		return g, nil
	}
	if len(g.labels) < 2 {
		return g, fmt.Errorf("host %q is too wide: name at least two labels", s)
	}
	if strings.ContainsAny(g.labels[0], "*?") || strings.Contains(g.labels[1], "*") {
		return g, fmt.Errorf("host %q: the last two labels hold no *", s)
	}
	if strings.Contains(strings.TrimRight(g.labels[1], "0123456789?"), "?") {
		return g, fmt.Errorf("host %q: in the last label but one ? stands at the end", s)
	}
	return g, nil
}

// key is the label by which hosts and globs are brought together: the last but one, without
// the digits at its end. "" where the glob does not say it.
func (g hostGlob) key() string {
	if g.any {
		return ""
	}
	return strings.TrimRight(g.labels[1], "0123456789?")
}

// hostKey is the key of a host. It can be empty, too.
func hostKey(host string) string {
	if i := strings.LastIndexByte(host, '.'); i >= 0 {
		host = host[:i]
	}
	host = host[strings.LastIndexByte(host, '.')+1:]
	for host != "" && host[len(host)-1]-'0' < 10 {
		host = host[:len(host)-1]
	}
	return host
}

func (g hostGlob) match(host string) bool {
	if g.any {
		i := strings.IndexByte(host, '.')
		return i > 0 && matchLabel(g.labels[0], host[:i])
	}
	for _, want := range g.labels {
		if host == "" {
			return false
		}
		i := strings.LastIndexByte(host, '.')
		if !matchLabel(want, host[i+1:]) {
			return false
		}
		host = host[:max(i, 0)]
	}
	return (host != "") == g.above
}

// matchLabel compares one label with its glob. Labels are short, so plain recursion will do.
func matchLabel(glob, s string) bool {
	for glob != "" {
		switch glob[0] {
		case '*':
			glob = glob[1:]
			if glob == "" {
				return true
			}
			for i := range len(s) + 1 {
				if matchLabel(glob, s[i:]) {
					return true
				}
			}
			return false
		case '?':
			glob = glob[1:]
			if s != "" && s[0]-'0' < 10 && matchLabel(glob, s[1:]) {
				return true
			}
		default:
			if s == "" || s[0] != glob[0] {
				return false
			}
			glob, s = glob[1:], s[1:]
		}
	}
	return s == ""
}
