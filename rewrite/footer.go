package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"strings"
)

// Footer is what is put at the end of a body that has no unsubscribe link yet. Both templates
// are UTF-8 and hold {{unsubscribe_url}} once.
type Footer struct{ HTML, Text string }

// Footers holds a footer for each language, by its RFC 5646 tag in lower case. "en" must be
// there: it stands in for a language without one.
type Footers map[string]Footer

const linkPlaceholder = "{{unsubscribe_url}}"

// Check says what is wrong with the footers, nil if nothing is.
func (f Footers) Check() error {
	if _, ok := f["en"]; !ok {
		return errors.New("no footer for English, which stands in for all languages without one")
	}
	for lang, ft := range f {
		if strings.Count(ft.HTML, linkPlaceholder) != 1 {
			return fmt.Errorf("the HTML footer for %q must hold %s once", lang, linkPlaceholder)
		}
		if strings.Count(ft.Text, linkPlaceholder) != 1 {
			return fmt.Errorf("the text footer for %q must hold %s once", lang, linkPlaceholder)
		}
	}
	return nil
}

// find returns the footer for a language tag: "de-AT" finds "de".
func (f Footers) find(tag string) (Footer, string) {
	tag = strings.ToLower(tag)
	if i := strings.IndexAny(tag, ", ;"); i >= 0 {
		tag = tag[:i]
	}
	for tag != "" {
		if ft, ok := f[tag]; ok {
			return ft, tag
		}
		i := strings.LastIndexAny(tag, "-_")
		if i < 0 {
			break
		}
		tag = tag[:i]
	}
	return f["en"], "en"
}

// footerWords are what the footer says: one link that offers both to stop the mail and to stop
// the tracking only, and why the mail came.
var footerWords = map[string]struct{ link, from string }{
	"en": {"Unsubscribe, or keep this mail and stop the tracking only", "Sent by %s."},
	"de": {"Abbestellen, oder die Mail behalten und nur das Tracking beenden", "Gesendet von %s."},
	"fr": {"Se désabonner, ou garder ces messages et arrêter seulement le suivi", "Envoyé par %s."},
	"es": {"Darse de baja, o conservar el correo y detener solo el seguimiento", "Enviado por %s."},
	"it": {"Annulla l'iscrizione, oppure continua a ricevere le email senza tracciamento", "Inviato da %s."},
	"nl": {"Afmelden, of de mail houden en alleen het volgen stoppen", "Verzonden door %s."},
	"pt": {"Cancelar a subscrição, ou manter os e-mails e parar só o rastreamento", "Enviado por %s."},
	"pl": {"Wypisz się albo zachowaj wiadomości i wyłącz tylko śledzenie", "Wysłane przez %s."},
}

var builtinFooters = DefaultFooters("")

// DefaultFooters returns the built-in footers; company is named in them unless it is "".
func DefaultFooters(company string) Footers {
	out := Footers{}
	for lang, w := range footerWords {
		from := ""
		if company != "" {
			from = fmt.Sprintf(w.from, company)
		}
		var h strings.Builder
		fmt.Fprintf(&h, "<div lang=\"%s\" dir=\"ltr\" style=\"display:block;clear:both;margin:0;padding:16px 12px;background:#ffffff;"+
			"color:#555555;font:normal 13px/1.5 Arial,Helvetica,sans-serif;text-align:center\">\r\n", lang)
		if from != "" {
			h.WriteString(html.EscapeString(from) + "\r\n")
		}
		h.WriteString("<a href=\"" + linkPlaceholder + "\" style=\"color:#1a4f8b;text-decoration:underline\">" + html.EscapeString(w.link) + "</a></div>\r\n")
		t := w.link + ":\r\n" + linkPlaceholder + "\r\n"
		if from != "" {
			t = from + "\r\n" + t
		}
		out[lang] = Footer{HTML: h.String(), Text: "__________\r\n" + t}
	}
	return out
}

// placeFooters chooses the text parts that get a footer: every alternative that a reader may
// show as the body, and no part more.
func (m *Message) placeFooters() {
	texts := map[*part]*text{}
	for _, t := range m.texts {
		texts[t.part] = t
	}
	var place func(p *part) bool
	place = func(p *part) bool {
		if t := texts[p]; t != nil {
			t.footer = takesFooter(p.typ.value)
			return t.footer
		}
		placed := false
		switch p.typ.value {
		case "multipart/signed", "multipart/encrypted":
			return false
		case "multipart/alternative":
			for _, c := range p.children {
				placed = place(c) || placed
			}
			return placed
		case "multipart/related": // RFC 2387: the root is the first, or the one named by start
			root := p.relatedRoot()
			return root != nil && place(root)
		}
		for _, c := range p.children {
			if t := texts[c]; (t == nil || !t.blank()) && place(c) {
				return true
			}
		}
		for _, c := range p.children { // an empty text before an attachment
			if texts[c] != nil && place(c) {
				return true
			}
		}
		return false
	}
	place(m.root)
}

// blank reports whether a reader sees nothing of the text at all.
func (t *text) blank() bool { return len(bytes.TrimSpace(t.plain)) == 0 }

func (p *part) relatedRoot() *part {
	if start := p.typ.params["start"]; start != "" {
		for _, c := range p.children {
			if strings.Trim(c.get("Content-ID"), "<> ") == strings.Trim(start, "<> ") {
				return c
			}
		}
	}
	if len(p.children) == 0 {
		return nil
	}
	return p.children[0]
}

// hasFooterPlace reports whether any text part can take the footer.
func (m *Message) hasFooterPlace() bool {
	for _, t := range m.texts {
		if t.footer {
			return true
		}
	}
	return false
}

// asciiHTML writes what is not ASCII as character references, so that it fits every charset.
func asciiHTML(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
