package htmltoken

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	xhtml "golang.org/x/net/html"
)

// The tests here hold the notion of foreign content against a whole tree builder, the one of x/net. Probes
// in the input are markup in one of the two and text in the other:
//
//	<style><x id=1></x></style>      an element x where style is not raw text: in foreign content
//	<![CDATA[><x id=2></x>]]>        an element x where there is no CDATA: in HTML
//
// Both must see the same elements x.
func probesInTree(t testing.TB, src string) string {
	t.Helper()
	doc, err := xhtml.ParseWithOptions(strings.NewReader(src), xhtml.ParseOptionEnableScripting(false))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for n := range doc.Descendants() {
		if n.Type == xhtml.ElementNode && n.Data == "x" && len(n.Attr) > 0 {
			ids = append(ids, n.Attr[0].Val)
		}
	}
	slices.Sort(ids) // foster parenting changes the order in the tree
	return strings.Join(ids, " ")
}

func probesInTokens(src string) string {
	b := []byte(src)
	z := New(b)
	var ids []string
	var tok Token
	for z.Next(&tok) {
		if tok.Kind == StartTag && tok.Is(b, "x") {
			if a, ok := tok.Attr(b, "id"); ok {
				ids = append(ids, string(b[a.ValueStart:a.ValueEnd]))
			}
		}
	}
	slices.Sort(ids) // foster parenting changes the order in the tree
	return strings.Join(ids, " ")
}

func probe(r *rand.Rand, id *int) string {
	*id++
	switch r.IntN(4) {
	case 0:
		return fmt.Sprintf("<![CDATA[><x id=%d></x>]]>", *id)
	case 1:
		return fmt.Sprintf("<title><x id=%d></x></title>", *id)
	default:
		return fmt.Sprintf("<style><x id=%d></x></style>", *id)
	}
}

// wellFormed writes a tree whose tags all match, of HTML, svg and math within one another.
func wellFormed(b *strings.Builder, r *rand.Rand, in string, depth int, id *int) {
	var names []string
	switch in {
	case "svg":
		names = []string{"g", "a", "path", "foreignObject", "desc", "title", "svg", "text", "font", "style"}
	case "math":
		names = []string{"mi", "mrow", "mtext", "annotation-xml", "annotation-xml encoding=TEXT/html", "semantics"}
	default:
		names = []string{"div", "section", "article", "svg", "math", "svg", "math", "blockquote"}
	}
	for range r.IntN(4) {
		if r.IntN(2) == 0 || depth > 6 {
			b.WriteString(probe(r, id))
			continue
		}
		tag := names[r.IntN(len(names))]
		name, _, _ := strings.Cut(tag, " ")
		if in != "html" && r.IntN(5) == 0 {
			fmt.Fprintf(b, "<%s/>", tag)
			continue
		}
		inside := in
		switch {
		case in == "svg" && (name == "foreignObject" || name == "desc" || name == "title"),
			in == "math" && (name == "mi" || name == "mtext" || strings.Contains(tag, " ")):
			inside = "html"
		case name == "svg" || name == "math":
			inside = name
		}
		fmt.Fprintf(b, "<%s>", tag)
		wellFormed(b, r, inside, depth+1, id)
		fmt.Fprintf(b, "</%s>", name)
	}
}

// TestForeignWellFormed allows no difference: this is where the package claims to know.
func TestForeignWellFormed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	foreign := 0
	for range 20000 {
		var b strings.Builder
		b.WriteString("<body>")
		id := 0
		wellFormed(&b, r, "html", 0, &id)
		src := b.String()
		want, got := probesInTree(t, src), probesInTokens(src)
		if want != got {
			t.Fatalf("%s\ntree   %s\ntokens %s", src, want, got)
		}
		if want != "" {
			foreign++
		}
	}
	if foreign < 1000 {
		t.Fatalf("only %d inputs show anything", foreign)
	}
}

// TestForeignBroken puts tags together at random. No tokenizer can follow a tree builder through all of that,
// so a few may differ.
func TestForeignBroken(t *testing.T) {
	vocabulary := strings.Fields(`<svg> <svg> <math> </svg> </math> <g> </g> <foreignObject> </foreignObject> <desc> </desc>
		<mi> </mi> <mtext> </mtext> <annotation-xml> </annotation-xml> <annotation-xml/encoding=text/html/> <mglyph>
		<div> </div> <p> </p> <span> </span> <b> </b> <br> </br> <img> <font> <font/color=red> </font> <table> <td> </td> </table> <tr> </tr>
		<a> </a> <ul> <li> </li> </ul> <svg/> <path/> <h1> </h1> </h2> <form> </form> </head> </body> <center> </center>`)
	r := rand.New(rand.NewPCG(3, 4))
	wrong := 0
	const n = 20000
	for range n {
		var b strings.Builder
		b.WriteString("<body>")
		id := 0
		for range 2 + r.IntN(30) {
			if r.IntN(3) == 0 {
				b.WriteString(probe(r, &id))
			} else {
				b.WriteString(vocabulary[r.IntN(len(vocabulary))])
			}
		}
		b.WriteString(probe(r, &id))
		src := b.String()
		if want, got := probesInTree(t, src), probesInTokens(src); want != got {
			wrong++
			if testing.Verbose() {
				t.Logf("%s\ntree   %s\ntokens %s", src, want, got)
			}
		}
	}
	// What is left are repairs that need the tree; the package comment names them.
	if wrong > n/1000 {
		t.Errorf("%d of %d differ", wrong, n)
	}
}
