package config

import (
	"fmt"
	"strconv"
	"strings"
)

// locate returns the line (from 1) on which each key of a TOML text stands. Paths are dotted,
// and an element of an array has its index: "smtp.listen[1]", "login[0].name". The TOML
// library tells the place of a syntax error but not of a key.
//
// It expects a text that the library has parsed. Given any other it ends, does not panic, and
// says nothing useful.
func locate(text string) map[string]int {
	l := &locator{text: text, line: 1, lines: map[string]int{}, tables: map[string]int{}}
	prefix := ""
	for l.skip(" \t\r\n"); l.more(); l.skip(" \t\r\n") {
		if l.peek("[") {
			prefix = l.header()
		} else if !l.keyValue(prefix) {
			l.next() // not TOML; go on
		}
	}
	return l.lines
}

type locator struct {
	text   string
	at     int
	line   int
	lines  map[string]int
	tables map[string]int // how many [[tables]] of that path were seen
	depth  int            // of arrays and inline tables
}

func (l *locator) more() bool         { return l.at < len(l.text) }
func (l *locator) peek(s string) bool { return strings.HasPrefix(l.text[l.at:], s) }
func (l *locator) among(set string) bool {
	return l.more() && strings.IndexByte(set, l.text[l.at]) >= 0
}
func (l *locator) mark(path string) {
	if _, seen := l.lines[path]; !seen {
		l.lines[path] = l.line
	}
}

func (l *locator) next() {
	if l.text[l.at] == '\n' {
		l.line++
	}
	l.at++
}

// take moves past s if it comes next.
func (l *locator) take(s string) bool {
	if !l.peek(s) {
		return false
	}
	l.at += len(s)
	return true
}

// skip moves past the bytes of set, and past comments.
func (l *locator) skip(set string) {
	for l.more() {
		switch {
		case l.among(set):
			l.next()
		case l.peek("#"):
			for l.more() && !l.peek("\n") {
				l.at++
			}
		default:
			return
		}
	}
}

// header reads [table] or [[table]] and returns the prefix of the keys below it.
func (l *locator) header() string {
	l.take("[")
	array := l.take("[")
	parts := l.key()
	path := ""
	for i, part := range parts {
		path = join(path, part)
		if array && i == len(parts)-1 {
			l.tables[path]++
			l.mark(path)
		}
		if n := l.tables[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		l.mark(path)
	}
	if l.take("]") && array {
		l.take("]")
	}
	return path
}

// keyValue reads key = value and reports whether there was a key.
func (l *locator) keyValue(prefix string) bool {
	parts := l.key()
	if len(parts) == 0 {
		return false
	}
	path := prefix
	for _, part := range parts {
		path = join(path, part)
		l.mark(path)
	}
	if l.take("=") {
		l.skip(" \t")
		l.value(path)
	}
	return true
}

// key reads a dotted key with the space around it.
func (l *locator) key() []string {
	var parts []string
	for {
		l.blanks()
		start := l.at
		switch {
		case l.peek(`"`):
			l.quoted(`"`)
			part, err := strconv.Unquote(l.text[start:l.at])
			if err != nil {
				part = l.text[start:l.at]
			}
			parts = append(parts, part)
		case l.peek("'"):
			l.quoted("'")
			parts = append(parts, strings.Trim(l.text[start:l.at], "'"))
		default:
			for l.more() && !l.among(" \t\r\n=.[]{},#\"'") {
				l.at++
			}
			if l.at == start {
				return parts
			}
			parts = append(parts, l.text[start:l.at])
		}
		l.blanks()
		if !l.take(".") {
			return parts
		}
	}
}

func (l *locator) blanks() {
	for l.among(" \t") {
		l.at++
	}
}

// value moves past a value and marks what stands in it.
func (l *locator) value(path string) {
	const maxDepth = 100 // deeper than any configuration; bounds the stack
	switch {
	case l.peek(`"""`), l.peek("'''"):
		l.multiline(l.text[l.at : l.at+3])
	case l.peek(`"`), l.peek("'"):
		l.quoted(l.text[l.at : l.at+1])
	case l.peek("[") && l.depth < maxDepth:
		l.depth++
		l.at++
		for i := 0; ; i++ {
			l.skip(" \t\r\n,")
			if !l.more() || l.take("]") {
				break
			}
			l.mark(fmt.Sprintf("%s[%d]", path, i))
			l.element(fmt.Sprintf("%s[%d]", path, i))
		}
		l.depth--
	case l.peek("{") && l.depth < maxDepth:
		l.depth++
		l.at++
		for {
			l.skip(" \t\r\n,")
			if !l.more() || l.take("}") {
				break
			}
			if !l.keyValue(path) {
				l.next()
			}
		}
		l.depth--
	default:
		for l.more() && !l.among(",]}#\r\n") {
			l.at++
		}
	}
}

// element is value, and moves by at least one byte.
func (l *locator) element(path string) {
	before := l.at
	l.value(path)
	if l.at == before {
		l.next()
	}
}

// quoted moves past a string of one line.
func (l *locator) quoted(quote string) {
	for l.at++; l.more() && !l.peek("\n"); l.at++ {
		if quote == `"` && l.peek(`\`) {
			l.at++
		} else if l.take(quote) {
			return
		}
	}
	l.at = min(l.at, len(l.text))
}

// multiline moves past a string between three quotes. Up to two more quotes may stand before
// the closing three.
func (l *locator) multiline(quotes string) {
	l.at += len(quotes)
	for l.more() {
		switch {
		case quotes == `"""` && l.peek(`\`):
			l.at++
			if l.more() {
				l.next()
			}
		case l.take(quotes):
			for n := 0; n < 2 && l.take(quotes[:1]); n++ {
			}
			return
		default:
			l.next()
		}
	}
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}
