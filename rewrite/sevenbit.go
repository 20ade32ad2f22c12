package rewrite

import (
	"fmt"
	"io"
	"strings"
)

// sevenBitParts makes 7bit of what is not written with its edits: the other parts with bytes over
// 127, and the containers that say 8bit (RFC 2045 §6.4).
func (m *Message) sevenBitParts(p *part, wrapped bool) ([]rawEdit, error) {
	var edits []rawEdit
	if len(p.children) > 0 {
		if p.encoding == "8bit" || p.encoding == "binary" {
			edits = append(edits, p.encodedFields("", "7bit")...)
		}
		for _, c := range p.children {
			more, err := m.sevenBitParts(c, wrapped)
			if err != nil {
				return nil, err
			}
			edits = append(edits, more...)
		}
		return edits, nil
	}
	for _, t := range m.texts {
		if t.part == p && !wrapped {
			return nil, nil // written with its edits
		}
	}
	if parseTransfer(p.encoding) == quotedPrintable || parseTransfer(p.encoding) == base64Transfer {
		return nil, nil
	}
	body, err := m.readPart(p)
	if err != nil || !hasEightBit(body) {
		return nil, err
	}
	switch {
	case parseTransfer(p.encoding) == unknownTransfer:
		return nil, fmt.Errorf("%w: its encoding is not known", ErrEightBit)
	case wrapped, p.inSigned():
		return nil, fmt.Errorf("%w: it is signed", ErrEightBit)
	case strings.HasPrefix(p.typ.value, "message/"), strings.HasPrefix(p.typ.value, "multipart/"):
		return nil, fmt.Errorf("%w: it holds a message", ErrEightBit) // RFC 2046 §5.2.1
	}
	edits = p.encodedFields("", "base64")
	return append(edits, rawEdit{p.content, func(s *segments) {
		p.separate(s)
		s.lit = appendBase64(s.lit, body)
	}}), nil
}

func (p *part) inSigned() bool {
	for ; p != nil; p = p.parent {
		if p.typ.value == "multipart/signed" {
			return true
		}
	}
	return false
}

// readPart reads a part's body. One that is too long is searched, not kept.
func (m *Message) readPart(p *part) ([]byte, error) {
	if p.content.len() <= 0 {
		return nil, nil
	}
	if p.content.len() > maxText {
		w := newWindow(io.NewSectionReader(m.src, p.content.start, p.content.len()), p.content.len())
		if w.eightBit() {
			return nil, fmt.Errorf("%w: a part is too long", ErrEightBit)
		}
		return nil, nil
	}
	b := make([]byte, p.content.len())
	if _, err := m.src.ReadAt(b, p.content.start); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	return b, nil
}
