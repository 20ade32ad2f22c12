package trackers

import (
	"strings"
	"testing"
)

// TestLoadMistakes wants every mistake said, with its place.
func TestLoadMistakes(t *testing.T) {
	const good = "name = \"x\"\nprovider = \"X\"\nkind = \"click\"\nhosts = [\"x.example.org\"]\nexample = \"https://x.example.org/\"\n"
	for _, c := range []struct {
		file string
		want []string
	}{
		{"[[rule]\n", []string{"line "}},
		{"[[rule]]\nname = 1\n", []string{"line 2", "rule.name"}},
		{"\n[[rule]]\n", []string{`line 2: rule ""`, "name, provider and example are needed", `kind ""`}},
		{"[[rule]]\n" + good + "host = \"a\"\n", []string{`line 7: there is no key "rule.host"`}},
		{"[[rules]]\n", []string{`line 1: there is no key "rules"`}},
		{"provider = \"x\"\n[[rule]]\n" + good, []string{`line 1: there is no key "provider"`}},
		{"[[identifier]]\nname = \"a\"\nhosts = []\n", []string{`line 3: there is no key "identifier.hosts"`}},
		{"[[rule]]\n" + good + "[[rule]]\n" + good, []string{`line 7: rule "x": the name stands twice`}},
		{"[[rule]]\n" + good + "path = \"a\"\n", []string{`line 1: rule "x"`, `path "a" does not begin with /`}},
		{"[[rule]]\n" + good + "path = \"/a/**/b\"\n", []string{"** stands only at the end"}},
		{"[[rule]]\n" + good + "path = \"/*{num}\"\n", []string{"{num} stands behind a *"}},
		{"[[rule]]\n" + good + "path = \"/{number}\"\n", []string{"{number}: known are"}},
		{"[[rule]]\n" + good + "path = \"/{num\"\n", []string{"no } behind {"}},
		{"[[rule]]\n" + good + "path = \"/{num 5-3}\"\n", []string{"{num 5-3}: a count is"}},
		{"[[rule]]\n" + good + "query = [\"=a\"]\n", []string{`query "=a"`}},
		{"[[rule]]\n" + good + "decode = \"magic\"\n", []string{`there is no decoder "magic"`}},
		{"[[rule]]\n" + good + "decode = \" \"\n", []string{`decode is empty`}},
		{"[[rule]]\n" + good + "decode = \"query\"\n", []string{"query takes 1 words more, not 0"}},
		{"[[rule]]\n" + good + "decode = \"segment 0\"\n", []string{`"0" is no position`}},
		{"[[rule]]\n" + good + "decode = \"rest -1\"\n", []string{"rest counts from the front"}},
		{"[[rule]]\n" + good + "decode = \"query u\"\n", []string{`leads to "", not to ""`}},
		{"[[rule]]\n" + good + "destination = \"https://example.org/\"\n", []string{"destination without decode"}},
		{"[[rule]]\n" + good + "path = \"/a\"\n", []string{"does not recognise its own example"}},
		{"[[rule]]\n" + strings.Replace(good, "https:", "ftp:", 1), []string{"is no http or https address"}},
		{"[[rule]]\n" + strings.Replace(good, `"click"`, `"open"`, 1) + "decode = \"query u\"\n", []string{"kind open has nothing to decode"}},
		{"[[rule]]\n" + strings.Replace(good, `"click"`, `"gateway"`, 1), []string{"a gateway needs decode"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"*"`, 1), []string{"host"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"*.org"`, 1), []string{"too wide"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"a.*.org"`, 1), []string{"the last two labels hold no *"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"a.e?x.org"`, 1), []string{"? stands at the end"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"a*b*.example.org"`, 1), []string{"one * a label"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"a b.example.org"`, 1), []string{"is no host name"}},
		{"[[rule]]\n" + strings.Replace(good, `"x.example.org"`, `"a.b.**"`, 1), []string{"one label stands before .**"}},
		{"[[rule]]\n" + strings.Replace(good, `hosts = ["x.example.org"]`, `path = "/*"`, 1), []string{"too wide for hosts of any owner"}},
		{"[[rule]]\n" + strings.Replace(good, `hosts = ["x.example.org"]`, `query = ["u"]`, 1), []string{"too wide for hosts of any owner"}},
		{"[[identifier]]\nprovider = \"X\"\n", []string{`line 1: identifier ""`}},
		{"[[identifier]]\nname = \"*\"\n", []string{`identifier "*"`}},
		{"[[identifier]]\nname = \"a*b\"\n", []string{`identifier "a*b"`}},
		{"own_pages = [\"a\"]\n", []string{"own_pages"}},
		{"signatures = [\"a=b\"]\n", []string{"signatures"}},
	} {
		r, err := Load([]byte(c.file))
		if err == nil || r != nil {
			t.Errorf("accepted:\n%s", c.file)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s\nerror %q\nlacks %q", c.file, err, w)
			}
		}
	}
	if _, err := Load(nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"abc", []string{"abc", "a%62c", "%61%62%63"}, []string{"", "ab", "abcd", "ABC", "%", "a%6"}},
		{"*", []string{"", "a"}, nil},
		{"eJ*", []string{"eJ", "eJx", "e%4Ax"}, []string{"", "e", "ej", "xeJ"}},
		{"*.gif", []string{".gif", "a.gif.gif", "a%2Egif"}, []string{"a.gif.", "gif"}},
		{"*-l-*", []string{"t-l-x", "-l-"}, []string{"t-l", "tl-"}},
		{"a*b*c", []string{"abc", "a1b2c", "abbcc"}, []string{"ac", "acb", "ab"}},
		{"{num}", []string{"1", "0123"}, []string{"", "a", "1a", "-1"}},
		{"{hex 4}", []string{"aF09", "%61F09"}, []string{"aF0", "aF091", "aF0g"}},
		{"{hex 4+}.gif", []string{"abcd.gif", "abcdef.gif"}, []string{"abc.gif", "abcd.png"}},
		{"{alnum 2-3}-{upper}", []string{"aB-X9", "a1b-X"}, []string{"a-X", "abcd-X", "ab-x"}},
		{"{hex 13}{num 2}", []string{"0123456789abc42"}, []string{"0123456789abcd42", "0123456789abc4"}},
		{"{uuid}", []string{"9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d10"}, []string{"9f3b0c1e3d524b278a39aa0c3a2c1d10", "9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d1", "9f3b0c1e-3d52-4b27-8a39-aa0c3a2c1d101"}},
		{"{id 4+}", []string{"a1b2", "aBcd", "rtmuzogUauKN", "1a-_"}, []string{"word", "Word", "WORD", "1234", "a1", "a.b1"}},
		{"{b64 4+}", []string{"aA1-", "aA%2B%2F%3D"}, []string{"abc", "ab.c"}},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for _, s := range c.yes {
			if !p.match(s) {
				t.Errorf("%s does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.match(s) {
				t.Errorf("%s matches %q", c.pattern, s)
			}
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"/", []string{"", "/"}, []string{"/a", "//a"}},
		{"/**", []string{"", "/", "/a", "/a/b"}, nil},
		{"/a", []string{"/a", "/a/"}, []string{"", "/", "/a/b", "/b", "//a"}},
		{"/a/*", []string{"/a/b", "/a/b/"}, []string{"/a", "/a/", "/a/b/c"}},
		{"/a/**", []string{"/a", "/a/", "/a/b", "/a/b/c"}, []string{"/", "/ab"}},
		{"/a/*/**", []string{"/a/b", "/a/b/c/d"}, []string{"/a", "/a/"}},
	} {
		p, err := parsePath(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.yes {
			if !p.match(s) {
				t.Errorf("%s does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.match(s) {
				t.Errorf("%s matches %q", c.pattern, s)
			}
		}
	}
}

func TestHostGlob(t *testing.T) {
	for _, c := range []struct {
		glob    string
		yes, no []string
	}{
		{"click.example.org", []string{"click.example.org"}, []string{"example.org", "a.click.example.org", "xclick.example.org"}},
		{"*.mjt.lu", []string{"a.mjt.lu", "a.b.mjt.lu"}, []string{"mjt.lu", "amjt.lu", "a.mjt.lu.org"}},
		{"trk.klclick?.com", []string{"trk.klclick.com", "trk.klclick1.com"}, []string{"trk.klclicka.com", "trk.klclick12.com", "a.trk.klclick.com"}},
		{"*.mkt????.com", []string{"links.mkt3337.com", "links.mkt61.com"}, []string{"links.mkt33371.com", "mkt3337.com"}},
		{"*.intercom-mail-???.com", []string{"a.intercom-mail-200.com"}, []string{"a.intercom-mail.com"}},
		{"public-*.mkt.dynamics.com", []string{"public-eur.mkt.dynamics.com"}, []string{"eur.mkt.dynamics.com", "public-eur.x.mkt.dynamics.com"}},
		{"click.**", []string{"click.example.org", "click.e.example.org"}, []string{"click", "clicks.example.org", "a.click.example.org"}},
		{"ci?.googleusercontent.com", []string{"ci5.googleusercontent.com", "ci.googleusercontent.com"}, []string{"lh5.googleusercontent.com"}},
		{"*.Bücher.example", []string{"a.xn--bcher-kva.example"}, nil},
	} {
		g, err := parseHostGlob(c.glob)
		if err != nil {
			t.Errorf("%s: %v", c.glob, err)
			continue
		}
		for _, h := range c.yes {
			if !g.match(h) || !g.any && g.key() != hostKey(h) {
				t.Errorf("%s does not match %s (keys %q, %q)", c.glob, h, g.key(), hostKey(h))
			}
		}
		for _, h := range c.no {
			if g.match(h) {
				t.Errorf("%s matches %s", c.glob, h)
			}
		}
	}
}
