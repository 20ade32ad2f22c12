package rewrite

import (
	"errors"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

const (
	counter     = "https://62zt.mjt.lu/lnk/AM8AAD6TDwc/1/H_gVqGi_Nd7AdmeieWY-iA/aHR0cHM6Ly9zaG9wLmV4YW1wbGUub3JnL2E"
	destination = "https://shop.example.org/a"
)

func parseWith(t testing.TB, src string, opts Options) *Message {
	t.Helper()
	b := crlf([]byte(src))
	m, err := Parse(Bytes(b), int64(len(b)), trackers.Default(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOtherForms: pixels and counters outside of HTML and text/plain. The copy without consent
// holds want and lacks gone, the one with both is not touched.
func TestOtherForms(t *testing.T) {
	ics := func(line string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n--b\nContent-Type: text/calendar; charset=utf-8; method=REQUEST\n\n" +
			"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Talk\n" + line + "\nDTSTART:20261201T100000Z\nEND:VEVENT\nEND:VCALENDAR\n--b--\n"
	}
	for name, c := range map[string]struct{ text, gone, want string }{
		"calendar ATTACH":           {ics("ATTACH:" + pixelAddress), "ATTACH", "SUMMARY:Talk\r\nDTSTART"},
		"calendar IMAGE, folded":    {ics("IMAGE;VALUE=URI;DISPLAY=BADGE:" + pixelAddress[:20] + "\n " + pixelAddress[20:]), "DISPLAY=BADGE", "SUMMARY:Talk\r\nDTSTART"},
		"calendar colon in quotes":  {ics(`IMAGE;ALTREP="cid:x":` + pixelAddress), "IMAGE", "DTSTART"},
		"calendar HTML description": {ics(`X-ALT-DESC;FMTTYPE=text/html:<p>a\, b</p><img src="` + pixelAddress + `">`), "X-ALT-DESC", "DTSTART"},
		"calendar, clean":           {ics("ATTACH:https://files.example.org/agenda.pdf"), "", "ATTACH:https://files.example.org/agenda.pdf"},
		"card PHOTO":                {"Content-Type: text/vcard\n\nBEGIN:VCARD\nFN:A\nitem1.PHOTO;VALUE=uri:" + pixelAddress + "\nEND:VCARD\n", "PHOTO", "FN:A\r\nEND:VCARD"},
		"style sheet by cid": {"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<link rel=stylesheet href=cid:c>\n--b\nContent-Type: text/css\nContent-ID: <c>\n\n" +
			"p{background:url(" + pixelAddress + ")}\n--b--\n", "convertkit", "p{background:url(data:,)}"},
		"picture by cid": {"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=cid:c>\n--b\nContent-Type: image/svg+xml\nContent-ID: <c>\n\n" +
			`<svg xmlns="http://www.w3.org/2000/svg"><image href="` + pixelAddress + `"/></svg>` + "\n--b--\n", "convertkit", `<svg xmlns="http://www.w3.org/2000/svg"></svg>`},
		"JSON-LD picture": {"Content-Type: text/html\n\n" + `<script type="application/ld+json">{"@type":"PromotionCard", "image" : "` + strings.ReplaceAll(pixelAddress, "/", `\/`) + `"}</script>` + "\n",
			"convertkit", `"image" : ""}`},
		"JSON-LD link":          {"Content-Type: text/html\n\n" + `<script type="application/ld+json">[{"url":"` + counter + `"}]</script>` + "\n", "mjt.lu", `[{"url":"` + destination + `"}]`},
		"a script that is none": {"Content-Type: text/html\n\n<script>var x = \"" + counter + "\"</script>\n", "", counter},
		"flowed, DelSp": {"Content-Type: text/plain; format=flowed; delsp=yes\n\nSee " + counter[:30] + " \n" + counter[30:60] + " \n" + counter[60:] + "\nand more\n",
			"mjt.lu", "See " + destination + "\r\nand more"},
		"flowed": {"Content-Type: text/plain; format=flowed\n\nSee " + counter + " \nand more\n", "mjt.lu", "See " + destination + " \r\nand more"},
		"base of the part": {"Content-Type: text/html\nContent-Base: \"https://open.convertkit-mail4.com/\"\n\n<p>x</p><img src=ab12cd34ef>\n",
			"ab12cd34ef", "<p>x</p>"},
		"frame with a document in its address": {"Content-Type: text/html\n\n<p>x</p><iframe src=\"data:text/html,%3Cimg src=" + pixelAddress + "%3E\"></iframe>\n", "data:text/html", "<iframe></iframe>"},
		"a part from elsewhere":                {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n--b\nContent-Type: message/external-body; access-type=URL; URL*0=\"" + pixelAddress[:20] + "\"; URL*1=\"" + pixelAddress[20:] + "\"\n\nContent-Type: image/gif\n\n--b--\n", "external", "Hello"},
		"text/enriched":                        {"Content-Type: text/enriched\n\n<bold>See</bold> " + counter + "\n", "mjt.lu", "<bold>See</bold> " + destination},
		"X-Image-URL":                          {"X-Image-URL: " + pixelAddress + "\n\nx\n", "X-Image", "x\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := parseWith(t, "Subject: x\n"+c.text, testOptions())
			without := string(render(t, m, variant(false, false)))
			if c.gone != "" && strings.Contains(without, c.gone) {
				t.Errorf("%q is left:\n%s", c.gone, without)
			}
			if !strings.Contains(without, c.want) {
				t.Errorf("%q is not there:\n%s", c.want, without)
			}
			if with := string(render(t, m, variant(true, true))); c.gone != "" && !strings.Contains(with, c.gone) {
				t.Errorf("the copy with consent lost %q:\n%s", c.gone, with)
			}
		})
	}
}

// TestSignedBodies: what is signed leaves as it is, or not at all.
func TestSignedBodies(t *testing.T) {
	signed := func(body string) string {
		return "Content-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\n\n--b\n" + body + "\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n"
	}
	for name, c := range map[string]struct {
		text   string
		reject bool
	}{
		"multipart/signed with a pixel":   {signed("Content-Type: text/html\n\n" + pixel), true},
		"multipart/signed without":        {signed("Content-Type: text/html\n\n<p>Hello</p>"), false},
		"multipart/signed with AMP":       {signed("Content-Type: multipart/alternative; boundary=c\n\n--c\n\nx\n--c\nContent-Type: text/x-amp-html\n\n<p>x\n--c--"), true},
		"clear-signed with a counter":     {"\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + counter + "\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n", true},
		"clear-signed without":            {"\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n", false},
		"opaque S/MIME":                   {"Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\nAAAA\n", true},
		"opaque S/MIME, by its name":      {"Content-Type: application/octet-stream; name=smime.p7m\nContent-Transfer-Encoding: base64\n\nAAAA\n", true},
		"S/MIME, encrypted: nobody knows": {"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nAAAA\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			src := "Subject: x\nMIME-Version: 1.0\n" + c.text
			_, body, _ := strings.Cut(string(crlf([]byte(c.text))), "\r\n\r\n")
			got := string(render(t, parseWith(t, src, testOptions()), variant(false, false)))
			if !strings.Contains(got, body) {
				t.Errorf("the signed body changed:\n%s", got)
			}
			opts := testOptions()
			opts.Signed = SignedReject
			m := parseWith(t, src, opts)
			if _, err := m.Render(variant(false, false)); errors.Is(err, ErrSigned) != c.reject {
				t.Errorf("without consent: %v", err)
			}
			render(t, m, variant(true, true))
		})
	}
	m := parseWith(t, "\n"+counter+"\n-----BEGIN PGP SIGNED MESSAGE-----\n\n"+counter+"\n-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----\n"+counter+"\n", testOptions())
	if got := string(render(t, m, variant(false, false))); strings.Count(got, destination) != 2 || strings.Count(got, counter) != 1 {
		t.Errorf("around a signed text:\n%s", got)
	}
}

// TestFooterPosition: at the top it stands before the first thing that a reader sees.
func TestFooterPosition(t *testing.T) {
	long := "<p>" + strings.Repeat("word ", 21000) + "</p>"
	for name, c := range map[string]struct {
		position Position
		html     string
		before   string // what comes right before the footer
	}{
		"bottom":                      {PositionBottom, "<html><body><p>a</p></body></html>", "<p>a</p>"},
		"top":                         {PositionTop, "<html><head><title>t</title></head><body bgcolor=red> <p>a</p></body></html>", "<body bgcolor=red> "},
		"top, behind the hidden line": {PositionTop, `<html><body><div style="display:none">preview</div><!-- c --><p>a</p></body></html>`, "</div><!-- c -->"},
		"top, without body":           {PositionTop, "<style>p{}</style><p>a</p>", "</style>"},
		"top, text alone":             {PositionTop, "hello", ""},
		"auto, short":                 {PositionAuto, "<body><p>a</p></body>", "<p>a</p>"},
		"auto, long":                  {PositionAuto, "<body>" + long + "</body>", "<body>"},
		"bottom, long":                {PositionBottom, "<body>" + long + "</body>", "</p>"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := testOptions()
			opts.Position = c.position
			got := string(render(t, parseWith(t, "Content-Type: text/html\n\n"+c.html+"\n", opts), variant(false, false)))
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			before, _, found := strings.Cut(body, `<div lang="en"`)
			if !found || !strings.HasSuffix(before, c.before) || c.before == "" && before != "" {
				t.Errorf("before the footer stands %q", before[max(0, len(before)-100):])
			}
		})
	}
	opts := testOptions()
	opts.Position = PositionTop
	if got := string(render(t, parseWith(t, "\nhello\n", opts), variant(false, false))); !strings.Contains(got, testLink+"\r\n\r\nhello\r\n") {
		t.Errorf("text:\n%s", got)
	}
}

// TestBare: nothing is put in but the link where the sender wants it.
func TestBare(t *testing.T) {
	src := "List-Unsubscribe: <https://shop.example.org/u>\nContent-Type: text/plain\n\nhello\n"
	m := parseWith(t, src, testOptions())
	v := variant(true, true)
	v.Bare = true
	if got := string(render(t, m, v)); got != string(crlf([]byte(src))) {
		t.Errorf("changed:\n%s", got)
	}
	m = parseWith(t, "\nUnsubscribe: {{unsubscribe_url}}\n", testOptions())
	if got := string(render(t, m, v)); got != "\r\nUnsubscribe: "+testLink+"\r\n" {
		t.Errorf("placeholder: %q", got)
	}
}
