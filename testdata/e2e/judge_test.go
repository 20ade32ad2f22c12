package e2e

import (
	"bytes"
	"fmt"
	"html"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// consents is what a person agreed to.
type consents struct{ open, click bool }

var people = []struct {
	name string
	consents
}{
	{"none", consents{}},
	{"open", consents{open: true}},
	{"click", consents{click: true}},
	{"both", consents{open: true, click: true}},
}

// gone returns the addresses that a copy for c must not hold: those that package rewrite says it
// takes out of this message. Whether they are out is then for other readers to say.
func gone(text []byte, c consents, machine bool) ([]string, error) {
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), trackers.Default(), rewrite.Options{LinkPrefix: linkPrefix})
	if err != nil {
		return nil, err
	}
	v := rewrite.Variant{Open: c.open, Click: c.click}
	if !machine {
		v.Link, v.OneClick = linkPrefix+"x", linkPrefix+"x"
	}
	copy, err := m.Render(v)
	if err != nil {
		return nil, err
	}
	var out []string
	kept := map[string]bool{}
	for _, o := range copy.Outcomes() {
		switch o.Action {
		case rewrite.Removed, rewrite.Undone, rewrite.Stripped, rewrite.Unlinked:
			if strings.Contains(o.URL, "://") && !slices.Contains(out, o.URL) {
				out = append(out, o.URL)
			}
		case rewrite.Kept:
			kept[o.URL] = true
		}
	}
	// With one of the two consents the same address may go as a picture and stay as a link.
	return slices.DeleteFunc(out, func(a string) bool { return kept[a] }), nil
}

// judge says what is wrong with a copy.
func judge(original, copy []byte, gone []string, machine, signed bool, dkimRecord string) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	if _, err := mail.ReadMessage(bytes.NewReader(original)); err == nil {
		if _, err := mail.ReadMessage(bytes.NewReader(copy)); err != nil {
			complain("net/mail cannot read the copy, though it can read the original: %v", err)
		}
	}
	top := parse(copy)
	link := ""
	unsubscribe, post := top.all("List-Unsubscribe"), top.all("List-Unsubscribe-Post")
	if machine {
		before := parse(original)
		if !slices.Equal(unsubscribe, before.all("List-Unsubscribe")) || !slices.Equal(post, before.all("List-Unsubscribe-Post")) {
			complain("machine mail: the List fields are %q and %q", unsubscribe, post)
		}
	} else {
		if len(unsubscribe) != 1 || !strings.HasPrefix(unsubscribe[0], "<"+linkPrefix) || !strings.HasSuffix(unsubscribe[0], ">") || strings.Contains(unsubscribe[0], ",") {
			complain("List-Unsubscribe is %q", unsubscribe)
		} else {
			link = strings.Trim(unsubscribe[0], "<>")
		}
		if len(post) != 1 || post[0] != "List-Unsubscribe=One-Click" { // RFC 8058 §3.1
			complain("List-Unsubscribe-Post is %q", post)
		}
	}
	for _, f := range top.fields {
		switch name := strings.ToLower(f.name); {
		case name == "bcc", name == "resent-bcc", strings.HasPrefix(name, "x-consent-"):
			complain("the field %s leaves", f.name)
		}
	}

	bodies := top.bodies()
	top.leaves(func(p *part) bool {
		want := 0
		if !machine && slices.Contains(bodies, p) {
			want = 1
		}
		n := bytes.Count(p.body, []byte(linkPrefix))
		// Some readers show what is in a multipart without its boundary, or of a type that is none, as a
		// text, or as several.
		if most := 2; n <= most && (strings.HasPrefix(p.typ, "multipart/") || !strings.Contains(p.typ, "/")) && !p.attached() && !p.foreign {
			want = n
		}
		if n != want {
			complain("%d links of ours in a part of type %s (attachment: %v, among %d displayed), want %d", n, p.typ, p.attached(), len(bodies), want)
		} else if n == 1 && link != "" && !bytes.Contains(p.body, []byte(link)) {
			complain("the link in a part of type %s is not the one of List-Unsubscribe", p.typ)
		}
		if p.readable() {
			for _, address := range left(p.body, gone) {
				complain("%s is left in a part of type %s", address, p.typ)
			}
		}
		return true
	})

	verified, err := dkim.VerifyWithOptions(bytes.NewReader(copy), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
		if domain != dkimSelector+"._domainkey."+dkimDomain {
			return nil, fmt.Errorf("no key for %s", domain)
		}
		return []string{dkimRecord}, nil
	}})
	ours := 0
	if err != nil && signed {
		complain("DKIM: %v", err)
	}
	for _, v := range verified {
		if v.Domain != dkimDomain {
			continue // came with the message
		}
		ours++
		if v.Err != nil {
			complain("DKIM: %v", v.Err)
		}
		keys := strings.ToLower(strings.Join(v.HeaderKeys, ":") + ":")
		for _, name := range []string{"from:", "list-unsubscribe:", "list-unsubscribe-post:"} {
			if (!machine || name == "from:") && !strings.Contains(":"+keys, ":"+name) {
				complain("DKIM: h= lacks %s%s", name, keys)
			}
		}
	}
	if want := map[bool]int{true: 1}[signed]; ours != want {
		complain("%d DKIM signatures of ours, want %d", ours, want)
	}
	return wrong
}

// comment is a comment that no mail reader looks into; Outlook does into those that begin with
// "[".
var comment = regexp.MustCompile(`(?s)<!--(?:-{0,2}>|(?:[^\[>-]|-[^>]).*?(?:--!?>|\z))`)

// left returns those of the addresses that stand in a text outside of comments, as it is or once
// its character references are resolved.
func left(text []byte, gone []string) []string {
	var out []string
	seen := string(comment.ReplaceAll(text, nil))
	unescaped := html.UnescapeString(seen)
	for _, address := range gone {
		whole := regexp.MustCompile(`(?:^|[^A-Za-z0-9])` + regexp.QuoteMeta(address) + `(?:$|[^A-Za-z0-9/_%=&?#~+.-]|\.(?:$|[^A-Za-z0-9]))`)
		if whole.MatchString(seen) || whole.MatchString(unescaped) {
			out = append(out, address)
		}
	}
	return out
}
