// Package others holds our code against test vectors of other projects, which run.sh fetches.
package others

import (
	"bytes"
	"encoding/base64"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite/canonical"
)

// TestBodyHashes computes the body hash of each signature of the vectors, RFC 6376 §3.7, and compares it with
// the one that the other project's signer wrote.
func TestBodyHashes(t *testing.T) {
	vectors := messages(t)
	checked := 0
	for name, text := range vectors {
		header, body, ok := strings.Cut(text, "\r\n\r\n")
		if !ok {
			continue
		}
		for i, field := range fields(header) {
			value, is := strings.CutPrefix(field, "DKIM-Signature:")
			tags := tagList(value)
			if !is || !strings.HasSuffix(tags["a"], "-sha256") || tags["bh"] == "" {
				continue
			}
			want, err := base64.StdEncoding.DecodeString(tags["bh"])
			if err != nil {
				continue
			}
			limit := int64(-1)
			if l, err := strconv.ParseInt(tags["l"], 10, 64); err == nil {
				limit = l
			}
			_, how, _ := strings.Cut(tags["c"], "/")
			h := canonical.NewBody(how == "relaxed", limit)
			h.Write([]byte(body))
			got, _ := h.Sum()
			checked++
			if !bytes.Equal(got, want) {
				t.Errorf("%s, field %d: the body hash is %x, the signature says %x", name, i, got, want)
			}
		}
	}
	if checked == 0 {
		t.Fatal("no signature was checked")
	}
	t.Logf("%d body hashes of %d messages", checked, len(vectors))
}

// messages reads the vectors: files with a message, and Go files with messages as constants.
func messages(t *testing.T) map[string]string {
	dir := os.Getenv("DKIM_VECTORS")
	if dir == "" {
		t.Skip("no vectors: DKIM_VECTORS names no folder; make others fetches some")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Skipf("no vectors in %s", dir)
	}
	crlf := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
	}
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if filepath.Ext(file) != ".go" {
			all[name] = crlf(string(text))
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if value, ok := join(spec.Values[0]); ok && strings.Contains(value, "DKIM-Signature:") {
				all[name+":"+spec.Names[0].Name] = crlf(value)
			}
			return true
		})
	}
	return all
}

// join is the value of string literals with "+" between them.
func join(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		left, ok := join(e.X)
		right, also := join(e.Y)
		return left + right, ok && also
	}
	return "", false
}

var fold = regexp.MustCompile(`\r\n([ \t])`)

func fields(header string) []string {
	return strings.Split(fold.ReplaceAllString(header, "$1"), "\r\n")
}

var space = regexp.MustCompile(`\s+`)

// tagList reads a tag list of RFC 6376 §3.2, without white space.
func tagList(s string) map[string]string {
	tags := map[string]string{}
	for tag := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(name)] = space.ReplaceAllString(value, "")
	}
	return tags
}
