package rewrite

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
)

// transfer is a Content-Transfer-Encoding (RFC 2045 §6).
type transfer uint8

const (
	identity transfer = iota // 7bit, 8bit, binary
	quotedPrintable
	base64Transfer
	unknownTransfer // a reader cannot decode it either, or does what we cannot know
)

func parseTransfer(s string) transfer {
	switch s {
	case "", "7bit", "8bit", "binary", "7-bit", "8-bit", "none", "8bits", "7bits":
		return identity
	case "quoted-printable":
		return quotedPrintable
	case "base64":
		return base64Transfer
	}
	return unknownTransfer
}

// text is the body of a text part: as it stands in the message, decoded, and with what a copy
// may need changed.
type text struct {
	part    *part
	enc     transfer
	charset charset
	form    form
	amp     bool   // goes as a whole without both consents
	raw     []byte // encoded
	plain   []byte // decoded; in UTF-8 where charset.wide, else in the part's own charset
	length  int    // of plain
	shared  bool   // plain is memory of the source's, which the caller may use again once copies are made
	lent    bool   // plain is memory of the parse's; no copy needs it, so it is nil once the message is parsed
	jumps   []jump // of quoted-printable, until the edits are found: where plain and raw run apart
	near    int    // in jumps: that of the place that was asked for last
	ascii   bool   // of text/plain: plain has no byte over 127
	// readable is false where nobody can say in which character set a reader will read it.
	readable bool

	edits  []edit     // in plain, settled
	spot   footerSpot // where a footer stands if there is to be one
	footer bool       // this text takes one
	own    uint64     // which of Message.own a reader sees here
	placed bool       // a placeholder that a reader sees is here
}

// decode fills plain from raw, with memory of s.
func (t *text) decode(s *scratch) {
	switch t.enc {
	case quotedPrintable:
		var room []byte
		if t.lent = t.form == htmlForm; t.lent { // its copies are made of raw
			room = s.room(len(t.raw) + qpRoom)
		}
		t.plain, t.jumps = decodeQP(t.raw, room, s.jumps)
		s.jumps = t.jumps[:0]
	case base64Transfer:
		t.plain = decodeBase64(t.raw)
	default:
		t.plain, t.shared = t.raw, true
	}
	t.charset, t.readable = t.charset.sniff(t.plain, t.form == htmlForm)
	if t.charset.wide {
		t.plain = bytes.TrimPrefix(t.charset.decode(t.plain), []byte("\uFEFF"))
		t.plain = bytes.ReplaceAll(bytes.ReplaceAll(t.plain, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		t.shared, t.lent = false, false
	}
	t.length = len(t.plain)
	t.ascii = t.form == plainForm && !hasEightBit(t.plain)
}

// jump says that the byte at plain[text] begins at raw[raw], and the ones behind it follow one
// by one until the next jump. A text is no longer than maxText.
type jump struct{ text, raw int32 }

// decodeQP decodes quoted-printable as lenient readers do (RFC 2045 §6.7): a wrong escape
// stands for itself, lower-case digits and bare LF are taken, white space at the end of a line
// is not part of the text. jumps is never empty. Where room has a capacity of qpRoom more than raw has bytes,
// plain is there; jumps are put into the memory of old.
func decodeQP(raw, room []byte, old []jump) (plain []byte, jumps []jump) {
	plain = slices.Grow(room[:0], len(raw)+qpRoom)[:len(raw)+qpRoom]
	jumps = append(old[:0], jump{})
	n, apart := 0, 0 // bytes of plain; raw offset minus text offset, as the last jump says
	for i := 0; i < len(raw); {
		from := i // from here to i, raw stands for itself
		i, n = copyUntil(plain, n, raw, i)
		if i > from && i-n != apart {
			apart = i - n
			jumps = append(jumps, jump{int32(from - apart), int32(from)})
		}
		switch {
		case i == len(raw), raw[i] == '\n':
			end := i // of what the line says
			if end < len(raw) && end > from && raw[end-1] == '\r' {
				end--
			}
			text := end
			for text > from && (raw[text-1] == ' ' || raw[text-1] == '\t') {
				text--
			}
			n -= i - text
			i = min(i+1, len(raw))
			if end-n != apart && end < i {
				apart = end - n
				jumps = append(jumps, jump{int32(n), int32(end)})
			}
			n += copy(plain[n:], raw[end:i])
		case i+2 < len(raw) && unhex(raw[i+1])|unhex(raw[i+2]) >= 0:
			if i-n != apart {
				apart = i - n
				jumps = append(jumps, jump{int32(n), int32(i)})
			}
			for { // they come in rows
				plain[n] = byte(unhex(raw[i+1])<<4 | unhex(raw[i+2]))
				i, n = i+3, n+1
				if i+2 >= len(raw) || raw[i] != '=' || unhex(raw[i+1])|unhex(raw[i+2]) < 0 {
					break
				}
				apart = i - n
				jumps = append(jumps, jump{int32(n), int32(i)})
			}
		default:
			if next, soft := softBreak(raw, i); soft {
				i = next
				continue
			}
			if i-n != apart {
				apart = i - n
				jumps = append(jumps, jump{int32(n), int32(i)})
			}
			plain[n] = '='
			i, n = i+1, n+1
		}
	}
	return plain[:n:n], jumps
}

// qpRoom is how many bytes more than it has must be there for what is decoded: words are copied.
const qpRoom = 8

// copyUntil copies raw from i on to dst[n:], up to the first '=' or LF, and returns where it came to in both.
// dst must have room for 7 bytes more than raw.
func copyUntil(dst []byte, n int, raw []byte, i int) (int, int) {
	const ones = 0x0101010101010101
	for i+8 <= len(raw) {
		word := binary.LittleEndian.Uint64(raw[i:])
		binary.LittleEndian.PutUint64(dst[n:], word)
		equals, feeds := word^'='*ones, word^'\n'*ones
		if found := ((equals-ones)&^equals | (feeds-ones)&^feeds) & highs; found != 0 { // the lowest of these bits is right
			k := bits.TrailingZeros64(found) / 8
			return i + k, n + k
		}
		i, n = i+8, n+8
	}
	for i < len(raw) && raw[i] != '=' && raw[i] != '\n' {
		dst[n] = raw[i]
		i, n = i+1, n+1
	}
	return i, n
}

// softBreak reports whether the '=' at raw[i] is the last of its line but for white space, and where
// the next line begins.
func softBreak(raw []byte, i int) (next int, ok bool) {
	for i++; i < len(raw) && (raw[i] == ' ' || raw[i] == '\t'); {
		i++
	}
	switch rest := raw[i:]; {
	case len(rest) == 0:
		return i, true
	case rest[0] == '\n':
		return i + 1, true
	case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
		return i + 2, true
	}
	return 0, false
}

// rawPlace is a range of quoted-printable. A text is no longer than maxText.
type rawPlace struct{ start, end int32 }

// rawPlace returns the encoded range of plain[start:end]. Where that is empty, start is where something can
// be put in, and end is where what stands before it ends.
func (t *text) rawPlace(start, end int) rawPlace {
	p := rawPlace{end: int32(t.rawEnd(end))}
	if p.start = p.end; end > start || start < len(t.plain) { // else before white space and soft line ends that are not text
		p.start = int32(t.rawAt(start))
	}
	return p
}

// rawAt returns where the byte plain[i] begins in raw, which is quoted-printable; the end of raw for the end
// of plain.
func (t *text) rawAt(i int) int {
	if i >= len(t.plain) {
		return len(t.raw)
	}
	low := t.near // the jump that is looked for is not before it
	if int(t.jumps[low].text) > i {
		low = 0
	}
	high := low + 1 // and before this one
	for step := 1; high < len(t.jumps) && int(t.jumps[high].text) <= i; step *= 2 {
		low, high = high, min(high+step, len(t.jumps))
	}
	for high-low > 1 {
		if middle := (low + high) / 2; int(t.jumps[middle].text) <= i {
			low = middle
		} else {
			high = middle
		}
	}
	t.near = low
	return int(t.jumps[low].raw) + i - int(t.jumps[low].text)
}

// rawEnd returns where the byte plain[i-1] ends in raw, which is quoted-printable.
func (t *text) rawEnd(i int) int {
	if i == 0 {
		return 0
	}
	at := t.rawAt(i - 1)
	if t.raw[at] == '=' && at+2 < len(t.raw) && unhex(t.raw[at+1]) >= 0 && unhex(t.raw[at+2]) >= 0 {
		return at + 3
	}
	return at + 1
}

// decodeBase64 decodes as lenient readers do (RFC 2045 §6.8): what is not of the alphabet is
// passed over, a piece that ends with padding may be followed by another.
func decodeBase64(raw []byte) []byte {
	plain := make([]byte, 0, base64.StdEncoding.DecodedLen(len(raw)))
	var bits uint32
	n := 0
	for _, c := range raw {
		v := base64Value[c]
		if v < 0 {
			if c == '=' {
				bits, n = 0, 0
			}
			continue
		}
		bits, n = bits<<6|uint32(v), n+6
		if n >= 8 {
			n -= 8
			plain = append(plain, byte(bits>>n))
		}
	}
	return plain
}

// base64Value is the value of each character of the alphabet, -1 for all others.
var base64Value = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = int8(i)
	}
	return t
}()

