package trackers

import (
	"net/url"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		want address
	}{
		{"https://example.org", address{host: "example.org"}},
		{"https://example.org/a/b?c=d?e#f#g?h", address{host: "example.org", path: "/a/b", query: "c=d?e", fragment: "f#g?h"}},
		{"https://example.org?a/b", address{host: "example.org", query: "a/b"}},
		{"https://example.org#a/b", address{host: "example.org", fragment: "a/b"}},
		{`https:\\example.org\a?b\c`, address{host: "example.org", path: "/a", query: `b\c`}},
		{"http:example.org/a", address{host: "example.org", path: "/a"}},
		{"///example.org/a", address{host: "example.org", path: "/a"}},
		{"https://a:b@c@example.org:443/", address{host: "example.org", path: "/"}},
		{"https://example.org\\@www.example.com/", address{host: "example.org", path: "/@www.example.com/"}},
		{"https://EXAMPLE.org./A", address{host: "example.org", path: "/A"}},
		{"https://ex%41mple.org/", address{host: "example.org", path: "/"}},
		{"https://münchen.example/", address{host: "xn--mnchen-3ya.example", path: "/"}},
		{"https://M%C3%9CNCHEN.example/", address{host: "xn--mnchen-3ya.example", path: "/"}},
		{"https://例え.example/", address{host: "xn--r8jz45g.example", path: "/"}},
		{"https://ｅxample。org/", address{host: "example.org", path: "/"}},
		{"https://under_score.example.org/", address{host: "under_score.example.org", path: "/"}},
		{"https://example.org/./a/../b/%2e/c/.%2E/d/.", address{host: "example.org", path: "/b/d/"}},
		{"https://example.org/..//a/...", address{host: "example.org", path: "//a/..."}},
		{`https:\\example.org\a\..\..`, address{host: "example.org", path: "/"}},
		{"https://example.org/a?/../b#/../c", address{host: "example.org", path: "/a", query: "/../b", fragment: "/../c"}},
		{"https://[2001:DB8::1]:8080/a", address{host: "[2001:db8::1]", path: "/a"}},
		{"https://127.0.0.1:25/", address{host: "127.0.0.1", path: "/"}},
	} {
		if got, ok := split(c.in); !ok || got != c.want {
			t.Errorf("%q:\n got %+v (%v)\nwant %+v", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{
		"", "/", "/a", "a", "?a", "#a", "https", "https:", "https://", "https:///?a", "https://.", "https://..", "https://a..", "https://@", "https://:80/",
		"https://example.org:8a/", "https://a b/", "https://a%20b/", "https://a%2fb/", "https://a%zz/", "https://%ff/", "https://a<b/",
		"https://[::1", "https://[x]/", "https://[/", "ftp://example.org/", "httpss://example.org", "x-https://example.org", "mailto:a@b",
		"java\tscript://example.org", "\u00a0https://example.org/",
	} {
		if got, ok := split(in); ok {
			t.Errorf("%q is taken for %+v", in, got)
		}
	}
}

// RFC 3492 §7.1, the samples that are lower case.
func TestPunycode(t *testing.T) {
	for in, want := range map[string]string{
		"ليهمابتكلموشعربي؟":            "egbpdaj6bu4bxfgehfvwxn",
		"他们为什么不说中文":                    "ihqwcrb4cv8a8dqg056pqjye",
		"למההםפשוטלאמדבריםעברית":       "4dbcagdahymbxekheh6e0a7fei0b",
		"почемужеонинеговорятпорусски": "b1abfaaepdrnnbgefbadotcwatmq2g4l",
		"bücher": "bcher-kva",
		"ü":      "tda",
	} {
		if got := punycode(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzSplit compares with net/url where that takes an address of plain spelling: a host of
// letters, digits, hyphens and dots, and none of the bytes that browsers read otherwise.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		"https://example.org/a/b?c=d#e", "http://u:p@Example.ORG:80/%41?b", "//example.org", "https://a.b.c./?#", "https://example.org?a#b",
		`https:\\example.org`, "https://münchen.example", "https://[::1]:1/", " https://example.org\n", "https://ex%41mple.org/", "http:/a", "https:/00.. ",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := split(s)
		if ok {
			if a.host == "" || a.path != "" && a.path[0] != '/' {
				t.Fatalf("%q: %+v", s, a)
			}
			for i := range len(a.host) {
				if c := a.host[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' {
					t.Fatalf("%q: host %q", s, a.host)
				}
			}
			again := "https://" + a.host + a.path + suffix("?", a.query) + suffix("#", a.fragment)
			// Where an empty fragment went, a space that was in front of it is at the end, where browsers drop it.
			if b, ok := split(again); !ok || b != a && again == browserTrim(again) {
				t.Fatalf("%q: %+v, and put together again %+v (%v)", s, a, b, ok)
			}
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || strings.ContainsAny(s, "\\\t\r\n") || s != browserTrim(s) {
			return
		}
		host := u.Hostname()
		if host == "" || strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.HasPrefix(host, ".") || strings.HasSuffix(host, "..") || host == "." {
			return
		}
		host = strings.TrimSuffix(strings.ToLower(host), ".")
		if !ok || a.host != host {
			t.Fatalf("%q: host %q (%v), net/url says %q", s, a.host, ok, host)
		}
		if strings.Contains(strings.ReplaceAll(strings.ToLower(u.EscapedPath()), "%2e", "."), "/.") {
			return // net/url leaves dots where they are
		}
		if unescape(a.path, false) != u.Path || a.query != u.RawQuery || unescape(a.fragment, false) != u.Fragment {
			t.Fatalf("%q: %+v, net/url says %q %q %q", s, a, u.Path, u.RawQuery, u.Fragment)
		}
	})
}

func TestInitials(t *testing.T) {
	for _, c := range []struct {
		query, name string
		want        bool
	}{
		{"", "a", false},
		{"a", "a", true},
		{"bc=a&d", "a", false},
		{"bc=a&d", "d", true},
		{"bc=a&&=e&f=", "f", true},
		{"bc=a&&=e&f=", "e", false},
		{"bc=%61", "a", true}, // not looked into
		{"\xff=1", "\xff", true},
	} {
		a := address{query: c.query}
		for range 2 {
			if got := a.initials()&initial(c.name) != 0; got != c.want {
				t.Errorf("%q, %q: %v", c.query, c.name, got)
			}
		}
	}
}
