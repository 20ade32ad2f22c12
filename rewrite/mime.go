package rewrite

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

const (
	maxParts = 1000
	maxDepth = 20
	// maxText bounds a text part that is read into memory, in encoded bytes.
	maxText = 16 << 20
)

// part is a node of the span tree: a body part of RFC 2046, or the message itself.
type part struct {
	header
	number      string // as IMAP numbers it (RFC 9051 §6.4.5.1); "" for a multipart message itself
	typ         mediaType
	disposition mediaType
	encoding    string // Content-Transfer-Encoding, lower-cased
	content     span   // the body, without the line end that belongs to the delimiter behind it
	whole       span   // from the delimiter before it to the one behind it; empty at the top
	glued       bool   // there is no line end between the blank line and the delimiter behind it
	doubtful    bool   // some readers may show it as HTML, though it is not said to be
	parent      *part
	children    []*part
}

// attached reports whether a reader shows p as an attachment and not in the text. The bodies that a
// reader has to choose from are shown whatever they say, and HTML that the message consists of.
func (p *part) attached() bool {
	switch {
	case p.disposition.value != "attachment":
		return false
	case p.parent == nil:
		form, ok := formOf(p.shownAs())
		return !ok || form != htmlForm
	}
	return p.parent.typ.value != "multipart/alternative"
}

// filename is the name that a reader gives to p, in lower case.
func (p *part) filename() string {
	if name := p.disposition.params["filename"]; name != "" {
		return strings.ToLower(name)
	}
	return strings.ToLower(p.typ.params["name"])
}

// parser reads the span tree in one pass.
type parser struct {
	w          *window
	boundaries []string // of the multiparts that we are in, outermost first
	parts      int
	unreadable string // why some part could not be taken apart; "" if all could
}

// delimiter is a boundary delimiter line (RFC 2046 §5.1.1).
type delimiter struct {
	span
	level int // index into boundaries
	close bool
}

// entity reads the entity at pos and returns the delimiter that ended it. parent is nil at the
// top.
func (p *parser) entity(pos int64, parent *part, number string) (*part, delimiter, bool) {
	p.parts++
	e := &part{header: p.readHeader(pos, parent == nil), parent: parent, number: number}
	p.fill(&e.header)
	if e.tooLong {
		p.unreadable = "a part's header is too long"
	}
	p.describe(e)
	e.content.start = e.body

	if !strings.HasPrefix(e.typ.value, "multipart/") {
		d, ok := p.leaf(e)
		return e, d, ok
	}
	boundary := strings.TrimRight(e.typ.params["boundary"], " \t")
	if boundary == "" {
		boundary = p.guessBoundary(e.body)
	}
	if boundary == "" {
		e.typ, e.doubtful = mediaType{value: "text/plain"}, true // what readers make of it
		d, ok := p.leaf(e)
		return e, d, ok
	}
	if len(p.boundaries) >= maxDepth {
		p.unreadable = "parts are nested too deep"
		d, ok := p.leaf(e)
		return e, d, ok
	}
	p.boundaries = append(p.boundaries, boundary)
	level := len(p.boundaries) - 1
	d, ok := p.next(e.body)
	if !ok || d.level != level { // the boundary is another one, or nowhere
		if boundary = p.guessBoundary(e.body); boundary != "" {
			p.boundaries[level] = boundary
			d, ok = p.next(e.body)
		}
	}
	for ok && d.level == level && !d.close {
		if p.parts >= maxParts {
			p.unreadable = "too many parts"
			d, ok = p.skipTo(d.end, level)
			break
		}
		begin := d.start
		child := strconv.Itoa(len(e.children) + 1)
		if number != "" {
			child = number + "." + child
		}
		var c *part
		c, d, ok = p.entity(d.end, e, child)
		c.whole = span{begin, p.w.size}
		if ok {
			c.whole.end = d.start
		}
		e.children = append(e.children, c)
		if ok && d.level == level && d.close && !slices.Contains(p.boundaries[:level], boundary) {
			if again, more := p.next(d.end); more && again.level == level && !again.close {
				d = again // some readers go on behind the end
			}
		}
	}
	p.boundaries = p.boundaries[:level]
	if len(e.children) == 0 {
		if ok && d.level == level {
			d, ok = p.next(d.end)
		}
		e.typ, e.doubtful = mediaType{value: "text/plain"}, true
		p.finish(e, d, ok)
		return e, d, ok
	}
	if ok && d.level == level { // behind the close delimiter is the epilogue
		d, ok = p.next(d.end)
	}
	e.content.end = p.before(d, ok)
	return e, d, ok
}

