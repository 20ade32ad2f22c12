package htmltoken

import "bytes"

// declaration reads what begins with <! at start (§13.2.5.42).
func declaration(t *Token, src []byte, start int, foreign bool) {
	i := start + 2
	rest := src[i:]
	switch {
	case len(rest) >= 2 && rest[0] == '-' && rest[1] == '-':
		comment(t, src, start)
	case len(rest) >= 7 && EqualFold(rest[:7], "doctype"):
		// §13.2.5.53 to §13.2.5.68: a > ends it in every state, inside quotes too.
		untilAngle(t, Doctype, src, start, i+7)
	case foreign && len(rest) >= 7 && string(rest[:7]) == "[CDATA[":
		*t = Token{Kind: CDATA, Start: start, DataStart: i + 7}
		if j := bytes.Index(src[i+7:], []byte("]]>")); j >= 0 {
			t.DataEnd, t.End = i+7+j, i+7+j+3
		} else {
			t.DataEnd, t.End, t.Unterminated = len(src), len(src), true
		}
	default:
		bogus(t, src, start, i)
	}
}

// comment reads what begins with <!-- at start (§13.2.5.43 to §13.2.5.52). It ends at -->, at --!>, and
// also at > or -> directly behind the opening. A <!-- inside means nothing.
func comment(t *Token, src []byte, start int) {
	i := start + 4
	*t = Token{Kind: Comment, Start: start, DataStart: i}
	switch rest := src[i:]; {
	case len(rest) >= 1 && rest[0] == '>':
		t.DataEnd, t.End = i, i+1
		return
	case len(rest) >= 2 && rest[0] == '-' && rest[1] == '>':
		t.DataEnd, t.End = i, i+2
		return
	}
	for {
		j := bytes.Index(src[i:], []byte("--"))
		if j < 0 {
			break
		}
		i += j + 2
		for i < len(src) && src[i] == '-' {
			i++
		}
		rest := src[i:]
		if len(rest) >= 1 && rest[0] == '>' {
			t.DataEnd, t.End = i-2, i+1
			return
		}
		if len(rest) >= 2 && rest[0] == '!' && rest[1] == '>' {
			t.DataEnd, t.End = i-2, i+2
			return
		}
	}
	// What could have been the beginning of an end is no data (§13.2.5.50 to §13.2.5.52, end of file).
	t.End, t.Unterminated = len(src), true
	data := src[t.DataStart:]
	for _, begun := range [...]string{"--!", "--", "-"} {
		if bytes.HasSuffix(data, []byte(begun)) {
			data = data[:len(data)-len(begun)]
			break
		}
	}
	t.DataEnd = t.DataStart + len(data)
}

// bogus reads a bogus comment, whose data begin at data and end at the next > (§13.2.5.41).
func bogus(t *Token, src []byte, start, data int) { untilAngle(t, Bogus, src, start, data) }

func untilAngle(t *Token, kind Kind, src []byte, start, data int) {
	*t = Token{Kind: kind, Start: start, DataStart: data}
	if j := bytes.IndexByte(src[data:], '>'); j >= 0 {
		t.DataEnd, t.End = data+j, data+j+1
	} else {
		t.DataEnd, t.End, t.Unterminated = len(src), len(src), true
	}
}
