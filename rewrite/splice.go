package rewrite

import (
	"bytes"
	"slices"
)

// segment is a stretch of a plan: a span of the source, literal bytes, or a hole.
type segment struct {
	span
	lit  []byte
	hole hole
	fill fill
	// of base64Fill: what is to be encoded, and how much of a line is before it
	pieces []piece
}

// fill says how the text for a hole is encoded.
type fill uint8

const (
	plainFill  fill = iota
	qpFill          // quoted-printable, from the begin of a line
	base64Fill      // base64 of pieces, from the begin of a line
)

// segments collects the stretches of a plan.
type segments struct {
	list []segment
	lit  []byte // open literal, not yet in list
}

func (s *segments) literal(b ...byte) { s.lit = append(s.lit, b...) }

func (s *segments) flush() {
	if len(s.lit) > 0 {
		s.list = append(s.list, segment{lit: s.lit})
		s.lit = nil
	}
}

func (s *segments) source(from, to int64) {
	if from >= to {
		return
	}
	s.flush()
	s.list = append(s.list, segment{span: span{from, to}})
}

func (s *segments) hole(h hole, f fill) {
	s.flush()
	s.list = append(s.list, segment{hole: h, fill: f})
}

// splice appends the part's body with edits applied, in its own transfer encoding. Outside of
// the edits the bytes are the source's own; only base64 is encoded anew, since all behind an
// insertion moves.
func (t *text) splice(s *segments, edits []edit) {
	at := t.part.content.start
	s.list = slices.Grow(s.list, 2*len(edits)+2)
	switch t.enc {
	case base64Transfer:
		t.spliceBase64(s, edits)
		return
	case identity:
		done := 0
		for _, e := range edits {
			s.source(at+int64(done), at+int64(e.start))
			for _, p := range e.pieces {
				if p.hole != noHole {
					s.hole(p.hole, plainFill)
				} else {
					s.literal(p.lit...)
				}
			}
			done = e.end
		}
		s.source(at+int64(done), t.part.content.end)
		return
	}
	done := 0
	for i := 0; i < len(edits); {
		// Edits that touch are written in one go, so that line ends are seen for what they are.
		j := i + 1
		pieces := slices.Clone(edits[i].pieces)
		for j < len(edits) && edits[j].start == edits[j-1].end {
			pieces = append(pieces, edits[j].pieces...)
			j++
		}
		from, to := int(edits[i].raw.start), int(edits[j-1].raw.end)
		if edits[i].start == edits[j-1].end { // nothing but insertions
			to = from
		}
		s.source(at+int64(done), at+int64(from))
		t.spliceQP(s, pieces, from, to)
		done, i = to, j
	}
	s.source(at+int64(done), t.part.content.end)
}

// spliceQP writes pieces in place of raw[from:to], with soft line breaks where a line would get
// too long.
func (t *text) spliceQP(s *segments, pieces []piece, from, to int) {
	// A wrong line may be as long as the part: 100 characters of it tell enough.
	line := t.raw[max(0, from-100):from]
	col := len(line) - 1 - bytes.LastIndexByte(line, '\n')
	rest := t.raw[to:min(len(t.raw), to+100)]
	if eol := bytes.IndexByte(rest, '\n'); eol >= 0 {
		rest = trimEOL(rest[:eol+1])
	}
	trailing := len(bytes.TrimRight(rest, " \t")) == 0 // nothing but a hard line end follows
	if len(pieces) == 0 {
		if trailing && col > 0 && (t.raw[from-1] == ' ' || t.raw[from-1] == '\t') {
			s.literal('=', '\r', '\n') // else the white space before would be no more text
		}
		return
	}
	if col > 0 && (t.raw[from-1] == ' ' || t.raw[from-1] == '\t') && bytes.HasPrefix(pieces[0].lit, []byte("\r\n")) {
		s.literal('=', '\r', '\n') // the same
		col = 0
	}
	col = appendPiecesQP(s, pieces, col, trailing)
	if col+len(rest) > 76 {
		s.literal('=', '\r', '\n')
	}
}

// appendPiecesQP writes pieces as quoted-printable from column col on. final says that a hard
// line end or the end of the part follows.
func appendPiecesQP(s *segments, pieces []piece, col int, final bool) int {
	pieces = joinLiterals(pieces)
	for i, p := range pieces {
		if p.hole != noHole {
			if col > 0 {
				s.literal('=', '\r', '\n')
			}
			s.hole(p.hole, qpFill)
			col = 76 // not known: what follows begins a new line
			continue
		}
		lit := p.lit
		if col >= 76 && !bytes.HasPrefix(lit, []byte("\r\n")) && len(lit) > 0 {
			s.literal('=', '\r', '\n')
			col = 0
		}
		last := i == len(pieces)-1
		if n := len(lit); last && !final && n > 0 && (lit[n-1] == ' ' || lit[n-1] == '\t') {
			// White space in the middle of a line needs no escape; appendQP escapes the last.
			s.lit, col = appendQP(s.lit, lit[:n-1], col)
			if col+1 > 75 {
				s.literal('=', '\r', '\n')
				col = 0
			}
			s.literal(lit[n-1])
			col++
			continue
		}
		s.lit, col = appendQP(s.lit, lit, col)
	}
	return col
}

// joinLiterals makes one piece of literals that follow one another, so that white space at the
// end of a piece is at the end of a line or before a hole.
func joinLiterals(pieces []piece) []piece {
	if len(pieces) < 2 {
		return pieces
	}
	var out []piece
	var lit []byte
	for _, p := range pieces {
		if p.hole == noHole {
			lit = append(lit, p.lit...)
			continue
		}
		if len(lit) > 0 {
			out, lit = append(out, piece{lit: lit}), nil
		}
		out = append(out, p)
	}
	if len(lit) > 0 {
		out = append(out, piece{lit: lit})
	}
	return out
}

// spliceBase64 writes the whole body anew: what is before the first hole is encoded now, the
// rest for each person.
func (t *text) spliceBase64(s *segments, edits []edit) {
	var fixed []byte
	var open []piece // from the first hole on
	add := func(b []byte) {
		if len(open) == 0 {
			fixed = append(fixed, b...)
		} else if len(b) > 0 {
			open = append(open, piece{lit: b})
		}
	}
	done := 0
	for _, e := range edits {
		add(t.plain[done:e.start])
		for _, p := range e.pieces {
			if p.hole != noHole {
				if len(open) == 0 {
					n := len(fixed) / base64Line * base64Line
					open = append(open, piece{lit: fixed[n:]})
					fixed = fixed[:n]
				}
				open = append(open, p)
			} else {
				add(p.lit)
			}
		}
		done = e.end
	}
	add(t.plain[done:])
	s.lit = appendBase64(s.lit, fixed)
	if len(open) > 0 {
		if len(fixed) > 0 {
			s.literal('\r', '\n')
		}
		s.flush()
		s.list = append(s.list, segment{fill: base64Fill, pieces: open})
	}
	if bytes.HasSuffix(t.raw, []byte("\n")) {
		s.literal('\r', '\n')
	}
}
