package demo

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// expectation is what one person's consent calls for, and what happened on the way.
type expectation struct {
	decision consent.Decision
	who      consent.Address
	answer   string // of the gateway
	arrived  int    // copies at the smarthost
	shared   bool   // a copy at the smarthost was for more than one person
}

// report is what the comparison of one copy with the original found.
type report struct {
	changes    []change
	kept       tally // as the sender wrote it
	removed    tally // gone, undone or stripped
	linkText   int   // unsubscribe links in the text
	linkHTML   int
	listPairs  int
	signed     bool // by the gateway, and the signature holds
	link       string
	deviations []string
}

// tally counts addresses.
type tally struct{ pixels, counters, nested, opaque, persons, others int }

// change is one address of the newsletter, and what became of it.
type change struct {
	where  string
	before string // "" = inserted
	after  string // "" = removed
	did    string // "kept", "removed", "undone", "stripped", "inserted", "opaque"
	about  string // what it is
}

func (r *report) deviate(format string, args ...any) {
	r.deviations = append(r.deviations, fmt.Sprintf(format, args...))
}

// seal returns the unsubscribe link that belongs to a person.
func (h *house) seal(who consent.Address) string {
	return h.base + "/u/" + h.links.Seal(token.Claims{Who: who, Scope: scope, Language: "en"})
}

// check compares a copy as it reached the smarthost with the newsletter. raw is nil where
// nothing reached it.
func (h *house) check(raw []byte, e expectation) report {
	var r report
	if e.shared {
		r.deviate("a copy was sent to several people at once")
	}
	if e.decision.Mail != consent.Send {
		if e.arrived > 0 {
			r.deviate("%d copies reached the smarthost, though this person gets no mail", e.arrived)
		}
		if e.decision.Mail == consent.Suppress && !strings.HasPrefix(e.answer, "550 5.7.1 ") {
			r.deviate("the gateway answered %q, not 550 5.7.1", e.answer)
		}
		return r
	}
	if !strings.HasPrefix(e.answer, "250 ") {
		r.deviate("the gateway answered %q", e.answer)
	}
	if e.arrived != 1 {
		r.deviate("%d copies reached the smarthost instead of 1", e.arrived)
		return r
	}
	v, err := look(raw)
	if err != nil {
		r.deviate("the copy cannot be read: %v", err)
		return r
	}
	r.addresses(h.letter.view, h.ours(&r, v), e.decision)
	h.checkLinks(&r, v, e.who)
	r.checkWords(h.letter.view, v, e.decision)
	r.checkFields(h.letter.view, v)
	h.checkSignature(&r, raw)
	return r
}

// ours takes the unsubscribe links out of what was seen, and returns the rest.
func (h *house) ours(r *report, v *view) []sight {
	var rest []sight
	for _, s := range v.seen {
		switch {
		case !strings.HasPrefix(s.url, h.base+"/u/"):
			rest = append(rest, s)
			continue
		case s.where == "text":
			r.linkText++
		case s.where == "a href":
			r.linkHTML++
		default:
			r.deviate("an unsubscribe link stands in %s", s.where)
		}
		r.changes = append(r.changes, change{s.where, "", s.url, "inserted", "unsubscribe link"})
	}
	return rest
}

// addresses walks through the newsletter's addresses in order and finds each in the copy: as it
// was written, as what it stands for, or not at all.
func (r *report) addresses(orig *view, seen []sight, d consent.Decision) {
	isAny := func(s sight, of []sight) bool {
		for _, o := range of {
			k, _ := knownAddress(o.url)
			if s.where == o.where && (s.url == o.url || s.url == k.direct) {
				return true
			}
		}
		return false
	}
	foreign := func(s sight) { r.deviate("%s holds an address that is not the newsletter's: %s", s.where, s.url) }
	for i, o := range orig.seen {
		for len(seen) > 0 && !isAny(seen[0], orig.seen[i:]) {
			foreign(seen[0])
			seen = seen[1:]
		}
		c := change{where: o.where, before: o.url}
		k, _ := knownAddress(o.url)
		if len(seen) > 0 && isAny(seen[0], orig.seen[i:i+1]) {
			c.after, seen = seen[0].url, seen[1:]
		}
		r.judge(&c, k, d)
		r.changes = append(r.changes, c)
	}
	for _, s := range seen {
		foreign(s)
	}
}

