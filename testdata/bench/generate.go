package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
)

// What is sent. The domain is under example.org, so that nothing of it exists.
const (
	senderDomain   = "shop.example.org"
	newsletterSize = 50_000
	textSize       = 2048
)

const letterFields = `Date: Mon, 23 Nov 2026 21:00:00 +0000
From: "Weekly News" <news@` + senderDomain + `>
To: "Subscriber" <subscriber@readers.example.org>
Reply-To: reply@` + senderDomain + `
Subject: =?utf-8?Q?Your_weekly_news_=E2=80=94_caf=C3=A9_edition?=
List-Id: <weekly.` + senderDomain + `>
MIME-Version: 1.0
`

var vocabulary = strings.Fields(`the of and to in a is that for it as was with be by on not he his but at are this have from or had
	an they which one you were all she there would their we him been has when who will more no if out so said what up its about into
	than them can only other new some could time these two may then do first any my now such like our over man me even most made after
	also did many before must through back years where much your way well down should because each just those people how too little
	good very make world still own see men work long get here between both life being under never day same another know while last`)

// writer writes text that nobody would read, the same each time.
type writer struct{ *rand.Rand }

func newWriter() writer { return writer{rand.New(rand.NewPCG(7, 7))} }

func (w writer) words(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(vocabulary[w.IntN(len(vocabulary))])
	}
	return b.String()
}

func (w writer) sentence() string {
	return "The " + w.words(6+w.IntN(10)) + []string{". ", "! ", " — ", "… "}[w.IntN(4)]
}

func (w writer) paragraph(sentences int) string {
	var b strings.Builder
	for range sentences {
		b.WriteString(w.sentence())
	}
	return strings.TrimSpace(b.String())
}

// token is of the alphabet that click counters use.
func (w writer) token(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[w.IntN(len(alphabet))]
	}
	return string(b)
}

// counted is a link that goes through a click counter.
func (w writer) counted() string {
	return fmt.Sprintf("https://click.news.example.org/ls/click?upn=%s&amp;c=%d", w.token(150), 1+w.IntN(9999))
}

// block is an article of a newsletter: a picture, a heading and a text, each with its counted link.
func (w writer) block() string {
	const cell = `style="padding:8px 16px 8px 16px;font-family:Helvetica,Arial,sans-serif;font-size:14px;line-height:20px;color:#333333;"`
	return fmt.Sprintf(`<table role="presentation" width="600" cellpadding="0" cellspacing="0" border="0" align="center" style="width:600px;background-color:#ffffff;border-collapse:collapse;">
<tr><td width="200" valign="top" %[1]s><a href="%[2]s" target="_blank" style="text-decoration:none;"><img src="https://cdn.news.example.org/img/%[3]s.jpg" width="184" height="120" alt="Café №%[4]d" border="0" style="display:block;"></a></td>
<td width="400" valign="top" %[1]s><h2 style="margin:0 0 8px 0;font-size:18px;line-height:22px;"><a href="%[5]s" target="_blank" style="color:#1155cc;text-decoration:none;">%[6]s</a></h2>
<p style="margin:0 0 8px 0;">%[7]s</p><p style="margin:0;"><a href="%[8]s" style="color:#1155cc;">Lire la suite &raquo;</a></p></td></tr></table>
`, cell, w.counted(), w.token(24), w.IntN(100), w.counted(), w.sentence(), w.paragraph(7), w.counted())
}

const (
	pageBegin = `<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="fr"><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8"><meta name="viewport" content="width=device-width">
<title>Weekly news</title><style type="text/css">body{margin:0;padding:0;background:#f4f4f4;} a{color:#1155cc;} @media only screen and (max-width:620px){table{width:100% !important;} td{display:block !important;width:100% !important;}}</style>
<!--[if mso]><style>td{font-family:Arial}</style><![endif]--></head><body bgcolor="#f4f4f4">
`
	pageEnd   = "</body></html>\n"
	letterEnd = "\n--=_letter--\n"
)

// newsletter is a multipart/alternative of about size bytes, both parts in quoted-printable: a text
// of a ninth of it, and HTML with articles of three counted links each, three more links, and one
// pixel that tells of the opening. With newsletterSize that makes 60 links.
func newsletter(size int) []byte {
	w := newWriter()
	var text strings.Builder
	for text.Len() < size/9 {
		text.WriteString(w.paragraph(4) + "\n\n")
	}
	end := `<p style="font-size:11px;color:#999999;text-align:center;">`
	for _, name := range []string{"View online", "Preferences", "Forward"} {
		end += fmt.Sprintf(`<a href="%s">%s</a> | `, w.counted(), name)
	}
	end += "</p>\n" + fmt.Sprintf(`<img src="https://click.news.example.org/wf/open?upn=%s" alt="" width="1" height="1" border="0" style="height:1px !important;width:1px !important;border-width:0 !important;">`, w.token(160)) + "\n"

	const part = "--=_letter\nContent-Type: text/%s; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
	var b bytes.Buffer
	b.WriteString(letterFields + "Content-Type: multipart/alternative; boundary=\"=_letter\"\n\n")
	fmt.Fprintf(&b, part, "plain")
	b.Write(quoted(text.String()))
	fmt.Fprintf(&b, "\n"+part, "html")
	b.Write(quoted(pageBegin))
	last := quoted(end + pageEnd)
	for b.Len()+len(last) < size {
		b.Write(quoted(w.block()))
	}
	b.Write(last)
	b.WriteString(letterEnd)
	return b.Bytes()
}

// quoted is text in quoted-printable (RFC 2045 §6.7).
func quoted(text string) []byte {
	var b bytes.Buffer
	q := quotedprintable.NewWriter(&b)
	q.Write([]byte(text)) // a Buffer takes all
	q.Close()
	return b.Bytes()
}

// plainText is a message of size bytes and little more: text without links, in 7bit.
func plainText(size int) []byte {
	w := newWriter()
	var b bytes.Buffer
	b.WriteString(letterFields + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 7bit\n\n")
	for b.Len() < size {
		b.WriteString(w.words(12) + "\n")
	}
	return b.Bytes()
}

// attached is a letter with a picture that tells of its being opened, and an attachment that brings
// it to size bytes.
func attached(domain string, size int) []byte {
	var b bytes.Buffer
	b.Grow(size)
	fmt.Fprintf(&b, "From: News <news@%s>\r\nSubject: The catalogue\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_large\"\r\n\r\n", domain)
	b.WriteString("--=_large\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>Here it is.</p>\r\n" +
		"<img src=\"https://open.convertkit-mail4.com/ab12cd34ef\" width=1 height=1>\r\n</body></html>\r\n")
	b.WriteString("--=_large\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	const end = "\r\n--=_large--\r\n"
	line := strings.Repeat("QUJD", 19) + "\r\n"
	for b.Len()+len(line)+len(end) <= size {
		b.WriteString(line)
	}
	b.WriteString(strings.Repeat("=", max(0, size-len(end)-b.Len())))
	b.WriteString(end)
	return b.Bytes()
}
