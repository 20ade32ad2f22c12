package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLocate(t *testing.T) {
	const text = `# a comment = 1
a = 1

 "b" = "]#" # [not.a.table]
'c' = '''
x = 1
''''' # two quotes more than closing
d.e . f = """\
  g = "1" \"""
"""
list = [ "one", # two
  "two",
  { x = 1, y = [
    2 ] },
]
[t]
k = { in = 1, out.er = 2 }
[[arr]]
n = 1
[arr.sub]
m = 1
[[arr]]
n = 2
[[arr.deep]]
o = 1
[ spaced . table ]
p = 2026-01-01T00:00:00Z
q = +inf`
	got := locate(text)
	for path, want := range map[string]int{
		"a": 2, "b": 4, "c": 5, "x": 0, "d.e.f": 8, "d.e": 8, "g": 0, "list": 11, "list[0]": 11, "list[1]": 12,
		"list[2]": 13, "list[2].x": 13, "list[2].y[0]": 14, "t": 16, "t.k": 17, "t.k.in": 17, "t.k.out.er": 17,
		"arr[0]": 18, "arr[0].n": 19, "arr[0].sub.m": 21, "arr[1]": 22, "arr[1].n": 23, "arr[1].deep[0].o": 25,
		"spaced.table.p": 27, "spaced.table.q": 28,
	} {
		if got[path] != want {
			t.Errorf("%s is on line %d, want %d", path, got[path], want)
		}
	}
	var document map[string]any
	if _, err := toml.Decode(text, &document); err != nil {
		t.Fatalf("the text of this test is not TOML: %v", err)
	}
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// FuzzLocate: whatever comes in, locate ends; and what the library reads as TOML, locate finds.
func FuzzLocate(f *testing.F) {
	for _, seed := range []string{"", "a = 1", "[a]\nb = [1, [2, {c=3}]]", "[[a]]\nb=\"\"\"\n\"\"\"\n[[a]]\n", "a.b = 'x'\n\"c\" = {d=1,\ne=2}", "[", "a", "a = [", "a = {", "\"", "a=\"\\", "a='''", strings.Repeat("a=[", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := locate(text)
		var document map[string]any
		if _, err := toml.Decode(text, &document); err != nil {
			return
		}
		count := strings.Count(text, "\n") + 1
		var walk func(path string, v any, depth int)
		walk = func(path string, v any, depth int) {
			if n := lines[path]; path != "" && (n < 1 || n > count) {
				t.Fatalf("%s is on line %d of %d\n%s", path, n, count, text)
			}
			if depth > 50 {
				return
			}
			switch v := v.(type) {
			case map[string]any:
				for key, inner := range v {
					if bare.MatchString(key) {
						walk(join(path, key), inner, depth+1)
					}
				}
			case []map[string]any:
				for i := range v {
					walk(fmt.Sprintf("%s[%d]", path, i), v[i], depth+1)
				}
			case []any:
				for i := range v {
					walk(fmt.Sprintf("%s[%d]", path, i), v[i], depth+1)
				}
			}
		}
		walk("", document, 0)
	})
}

func TestNearest(t *testing.T) {
	names := []string{"listen", "listen_tls", "max_message_bytes", "idle_timeout"}
	for word, want := range map[string]string{
		"listne": "listen", "listen_tsl": "listen_tls", "max_message_byte": "max_message_bytes",
		"idle-timeout": "idle_timeout", "colour": "", "": "", "x": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
