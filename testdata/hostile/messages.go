package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	mime     = "From: News <news@example.org>\r\nSubject: News\r\nMIME-Version: 1.0\r\n"
	htmlHead = mime + "Content-Type: text/html; charset=utf-8\r\n\r\n"
)

// lines breaks s, which holds no line break, so that no line is over the limit of RFC 5322 §2.1.1.
func lines(s string) string {
	var b strings.Builder
	for len(s) > 900 {
		b.WriteString(s[:900] + "\r\n")
		s = s[900:]
	}
	return b.String() + s
}

func repeat(unit string, bytes int) string { return strings.Repeat(unit, bytes/len(unit)) }

func nested(depth int) string {
	var b strings.Builder
	b.WriteString(mime + "Content-Type: multipart/mixed; boundary=b0\r\n\r\n")
	for i := range depth {
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	b.WriteString("--b" + fmt.Sprint(depth) + "\r\nContent-Type: text/html\r\n\r\n<img src=http://t.example.net/o.gif width=1 height=1>\r\n")
	return b.String()
}

func flat(parts int) string {
	return mime + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n", parts) + "--b--\r\n"
}

// bomb is a click link in the manner of Mailgun whose packed destination unpacks to size.
func bomb(size int) string {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	w.Write([]byte("l=" + url.QueryEscape("https://example.org/") + strings.Repeat("a", size)))
	w.Close()
	return "https://email.mg.example.net/c/" + base64.RawURLEncoding.EncodeToString(packed.Bytes())
}

func wrap64(s string) string {
	var b strings.Builder
	for coded := base64.StdEncoding.EncodeToString([]byte(s)); coded != ""; {
		n := min(76, len(coded))
		b.WriteString(coded[:n] + "\r\n")
		coded = coded[n:]
	}
	return b.String()
}

// messageAttacks are built only when they are wanted: together they take hundreds of MB.
func messageAttacks() []attack {
	const most = 15 << 20 // text that the gateway looks into ends at 16 MiB
	var all []attack
	for _, m := range []struct {
		name   string
		memory float64
		text   func() string
	}{
		{"100,000 parts within each other", 400, func() string { return nested(100_000) }},
		{"900 parts within each other", 200, func() string { return nested(900) }},
		{"100,000 parts beside each other", 400, func() string { return flat(100_000) }},
		{"a tag with 3 million attributes (15 MB)", 300, func() string { return htmlHead + "<p " + lines(repeat("a=b c", most)) + ">" }},
		{"a tag with 10 million attributes (50 MB)", 400, func() string { return htmlHead + "<p " + lines(repeat("a=b c", 50<<20-1000)) + ">" }},
		{"50 MB of <", 400, func() string { return htmlHead + lines(repeat("<", 49<<20)) }},
		{"15 MB of <", 700, func() string { return htmlHead + lines(repeat("<", most)) }},
		{"15 MB of <!--", 700, func() string { return htmlHead + lines(repeat("<!--", most)) }},
		{"15 MB of <a href=x>", 1500, func() string { return htmlHead + lines(repeat("<a href=x>", most)) }},
		{"15 MB of <style>", 700, func() string { return htmlHead + lines(repeat("<style>", most)) }},
		{"15 MB of &amp; in an attribute", 700, func() string { return htmlHead + "<a href=\"" + lines(repeat("&amp;", most)) + "\">" }},
		{"15 MB of CSS with url()", 1500, func() string {
			return htmlHead + "<style>" + repeat("a{background:url(http://t.example.net/a.gif)}\r\n", most) + "</style>"
		}},
		{"15 MB of CSS blocks that never close", 900, func() string { return htmlHead + "<style>" + lines(repeat("@media{a{", most)) }},
		{"15 MB of CSS selectors", 900, func() string {
			return htmlHead + "<style>" + repeat(".a,.b,#c,\r\n", most/2) + ".z{display:none}</style>" + repeat("<img class=\"z a\" src=x>\r\n", most/2)
		}},
		{"100,000 click links", 1500, func() string {
			var b strings.Builder
			b.WriteString(htmlHead)
			for i := range 100_000 {
				fmt.Fprintf(&b, "<a href=\"https://clicks.example.net/ls/click?upn=%d&u=https%%3A%%2F%%2Fexample.org%%2F%d\">x</a>\r\n", i, i)
			}
			return b.String()
		}},
		{"60 links that unpack to 64 MB each", 500, func() string {
			return htmlHead + strings.Repeat("<a href=\""+bomb(64<<20)+"\">x</a>\r\n", 60)
		}},
		{"a header field of 10 MB", 300, func() string { return "X-A: " + repeat("xxxxxxxxxxxxxxx\r\n ", 10<<20) + "\r\n" + htmlHead }},
		{"a million header fields", 400, func() string { return strings.Repeat("X-A: b\r\n", 1_000_000) + htmlHead }},
		{"15 MB of soft line breaks", 500, func() string {
			return mime + "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + repeat("=\r\n", most)
		}},
		{"15 MB of UTF-7", 900, func() string {
			return mime + "Content-Type: text/html; charset=utf-7\r\n\r\n" + lines(repeat("+ADw-", most))
		}},
		{"15 MB of ISO-2022-JP escapes", 900, func() string {
			return mime + "Content-Type: text/html; charset=iso-2022-jp\r\n\r\n" + lines(repeat("\x1b$B\x1b(B", most))
		}},
		{"11 MB of base64 that is all tags", 1500, func() string {
			return mime + "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap64(repeat("<img src=http://t.example.net/a?b>", 11<<20))
		}},
	} {
		all = append(all, attack{m.name, m.memory, 15 * time.Second, func(ctx context.Context, h *house, g *gateway) (string, error) {
			return sendOnce(ctx, h, g, m.text())
		}})
	}
	return all
}

// sendOnce sends a message and tells how it was answered. What is answered 250 must come out.
func sendOnce(ctx context.Context, h *house, g *gateway, text string) (string, error) {
	c, err := dialFrom(ctx, honestPeer, g.smtp)
	if err != nil {
		return "", err
	}
	defer c.Close()
	to := fmt.Sprintf("bomb%d@example.com", h.attacks)
	begin := time.Now()
	answer, err := send(c, to, text)
	took := time.Since(begin)
	if err != nil {
		return "", err
	}
	code, _, _ := strings.Cut(answer, " ")
	if n := h.sink.count(to); code == "250" && n != 1 || code != "250" && n != 0 {
		return "", fmt.Errorf("answered %q, and %d copies came out", answer, n)
	}
	words := strings.SplitN(answer, " ", 3)
	if code == "250" {
		words = []string{"250, delivered"}
	}
	return fmt.Sprintf("%s (%.1f MB, answered in %.1f s)", strings.Join(words, " "), float64(len(text))/1e6, took.Seconds()), nil
}
