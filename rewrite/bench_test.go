package rewrite

import (
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"
	"golang.org/x/net/html"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// newsletters calls f for each message to measure with: our own, and the one of 50 KB that peers
// were measured with, where it is there.
func newsletters(b *testing.B, f func(b *testing.B, src []byte)) {
	for _, name := range []string{"../testdata/rewrite/newsletter.eml", "../../shared/bench/msgs/news.eml"} {
		src, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		src = crlf(src)
		b.Run(fmt.Sprintf("%s/%dKB", filepath.Base(name), len(src)>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			f(b, src)
		})
	}
}

func BenchmarkParse(b *testing.B) { benchmarkParse(b, Options{LinkPrefix: testPrefix}) }

func BenchmarkParseGuarded(b *testing.B) { benchmarkParse(b, testOptions()) }

func benchmarkParse(b *testing.B, opts Options) {
	newsletters(b, func(b *testing.B, src []byte) {
		for b.Loop() {
			if _, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), opts); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRender(b *testing.B) { benchmarkRender(b, variant(false, false)) }

// BenchmarkRenderGuarded is without the sealing, which is package token's.
func BenchmarkRenderGuarded(b *testing.B) {
	v := variant(true, true)
	addr := testGuard + strings.Repeat("x", 300)
	v.Guard = func(Target) string { return addr }
	benchmarkRender(b, v)
}

func benchmarkRender(b *testing.B, v Variant) {
	newsletters(b, func(b *testing.B, src []byte) {
		m := parse(b, src)
		for b.Loop() {
			c, err := m.Render(v)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// leaves yields the decoded text parts of a message as go-message reads it.
func leaves(b *testing.B, src []byte, f func(typ string, body io.Reader)) {
	e, err := gomessage.Read(bytes.NewReader(src))
	if err != nil {
		b.Fatal(err)
	}
	err = e.Walk(func(_ []int, e *gomessage.Entity, err error) error {
		if err != nil {
			return err
		}
		if typ, _, _ := e.Header.ContentType(); strings.HasPrefix(typ, "text/") {
			f(typ, e.Body)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDecodeAndTokens is the floor that Parse is held against: the standard library decodes
// quoted-printable, and x/net takes the HTML apart with its attributes. No boundary is looked
// for, no address read.
func BenchmarkDecodeAndTokens(b *testing.B) {
	newsletters(b, func(b *testing.B, src []byte) {
		m := parse(b, src)
		for b.Loop() {
			for _, t := range m.texts {
				plain, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(t.raw)))
				if err != nil {
					b.Fatal(err)
				}
				if t.form != htmlForm {
					continue
				}
				z := html.NewTokenizer(bytes.NewReader(plain))
				for z.Next() != html.ErrorToken {
					for more := true; more; {
						_, _, more = z.TagAttr()
					}
				}
			}
		}
	})
}

// BenchmarkParseTreeAndRender is what a filter usually does: go-message takes the message apart,
// x/net makes a tree of the HTML and writes it again. It changes nothing and does not put the
// message together.
func BenchmarkParseTreeAndRender(b *testing.B) {
	newsletters(b, func(b *testing.B, src []byte) {
		for b.Loop() {
			leaves(b, src, func(typ string, body io.Reader) {
				if typ != "text/html" {
					if _, err := io.Copy(io.Discard, body); err != nil {
						b.Fatal(err)
					}
					return
				}
				tree, err := html.Parse(body)
				if err != nil {
					b.Fatal(err)
				}
				if err := html.Render(io.Discard, tree); err != nil {
					b.Fatal(err)
				}
			})
		}
	})
}
