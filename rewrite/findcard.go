package rewrite

import (
	"bytes"
	"strings"
)

// shownProperties are those of calendars (RFC 5545, 7986) and cards (RFC 6350) whose address a
// reader fetches to show it.
var shownProperties = map[string]bool{"ATTACH": true, "IMAGE": true, "PHOTO": true, "LOGO": true, "SOUND": true, "KEY": true}

// findCard notes what a calendar or a card fetches. A property goes as a whole, with all lines
// that it is folded over (RFC 5545 §3.1).
func (m *Message) findCard(t *text) {
	for at := 0; at < len(t.plain); {
		end := at
		for {
			n := lineLen(t.plain[end:])
			end += n
			if n == 0 || end == len(t.plain) || t.plain[end] != ' ' && t.plain[end] != '\t' {
				break
			}
		}
		m.cardProperty(t, at, end)
		at = end
	}
}

func (m *Message) cardProperty(t *text, from, to int) {
	if bytes.IndexByte(t.plain[from:to], ':') < 0 {
		return
	}
	name, params, value := contentLine(unfoldCard(t.plain[from:to]))
	whole := edit{start: from, end: to, when: withoutOpen, action: Removed}
	f := newHTMLFinder(m, &text{part: t.part})
	switch {
	case shownProperties[name]:
		finding, ok := f.judge(nil, value, unseen)
		if !ok {
			m.ordinary(OpenTracker, name, t.part, remote(cleanAddress(value), ""))
			return
		}
		finding.Vector = name
		m.add(t, finding, whole)
	case name == "X-ALT-DESC" || name == "STYLED-DESCRIPTION":
		if !strings.Contains(params, "HTML") {
			return
		}
		value = strings.NewReplacer(`\n`, "\n", `\N`, "\n", `\,`, ",", `\;`, ";", `\\`, `\`).Replace(value)
		f.inner(value, name, func(when variants) edit {
			whole.when = when
			return whole
		})
	}
	t.edits = append(t.edits, f.t.edits...)
}

// contentLine takes an unfolded line apart: "NAME;PARAMETERS:VALUE", a colon in quotes being none
// (RFC 5545 §3.1, RFC 6350 §3.3). A group before the name is left out, name and parameters are
// upper-cased.
func contentLine(line string) (name, params, value string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ':' && !quoted:
			name, params, _ = strings.Cut(strings.ToUpper(line[:i]), ";")
			return name[strings.LastIndexByte(name, '.')+1:], params, line[i+1:]
		}
	}
	return "", "", ""
}

// unfoldCard joins the lines of a property.
func unfoldCard(b []byte) string {
	s := strings.ReplaceAll(string(b), "\r\n", "\n")
	s = strings.NewReplacer("\n ", "", "\n\t", "").Replace(s)
	return strings.TrimRight(s, "\n")
}
