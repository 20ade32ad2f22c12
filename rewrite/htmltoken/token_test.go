package htmltoken

import (
	"fmt"
	"strings"
	"testing"
)

var tokenCases = []struct{ in, want string }{
	{"", ""},
	{"a", "text(a)"},
}

var foreignCases = []struct{ in, want string }{}

func newsletter(n int) string {
	return strings.Repeat("<p>x</p>", n)
}

func dump(src string) string {
	z := New([]byte(src))
	var t Token
	var out []string
	for z.Next(&t) {
		out = append(out, fmt.Sprintf("%v", t))
	}
	return strings.Join(out, " ")
}

func TestX(t *testing.T) { t.Log(dump("<a b=c>d<style>x<b></style>")) }
