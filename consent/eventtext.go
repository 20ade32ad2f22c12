package consent

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// The text that both stores keep for one event, one line, its fields between TABs:
//
//	change     = number TAB "c" when TAB scope TAB turn TAB turn TAB turn TAB notice TAB origin TAB mac
//	chained    = number TAB "h" when TAB scope TAB origin TAB mac
//	renamed    = number TAB ("f" when TAB key TAB last | "t" when TAB key) TAB mac
//	checkpoint = number TAB "k" seconds TAB last TAB mac
//	when       = seconds source
//	turn       = "" | (state | "-") state      of mail, open and click: before and after, "-" for nothing recorded
//
// where seconds, source and state are as in a record, mac is 16 bytes in base64url (22 characters),
// key is the Key of the other address of a rename ("f" from, "t" to), and last the mac of the last
// event that came along ("f") or that was deleted ("k"). For example
//
//	7 TAB c1763900000o TAB newsletter TAB su TAB TAB TAB 2026-03 TAB 192.0.2.0/24 TAB GvKb…
//
// says that the seventh event turned subscribed into unsubscribed by one click. How the mac is
// made stands at ledger's chain.

// mac is what an event ends in.
type mac [16]byte

func (m mac) appendText(b []byte) []byte { return base64.RawURLEncoding.AppendEncode(b, m[:]) }

func parseMAC(text string) (m mac, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(m)) { // the decoder passes over line breaks
		return m, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return mac(append(b, make([]byte, len(m))...)), err == nil && len(b) == len(m)
}

// line is an event as it is kept.
type line struct {
	Event
	last mac // of RenamedFrom and Checkpoint
	body string
	mac  mac
}

var errEventText = errors.New("the consent store holds an event that cannot be read")

// maxNumber bounds the numbers that are read, so that counting on never wraps.
const maxNumber = 1 << 62

// appendBody appends the text of l without its mac.
func (l line) appendBody(b []byte) []byte {
	b = strconv.AppendUint(b, l.Number, 10)
	kind := map[EventKind]byte{Changed: 'c', Chained: 'h', RenamedFrom: 'f', RenamedTo: 't', Checkpoint: 'k'}[l.Kind]
	b = append(b, '\t', kind)
	b = strconv.AppendInt(b, l.Time.Unix(), 10)
	if l.Kind != Checkpoint {
		b = append(b, sourceCodes[l.Source])
	}
	b = append(b, '\t')
	switch l.Kind {
	case Changed:
		b = append(b, l.Scope...)
		b = appendTurn(append(b, '\t'), l.Old.Mail, l.New.Mail)
		b = appendTurn(append(b, '\t'), l.Old.Open, l.New.Open)
		b = appendTurn(append(b, '\t'), l.Old.Click, l.New.Click)
		b = append(append(b, '\t'), l.Notice...)
		return append(append(b, '\t'), l.Origin...)
	case Chained:
		return append(append(append(b, l.Scope...), '\t'), l.Origin...)
	case RenamedFrom:
		return l.last.appendText(append(append(b, l.Origin...), '\t'))
	case RenamedTo:
		return append(b, l.Origin...)
	}
	return l.last.appendText(b)
}

func appendTurn(b []byte, before, after State) []byte {
	if after == "" {
		return b
	}
	if before == "" {
		return append(b, '-', stateCodes[after])
	}
	return append(b, stateCodes[before], stateCodes[after])
}

// parseLine reads the text of an event. Anything that no event is kept as is an error, never a
// guess; its mac is read even then, if it can be, so that the events behind it can be checked.
func parseLine(text string) (line, error) {
	l := line{}
	i := strings.LastIndexByte(text, '\t')
	if i < 0 {
		return l, errEventText
	}
	var ok bool
	if l.mac, ok = parseMAC(text[i+1:]); !ok {
		return line{}, errEventText
	}
	l.body = text[:i]
	f := strings.Split(l.body, "\t")
	if len(f) < 3 || f[1] == "" {
		return l, errEventText
	}
	number, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil || number == 0 || number > maxNumber {
		return l, errEventText
	}
	when := f[1][1:]
	e := Event{Number: number}
	if f[1][0] != 'k' {
		if when == "" {
			return l, errEventText
		}
		for s, code := range sourceCodes {
			if code == when[len(when)-1] {
				e.Source = s
			}
		}
		when = when[:len(when)-1]
	}
	seconds, err := strconv.ParseInt(when, 10, 64)
	if err != nil || seconds > maxTime {
		return l, errEventText
	}
	e.Time = time.Unix(seconds, 0).UTC()
	kept := line{body: l.body, mac: l.mac}
	switch k := f[1][0]; {
	case k == 'c' && len(f) == 8:
		e.Kind, e.Scope, e.Notice, e.Origin = Changed, Scope(f[2]), f[6], f[7]
		parseTurn(Mail, f[3], &e.Old.Mail, &e.New.Mail)
		parseTurn(Open, f[4], &e.Old.Open, &e.New.Open)
		parseTurn(Click, f[5], &e.Old.Click, &e.New.Click)
	case k == 'h' && len(f) == 4:
		e.Kind, e.Scope, e.Origin = Chained, Scope(f[2]), f[3]
	case k == 'f' && len(f) == 4:
		e.Kind, e.Origin = RenamedFrom, f[2]
		kept.last, _ = parseMAC(f[3])
	case k == 't' && len(f) == 3:
		e.Kind, e.Origin = RenamedTo, f[2]
	case k == 'k' && len(f) == 3:
		e.Kind = Checkpoint
		kept.last, _ = parseMAC(f[2])
	default:
		return l, errEventText
	}
	kept.Event = e
	if string(kept.appendBody(nil)) != l.body { // every other spelling of what was read
		return l, errEventText
	}
	return kept, nil
}

// parseTurn leaves the states "" where text is no turn of that purpose.
func parseTurn(p Purpose, text string, before, after *State) {
	if len(text) != 2 {
		return
	}
	for s, code := range stateCodes {
		if _, err := ParseState(p, string(s)); err != nil {
			continue
		}
		if code == text[0] {
			*before = s
		}
		if code == text[1] {
			*after = s
		}
	}
}
