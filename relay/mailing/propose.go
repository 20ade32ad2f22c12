package mailing

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// proposals are the rules proposed so far.
type proposals struct {
	texts []string
	known map[string]int // by what a rule is about, without its name and example
}

// add returns the index of the rule that covers p, -1 where none can be proposed.
func (all *proposals) add(p *Personal) int {
	note, text := propose(p)
	if text == "" {
		return -1
	}
	about := ""
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "name = ") && !strings.HasPrefix(line, "example = ") && !strings.HasPrefix(line, "destination = ") || strings.HasPrefix(text, "[[identifier]]") {
			about += line + "\n"
		}
	}
	if i, ok := all.known[about]; ok {
		return i
	}
	if n := len(all.texts); n > 0 && !strings.HasPrefix(text, "[[identifier]]") { // names are unique
		text = strings.Replace(text, "\"\nprovider", "-"+strconv.Itoa(n+1)+"\"\nprovider", 1)
	}
	if p.Sort == Picture {
		text = "# " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n# ") + "\n"
	}
	all.known[about] = len(all.texts)
	all.texts = append(all.texts, note+text)
	return len(all.texts) - 1
}

// propose writes a rule for the rules_file that covers the address, with a comment before it.
func propose(p *Personal) (note, text string) {
	u := split(p.Finding.URL)
	name := strings.ReplaceAll(strings.TrimPrefix(u.host, "www."), ".", "-")
	if p.Sort != Link {
		if p.Sort == Picture {
			note = "# Uncertain: a picture that people see. With this rule it is missing from copies without consent.\n"
		}
		if text = (rule{name + "-open", u.host, trackers.Open, p}).text("", ""); loads(text) {
			return note, text
		}
		return "", ""
	}
	r := rule{name + "-click", u.host, trackers.Click, p}
	for _, d := range decoders(u) {
		if text := r.text(d.decode, d.destination); loads(text) {
			return "", text
		}
	}
	if names := onlyParameters(p.Differs); len(names) > 0 {
		for _, n := range names {
			text += fmt.Sprintf("[[identifier]]\nname = %s\nprovider = %s\n\n", quote(n), quote(u.host))
		}
		if loads(text) {
			return "# If these parameters only name the person. If the address is a counter, it needs a [[rule]].\n", text
		}
	}
	if text = r.text("", ""); loads(text) {
		return "# Its destination cannot be read: what becomes of it is what opaque_links says.\n", text
	}
	return "", ""
}

func loads(text string) bool {
	_, err := trackers.Load([]byte(text))
	return err == nil
}

// onlyParameters returns the names of the parameters that differ, if nothing else does.
func onlyParameters(differs []string) []string {
	var names []string
	for _, d := range differs {
		n, ok := strings.CutPrefix(d, "parameter ")
		if !ok || n == "" {
			return nil
		}
		names = append(names, n)
	}
	return names
}

// decoder is a way to read a destination out of an address, in the words of rules.toml.
type decoder struct{ decode, destination string }

// decoders are the ways that yield a web address.
func decoders(u address) []decoder {
	var out []decoder
	plain := func(s string) (string, bool) {
		text, err := url.PathUnescape(s)
		return text, err == nil && isWebAddress(text)
	}
	encoded := func(s string) (string, bool) {
		s, err := url.PathUnescape(s)
		if err != nil {
			return "", false
		}
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "="))
		return string(b), err == nil && isWebAddress(string(b))
	}
	for _, p := range u.params {
		if text, err := url.QueryUnescape(p.value); err == nil && isWebAddress(text) {
			out = append(out, decoder{"query " + p.name, text})
		}
		if text, ok := encoded(p.value); ok {
			out = append(out, decoder{"query-base64 " + p.name, text})
		}
	}
	for i, s := range u.segments {
		n := i + 1
		if i == len(u.segments)-1 {
			n = -1
		}
		if text, ok := plain(s); ok {
			out = append(out, decoder{"segment " + strconv.Itoa(n), text})
		}
		if text, ok := encoded(s); ok {
			out = append(out, decoder{"segment-base64 " + strconv.Itoa(n), text})
		}
	}
	return out
}

// rule is a [[rule]] to be written.
type rule struct {
	name, provider string
	kind           trackers.Kind
	of             *Personal
}

func (r rule) text(decode, destination string) string {
	u := split(r.of.Finding.URL)
	host := u.host
	if r.differs("host") {
		_, parent, _ := strings.Cut(host, ".")
		host = "*." + parent
	}
	host, _, _ = strings.Cut(host, ":")
	var b strings.Builder
	fmt.Fprintf(&b, "[[rule]]\nname = %s\nprovider = %s\nkind = %s\nhosts = [%s]\n", quote(r.name), quote(r.provider), quote(string(r.kind)), quote(host))
	path := ""
	for i, s := range u.segments {
		n := i + 1
		if i == len(u.segments)-1 {
			n = -1
		}
		read := decode == fmt.Sprintf("segment %d", n) || decode == fmt.Sprintf("segment-base64 %d", n)
		path += "/" + r.segment(i, s, read)
	}
	if path == "" {
		path = "/"
	}
	fmt.Fprintf(&b, "path = %s\n", quote(path))
	var query []string
	for _, p := range u.params {
		if p.name != "" && (r.differs("parameter "+p.name) || decode == "query "+p.name || decode == "query-base64 "+p.name) && !strings.ContainsAny(p.name, "*{}%") {
			query = append(query, quote(p.name))
		}
	}
	if len(query) > 0 {
		fmt.Fprintf(&b, "query = [%s]\n", strings.Join(query, ", "))
	}
	if decode != "" {
		fmt.Fprintf(&b, "decode = %s\n", quote(decode))
	}
	fmt.Fprintf(&b, "example = %s\n", quote(r.of.Finding.URL))
	if decode != "" {
		fmt.Fprintf(&b, "destination = %s\n", quote(destination))
	}
	return b.String() + "\n"
}

func (r rule) differs(where string) bool {
	for _, d := range r.of.Differs {
		if d == where {
			return true
		}
	}
	return false
}

// segment is the pattern for a segment of the path: itself where all copies have it, else what its
// text in all copies consists of.
func (r rule) segment(i int, own string, read bool) string {
	if !r.differs(fmt.Sprintf("path segment %d", i+1)) && !read && !strings.ContainsAny(own, "*{}%") {
		return own
	}
	all := []string{own}
	for _, o := range r.of.Others {
		if u := split(o); i < len(u.segments) {
			all = append(all, u.segments[i])
		}
	}
	stem, ext := own, ""
	if dot := strings.LastIndexByte(own, '.'); dot > 0 && len(own)-dot < 6 {
		stem, ext = own[:dot], own[dot:]
		for k, s := range all {
			cut, ok := strings.CutSuffix(s, ext)
			if !ok {
				return "*"
			}
			all[k] = cut
		}
	}
	shortest := len(stem)
	num, hex := true, true
	for _, s := range all {
		shortest = min(shortest, len(s))
		for _, c := range s {
			num = num && c >= '0' && c <= '9'
			hex = hex && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
		}
	}
	switch {
	case shortest > 0 && num:
		return "{num}" + ext
	case shortest >= 8 && hex:
		return "{hex 8+}" + ext
	}
	return "*" + ext
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
