package trackers

import (
	"fmt"
	"strconv"
	"strings"
)

// A pattern matches one path segment, or the name or value of one query parameter. It is
// compared with the text after percent-decoding, upper and lower case being different:
//
//	abc          itself
//	*            any text, also none; a whole segment of "*" is not empty, though
//	{num}        one or more digits
//	{hex 25}     25 hexadecimal digits; {hex 20+} 20 or more; {hex 8-12} 8 to 12
//	{alnum} {upper} {b64}   letters and digits; capitals and digits; what base64 consists of
//	{id 12+}     letters, digits, - and _, and not a word: letters and digits mixed, or
//	             capitals within
//	{uuid}       8-4-4-4-12 hexadecimal digits
//
// No class stands behind a "*": so matching takes linear time.
type pattern []op

type op struct {
	lit      string // a literal, where class is nil and !star
	star     bool
	class    *class
	min, max int
}

type class struct {
	has [256]bool
	id  bool // the run must not be a word
}

var classes = map[string]*class{
	"num":   newClass(isDigit, false),
	"hex":   newClass(func(c byte) bool { return unhex(c) < 16 }, false),
	"alnum": newClass(isAlnum, false),
	"upper": newClass(func(c byte) bool { return isDigit(c) || 'A' <= c && c <= 'Z' }, false),
	"b64":   newClass(func(c byte) bool { return isAlnum(c) || strings.IndexByte("-_+/=", c) >= 0 }, false),
	"id":    newClass(func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }, true),
}

func newClass(has func(c byte) bool, id bool) *class {
	k := &class{id: id}
	for c := range k.has {
		k.has[c] = has(byte(c))
	}
	return k
}

func isDigit(c byte) bool { return c-'0' < 10 }
func isAlnum(c byte) bool { return isDigit(c) || lower(c)-'a' < 26 }

const unbounded = 1 << 30

func parsePattern(s string) (pattern, error) {
	p := pattern{}
	starred := false
	for rest := s; rest != ""; {
		i := strings.IndexAny(rest, "*{")
		if i < 0 {
			i = len(rest)
		}
		if i > 0 {
			p = append(p, op{lit: rest[:i]})
			rest = rest[i:]
			continue
		}
		if rest[0] == '*' {
			starred = true
			p = append(p, op{star: true})
			rest = strings.TrimLeft(rest, "*")
			continue
		}
		body, after, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return nil, fmt.Errorf("pattern %q: no } behind {", s)
		}
		if starred {
			return nil, fmt.Errorf("pattern %q: {%s} stands behind a *", s, body)
		}
		ops, err := parseClass(body)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", s, err)
		}
		p, rest = append(p, ops...), after
	}
	return p, nil
}

func parseClass(body string) ([]op, error) {
	name, count, counted := strings.Cut(body, " ")
	if name == "uuid" && !counted {
		var ops []op
		for i, n := range []int{8, 4, 4, 4, 12} {
			if i > 0 {
				ops = append(ops, op{lit: "-"})
			}
			ops = append(ops, op{class: classes["hex"], min: n, max: n})
		}
		return ops, nil
	}
	c := classes[name]
	if c == nil {
		return nil, fmt.Errorf("{%s}: known are num, hex, alnum, upper, b64, id and uuid", body)
	}
	o := op{class: c, min: 1, max: unbounded}
	if counted {
		low, high, ranged := strings.Cut(count, "-")
		low, open := strings.CutSuffix(low, "+")
		var err1, err2 error
		o.min, err1 = strconv.Atoi(low)
		switch {
		case ranged:
			o.max, err2 = strconv.Atoi(high)
		case !open:
			o.max = o.min
		}
		if err1 != nil || err2 != nil || o.min < 1 || o.max < o.min || open && ranged {
			return nil, fmt.Errorf("{%s}: a count is 25, 20+ or 8-12", body)
		}
	}
	return []op{o}, nil
}

// literal returns the text that p stands for, if it has no wildcard.
func (p pattern) literal() (string, bool) {
	switch {
	case len(p) == 0:
		return "", true
	case len(p) == 1 && p[0].class == nil && !p[0].star:
		return p[0].lit, true
	}
	return "", false
}

