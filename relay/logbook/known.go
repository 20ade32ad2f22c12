package logbook

import (
	"bytes"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// telling is from how many bytes on a local part that somebody has is masked wherever it stands. Shorter ones are parts
// of any words.
const telling = 6

// ordinary are names of mailboxes that are words of answers, and of addresses in them, too: alone they tell of nobody.
var ordinary = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields(`
		abuse account accounts address admin alert alerts billing bounce bounces client contact data domain email
		error errors hello help home host hostmaster inbox info list local mail mailbox mailer-daemon mailer marketing
		message name news newsletter nobody noreply no-reply office order orders postmaster queue recipient relay reply root sales security
		sender server service shop smtp spam support system team test unknown user users web webmaster
		all and any are bad but can for full has max may new not now one our out see the this too try was you your`) {
		words[w] = true
	}
	return words
}()

// MaskKnown returns s with an address masked that it may hold, however that is encoded and in any case: with a domain
// behind a separator that Mask does not take for one (jane=example.org, or spaces around it) too, and its local part
// where it stands alone, "550 jane.doe: no such user", if that has at least alone bytes and is no ordinary word. What else
// looks like an address is left to Mask.
func MaskKnown(s, address string, alone int) string {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || s == "" {
		return s
	}
	var room [384]byte // most texts and addresses are shorter
	k := known{alone: alone}
	name := fold(room[:0], address)
	k.local, k.domain = name[:at], name[at+1:]
	if ordinary[string(k.local)] {
		k.alone = math.MaxInt
	}
	s = k.mask(s, fold(name[len(name):], s), nil)
	for _, intro := range []byte("%=+&") {
		for rounds := 1; rounds <= 3 && strings.IndexByte(s, intro) >= 0; rounds++ {
			text, places := decoded(s, intro, rounds)
			if text == nil {
				break
			}
			s = k.mask(s, fold(nil, string(text)), places)
		}
	}
	return s
}

// known is an address that is looked for, in lower case.
type known struct {
	local, domain []byte
	alone         int
}

// mask masks k where it stands in text, which is s in lower case; or s decoded, and then places says where in s each
// byte of it stands, and its end.
func (k *known) mask(s string, text []byte, places []int) string {
	place := func(i int) int {
		if places == nil {
			return i
		}
		return places[i]
	}
	var b strings.Builder
	var in url
	done := 0 // in s
	for i := 0; ; {
		found := bytes.Index(text[i:], k.local)
		if found < 0 {
			break
		}
		start := i + found
		end := start + len(k.local)
		first, after := place(start), place(end)
		masked := first < done // its beginning is, within one that stood alone
		if from, to := k.behind(text, end); to > 0 {
			if !masked {
				writeMasked(&b, s[done:], localStart(s[done:after], first-done))
			}
			b.WriteByte('@')
			b.WriteString(s[place(from):place(to)])
			done, i = place(to), to
			continue
		}
		i = start + 1
		if !k.standsAlone(text, start, end) || !in.whole(text, start, end) {
			continue
		}
		n := separator(s[after:])
		if domain(s, after, n) == 0 {
			n = 0
		} else if !masked { // somebody's address; masked now, since its domain may hold the name too
			first = done + localStart(s[done:after], first-done)
		}
		if !masked {
			writeMasked(&b, s[done:], first-done)
		}
		done = after
		if n > 0 {
			b.WriteByte('@')
			for done += n; place(i) < done; {
				i++
			}
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// writeMasked writes what stands before start, and of the rest a character.
func writeMasked(b *strings.Builder, s string, start int) {
	_, n := utf8.DecodeRuneInString(s[start:])
	b.WriteString(s[:start+n])
	b.WriteString(bullets)
}

// behind returns where the domain stands that makes what ends at i the whole address; to is 0 where it does not.
func (k *known) behind(text []byte, i int) (from, to int) {
	i = spaces(text, i)
	rest := text[i:]
	n := separator(string(rest[:min(len(rest), 32)]))
	if n == 0 && len(rest) > 0 && rest[0] == '=' {
		n = 1
	}
	if n == 0 {
		return 0, 0
	}
	from = spaces(text, i+n)
	if !bytes.HasPrefix(text[from:], k.domain) {
		return 0, 0
	}
	return from, from + len(k.domain)
}

func spaces(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}
	return i
}

// standsAlone says whether the local part, found without its domain, is to be masked.
func (k *known) standsAlone(text []byte, start, end int) bool {
	switch n := len(k.local); {
	case n < k.alone:
		return false
	case n >= telling:
		return true
	}
	if bytes.IndexFunc(k.local, unicode.IsLetter) < 0 {
		return false // a code
	}
	before, _ := utf8.DecodeLastRune(text[:start])
	after, _ := utf8.DecodeRune(text[end:])
	return !isWord(before) && !isWord(after)
}

// url is how far a text was looked at, and whether that is within an URL.
type url struct {
	seen int
	part byte // 'h' within scheme and host, 'p' behind them, 0 within none
}

// whole says whether what stands in text from start to end may be a person's: within an URL only a whole value or
// element of the path is. The starts only grow from call to call.
func (u *url) whole(text []byte, start, end int) bool {
	for ; u.seen < start; u.seen++ {
		switch c := text[u.seen]; {
		case c <= ' ' || c == '<' || c == '>' || c == '"':
			u.part = 0
		case u.part == 0 && c == '/' && bytes.HasSuffix(text[:u.seen], []byte(":/")):
			u.part = 'h'
		case u.part == 'h' && (c == '/' || c == '?' || c == '#'):
			u.part = 'p'
		case u.part == 'h' && (c == ',' || c == ';' || c == ')' || c == '\''):
			u.part = 0
		}
	}
	if u.part == 0 {
		return true
	}
	after, _ := utf8.DecodeRune(text[end:])
	return u.part == 'p' && (text[start-1] == '=' || text[start-1] == '/') && !isWord(after)
}

func isWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// fold appends s to b in lower case, each byte where it was.
func fold(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if low := unicode.ToLower(r); r != utf8.RuneError && utf8.RuneLen(low) == n {
			b = utf8.AppendRune(b, low)
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}

// decoded returns s with what is encoded behind an introducing character decoded, so many times, and where in s each byte
// of that stands; nil where there is nothing to decode.
func decoded(s string, intro byte, rounds int) (text []byte, places []int) {
	text = []byte(s)
	places = make([]int, len(s)+1)
	for i := range places {
		places[i] = i
	}
	for range rounds {
		n := 0
		for i := 0; i < len(text); n++ {
			c, size := text[i], 0
			if c == intro {
				c, size = once(text[i:])
			}
			text[n], places[n] = c, places[i]
			i += max(size, 1)
		}
		if n == len(text) {
			return nil, nil
		}
		places[n] = len(s)
		text, places = text[:n], places[:n+1]
	}
	return text, places
}

// once is decode for one time of encoding; size is 0, and c the first byte, where there is nothing to decode.
func once(text []byte) (c byte, size int) {
	head := string(text[:min(len(text), 32)])
	if head[0] == '%' {
		c, size = hex(head, 1)
	} else {
		c, size = decode(head)
	}
	if size == 0 {
		return head[0], 0
	}
	return c, size
}
