package rewrite

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/rewrite/canonical"
)

// DKIM signatures that came in (RFC 6376). One that cannot hold any more in a copy is taken out of it: a
// broken one tells mailboxes no more than none, and some take it for a forgery. Whether one holds is said
// without its key, so without the DNS: the hash over the body is still bh=, and the fields in h= are those
// that came in. ARC sets and Authentication-Results stay: they are the word of earlier hops about what they
// saw, and each is void or not by itself.

// maxSignatures is how many signatures of a message are looked at; those below go wherever there are more.
const maxSignatures = 16

// signature is a DKIM-Signature field that came in.
type signature struct {
	field                       int    // index of the header's fields
	bodyHash                    []byte // nil: it cannot be read, so it cannot hold
	relaxedHeader, relaxedBody  bool
	limit                       int64    // l=, -1 where there is none
	names                       []string // h=, lower-case
	domain, selector, algorithm string
}

// parseSignature reads the tags of RFC 6376 §3.5 that say what was signed.
func parseSignature(body string) (s signature, ok bool) {
	tags := map[string]string{}
	for tag := range strings.SplitSeq(body, ";") {
		name, value, found := strings.Cut(tag, "=")
		name = strings.TrimSpace(name)
		if !found && name == "" {
			continue
		}
		if _, twice := tags[name]; twice || !found {
			return s, false
		}
		tags[name] = strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, value)
	}
	s.domain, s.selector, s.algorithm = strings.ToLower(tags["d"]), tags["s"], strings.ToLower(tags["a"])
	s.names = strings.Split(strings.ToLower(tags["h"]), ":")
	if tags["v"] != "1" || s.domain == "" || s.selector == "" || tags["b"] == "" || !slices.Contains(s.names, "from") {
		return s, false
	}
	if s.algorithm != "rsa-sha256" && s.algorithm != "ed25519-sha256" { // RFC 8301 §3.1: SHA-1 proves nothing
		return s, false
	}
	header, forBody, _ := strings.Cut(strings.ToLower(tags["c"]), "/")
	for _, c := range []string{header, forBody} {
		if c != "" && c != "simple" && c != "relaxed" {
			return s, false
		}
	}
	s.relaxedHeader, s.relaxedBody = header == "relaxed", forBody == "relaxed"
	s.limit = -1
	if l, has := tags["l"]; has {
		n, err := strconv.ParseInt(l, 10, 64)
		if err != nil || n < 0 {
			return s, false
		}
		s.limit = n
	}
	var err error
	s.bodyHash, err = base64.StdEncoding.DecodeString(tags["bh"])
	return s, err == nil && len(s.bodyHash) > 0
}

// readSignatures notes the signatures of the message's header.
func (m *Message) readSignatures() {
	for i, f := range m.root.fields {
		if strings.EqualFold(f.name, "DKIM-Signature") {
			s, ok := parseSignature(f.body)
			if !ok || len(m.signatures) >= maxSignatures {
				s.bodyHash = nil
			}
			s.field = i
			m.signatures = append(m.signatures, s)
		}
	}
}

// assemble makes segments of the edits. Where the message came signed, what no longer holds is cut too.
func (m *Message) assemble(edits []rawEdit) ([]segment, error) {
	list := m.splice(edits)
	if len(m.signatures) == 0 {
		return list, nil
	}
	cut := make([]bool, len(m.signatures))
	sums, err := m.bodySums(list)
	if err != nil {
		return nil, err
	}
	for again := true; again; { // one may have signed another, which then goes
		header, err := m.headerOf(list)
		if err != nil {
			return nil, err
		}
		again = false
		for i := range m.signatures {
			sg := &m.signatures[i]
			if cut[i] || sg.bodyHash != nil && bytes.Equal(sg.bodyHash, sums[i]) && m.sameFields(sg, header) {
				continue
			}
			cut[i], again = true, true
			edits = append(edits, rawEdit{span: m.root.fields[sg.field].span})
		}
		if again {
			list = m.splice(edits)
		}
	}
	return list, nil
}

// splice puts the edits, in any order, into the source.
func (m *Message) splice(edits []rawEdit) []segment {
	top := m.root.header
	edits = slices.Clone(edits)
	if m.cutShort && !slices.ContainsFunc(edits, func(e rawEdit) bool { return e.start < e.end && e.end == top.end }) {
		edits = slices.Insert(edits, 0, rawEdit{span{top.end, top.end}, func(s *segments) { s.literal('\r', '\n') }})
	}
	sort.SliceStable(edits, func(i, j int) bool { return edits[i].start < edits[j].start })
	var s segments
	at := int64(0)
	for _, e := range edits {
		if e.start < at { // inside of what went as a whole
			continue
		}
		s.source(at, e.start)
		if e.write != nil {
			e.write(&s)
		}
		at = e.end
	}
	s.source(at, m.size)
	s.flush()
	return s.list
}