func (p pattern) match(s string) bool {
	for i := range p {
		o := &p[i]
		switch {
		case o.star:
			return matchStarred(p[i+1:], s)
		case o.class != nil:
			n, ok := o.run(s)
			if !ok {
				return false
			}
			s = s[n:]
		default:
			n, ok := cutLiteral(s, o.lit)
			if !ok {
				return false
			}
			s = s[n:]
		}
	}
	return s == ""
}

// matchStarred matches what follows a "*": literals and further stars. Each literal is taken
// where it first occurs, the last one at the end, which is enough for a glob.
func matchStarred(p pattern, s string) bool {
	if len(p) == 0 {
		return true
	}
	s = unescape(s, false)
	for i, o := range p {
		if o.star {
			continue
		}
		if i == len(p)-1 {
			return strings.HasSuffix(s, o.lit)
		}
		at := strings.Index(s, o.lit)
		if at < 0 {
			return false
		}
		s = s[at+len(o.lit):]
	}
	return true
}

// run returns how many bytes at the start of s the class takes: as many as it can.
func (o *op) run(s string) (int, bool) {
	i, n := 0, 0
	letters, numbers, inner, last := false, false, false, byte(0)
	for i < len(s) && n < o.max {
		if !o.class.id || letters && numbers || inner { // nothing more is asked of it: bytes that stand for themselves, at a run
			from, most := i, min(len(s), i+o.max-n)
			for i < most && o.class.has[s[i]] { // no class has '%'
				i++
			}
			if n += i - from; i == most {
				break
			}
		}
		c, w := decodedByte(s, i)
		if !o.class.has[c] {
			break
		}
		if o.class.id {
			letters = letters || lower(c)-'a' < 26
			numbers = numbers || isDigit(c)
			inner = inner || 'A' <= c && c <= 'Z' && 'a' <= last && last <= 'z'
			last = c
		}
		i += w
		n++
	}
	return i, n >= o.min && (!o.class.id || letters && numbers || inner)
}

// cutLiteral returns how many bytes of s spell the literal, percent-encoded or not.
func cutLiteral(s, lit string) (int, bool) {
	if strings.HasPrefix(s, lit) {
		return len(lit), true
	}
	i := 0
	for j := range len(lit) {
		if i >= len(s) {
			return 0, false
		}
		c, w := decodedByte(s, i)
		if c != lit[j] {
			return 0, false
		}
		i += w
	}
	return i, true
}

// A pathPattern is a path of patterns, "/a/*/b", and perhaps "/**" at the end for any rest.
type pathPattern struct {
	segs []pattern
	rest bool
}

func parsePath(s string) (pathPattern, error) {
	var p pathPattern
	t, ok := strings.CutPrefix(s, "/")
	if !ok {
		return p, fmt.Errorf("path %q does not begin with /", s)
	}
	if t == "**" {
		p.rest = true
		return p, nil
	}
	t, p.rest = strings.CutSuffix(t, "/**")
	for seg := range strings.SplitSeq(t, "/") {
		if strings.Contains(seg, "**") {
			return p, fmt.Errorf("path %q: ** stands only at the end, as /**", s)
		}
		pat, err := parsePattern(seg)
		if err != nil {
			return p, err
		}
		p.segs = append(p.segs, pat)
	}
	return p, nil
}

// match compares a path. One slash at the end makes no difference, and an empty path is "/".
func (p pathPattern) match(path string) bool {
	if path != "" {
		path = path[1:]
	}
	more := true // there is a segment left in path, perhaps an empty one
	for i := range p.segs {
		if !more {
			return false
		}
		seg := path
		if j := strings.IndexByte(path, '/'); j >= 0 {
			seg, path = path[:j], path[j+1:]
		} else {
			more, path = false, ""
		}
		if seg == "" && len(p.segs[i]) > 0 || !p.segs[i].match(seg) {
			return false
		}
	}
	return p.rest || !more || path == ""
}
