package rewrite

import (
	"strings"
	"testing"
)

func TestNamesLink(t *testing.T) {
	for _, addr := range []string{"", "_", "__", "unsubscribe_url", "a_unsubscribe_url_b", "_unsubscribe_ur", "nsubscribe_url", "unsubscribe__url",
		"https://example.org/?a_b=unsubscribe_&u={{unsubscribe_url}}&c_d", "unsubscribe_unsubscribe_url", "Unsubscribe_url"} {
		if got, want := namesLink(addr), strings.Contains(addr, string(placeholders[0][1])); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}
