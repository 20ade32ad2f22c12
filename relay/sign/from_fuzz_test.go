package sign

import (
	"slices"
	"strings"
	"testing"
)

// FuzzFromDomains: an address between angle brackets at the end of a From field is never overlooked, whatever
// stands before it, and each domain is one that can be compared.
func FuzzFromDomains(f *testing.F) {
	for _, s := range []string{"", "Shop ", "0@", "a@shop.example ", "a@shop.example, ", "Shop [EU] ", "=?utf-8?q?=22x=40y=22?= ", "x:a@b, ", "<b@shop.example> ", "Ä ", "a@shop.example,", "\"", "("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, before string) {
		domains, err := FromDomains([]string{before + "<a@evil.example>"})
		if err != nil {
			return
		}
		for _, d := range domains {
			if d == "" || strings.ToLower(d) != d || strings.ContainsAny(d, "@<> ,;") {
				t.Fatalf("%q has the domain %q", before, d)
			}
		}
		// Within a quoted string or a comment it is no address.
		if !strings.ContainsAny(before, `"(\`) && !slices.Contains(domains, "evil.example") {
			t.Fatalf("%q<a@evil.example> has the domains %q", before, domains)
		}
	})
}
