package demo

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/emersion/go-message"
	"golang.org/x/net/html"
)

// view is what a mail program finds in a message. It is read with go-message and
// x/net/html, and shares no code with package rewrite.
type view struct {
	subject string
	fields  []field
	text    string  // the text/plain alternative, decoded
	html    string  // the text/html alternative, decoded
	files   []file  // every other part
	seen    []sight // all addresses: those of the text, then those of the HTML
}

// field is a header field of the message.
type field struct {
	name string
	body string // as it stands there, folding included
}

// file is a part that is neither of the two alternatives.
type file struct {
	kind, id string // "image/png", the Content-ID without its angle brackets
	data     []byte
}

// sight is an address and where it stands.
type sight struct {
	where string // "text", "img src", "a href", "v:roundrect href in a comment" …
	url   string // as a reader has it, entities resolved
}

// look reads a message with CRLF line ends.
func look(raw []byte) (*view, error) {
	m, err := message.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	v := &view{}
	for fields := m.Header.Fields(); fields.Next(); {
		line, err := fields.Raw()
		if err != nil {
			return nil, err
		}
		name, body, _ := strings.Cut(strings.TrimSuffix(string(line), "\r\n"), ":")
		v.fields = append(v.fields, field{name, body})
	}
	if v.subject, err = m.Header.Text("Subject"); err != nil {
		return nil, fmt.Errorf("the subject: %w", err)
	}
	if err := m.Walk(v.part); err != nil {
		return nil, err
	}
	seen, err := htmlSights(v.html)
	v.seen = append(textSights(v.text), seen...)
	return v, err
}

// part reads one MIME part; those inside of it follow.
func (v *view) part(_ []int, e *message.Entity, err error) error {
	if err != nil {
		return err
	}
	kind, _, err := e.Header.ContentType()
	if err != nil {
		return fmt.Errorf("Content-Type: %w", err)
	}
	if e.MultipartReader() != nil {
		return nil
	}
	data, err := io.ReadAll(e.Body) // decoded, and text in UTF-8
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	isText := e.Header.Get("Content-Disposition") == ""
	switch {
	case isText && kind == "text/plain":
		v.text += string(data)
	case isText && kind == "text/html":
		v.html += string(data)
	default:
		v.files = append(v.files, file{kind, strings.Trim(e.Header.Get("Content-Id"), "<>"), data})
	}
	return nil
}

// all returns the bodies of the fields of that name, unfolded and trimmed.
func (v *view) all(name string) []string {
	var bodies []string
	for _, f := range v.fields {
		if strings.EqualFold(f.name, name) {
			bodies = append(bodies, strings.TrimSpace(strings.ReplaceAll(f.body, "\r\n", "")))
		}
	}
	return bodies
}

// textURL finds what mail programs make a link of.
var textURL = regexp.MustCompile(`(?i)\bhttps?://[^\s<>"]+`)

func textSights(text string) []sight {
	var seen []sight
	for _, url := range textURL.FindAllString(text, -1) {
		seen = append(seen, sight{"text", url})
	}
	return seen
}

// address begins like something that a click or a fetch goes to.
var address = regexp.MustCompile(`(?i)^\s*(https?:|//|cid:|mailto:|tel:|ftp:)`)

// cssURL finds what a style fetches.
var cssURL = regexp.MustCompile(`(?i)url\(\s*["']?([^"')]*)["']?\s*\)|@import\s+["']([^"']*)["']`)

// htmlSights returns the addresses in all attributes, styles and Outlook's conditional comments,
// in the order of the document.
func htmlSights(doc string) (seen []sight, err error) {
	root, err := html.Parse(strings.NewReader(doc))
	if err != nil {
		return nil, fmt.Errorf("HTML: %w", err)
	}
	var walk func(n *html.Node, suffix string) error
	style := func(where, css string) {
		for _, m := range cssURL.FindAllStringSubmatch(css, -1) {
			seen = append(seen, sight{where, m[1] + m[2]})
		}
	}
	walk = func(n *html.Node, suffix string) error {
		switch n.Type {
		case html.ElementNode:
			for _, a := range n.Attr {
				name := a.Key
				if a.Namespace != "" {
					name = a.Namespace + ":" + a.Key
				}
				switch {
				case strings.HasPrefix(name, "xmlns"):
				case name == "style":
					style(n.Data+" style"+suffix, a.Val)
				case name == "srcset":
					for candidate := range strings.SplitSeq(a.Val, ",") {
						if f := strings.Fields(candidate); len(f) > 0 {
							seen = append(seen, sight{n.Data + " srcset" + suffix, f[0]})
						}
					}
				case address.MatchString(a.Val):
					seen = append(seen, sight{n.Data + " " + name + suffix, a.Val})
				}
			}
		case html.TextNode:
			if n.Parent != nil && n.Parent.Data == "style" {
				style("style"+suffix, n.Data)
			}
		case html.CommentNode:
			// Outlook reads <!--[if …]>…<![endif]--> as markup.
			_, inside, ok := strings.Cut(n.Data, "]>")
			if !ok || !strings.HasPrefix(strings.TrimSpace(n.Data), "[if") || suffix != "" {
				return nil
			}
			inner, err := html.Parse(strings.NewReader(inside))
			if err != nil {
				return fmt.Errorf("HTML in a comment: %w", err)
			}
			return walk(inner, " in a comment")
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			if err := walk(c, suffix); err != nil {
				return err
			}
		}
		return nil
	}
	err = walk(root, "")
	return seen, err
}