// judge names and counts what became of one address, and compares it with what consent calls
// for.
func (r *report) judge(c *change, k known, d consent.Decision) {
	as := c.before // what should stand there
	switch {
	case k.pixel && !d.Open:
		as = ""
	case !d.Click:
		as = k.direct
	}
	into := &r.removed
	switch {
	case c.after == c.before:
		c.did, into = "kept", &r.kept
	case c.after == "":
		c.did = "removed"
	case k.counter != "":
		c.did = "undone"
	default:
		c.did = "stripped"
	}
	if k.opaque && c.did == "kept" && !d.Click {
		c.did = "opaque"
	}
	switch {
	case k.pixel:
		c.about = "open pixel"
		into.pixels++
	case k.counter != "":
		c.about = "click counter, " + k.counter
		into.counters++
	case k.person:
		c.about = "link that names the person"
	case strings.HasPrefix(c.before, "cid:"):
		c.about = "picture inside the mail"
	case strings.HasPrefix(c.where, "img"):
		c.about = "picture, the same for all"
	default:
		c.about = "direct link"
	}
	if k.nested {
		into.nested++
	}
	if k.opaque {
		into.opaque++
	}
	if k.person {
		into.persons++
	}
	if !k.pixel && k.counter == "" && !k.person {
		into.others++
	}
	switch {
	case c.after == as:
	case k.pixel && as == "":
		r.deviate("an open pixel was left in, without consent to opens: %s", c.before)
	case as == c.before && c.after == "":
		r.deviate("%s lost an address that it should have kept: %s", c.where, c.before)
	case as == c.before:
		r.deviate("%s should have kept %s, and has %s", c.where, c.before, c.after)
	case c.after == "":
		r.deviate("%s lost its link to %s", c.where, as)
	default:
		r.deviate("%s should lead to %s without consent to clicks, and leads to %s", c.where, as, c.after)
	}
}

// checkLinks wants one unsubscribe link of this very person in each alternative and in the
// header, and the pair of RFC 8058 once.
func (h *house) checkLinks(r *report, v *view, who consent.Address) {
	if r.linkText != 1 {
		r.deviate("the text holds %d unsubscribe links instead of 1", r.linkText)
	}
	if r.linkHTML != 1 {
		r.deviate("the HTML holds %d unsubscribe links instead of 1", r.linkHTML)
	}
	list, post := v.all("List-Unsubscribe"), v.all("List-Unsubscribe-Post")
	r.listPairs = min(len(list), len(post))
	if len(list) != 1 || len(post) != 1 {
		r.deviate("the header holds %d List-Unsubscribe and %d List-Unsubscribe-Post fields instead of one each", len(list), len(post))
		return
	}
	if post[0] != "List-Unsubscribe=One-Click" { // RFC 8058 §3.1
		r.deviate("List-Unsubscribe-Post is %q", post[0])
	}
	uri, ok := strings.CutPrefix(list[0], "<")
	uri, ok2 := strings.CutSuffix(uri, ">")
	if !ok || !ok2 || strings.ContainsAny(uri, "<>,") || !strings.HasPrefix(uri, h.base+"/u/") {
		r.deviate("List-Unsubscribe is %q", list[0])
		return
	}
	r.link = uri
	links := []string{uri}
	for _, s := range v.seen {
		if strings.HasPrefix(s.url, h.base+"/u/") {
			links = append(links, s.url)
		}
	}
	for _, link := range links {
		claims, err := h.links.Open(strings.TrimPrefix(link, h.base+"/u/"))
		if err != nil || claims.Who != who || claims.Scope != scope {
			r.deviate("an unsubscribe link is not this person's: %s", link)
		}
	}
	r.changes = append(r.changes, change{"header", "", list[0], "inserted", "List-Unsubscribe, one click (RFC 8058)"})
}

