package rewrite

import "io"

// Action is what became of a finding in a copy.
type Action string

const (
	Kept     Action = "kept"
	Removed  Action = "removed"
	Undone   Action = "undone"   // the link goes straight to its destination, or one counter less far from it
	Stripped Action = "stripped" // parameters that name the person were removed
	Unlinked Action = "unlinked" // the text stays, the link is gone
	Inserted Action = "inserted"
	Guarded  Action = "guarded" // Variant.Guard's address stands in its place
)

// Outcome is what became of one finding in one copy.
type Outcome struct {
	*Finding
	Action Action
}

// Copy is one person's copy: spans of the original and literals. It can be read again and again,
// as long as the original can, by one goroutine at a time.
type Copy struct {
	src  io.ReaderAt
	head [][]byte // prepended fields, first one first
	segs []segment
	n    int64
	plan *plan
}

// copy fills p's holes.
func (p *plan) copy(src io.ReaderAt, v Variant) *Copy {
	c := &Copy{src: src, segs: make([]segment, len(p.segs)), plan: p}
	copy(c.segs, p.segs)
	c.n = p.fixed
	value := v.values(p.targets)
	var encoded []byte // all that is filled in as quoted-printable; what is cut from it stays where it is
	for i := range c.segs {
		sg := &c.segs[i]
		switch {
		case sg.hole != noHole && sg.fill == qpFill:
			start := len(encoded)
			encoded, _ = appendQP(encoded, value(sg.hole), 0)
			sg.lit = encoded[start:len(encoded):len(encoded)]
		case sg.hole != noHole:
			sg.lit = value(sg.hole)
		case sg.fill == base64Fill:
			var plain []byte
			for _, pc := range sg.pieces {
				if pc.hole != noHole {
					plain = append(plain, value(pc.hole)...)
				} else {
					plain = append(plain, pc.lit...)
				}
			}
			sg.lit = appendBase64(nil, plain)
		default:
			continue
		}
		c.n += int64(len(sg.lit))
	}
	return c
}

// values returns what fills each hole. Guard is asked once for each of targets that stands in the copy.
func (v *Variant) values(targets []Target) func(hole) []byte {
	var guarded [][]byte
	return func(h hole) []byte {
		switch h {
		case holeLink:
			return []byte(v.Link)
		case holeOneClick:
			return []byte(v.OneClick)
		case holeMailTo:
			return []byte(v.MailTo)
		}
		if guarded == nil {
			guarded = make([][]byte, len(targets))
		}
		i := h - firstTarget
		if guarded[i] == nil {
			guarded[i] = []byte(v.Guard(targets[i]))
		}
		return guarded[i]
	}
}

// Len is the copy's length in bytes.
func (c *Copy) Len() int64 { return c.n }

// Needs8Bit reports whether the copy has bytes over 127, so that the next hop must offer
// 8BITMIME (RFC 6152). It may be true for a copy whose only such bytes were cut.
func (c *Copy) Needs8Bit() bool { return c.plan.eightBit }

// Outcomes says what became of each finding. The slice is shared by all copies of the same
// kind and must not be changed.
func (c *Copy) Outcomes() []Outcome { return c.plan.outcomes }

// Prepend puts a complete header field, with its CRLF, before all others. The field must not
// be changed afterwards.
func (c *Copy) Prepend(field []byte) {
	c.head = append([][]byte{field}, c.head...)
	c.n += int64(len(field))
}

// WriteTo implements io.WriterTo. An error of the source is returned as it is; the writer has
// then seen a part of the copy.
func (c *Copy) WriteTo(w io.Writer) (int64, error) {
	var done int64
	for _, f := range c.head {
		n, err := w.Write(f)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	for i := range c.segs {
		sg := &c.segs[i]
		var n int64
		var err error
		if b, ok := c.src.(Bytes); ok && sg.lit == nil {
			var k int
			k, err = w.Write(b[sg.start:sg.end])
			n = int64(k)
		} else if sg.lit != nil {
			var k int
			k, err = w.Write(sg.lit)
			n = int64(k)
		} else if n, err = io.Copy(w, io.NewSectionReader(c.src, sg.start, sg.len())); err == nil && n < sg.len() {
			err = io.ErrUnexpectedEOF
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
