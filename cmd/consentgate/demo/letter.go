package demo

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
)

// The newsletter as its sender submits it, but for the line ends, which go out as CRLF. The
// golden tests of package rewrite read a copy of it.
//
//go:embed newsletter.eml
var newsletter []byte

// The one remote picture that the newsletter shows to everybody.
//
//go:embed way-47.png
var wayPicture []byte

const wayPictureURL = "https://www.shop.example/pictures/way-47.png"

// known is what the demo knows of an address in the newsletter, since it wrote it there. Rules
// and decoders of package rewrite have no part in it.
type known struct {
	mark    string // stands in this address and in no other
	pixel   bool   // tells that the mail was opened
	counter string // whose click counter it is, "" = none
	nested  bool   // a counter around another one
	opaque  bool   // its destination does not stand in it
	person  bool   // it, or its destination, has a parameter that names the person
	direct  string // what stands there without click consent; "" = the same
}

var addresses = []known{
	{mark: "mjt.lu/oo/", pixel: true},
	{mark: "stats.shop.example/seen/", pixel: true},
	{mark: "/lnk/weBJDKvqGyzNcYAQb9ga/1/", counter: "Mailjet", direct: "https://www.shop.example/letters/47"},
	{mark: "/lnk/weBJDKvqGyzNcYAQb9ga/2/", counter: "Mailjet", direct: "https://www.shop.example/"},
	{mark: "/lnk/weBJDKvqGyzNcYAQb9ga/3/", counter: "Mailjet around Postmark", nested: true, direct: "https://www.shop.example/evenings/long-night?seats=2"},
	{mark: "click.pstmrk.it/3s/", counter: "Postmark", direct: "https://www.shop.example/books/salt-road"},
	{mark: "mandrillapp.com/track/click/", counter: "Mandrill", direct: "https://www.shop.example/books/small-atlas?format=hardback"},
	{mark: "/lnk/weBJDKvqGyzNcYAQb9ga/4/", counter: "Mailjet", person: true, direct: "https://www.shop.example/books/bread-at-noon?utm_source=letter"},
	{mark: "/lnk/weBJDKvqGyzNcYAQb9ga/5/", counter: "Mailjet", direct: "https://www.shop.example/l%C3%B6wengasse-4"},
	{mark: "ct.sendgrid.net/ls/click", counter: "SendGrid", opaque: true},
	{mark: "shop.example/evenings/?mc_cid=", person: true, direct: "https://www.shop.example/evenings/?mc_cid=4f0c21b7aa"},
	{mark: wayPictureURL},
	{mark: "https://www.shop.example/imprint"},
	{mark: "mailto:hello@shop.example"},
	{mark: "tel:+49305550147"},
	{mark: "cid:"},
}

// knownAddress returns what the demo knows of an address that the newsletter holds.
func knownAddress(url string) (known, bool) {
	for _, k := range addresses {
		if strings.Contains(url, k.mark) {
			if k.direct == "" {
				k.direct = url
			}
			return k, true
		}
	}
	return known{}, false
}

// letter is the newsletter as it is submitted, and what a reader sees in it.
type letter struct {
	raw  []byte
	view *view
}

func readLetter() (*letter, error) {
	raw := bytes.ReplaceAll(newsletter, []byte("\r\n"), []byte("\n"))
	raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
	v, err := look(raw)
	if err != nil {
		return nil, fmt.Errorf("the newsletter: %w", err)
	}
	return &letter{raw, v}, nil
}

// subject is the newsletter's, decoded.
func (l *letter) subject() string { return l.view.subject }
