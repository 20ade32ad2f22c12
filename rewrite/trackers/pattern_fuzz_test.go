package trackers

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzPattern holds patterns against regular expressions that say the same. A class takes all that it can
// and gives nothing back, so that one that matches is matched by the expression, and without classes it is
// the other way round as well.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"abc", "abc"}, {"a*b*c", "axbxc"}, {"{num}x", "12x"}, {"{hex 2-4}-{upper}", "ab-AB"}, {"{id 3+}", "a1b"}, {"{uuid}", "01234567-0123-0123-0123-0123456789ab"}, {"*", ""}, {"{b64 2+}*=", "ab=="}, {"a%b", "a%25b"}, {"{num", "1"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pat, s string) {
		p, err := parsePattern(pat)
		if err != nil {
			return
		}
		if lit, ok := p.literal(); ok && lit != pat {
			t.Fatalf("%q stands for %q", pat, lit)
		}
		got := p.match(s)
		if strings.Contains(s, "%") { // as it stands, that is the text "%" or an escape
			return
		}
		re, exact := expression(p)
		if want := re.MatchString(s); got != want && (got || exact) {
			t.Fatalf("%q matches %q: %v; %s: %v", pat, s, got, re, want)
		}
	})
}

func expression(p pattern) (re *regexp.Regexp, exact bool) {
	var b strings.Builder
	exact = true
	for _, o := range p {
		switch {
		case o.star:
			b.WriteString(`[\x00-\xff]*`)
		case o.class != nil:
			exact = false
			b.WriteByte('[')
			for c := range o.class.has {
				if o.class.has[c] {
					b.WriteString(`\x` + strconv.FormatInt(int64(c)+0x100, 16)[1:])
				}
			}
			b.WriteByte(']')
			if o.max <= 200 {
				b.WriteString("{" + strconv.Itoa(o.min) + "," + strconv.Itoa(o.max) + "}")
			} else {
				b.WriteByte('+')
			}
		default:
			b.WriteString(regexp.QuoteMeta(o.lit))
		}
	}
	re, err := regexp.Compile(`\A(?s:` + strings.ReplaceAll(b.String(), `[\x00-\xff]*`, `.*`) + `)\z`)
	if err != nil { // a literal that is not UTF-8
		return regexp.MustCompile(``), false
	}
	return re, exact
}

// FuzzHosts holds the globs of hosts against regular expressions that say the same.
func FuzzHosts(f *testing.F) {
	for _, s := range [][2]string{{"click.example.org", "click.example.org"}, {"*.example.org", "a.b.example.org"}, {"public-*.example.org", "public-x.example.org"}, {"trk.example??.org", "trk.example12.org"}, {"click.**", "click.a.example"}, {"a*b.example.org", "ab.example.org"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, glob, host string) {
		g, err := parseHostGlob(glob)
		if err != nil {
			return
		}
		if h, ok := canonicalHost(host); !ok || h != host {
			return
		}
		var b strings.Builder
		if g.above {
			b.WriteString(`(?:[^.]+\.)+`)
		}
		for i := len(g.labels) - 1; i >= 0; i-- {
			label := regexp.QuoteMeta(g.labels[i])
			b.WriteString(strings.NewReplacer(`\*`, `[^.]*`, `\?`, `[0-9]?`).Replace(label))
			if i > 0 {
				b.WriteString(`\.`)
			}
		}
		if g.any {
			b.WriteString(`\..+`)
		}
		if want := regexp.MustCompile(`\A` + b.String() + `\z`).MatchString(host); g.match(host) != want {
			t.Fatalf("%q matches %q: %v; %s: %v", glob, host, !want, b.String(), want)
		}
	})
}
