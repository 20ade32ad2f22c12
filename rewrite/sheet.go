package rewrite

import (
	"bytes"
	"strings"
)

// sheet is what the style elements of a text say of the elements with a class or an id.
type sheet struct {
	revealed map[string]bool   // made visible, whatever the style attribute says
	styles   map[string]string // made small or hidden by these declarations
}

// readSheets reads all style elements. What they hide inside of comments is hidden from one reader
// alone, and what they hide under a condition (@media) only sometimes: neither counts.
func readSheets(src []byte) (s sheet) {
	commentEnd := 0
	for at := 0; ; {
		i := indexFold(src[at:], "<style")
		if i < 0 {
			return s
		}
		for commentEnd <= at+i { // comments that begin before the element
			open := bytes.Index(src[commentEnd:at+i], []byte("<!--"))
			if open < 0 {
				break
			}
			end := bytes.Index(src[commentEnd+open+4:], []byte("-->"))
			if end < 0 {
				end = len(src)
			}
			commentEnd = min(len(src), commentEnd+open+4+end+3)
		}
		commented := commentEnd > at+i
		at += i
		gt := bytes.IndexByte(src[at:], '>')
		if gt < 0 {
			return s
		}
		at += gt + 1
		end := indexFold(src[at:], "</style")
		if end < 0 {
			end = len(src) - at
		}
		s.read(cssPlain(string(src[at:at+end])), commented)
		at += end
		commentEnd = max(commentEnd, at)
	}
}

func (s *sheet) read(css string, commented bool) {
	depth := 0
	for rule := range strings.SplitSeq(css, "}") {
		depth += strings.Count(rule, "{")
		open := strings.LastIndexByte(rule, '{')
		if open >= 0 {
			selectors := rule[:open]
			if i := strings.LastIndexAny(selectors, "{;"); i >= 0 {
				selectors = selectors[i+1:]
			}
			if shows(rule[open+1:]) {
				s.reveal(selectors)
			} else if depth == 1 && !commented {
				s.shrink(selectors, rule[open+1:])
			}
		}
		depth = max(depth-1, 0)
	}
}

// shows reports whether declarations make something visible.
func shows(body string) bool {
	if !strings.Contains(body, "display") {
		return false
	}
	body = strings.ReplaceAll(body, " ", "")
	return strings.Contains(body, "display:") && !strings.Contains(body, "display:none")
}

func (s *sheet) reveal(selectors string) {
	for _, name := range strings.FieldsFunc(selectors, func(r rune) bool { return strings.ContainsRune(" \t\r\n,>+~:.#[]=\"'*^$|()", r) }) {
		if s.revealed == nil {
			s.revealed = map[string]bool{}
		}
		s.revealed[name] = true
	}
}

// shrink notes for each selector that is a class or an id alone, perhaps with an element's name,
// what makes it small or hidden.
func (s *sheet) shrink(selectors, body string) {
	l := look{width: unknownSide, height: unknownSide}
	if l.apply(body); !l.tiny() && !l.hidden {
		return
	}
	for sel := range strings.SplitSeq(selectors, ",") {
		sel = strings.TrimSpace(sel)
		if i := strings.LastIndexAny(sel, " \t\r\n>"); i >= 0 && !l.hidden {
			sel = sel[i+1:]
		}
		i := strings.IndexAny(sel, ".#")
		if i < 0 || strings.ContainsAny(sel[:i], " \t\r\n>+~:[*@") || strings.ContainsAny(sel[i+1:], " \t\r\n>+~:[.#(") {
			continue
		}
		if s.styles == nil {
			s.styles = map[string]string{}
		}
		if before := s.styles[sel[i:]]; len(before) < 1000 {
			s.styles[sel[i:]] = before + body + ";"
		}
	}
}

// names calls f for each class and the id of a tag, with "." or "#" before it.
func names(class, id string, f func(name string) bool) {
	for c := range strings.FieldsSeq(class) {
		if !f("." + c) {
			return
		}
	}
	if id = strings.TrimSpace(id); id != "" {
		f("#" + id)
	}
}

// shownAgain reports whether the sheet shows what the tag's own style hides, as responsive mail
// does for telephones.
func (s *sheet) shownAgain(class, id string) (shown bool) {
	if len(s.revealed) == 0 {
		return false
	}
	names(class, id, func(name string) bool {
		shown = s.revealed[name[1:]]
		return !shown
	})
	return shown
}

// style is what the sheet says of a tag, "" for most.
func (s *sheet) style(class, id string) (style string) {
	if len(s.styles) == 0 {
		return ""
	}
	names(class, id, func(name string) bool {
		style += s.styles[name]
		return len(style) < 500
	})
	return style
}
