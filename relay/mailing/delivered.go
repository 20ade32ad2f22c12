package mailing

import (
	"slices"
	"strings"

	"github.com/consentgate/consentgate/rewrite"
)

// Delivered is what became of a copy between the gateway and the mailbox.
type Delivered struct {
	Fetched      []rewrite.Finding // put in: what a reader fetches on opening, pixels above all, and requests for receipts
	Changed      []ChangedLink     // links that go elsewhere than they were sent
	Counters     []rewrite.Finding // put in: links through a known counter, and pings
	Links        []rewrite.Finding // put in: other links
	RemovedLinks []rewrite.Finding
	// Fields are those of Watched that came otherwise than they were sent, or did not come.
	Fields     []string
	Signatures []BrokenSignature
	Alike      float64 // the share of the addresses that were sent and have come, or have a counterpart; 1 where there were none
}

// ChangedLink is a link and what stands in its place.
type ChangedLink struct{ Sent, Received rewrite.Finding }

// BrokenSignature is a signature that held when the copy was sent.
type BrokenSignature struct {
	rewrite.Signature
	Gone   bool     // it has not come
	Fields []string // signed fields that were changed, lower-case
}

// Watched are the header fields whose loss a reader pays for.
var Watched = []string{"List-Unsubscribe", "List-Unsubscribe-Post"}

// Tracked reports whether something now tells of the reader what the copy as it was sent did not.
func (d *Delivered) Tracked() bool {
	return len(d.Fetched)+len(d.Changed)+len(d.Counters) > 0
}

// CompareDelivered holds a copy as it reached the mailbox against the copy as it left. Both have to be parsed
// with Options.Everything and no LinkPrefix. The error is one of reading them.
func CompareDelivered(sent, received *rewrite.Message) (*Delivered, error) {
	d := &Delivered{Alike: 1}
	kept, all := 0, 0
	for _, kind := range []rewrite.Kind{rewrite.OpenTracker, rewrite.ClickTracker} {
		left, right := ofKind(sent, kind), ofKind(received, kind)
		same := align(left, right, exact)
		all += len(left)
		// What stands between two addresses that are the same: the one there now in place of the one there then.
		a, b := 0, 0
		for _, p := range append(same, pair{len(left), len(right)}) {
			gone, come := left[a:p.a], right[b:p.b]
			kept += min(len(gone), len(come))
			if p.a < len(left) {
				kept++
			}
			a, b = p.a+1, p.b+1
			if kind == rewrite.OpenTracker {
				d.Fetched = append(d.Fetched, come...)
				continue
			}
			n := min(len(gone), len(come))
			for i := range n {
				d.Changed = append(d.Changed, ChangedLink{gone[i], come[i]})
			}
			d.RemovedLinks = append(d.RemovedLinks, gone[n:]...)
			for _, f := range come[n:] {
				if f.Rule != "" && f.Rule != "identifier" {
					d.Counters = append(d.Counters, f)
				} else {
					d.Links = append(d.Links, f)
				}
			}
		}
	}
	if all > 0 {
		d.Alike = float64(kept) / float64(all)
	}
	for _, name := range Watched {
		if !slices.Equal(spaced(sent.Fields(name)), spaced(received.Fields(name))) {
			d.Fields = append(d.Fields, name)
		}
	}
	var err error
	d.Signatures, err = brokenSignatures(sent, received)
	return d, err
}

// ofKind are the findings of a kind, in order. A tracking pixel that was sent with consent is one of them.
func ofKind(m *rewrite.Message, kind rewrite.Kind) []rewrite.Finding {
	var all []rewrite.Finding
	for _, f := range m.Findings() {
		if f.Kind == kind {
			all = append(all, f)
		}
	}
	return all
}

// exact is what an address has in common with its like.
func exact(f rewrite.Finding) string { return f.Vector + " " + f.URL }

// spaced makes one space of all white space, since folding is free.
func spaced(bodies []string) []string {
	out := make([]string, len(bodies))
	for i, body := range bodies {
		out[i] = strings.Join(strings.Fields(body), " ")
	}
	return out
}

func brokenSignatures(sent, received *rewrite.Message) ([]BrokenSignature, error) {
	before, err := sent.Signatures()
	if err != nil {
		return nil, err
	}
	now, err := received.Signatures()
	if err != nil {
		return nil, err
	}
	var broken []BrokenSignature
	for _, s := range before {
		if !s.BodyHolds {
			continue
		}
		i := slices.IndexFunc(now, func(o rewrite.Signature) bool {
			return o.Domain == s.Domain && o.Selector == s.Selector && o.Algorithm == s.Algorithm && slices.Equal(o.Fields, s.Fields)
		})
		if i < 0 {
			broken = append(broken, BrokenSignature{Signature: s, Gone: true})
			continue
		}
		if changed := changedFields(s.Fields, sent, received); !now[i].BodyHolds || len(changed) > 0 {
			broken = append(broken, BrokenSignature{Signature: now[i], Fields: changed})
		}
	}
	return broken, nil
}

// changedFields returns the names in h= whose fields, the last ones first, are not what they were.
func changedFields(names []string, sent, received *rewrite.Message) []string {
	count := map[string]int{}
	for _, name := range names {
		count[name]++
	}
	var changed []string
	for _, name := range names {
		n := count[name]
		if n == 0 {
			continue
		}
		count[name] = 0
		last := func(m *rewrite.Message) []string {
			all := spaced(m.Fields(name))
			return all[max(0, len(all)-n):]
		}
		if !slices.Equal(last(sent), last(received)) {
			changed = append(changed, name)
		}
	}
	return changed
}