// transparent is what stands where a pixel stood, so that the layout stays: a GIF of one pixel.
const transparent = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

// checkWords wants both alternatives to be the newsletter's, byte for byte, with the addresses
// replaced, the pixels by an empty one inside the mail, and one thing put in, the footer; and all other parts to be
// the same bytes.
func (r *report) checkWords(orig, v *view, d consent.Decision) {
	text, markup := orig.text, orig.html
	for _, s := range orig.seen {
		k, _ := knownAddress(s.url)
		switch {
		case k.pixel && !d.Open:
			markup = strings.ReplaceAll(markup, html.EscapeString(s.url), transparent)
		case k.direct != s.url && !d.Click:
			text = strings.ReplaceAll(text, s.url, k.direct)
			markup = strings.ReplaceAll(markup, html.EscapeString(s.url), html.EscapeString(k.direct))
		}
	}
	if n, ok := insertion(text, v.text); !ok || n > maxFooter {
		r.deviate("the text is not the newsletter's with a footer put in")
	}
	if n, ok := insertion(markup, v.html); !ok || n > maxFooter {
		r.deviate("the HTML is not the newsletter's with a footer put in")
	}
	if !slices.EqualFunc(orig.files, v.files, func(a, b file) bool {
		return a.kind == b.kind && a.id == b.id && bytes.Equal(a.data, b.data)
	}) {
		r.deviate("the pictures inside the mail are not the newsletter's")
	}
}

// maxFooter is the longest footer that passes, in bytes.
const maxFooter = 1000

// insertion reports whether after is before with one text put in, and how long that is.
func insertion(before, after string) (n int, ok bool) {
	if n = len(after) - len(before); n < 0 {
		return n, false
	}
	i := 0
	for i < len(before) && before[i] == after[i] {
		i++
	}
	return n, before[i:] == after[i+n:]
}

// checkFields wants the newsletter's header fields as they were, in their order, without those
// that are the gateway's business, and no others but the ones that a relay adds.
func (r *report) checkFields(orig, v *view) {
	rest := v.fields
	for _, f := range orig.fields {
		name := strings.ToLower(f.name)
		if strings.HasPrefix(name, "x-consent-") || strings.HasPrefix(name, "list-unsubscribe") {
			continue
		}
		i := slices.Index(rest, f)
		if i < 0 {
			r.deviate("the header field %s was lost, changed or moved", f.name)
			continue
		}
		for _, added := range rest[:i] {
			r.checkAdded(added)
		}
		rest = rest[i+1:]
	}
	for _, added := range rest {
		r.checkAdded(added)
	}
}

func (r *report) checkAdded(f field) {
	switch strings.ToLower(f.name) {
	case "received", "dkim-signature", "list-unsubscribe", "list-unsubscribe-post":
	default:
		r.deviate("the header field %s should not be there", f.name)
	}
}

// checkSignature wants exactly one DKIM signature, of the shop, that holds and covers the List
// fields (RFC 8058 §4).
func (h *house) checkSignature(r *report, raw []byte) {
	signatures, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: h.lookupTXT})
	if err != nil {
		r.deviate("the DKIM signatures cannot be read: %v", err)
		return
	}
	if len(signatures) != 1 {
		r.deviate("%d DKIM signatures instead of 1", len(signatures))
		return
	}
	s := signatures[0]
	switch {
	case s.Err != nil:
		r.deviate("the DKIM signature does not hold: %v", s.Err)
	case s.Domain != dkimDomain:
		r.deviate("the DKIM signature is %s's, not %s's", s.Domain, dkimDomain)
	default:
		r.signed = true
		for _, name := range []string{"From", "List-Unsubscribe", "List-Unsubscribe-Post"} {
			if !slices.ContainsFunc(s.HeaderKeys, func(k string) bool { return strings.EqualFold(strings.TrimSpace(k), name) }) {
				r.signed = false
				r.deviate("the DKIM signature does not cover %s", name)
			}
		}
	}
	r.changes = append(r.changes, change{"header", "", "d=" + s.Domain + "; s=" + selector, "inserted", "DKIM signature"})
}
