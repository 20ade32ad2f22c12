package rewrite

import "sort"

// variants is a set of the four kinds of copy, one bit each: bit 0 neither consent, bit 1 open
// only, bit 2 click only, bit 3 both.
type variants uint8

const (
	always       variants = 0b1111
	withoutOpen  variants = 0b0101
	withoutClick variants = 0b0011
	withoutBoth  variants = 0b0111 // in all but the copy with both consents
	withOpen     variants = 0b1010
	withClick    variants = 0b1100
)

func variantBit(open, click bool) variants {
	bit := 0
	if open {
		bit |= 1
	}
	if click {
		bit |= 2
	}
	return 1 << bit
}

// hole is a place in a plan that is filled for each person.
type hole int32

const (
	noHole       hole = iota
	holeLink          // Variant.Link
	holeOneClick      // Variant.OneClick
	holeMailTo        // Variant.MailTo

	firstTarget hole = 16 // from here on: Variant.Guard of Message.targets, by index
)

// piece is a bit of replacement text: literal bytes in the charset of the part, or a hole.
type piece struct {
	lit  []byte
	hole hole
}

func literal(s string) []piece {
	if s == "" {
		return nil
	}
	return []piece{{lit: []byte(s)}}
}

// edit replaces the text [start,end) of a part by pieces, in the variants named by when, and in guarded
// copies in those named by guarded, too.
type edit struct {
	start, end    int
	raw           rawPlace // of quoted-printable, once all are found
	when, guarded variants
	pieces        []piece
	finding       int // index into Message.findings, -1 for none
	action        Action
	linked        bool // only in copies that get a link of ours
	spared        bool // not for guarded copies with consent: they have another
}

// settle orders the edits and leaves out those inside of another: where edits overlap, the
// outer wins. Two that overlap without one holding the other become one that covers both, so
// that nothing that was to go stays.
func settle(edits []edit, done map[int]Action) []edit {
	sort.SliceStable(edits, func(i, j int) bool {
		if edits[i].start != edits[j].start {
			return edits[i].start < edits[j].start
		}
		if i, j := edits[i].end == edits[i].start, edits[j].end == edits[j].start; i || j {
			return i && !j // an insertion stands before what is replaced
		}
		return edits[i].end > edits[j].end
	})
	out := edits[:0]
	for _, e := range edits {
		if len(out) > 0 {
			last := &out[len(out)-1]
			if e.start < last.end {
				if e.end > last.end {
					last.end, last.raw.end = e.end, e.raw.end
				}
				if e.finding >= 0 {
					done[e.finding] = last.action
				}
				continue
			}
		}
		if e.finding >= 0 {
			done[e.finding] = e.action
		}
		out = append(out, e)
	}
	return out
}
