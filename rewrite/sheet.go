package rewrite

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/rewrite/htmltoken"
)

// sheet is what the style elements of a text say of its elements.
type sheet struct {
	revealed map[string]bool        // classes and ids that are made visible, whatever a style attribute says
	styles   map[string]*sheetStyle // by simple selector
}

// readSheets reads all style elements; starts are where they begin. What those in comments hide is hidden
// from Outlook alone, so it does not count.
func readSheets(src []byte, starts []int) sheet {
	if len(starts) == 0 {
		return sheet{}
	}
	return sheet{revealedNames(src, starts), sheetStyles(src, starts)}
}

// styleEnd returns where the style element ends that begins at start or before.
func styleEnd(src []byte, start int) int {
	if n := indexFold(src[start:], "</style"); n >= 0 {
		return start + n
	}
	return len(src)
}

// revealedNames are the classes and ids that any style element shows, on whatever screen.
func revealedNames(src []byte, starts []int) map[string]bool {
	var revealed map[string]bool
	done := 0
	for _, start := range starts {
		if start < done {
			continue
		}
		done = styleEnd(src, start)
		css := cssPlain(string(src[start:done]))
		if !strings.Contains(css, "display") {
			continue
		}
		for rule := range strings.SplitSeq(css, "}") {
			open := strings.LastIndexByte(rule, '{')
			if open < 0 || !shows(rule[open+1:]) {
				continue
			}
			selectors := rule[:open]
			if i := strings.LastIndexAny(selectors, "{;"); i >= 0 {
				selectors = selectors[i+1:]
			}
			for _, name := range strings.FieldsFunc(selectors, func(r rune) bool { return strings.ContainsRune(" \t\r\n,>+~:.#[]=\"'*^$|()", r) }) {
				if revealed == nil {
					revealed = map[string]bool{}
				}
				revealed[name] = true
			}
		}
	}
	return revealed
}

// shows reports whether declarations make something visible.
func shows(body string) bool {
	if !strings.Contains(body, "display") {
		return false
	}
	body = strings.ReplaceAll(body, " ", "")
	return strings.Contains(body, "display:") && !strings.Contains(body, "display:none")
}

// sheetStyle is what the style sheets of a mail say of the elements of one simple selector, as far as
// it tells whether they are seen.
type sheetStyle struct {
	base, important map[string]string // by property
	varies          bool              // on some screens it is seen
}

// sheetStyles reads the style sheets. Keys are simple selectors: "img", ".name", "img.name", "#name",
// "img#name"; what is said of others is not known. Style elements in comments are Outlook's alone.
func sheetStyles(src []byte, starts []int) map[string]*sheetStyle {
	var out map[string]*sheetStyle
	eachStyleElement(src, starts, func(css string, screens bool) {
		eachRule(cssPlain(css), screens, func(selectors, body string, screens bool) {
			said := hidingProperties(body)
			if len(said) == 0 {
				return
			}
			for s := range strings.SplitSeq(selectors, ",") {
				key, ok := simpleSelector(s)
				if !ok {
					continue
				}
				if out == nil {
					out = map[string]*sheetStyle{}
				}
				st := out[key]
				if st == nil {
					st = &sheetStyle{base: map[string]string{}, important: map[string]string{}}
					out[key] = st
				}
				for name, v := range said {
					switch {
					case screens:
						st.varies = st.varies || !hidingValue(name, v.value)
					case v.important:
						st.important[name] = v.value
					default:
						st.base[name] = v.value
					}
				}
			}
		})
	})
	return out
}

// eachStyleElement calls f for those of the style elements that are outside of comments; screens says that
// one holds on some screens only.
func eachStyleElement(src []byte, starts []int, f func(css string, screens bool)) {
	at := 0
	for _, start := range starts {
		for at <= start { // the comments before it, and it may be in the last of them
			i := bytes.Index(src[at:start], []byte("<!--"))
			if i < 0 {
				break
			}
			at += i + 2
			end := bytes.Index(src[at:], []byte("-->")) // <!--> is a comment, too
			if end < 0 {
				return
			}
			at += end + 3
		}
		if start < at {
			continue
		}
		gt := bytes.IndexByte(src[start:], '>')
		if gt < 0 {
			return
		}
		at = start + gt + 1
		screens := false
		var tok htmltoken.Token
		tag := src[start:at]
		z := tokenizer(tag)
		if z.Next(&tok) {
			a, _ := tok.Attr(tag, "media")
			media := strings.TrimSpace(string(tag[a.ValueStart:a.ValueEnd]))
			screens = media != "" && !everyScreen("@media "+media)
		}
		putAway(z)
		end := styleEnd(src, at)
		f(string(src[at:end]), screens)
		at = end
	}
}

