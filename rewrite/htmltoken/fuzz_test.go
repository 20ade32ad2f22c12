package htmltoken

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	xhtml "golang.org/x/net/html"
)

// FuzzTokens holds the tokenizer against the one of golang.org/x/net/html. The two are told the same about
// foreign content and raw text, since x/net leaves both to its tree builder. Where x/net departs from the
// standard, or says less, compare makes them alike and says so.
func FuzzTokens(f *testing.F) {
	for _, tc := range tokenCases {
		f.Add([]byte(tc.in))
	}
	for _, tc := range foreignCases {
		f.Add([]byte(tc.in))
	}
	f.Add([]byte(newsletter(1)))
	f.Fuzz(func(t *testing.T, src []byte) {
		checkCover(t, src)
		if err := compare(src); err != nil {
			t.Fatalf("%q: %v", src, err)
		}
	})
}

// TestAgainstOracle runs what FuzzTokens runs on the mails at hand.
func TestAgainstOracle(t *testing.T) {
	inputs := map[string][]byte{"newsletter": []byte(newsletter(3))}
	if b, err := os.ReadFile(benchFile()); err == nil {
		inputs["news.html"] = b
	}
	for name, src := range inputs {
		checkCover(t, src)
		if err := compare(src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// Cut anywhere, so that every state meets the end of the input.
		for i := 0; i < len(src) && i < 6000; i++ {
			if err := compare(src[:i]); err != nil {
				t.Fatalf("%s cut at %d: %v", name, i, err)
			}
		}
	}
}

// TestCorpusAgainstOracle runs the same on templates that are not part of the project: those in the folders of
// ../shared/corpus/html, or beside the folder that MAIL_CORPUS names.
func TestCorpusAgainstOracle(t *testing.T) {
	dir := "../../../shared/corpus/html"
	if mails := os.Getenv("MAIL_CORPUS"); mails != "" {
		dir = filepath.Join(mails, "../html")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if len(files) == 0 {
		t.Skip("no corpus of templates beside the checkout (../shared/corpus/html), nor where MAIL_CORPUS says")
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		checkCover(t, src)
		if err := compare(src); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	t.Logf("%d templates", len(files))
}

// flat is a token in the form in which the two are compared.
type flat struct {
	kind       Kind
	start, end int
	name       string // of a tag
	data       string // of all but tags and texts, decoded as x/net does
	attrs      string // name=value, decoded
	selfClose  bool
}

// doubleEscaped is where x/net departs from §13.2.5.20 and the states behind it: a "<" shortly before
// the "<script" in an escaped script makes it miss that one. The tables test those states.
var doubleEscaped = regexp.MustCompile(`(?is)<script.*<!--.*<.*<script`)

func compare(src []byte) error {
	if doubleEscaped.Match(src) {
		return nil
	}
	// The oracle is stepped together with the tokenizer, since each step depends on the state of foreign
	// content. Both lists are compared at the end, with texts that touch made one.
	z := New(src)
	oracle := xhtml.NewTokenizer(bytes.NewReader(src))
	var mine, theirs []flat
	theirEnd := 0
	step := func(limit int) {
		for theirEnd < limit {
			before := theirEnd
			tt := oracle.Next()
			theirEnd += len(oracle.Raw())
			theirs = append(theirs, flatten(oracle, tt, src, before, theirEnd))
			if tt == xhtml.ErrorToken {
				return
			}
		}
	}
	var tok Token
	for {
		foreign := z.open.foreign()
		oracle.AllowCDATA(foreign)
		if !z.Next(&tok) {
			break
		}
		mine = append(mine, mineFlat(&tok, src))
		step(tok.End)
		if tok.Kind == StartTag && z.raw == "" {
			// x/net takes noscript for raw text, as with scripts, and knows no foreign content.
			oracle.NextIsNotRawText()
		}
	}
	step(len(src))
	mine, theirs = join(mine), join(theirs)
	for i := 0; i < len(mine) || i < len(theirs); i++ {
		if i >= len(mine) || i >= len(theirs) || mine[i] != theirs[i] {
			return fmt.Errorf("token %d differs:\nmine   %+v\ntheirs %+v", i, at(mine, i), at(theirs, i))
		}
	}
	return nil
}

func at(list []flat, i int) any {
	if i < len(list) {
		return list[i]
	}
	return "none"
}

// join makes one of texts that touch: x/net gives "</" at the end of the input a token of its own.
func join(list []flat) []flat {
	var out []flat
	for _, f := range list {
		if n := len(out); n > 0 && f.kind == Text && out[n-1].kind == Text {
			out[n-1].end = f.end
			continue
		}
		out = append(out, f)
	}
	return out
}

// flatten turns the oracle's token into a flat one.
func flatten(z *xhtml.Tokenizer, tt xhtml.TokenType, src []byte, start, end int) flat {
	f := flat{start: start, end: end}
	raw := src[start:end]
	switch tt {
	case xhtml.ErrorToken:
		// A tag that the input ended inside of; x/net gives no more than its bytes, like a browser. What is
		// left of such a token is compared by its place.
		f.kind = StartTag
		if bytes.HasPrefix(raw, []byte("</")) {
			f.kind = EndTag
		}
		return f
	case xhtml.TextToken:
		f.kind = Text
		// x/net has no kind for CDATA. Only where it is allowed can a text begin like this.
		if bytes.HasPrefix(raw, []byte("<![CDATA[")) {
			f.kind = CDATA
			f.data = string(z.Text())
		}
	case xhtml.StartTagToken, xhtml.SelfClosingTagToken:
		f.kind = StartTag
		f.selfClose = tt == xhtml.SelfClosingTagToken
		name, more := z.TagName()
		f.name = string(name)
		var b strings.Builder
		for more {
			var k, v []byte
			k, v, more = z.TagAttr()
			fmt.Fprintf(&b, "%q=%q ", k, v)
		}
		f.attrs = b.String()
	case xhtml.EndTagToken:
		f.kind = EndTag
		name, _ := z.TagName()
		f.name = string(name)
	case xhtml.CommentToken:
		f.kind = Bogus
		if bytes.HasPrefix(raw, []byte("<!--")) {
			f.kind = Comment
		}
		f.data = string(z.Text())
	case xhtml.DoctypeToken:
		f.kind = Doctype
		f.data = strings.ReplaceAll(string(z.Text()), "\ufffd", "\x00")
	}
	return f
}

// mineFlat turns our token into a flat one, with what x/net does to the bytes done to them: letters of names
// lower, NUL made U+FFFD, CR and CRLF made LF, references decoded (in comments too, against the standard),
// and only the first attribute of a name.
func mineFlat(t *Token, src []byte) flat {
	f := flat{kind: t.Kind, start: t.Start, end: t.End}
	switch t.Kind {
	case StartTag, EndTag:
		if t.Unterminated {
			break
		}
		f.name = lowerName(src[t.NameStart:t.NameEnd])
		f.selfClose = t.SelfClosing
		seen := map[string]bool{}
		var b strings.Builder
		for _, a := range t.Attrs {
			name := lowerName(src[a.NameStart:a.NameEnd])
			if seen[name] {
				continue
			}
			seen[name] = true
			fmt.Fprintf(&b, "%q=%q ", name, decodedValue(src, a))
		}
		f.attrs = b.String()
		if n := len(t.Attrs); n > 0 {
			// x/net tells /> from a value that ends with / by the last attribute that it kept. Where the last
			// one is a duplicate, which it did not keep, it sees a /> that is none.
			last := t.Attrs[n-1]
			if last.HasValue && last.Quote == 0 && last.End == t.End-1 && src[last.End-1] == '/' && duplicate(t, src, n-1) {
				f.selfClose = true
			}
		}
	case Doctype:
		// x/net leaves out the space before, and leaves NUL as it is, against §13.2.5.55.
		f.data = decodedText(bytes.TrimLeft(src[t.DataStart:t.DataEnd], " \t\r\n\f"))
		f.data = strings.ReplaceAll(f.data, "\ufffd", "\x00")
	case Comment, Bogus, CDATA:
		f.data = decodedText(src[t.DataStart:t.DataEnd])
	}
	return f
}

func duplicate(t *Token, src []byte, n int) bool {
	name := lowerName(src[t.Attrs[n].NameStart:t.Attrs[n].NameEnd])
	for _, a := range t.Attrs[:n] {
		if lowerName(src[a.NameStart:a.NameEnd]) == name {
			return true
		}
	}
	return false
}

func lowerName(b []byte) string {
	b = bytes.ReplaceAll(b, []byte{0}, []byte("\ufffd"))
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = lowerCase(c)
	}
	return string(out)
}

// decodedText does what x/net does to the text of a comment.
func decodedText(b []byte) string {
	s := strings.ReplaceAll(string(b), "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	s = strings.ReplaceAll(s, "\x00", "\ufffd")
	return xhtml.UnescapeString(s)
}

// decodedValue gives the value as x/net decodes it, from nothing but the bytes that Attr points at.
func decodedValue(src []byte, a Attr) string {
	if !a.HasValue {
		return ""
	}
	q := ""
	if a.Quote != 0 {
		q = string(a.Quote)
	}
	z := xhtml.NewTokenizer(strings.NewReader("<a x=" + q + string(src[a.ValueStart:a.ValueEnd]) + q + " >"))
	z.Next()
	if _, more := z.TagName(); !more {
		return ""
	}
	_, v, _ := z.TagAttr()
	return string(v)
}

// checkCover holds the promises that need no oracle.
func checkCover(t testing.TB, src []byte) {
	t.Helper()
	before := bytes.Clone(src)
	z := New(src)
	var tok Token
	pos := 0
	for z.Next(&tok) {
		if tok.Start != pos || tok.End <= tok.Start || tok.End > len(src) {
			t.Fatalf("%q: token [%d,%d) behind %d", src, tok.Start, tok.End, pos)
		}
		if tok.Unterminated && tok.End != len(src) {
			t.Fatalf("%q: unterminated token ends at %d", src, tok.End)
		}
		checkInside(t, src, &tok)
		pos = tok.End
	}
	if pos != len(src) {
		t.Fatalf("%q: tokens end at %d of %d", src, pos, len(src))
	}
	if z.Next(&tok) {
		t.Fatalf("%q: a token behind the end", src)
	}
	if !bytes.Equal(src, before) {
		t.Fatalf("%q: input changed", before)
	}
}

// checkInside checks that the offsets of a token are in order and mean what they say.
func checkInside(t testing.TB, src []byte, tok *Token) {
	t.Helper()
	if tok.Kind != StartTag && tok.Kind != EndTag {
		if !(tok.Start <= tok.DataStart && tok.DataStart <= tok.DataEnd && tok.DataEnd <= tok.End) || tok.NameEnd != 0 || tok.Attrs != nil {
			t.Fatalf("%q: %+v", src, *tok)
		}
		return
	}
	if tok.NameStart >= tok.NameEnd || tok.NameEnd > tok.End || !isLetter(src[tok.NameStart]) || tok.DataEnd != 0 {
		t.Fatalf("%q: name of %+v", src, *tok)
	}
	if !tok.Unterminated && src[tok.End-1] != '>' {
		t.Fatalf("%q: %+v does not end with >", src, *tok)
	}
	end := tok.NameEnd
	for _, a := range tok.Attrs {
		ok := end <= a.NameStart && a.NameStart < a.NameEnd && a.NameEnd <= a.ValueStart &&
			a.ValueStart <= a.ValueEnd && a.ValueEnd <= a.End && a.End <= tok.End
		switch {
		case !ok:
		case !a.HasValue:
			ok = a.ValueStart == a.NameEnd && a.ValueEnd == a.NameEnd && a.End == a.NameEnd && a.Quote == 0
		case a.Quote != 0:
			ok = src[a.ValueStart-1] == a.Quote && bytes.IndexByte(src[a.ValueStart:a.ValueEnd], a.Quote) < 0
			closed := a.End == a.ValueEnd+1 && src[a.ValueEnd] == a.Quote
			ok = ok && (closed || tok.Unterminated && a.End == len(src) && a.ValueEnd == len(src))
		default:
			ok = a.End == a.ValueEnd && !bytes.ContainsAny(src[a.ValueStart:a.ValueEnd], " \t\r\n\f>")
		}
		if !ok {
			t.Fatalf("%q: attribute %+v of %+v", src, a, *tok)
		}
		end = a.End
	}
}
