package web

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
)

// Logo is a picture inside the page, as a data: address; "" is none.
type Logo string

// MaxLogo is the largest file of a logo, in bytes, so that the page stays small for a phone.
const MaxLogo = 4 << 10

// ReadLogo reads a PNG, JPEG, GIF, WebP or SVG. An SVG is shown by <img>, where no script of it runs
// and nothing that it names is fetched (SVG Integration §3.4, secure static mode).
func ReadLogo(file string) (Logo, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	picture, err := io.ReadAll(io.LimitReader(f, MaxLogo+1))
	if err != nil {
		return "", err
	}
	if len(picture) > MaxLogo {
		return "", fmt.Errorf("%s has over %d bytes, and it goes into every page", file, MaxLogo)
	}
	kind := http.DetectContentType(picture)
	switch kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
	default:
		if !isSVG(picture) {
			return "", fmt.Errorf("%s is neither PNG, JPEG, GIF, WebP nor a well-formed SVG", file)
		}
		kind = "image/svg+xml"
	}
	return Logo("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(picture)), nil
}

// isSVG reports whether text is XML to its end, and its root an SVG's.
func isSVG(text []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(text))
	root := false
	for {
		switch t, err := d.Token(); e := t.(type) {
		case xml.StartElement:
			if !root && e.Name != (xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}) {
				return false
			}
			root = true
		default:
			if err != nil {
				return root && err == io.EOF
			}
		}
	}
}
