package outbox

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzParseOneClick: an address that is taken is https, of a host, without a user, and can be called: what
// goes into the request is on one line.
func FuzzParseOneClick(f *testing.F) {
	for _, s := range []string{"", "https://lists.example.org/u/1?a=b", "http://x", "https://u@x", "https:x", "https://x\r\nA: b", "https://[::1]:443/", "HTTPS://X", "https://x:port/", "https://x/%0d%0a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseOneClick(s)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsFunc(u.String(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q is taken as %q", s, u)
		}
		r, err := http.NewRequest(http.MethodPost, u.String(), nil)
		if err != nil {
			return // nothing is called then
		}
		var b strings.Builder
		r.Header.Set("User-Agent", "x")
		if r.Write(&b) == nil && strings.Count(b.String(), "\r\n") > 5 {
			t.Fatalf("%q is asked for by %q", s, b.String())
		}
	})
}
