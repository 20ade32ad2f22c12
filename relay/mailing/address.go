package mailing

import (
	"fmt"
	"net/url"
	"strings"
)

// address is a web address taken apart, each piece as it is written.
type address struct {
	host     string // lower case
	segments []string
	params   []param
	fragment string
}

type param struct{ name, value string }

// split is lenient: what is none of an address's pieces is left out.
func split(raw string) address {
	var u address
	rest := raw
	if i := strings.Index(rest, "//"); i >= 0 {
		rest = rest[i+2:]
	}
	rest, u.fragment, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	host, path, _ := strings.Cut(rest, "/")
	u.host = strings.ToLower(host)
	if path != "" {
		u.segments = strings.Split(path, "/")
	}
	if query != "" {
		for _, p := range strings.Split(query, "&") {
			name, value, _ := strings.Cut(p, "=")
			u.params = append(u.params, param{name, value})
		}
	}
	return u
}

// differences says in which pieces the others are unlike the address; nil if they are the same.
func differences(first string, others []string) []string {
	var out []string
	note := func(where string) {
		for _, o := range out {
			if o == where {
				return
			}
		}
		out = append(out, where)
	}
	a := split(first)
	for _, other := range others {
		if other == first {
			continue
		}
		b := split(other)
		if a.host != b.host {
			note("host")
		}
		for i := range max(len(a.segments), len(b.segments)) {
			if i >= len(a.segments) || i >= len(b.segments) || a.segments[i] != b.segments[i] {
				note(fmt.Sprintf("path segment %d", i+1))
			}
		}
		for i := range max(len(a.params), len(b.params)) {
			switch {
			case i >= len(a.params):
				note("parameter " + b.params[i].name)
			case i >= len(b.params) || a.params[i] != b.params[i]:
				note("parameter " + a.params[i].name)
			}
		}
		if a.fragment != b.fragment {
			note("fragment")
		}
	}
	return out
}

// isWebAddress reports whether a text is an absolute http or https address.
func isWebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