// eachRule calls f for the rules of a style sheet without comments; screens says that a rule holds on
// some screens only.
func eachRule(css string, screens bool, f func(selectors, body string, screens bool)) {
	var blocks []bool // open @ blocks: whether they are for some screens only
	for css != "" {
		i := strings.IndexAny(css, "{};")
		if i < 0 {
			return
		}
		head, c := strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(css[:i], "<!--", ""), "-->", "")), css[i]
		css = css[i+1:]
		switch {
		case c == '}' && len(blocks) > 0:
			blocks = blocks[:len(blocks)-1]
		case c == '{' && strings.HasPrefix(head, "@"):
			outer := len(blocks) > 0 && blocks[len(blocks)-1]
			blocks = append(blocks, outer || !everyScreen(head))
		case c == '{':
			end, open := 0, 1 // with the rules inside of a rule
			for ; end < len(css); end++ {
				if css[end] == '{' {
					open++
				} else if css[end] == '}' {
					if open--; open == 0 {
						break
					}
				}
			}
			f(head, css[:end], screens || len(blocks) > 0 && blocks[len(blocks)-1])
			css = css[min(end+1, len(css)):]
		}
	}
}

// everyScreen reports whether an @ block holds wherever mail is read.
func everyScreen(head string) bool {
	switch strings.Join(strings.Fields(strings.ToLower(head)), " ") {
	case "@media all", "@media screen", "@media only screen", "@media screen, print":
		return true
	}
	return false
}

// simpleSelector brings a selector of one type, class or id into the form of the keys.
func simpleSelector(s string) (key string, ok bool) {
	s = strings.TrimSpace(s)
	n := 0
	for n < len(s) && isAlnum(s[n]) {
		n++
	}
	tag, rest := strings.ToLower(s[:n]), strings.TrimPrefix(s[n:], "*")
	if rest == "" {
		return tag, tag != ""
	}
	mark, name := rest[:1], rest[1:]
	if attr, value, found := strings.Cut(name, "="); mark == "[" && found && strings.HasSuffix(value, "]") {
		switch strings.ToLower(strings.TrimRight(attr, "~*^|$ ")) {
		case "class":
			mark = "."
		case "id":
			mark = "#"
		}
		name = strings.Trim(value[:len(value)-1], `"' `)
	}
	if mark != "." && mark != "#" || name == "" || strings.ContainsAny(name, " \t\r\n>+~.#[:*()") {
		return "", false
	}
	return tag + mark + name, true
}

type cssValue struct {
	value     string
	important bool
}

// hidingProperties returns the declarations that tell whether an element is seen, lower-cased.
func hidingProperties(body string) map[string]cssValue {
	var out map[string]cssValue
	for d := range strings.SplitSeq(body, ";") {
		name, value, _ := strings.Cut(d, ":")
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "width", "height", "max-width", "max-height", "inline-size", "block-size", "max-inline-size", "max-block-size",
			"display", "visibility", "content-visibility", "opacity", "filter", "transform", "clip", "clip-path",
			"overflow", "overflow-x", "overflow-y", "position", "left", "right", "top":
		default:
			continue
		}
		v := cssValue{value: strings.TrimSpace(strings.ToLower(value))}
		if s, ok := strings.CutSuffix(v.value, "important"); ok {
			v.value, v.important = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "!")), true
		}
		if out == nil {
			out = map[string]cssValue{}
		}
		out[name] = v
	}
	return out
}

// hidingValue reports whether a value can only hide.
func hidingValue(name, value string) bool {
	switch name {
	case "display":
		return value == "none"
	case "visibility", "content-visibility", "overflow", "overflow-x", "overflow-y":
		return value == "hidden" || value == "collapse"
	case "opacity":
		f, err := strconv.ParseFloat(value, 64)
		return err == nil && f < 0.01
	}
	side, ok := cssSide(value)
	return ok && side >= 0 && side <= 3
}

// style is what the tag's own style says, with what the style elements say of its name (in lower case),
// classes and id. What they show on some screens does not count.
func (f *htmlFinder) style(tok *htmltoken.Token, name string) string {
	style, _ := f.attr(tok, "style")
	if len(f.sheet.styles) == 0 {
		return style
	}
	var before, after strings.Builder
	varies := false
	note := func(key string) {
		st := f.sheet.styles[key]
		if st == nil || varies || before.Len() > 1000 {
			return
		}
		varies = st.varies
		for name, v := range st.base {
			before.WriteString(name + ":" + v + ";")
		}
		for name, v := range st.important {
			after.WriteString(";" + name + ":" + v + " !important")
		}
	}
	note(name)
	for _, by := range []struct{ attr, mark string }{{"class", "."}, {"id", "#"}} {
		v, _ := f.attr(tok, by.attr)
		for word := range strings.FieldsSeq(v) {
			note(by.mark + word)
			note(name + by.mark + word)
		}
	}
	if varies || before.Len()+after.Len() == 0 {
		return style
	}
	return before.String() + style + after.String()
}

// shownAgain reports whether a style element shows what the tag's own style hides, as responsive mail does
// for telephones.
func (f *htmlFinder) shownAgain(tok *htmltoken.Token) bool {
	if len(f.sheet.revealed) == 0 {
		return false
	}
	for _, name := range []string{"class", "id"} {
		v, _ := f.attr(tok, name)
		for c := range strings.FieldsSeq(v) {
			if f.sheet.revealed[c] {
				return true
			}
		}
	}
	return false
}
