package rewrite

import (
	"encoding/json"
	"strings"
)

// shownKeys are the properties of schema.org whose address a reader fetches for what it shows
// above the mail, and "urls" of speculation rules.
var shownKeys = map[string]bool{"image": true, "logo": true, "photo": true, "thumbnail": true, "thumbnailurl": true, "contenturl": true, "icon": true, "urls": true}

// structured looks into a script with JSON-LD, as mail readers do that make cards and buttons of
// it (other scripts run in no mail reader).
func (f *htmlFinder) structured(from, to int) {
	src := f.src[from:to]
	start := strings.TrimLeft(src, " \t\r\n\ufeff")
	for _, opening := range []string{"<!--", "//", "/*", "<![CDATA[", "//"} {
		start = strings.TrimLeft(strings.TrimPrefix(start, opening), " \t\r\n*/")
	}
	if start == "" || start[0] != '{' && start[0] != '[' {
		return
	}
	key := ""
	for i := 0; i < len(src); i++ {
		if src[i] != '"' {
			continue
		}
		n := jsonString(src[i:])
		if n == 0 {
			return
		}
		var value string
		err := json.Unmarshal([]byte(src[i:i+n]), &value)
		at := i
		i += n - 1
		switch {
		case err != nil:
		case strings.HasPrefix(strings.TrimLeft(src[i+1:], " \t\r\n"), ":"):
			key = strings.ToLower(value)
		case isWebAddress(value):
			f.structuredAddress(from+at, from+at+n, key, value)
		}
	}
}

// jsonString returns the length of the string literal that s begins with, 0 if it has no end.
func jsonString(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// structuredAddress notes an address that stands, with its quotes, at [from,to).
func (f *htmlFinder) structuredAddress(from, to int, key, addr string) {
	vector := "JSON-LD " + key
	if shownKeys[key] {
		finding, ok := f.judge(nil, addr, unseen)
		if !ok {
			f.m.ordinary(OpenTracker, vector, f.t.part, addr)
			return
		}
		finding.Vector = vector
		place := edit{start: from, end: to}
		if h, ok := f.m.target(f.t, finding); ok && (key != "urls" || finding.Rule != ruleRemote) && finding.Rule != "document" {
			place.pieces = []piece{{lit: []byte(`"`)}, {hole: h}, {lit: []byte(`"`)}}
		}
		f.m.addOpen(f.t, finding, edit{start: from, end: to, when: withoutOpen, action: Removed, pieces: literal(`""`)}, place)
		return
	}
	if f.m.isOwn(addr) {
		return
	}
	finding := Finding{Kind: ClickTracker, Vector: vector, Part: f.t.part.number, URL: addr}
	dest, action, ok := f.m.follow(addr, &finding)
	if !ok {
		f.m.ordinary(ClickTracker, vector, f.t.part, addr)
		return
	}
	text, err := json.Marshal(dest)
	if err != nil {
		return
	}
	e := edit{start: from, end: to, when: withoutClick, action: action, pieces: literal(string(text))}
	if action == Kept {
		e.when = 0
	}
	inQuotes := edit{start: from + 1, end: to - 1}
	f.m.addLink(f.t, finding, e, inQuotes, inQuotes)
}