// describe fills in what the Content fields say. Where a field is there twice and says two things,
// one reader goes by the first and another by the last: the one that can do more counts.
func (p *parser) describe(e *part) {
	ct := "text/plain"
	if e.parent != nil && e.parent.typ.value == "multipart/digest" { // RFC 2046 §5.1.5
		ct = "message/rfc822"
	}
	e.typ = parseMediaType(ct)
	types, encodings := 0, 0
	for i := range e.fields {
		f := &e.fields[i]
		switch {
		case strings.EqualFold(f.name, "Content-Type") && f.body != "":
			typ := parseMediaType(f.body)
			before, after := danger(e.typ.value), danger(typ.value)
			if types++; types > 1 && before > 0 && after > 0 && (typ.value != e.typ.value || typ.params["boundary"] != e.typ.params["boundary"]) {
				p.unreadable = "a part has two Content-Type fields that differ"
			}
			if types == 1 || after > before {
				e.typ = typ
			}
			if typ.twice {
				p.unreadable = "a Content-Type has two boundaries or character sets"
			}
		case strings.EqualFold(f.name, "Content-Transfer-Encoding"):
			encoding := strings.ToLower(f.body)
			if strings.IndexByte(encoding, '(') >= 0 {
				encoding = withoutSpace(encoding)
			}
			if i := strings.IndexAny(encoding, " \t;("); i >= 0 {
				encoding = encoding[:i]
			}
			if encodings++; encodings == 1 {
				e.encoding = encoding
			} else if parseTransfer(encoding) != parseTransfer(e.encoding) {
				p.unreadable = "a part has two Content-Transfer-Encoding fields that differ"
			}
		}
	}
	for i := range e.fields {
		if f := &e.fields[i]; strings.EqualFold(f.name, "Content-Disposition") {
			if d := parseMediaType(f.body); e.disposition.value == "" || d.value != "attachment" {
				e.disposition = d
			}
		}
	}
	if typ, subtype, _ := strings.Cut(e.typ.value, "/"); (typ == "" || subtype == "") && !strings.Contains(typ, "html") { // RFC 2045 §5.2
		e.typ.value, e.doubtful = "text/plain", true
	}
	if len(e.fields) == 0 && e.parent != nil { // " Content-Type: …" as the first line is a field for some
		first := p.w.at(e.body, 1)
		e.doubtful = len(first) == 1 && (first[0] == ' ' || first[0] == '\t')
	}
}

// danger says how much a reader may make of a type.
func danger(typ string) int {
	switch {
	case strings.HasPrefix(typ, "multipart/"):
		return 2
	case strings.Contains(typ, "html"):
		return 1
	}
	return 0
}

// leaf finds the end of an entity without parts.
func (p *parser) leaf(e *part) (delimiter, bool) {
	d, ok := p.next(e.body)
	p.finish(e, d, ok)
	return d, ok
}

// finish notes that the content of an entity without parts ends before d.
func (p *parser) finish(e *part, d delimiter, ok bool) {
	e.content.end = p.before(d, ok)
	if e.content.end < e.content.start {
		e.content.end, e.glued = e.content.start, true
	}
}

// before returns where the content before d ends: the line end before a delimiter is part of
// it.
func (p *parser) before(d delimiter, ok bool) int64 {
	if !ok {
		return p.w.size
	}
	end := d.start
	if b := p.w.at(max(0, end-2), int(min(2, end))); len(b) > 0 && b[len(b)-1] == '\n' {
		end--
		if len(b) == 2 && b[0] == '\r' {
			end--
		}
	}
	return end
}