// bodySums returns what the body of a copy hashes to for each signature, nil where that is another in
// every person's copy, or is not asked.
func (m *Message) bodySums(list []segment) ([][]byte, error) {
	sums := make([][]byte, len(m.signatures))
	bodies := make([]*canonical.Body, len(m.signatures))
	head, err := headerLen(m.src, list)
	if err != nil {
		return nil, err
	}
	personal := slices.ContainsFunc(list[head:], segment.personal)
	var asked []io.Writer
	for i := range m.signatures {
		if sg := &m.signatures[i]; sg.bodyHash != nil && (sg.limit >= 0 || !personal) {
			bodies[i] = canonical.NewBody(sg.relaxedBody, sg.limit)
			asked = append(asked, bodies[i])
		}
	}
	if len(asked) == 0 {
		return sums, nil
	}
	to := &canonical.Splitter{Body: io.MultiWriter(asked...)}
	for i, sg := range list {
		if sg.personal() && i >= head {
			break
		}
		if err := sg.writeTo(to, m.src, sg.len()); err != nil {
			return nil, err
		}
	}
	for i, b := range bodies {
		if b == nil {
			continue
		}
		if sum, whole := b.Sum(); whole && (!personal || m.signatures[i].limit >= 0) {
			sums[i] = sum
		}
	}
	return sums, nil
}

// personal reports whether a segment is another one for each person.
func (sg segment) personal() bool { return sg.hole != noHole || sg.fill == base64Fill }

// headerMost is how much of a segment is looked at for the header that may be in it.
const headerMost = 2 * maxHeader

// writeTo writes a segment, or the first so many bytes of it, with nothing in its holes.
func (sg segment) writeTo(w io.Writer, src io.ReaderAt, most int64) error {
	if sg.lit != nil {
		_, err := w.Write(sg.lit)
		return err
	}
	if _, err := io.Copy(w, io.NewSectionReader(src, sg.start, min(sg.len(), most))); err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	return nil
}

// headerLen returns the index of the first segment behind which there is only body.
func headerLen(src io.ReaderAt, list []segment) (int, error) {
	to := &canonical.Splitter{Body: io.Discard}
	for i, sg := range list {
		if err := sg.writeTo(to, src, headerMost); err != nil {
			return 0, err
		}
		if to.InBody() {
			return i + 1, nil
		}
	}
	return len(list), nil
}

// headerOf returns the fields of a copy's header, with nothing in their holes, as they will be once the
// relay has put its own on top.
func (m *Message) headerOf(list []segment) (map[string][][]byte, error) {
	to := &canonical.Splitter{Body: io.Discard, Header: []byte("DKIM-Signature: \r\nReceived: \r\n")}
	for _, sg := range list {
		if err := sg.writeTo(to, m.src, headerMost); err != nil {
			return nil, err
		}
		if to.InBody() {
			break
		}
	}
	fields := map[string][][]byte{}
	p := &parser{w: newWindow(Bytes(to.Header), int64(len(to.Header)))}
	for _, f := range p.readHeader(0, true).fields {
		name := strings.ToLower(f.name)
		fields[name] = append(fields[name], to.Header[f.start:f.end])
	}
	return fields, nil
}

// sameFields reports whether the fields that sg signed are in a copy's header as they came in.
func (m *Message) sameFields(sg *signature, header map[string][][]byte) bool {
	before := map[string][]span{}
	for _, f := range m.root.fields {
		name := strings.ToLower(f.name)
		before[name] = append(before[name], f.span)
	}
	picked := map[string]int{}
	for _, name := range sg.names {
		picked[name]++
		old, now := len(before[name])-picked[name], len(header[name])-picked[name] // the last one first, §5.4.2
		if old < 0 && now < 0 {
			continue
		}
		if old < 0 || now < 0 {
			return false
		}
		sp := before[name][old]
		raw := make([]byte, sp.len())
		if _, err := m.src.ReadAt(raw, sp.start); err != nil && err != io.EOF {
			return false
		}
		if !bytes.Equal(canonical.AppendField(nil, raw, sg.relaxedHeader), canonical.AppendField(nil, header[name][now], sg.relaxedHeader)) {
			return false
		}
	}
	return true
}

// Signature is a DKIM-Signature field of the message, as far as it can be told without its key.
type Signature struct {
	Domain, Selector, Algorithm string   // d=, s=, a=
	Fields                      []string // h=, lower-case
	BodyHolds                   bool     // the body still has the hash that was signed
}

// Signatures returns the signatures of the message, the topmost first, without those that cannot be read.
// The error is one of reading the source.
func (m *Message) Signatures() ([]Signature, error) {
	sums, err := m.bodySums([]segment{{span: span{0, m.size}}})
	if err != nil {
		return nil, err
	}
	var all []Signature
	for i, s := range m.signatures {
		if s.bodyHash != nil {
			all = append(all, Signature{s.domain, s.selector, s.algorithm, s.names, bytes.Equal(s.bodyHash, sums[i])})
		}
	}
	return all, nil
}
