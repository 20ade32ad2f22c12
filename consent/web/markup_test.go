package web

import (
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func elements(root *html.Node, name string) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) {
		for n := range root.Descendants() {
			if n.Type == html.ElementNode && n.Data == name && !yield(n) {
				return
			}
		}
	}
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func innerText(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// checkMarkup checks what holds for every page: its language, one heading that is its title, no
// script and nothing from elsewhere, the very style that the policy allows, and a name for
// everything that can be pressed or chosen.
func checkMarkup(t *testing.T, what, body, policy, lang string) {
	t.Helper()
	if !strings.HasPrefix(body, "<!DOCTYPE html>") {
		t.Errorf("%s: no doctype", what)
	}
	root := parse(t, body)
	one := func(name string) *html.Node {
		var found []*html.Node
		for n := range elements(root, name) {
			found = append(found, n)
		}
		if len(found) != 1 {
			t.Fatalf("%s: %d elements %s", what, len(found), name)
		}
		return found[0]
	}
	if got, _ := attr(one("html"), "lang"); got != lang {
		t.Errorf("%s: lang=%q", what, got)
	}
	if title, h1 := innerText(one("title")), innerText(one("h1")); h1 == "" || title != h1 && !strings.HasSuffix(title, " – "+h1) {
		t.Errorf("%s: title %q, heading %q", what, title, h1)
	}
	one("main")
	sum := sha256.Sum256([]byte(one("style").FirstChild.Data))
	if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, "'sha256-"+hash+"'") {
		t.Errorf("%s: the policy does not allow the style of the page", what)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "link", "iframe", "object", "embed", "base", "a":
			t.Errorf("%s: there is a %s", what, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case n.Data == "img" && a.Key == "src" && strings.HasPrefix(a.Val, "data:image/"):
			case n.Data == "form" && a.Key == "action" && strings.HasPrefix(a.Val, "../"):
			case strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "href" || a.Key == "action" || a.Key == "autofocus":
				t.Errorf("%s: %s has %s=%q", what, n.Data, a.Key, a.Val)
			}
		}
	}
	for f := range elements(root, "form") {
		if m, _ := attr(f, "method"); m != "post" {
			t.Errorf("%s: a form with method %q", what, m)
		}
		buttons := 0
		for b := range elements(f, "button") {
			if buttons++; innerText(b) == "" {
				t.Errorf("%s: a button without a name", what)
			}
		}
		if buttons != 1 {
			t.Errorf("%s: a form with %d buttons", what, buttons)
		}
	}
	for n := range elements(root, "input") {
		if kind, _ := attr(n, "type"); kind == "hidden" {
			continue
		}
		if n.Parent.Data != "label" || innerText(n.Parent) == "" {
			t.Errorf("%s: an input without a label", what)
		}
	}
	for f := range elements(root, "fieldset") {
		if f.FirstChild == nil || f.FirstChild.Data != "legend" || innerText(f.FirstChild) == "" {
			t.Errorf("%s: a fieldset without a legend", what)
		}
	}
}

// undoForm returns the fields of the form beside the page's message, nil if there is no undo.
func undoForm(t *testing.T, body string) url.Values {
	t.Helper()
	for f := range elements(parse(t, body), "form") {
		fields := url.Values{}
		for n := range elements(f, "input") {
			name, _ := attr(n, "name")
			value, _ := attr(n, "value")
			fields.Set(name, value)
		}
		for b := range elements(f, "button") {
			if value, _ := attr(b, "value"); value == "undo" {
				fields.Set("do", value)
				return fields
			}
		}
	}
	return nil
}

// status returns the page's message about what was done.
func status(t *testing.T, body string) string {
	t.Helper()
	for p := range elements(parse(t, body), "p") {
		if role, _ := attr(p, "role"); role == "status" {
			return innerText(p)
		}
	}
	return ""
}

func eachField(tx text, f func(name, value string)) {
	v := reflect.ValueOf(tx)
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.String {
			f(v.Type().Field(i).Name, v.Field(i).String())
		}
	}
}
