package main

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
)

// The newsletter has what is said of it, and is the same each time.
func TestNewsletter(t *testing.T) {
	text := newsletter(newsletterSize)
	if !bytes.Equal(text, newsletter(newsletterSize)) {
		t.Error("two of them differ")
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var html string
	for n := 0; ; n++ {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			if n != 2 {
				t.Errorf("%d parts", n)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		html = string(body)
	}
	links, pixels := strings.Count(html, `<a href="https://click.`), strings.Count(html, `width="1"`)
	if links != 60 || pixels != 1 || !strings.HasSuffix(strings.TrimSpace(html), "</body></html>") {
		t.Errorf("%d links, %d pixels, end %q", links, pixels, html[len(html)-40:])
	}
	for _, size := range []int{10_000, newsletterSize, 1_000_000} {
		if n := len(newsletter(size)); n < size || n > size+4000 {
			t.Errorf("%d bytes were asked for, there are %d", size, n)
		}
	}
	if n := len(plainText(textSize)); n < textSize || n > textSize+100 {
		t.Errorf("the text has %d bytes", n)
	}
	if n := len(attached("shop.example.org", 10_000)); n != 10_000 {
		t.Errorf("the message with an attachment has %d bytes", n)
	}
}