// skipTo passes over all that is inside boundaries[level].
func (p *parser) skipTo(pos int64, level int) (delimiter, bool) {
	for {
		d, ok := p.next(pos)
		if !ok || d.level < level || d.close {
			return d, ok
		}
		pos = d.end
	}
}

// next finds the first delimiter line at or behind pos, which is at the begin of a line.
func (p *parser) next(pos int64) (delimiter, bool) {
	if len(p.boundaries) == 0 {
		return delimiter{}, false
	}
	if b := p.w.at(pos, 2); len(b) == 2 && b[0] == '-' && b[1] == '-' {
		if d, ok := p.delimiterAt(pos); ok {
			return d, true
		}
	}
	for {
		buf := p.w.more(pos, 3)
		i := bytes.Index(buf, []byte("\n--"))
		if i < 0 {
			if pos+int64(len(buf)) >= p.w.size || len(buf) < 3 {
				return delimiter{}, false
			}
			pos += int64(len(buf) - 2)
			continue
		}
		pos += int64(i + 1)
		if d, ok := p.delimiterAt(pos); ok {
			return d, true
		}
	}
}

// delimiterAt looks whether the line at pos is a delimiter, of the innermost multipart first.
func (p *parser) delimiterAt(pos int64) (delimiter, bool) {
	longest := 0
	for _, b := range p.boundaries {
		longest = max(longest, len(b))
	}
	buf := p.w.at(pos, longest+512)
	n := lineLen(buf)
	level, end := p.match(trimEOL(buf[:n]))
	if level < 0 {
		return delimiter{}, false
	}
	if n == longest+512 && buf[n-1] != '\n' {
		p.unreadable = "the line of a delimiter is too long"
		return delimiter{}, false
	}
	return delimiter{span{pos, pos + int64(n)}, level, end}, true
}

func (p *parser) isDelimiter(line []byte) bool {
	if len(p.boundaries) == 0 || !bytes.HasPrefix(line, []byte("--")) {
		return false
	}
	level, _ := p.match(line)
	return level >= 0
}

// match compares a line with the open boundaries: "--", the boundary, "--" where it closes,
// then nothing but white space (RFC 2046 §5.1.1), so that "b-inner" is no delimiter of "b".
func (p *parser) match(line []byte) (level int, end bool) {
	for i := len(p.boundaries) - 1; i >= 0; i-- {
		b := p.boundaries[i]
		if len(line) < len(b)+2 || string(line[2:2+len(b)]) != b {
			continue
		}
		rest := bytes.TrimRight(line[2+len(b):], " \t")
		if len(rest) == 0 {
			return i, false
		}
		if string(rest) == "--" {
			return i, true
		}
	}
	return -1, false
}

// guessBoundary finds the boundary of a multipart that names none, as lenient readers do: its
// first line with two hyphens, if the same line comes again.
func (p *parser) guessBoundary(pos int64) string {
	buf := p.w.at(pos, 64<<10)
	if !bytes.HasPrefix(buf, []byte("--")) {
		i := bytes.Index(buf, []byte("\n--"))
		if i < 0 {
			return ""
		}
		buf = buf[i+1:]
	}
	n := lineLen(buf)
	line := bytes.TrimRight(trimEOL(buf[:n]), " \t")
	if len(line) < 3 || p.isDelimiter(line) {
		return ""
	}
	again := append([]byte("\n"), line...)
	for rest := buf[n-1:]; ; {
		i := bytes.Index(rest, again)
		if i < 0 {
			return ""
		}
		rest = rest[i+len(again):]
		// "--a-b" is no second "--a": nothing would end there, and what is taken for a text would hold it.
		if end := bytes.TrimRight(trimEOL(rest[:lineLen(rest)]), " \t"); len(end) == 0 || string(end) == "--" {
			return string(line[2:])
		}
	}
}