// base64Line is how many bytes go into a line of 76 characters.
const base64Line = 57

// appendBase64 appends plain in lines of 76 characters. Only the last line has no line end.
func appendBase64(dst, plain []byte) []byte {
	for len(plain) > base64Line {
		dst = base64.StdEncoding.AppendEncode(dst, plain[:base64Line])
		dst = append(dst, '\r', '\n')
		plain = plain[base64Line:]
	}
	return base64.StdEncoding.AppendEncode(dst, plain)
}

const upperHex = "0123456789ABCDEF"

// standsQP are the bytes that stand for themselves in quoted-printable wherever they are (RFC 2045 §6.7).
var standsQP = func() (t [256]bool) {
	for c := '!'; c <= '~'; c++ {
		t[c] = c != '='
	}
	return t
}()

// appendQP appends plain in quoted-printable. col is how many characters stand on the line
// already; the new one is returned. No line gets longer than 76 characters, CRLF in plain is a
// line end, and white space before one is escaped (RFC 2045 §6.7).
func appendQP(dst, plain []byte, col int) ([]byte, int) {
	for i := 0; i < len(plain); i++ {
		from := i // what stands for itself, and fits
		for most := min(len(plain), i+75-col); i < most && standsQP[plain[i]]; {
			i++
		}
		if i > from {
			dst, col = append(dst, plain[from:i]...), col+i-from
			if i == len(plain) {
				break
			}
		}
		c := plain[i]
		if c == '\r' && i+1 < len(plain) && plain[i+1] == '\n' {
			dst, col = append(dst, '\r', '\n'), 0
			i++
			continue
		}
		literal := standsQP[c]
		if c == ' ' || c == '\t' {
			literal = i+1 < len(plain) && plain[i+1] != '\r'
		}
		width := 3
		if literal {
			width = 1
		}
		if col+width > 75 {
			dst, col = append(dst, '=', '\r', '\n'), 0
		}
		if literal {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', upperHex[c>>4], upperHex[c&15])
		}
		col += width
	}
	return dst, col
}
