package trackers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// canonicalHost brings the host of a URL into the one form that rules are compared with:
// percent-decoded, lower case, non-ASCII labels in punycode, no trailing dot. False where a
// browser would refuse the host. Of UTS 46 it does what occurs in mail (letter case,
// full-width forms, the other full stops, invisible characters); no normalisation to NFC.
func canonicalHost(h string) (string, bool) {
	plain := true
	for i := range len(h) {
		if c := h[i]; !hostBytes[c] || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if !plain {
		h = unescape(h, false)
		if h != "" && h[0] == '[' { // an IPv6 address matches no rule; it is kept to be a host
			h = strings.ToLower(h)
			return h, h[len(h)-1] == ']' && strings.Trim(h[1:len(h)-1], "0123456789abcdef:.") == ""
		}
		if !utf8.ValidString(h) {
			return "", false
		}
		h = asciiLabels(strings.Map(foldHostRune, h))
		for i := range len(h) {
			if !hostBytes[h[i]] {
				return "", false
			}
		}
	}
	h = strings.TrimSuffix(h, ".")
	return h, h != "" && h[0] != '.' && h[len(h)-1] != '.'
}

// hostBytes are the bytes that may stand in a host: all of ASCII but the URL Standard's
// forbidden domain code points.
var hostBytes = func() (t [256]bool) {
	for c := byte('!'); c < 0x7f; c++ {
		t[c] = strings.IndexByte(`#%/:<>?@[\]^|`, c) < 0
	}
	return t
}()

func foldHostRune(c rune) rune {
	switch {
	case c == 0xAD, c == 0x200B, c == 0x2060, c == 0xFEFF, 0xFE00 <= c && c <= 0xFE0F:
		return -1 // invisible, ignored by UTS 46
	case c == 0x3002, c == 0xFF61:
		return '.'
	case 0xFF01 <= c && c <= 0xFF5E: // full-width ASCII
		c -= 0xFEE0
	}
	return unicode.ToLower(c)
}

// asciiLabels turns every non-ASCII label into its xn-- form.
func asciiLabels(h string) string {
	labels := strings.Split(h, ".")
	for i, l := range labels {
		for j := range len(l) {
			if l[j] >= utf8.RuneSelf {
				labels[i] = "xn--" + punycode(l)
				break
			}
		}
	}
	return strings.Join(labels, ".")
}

// punycode encodes a label, RFC 3492 §6.3. A label longer than any that exists (63 bytes in
// DNS, RFC 1035 §2.3.4) is cut, so that the quadratic work stays small; it matches nothing.
func punycode(label string) string {
	const base, tmin, tmax, skew, damp = 36, 1, 26, 38, 700
	const longest = 256
	in := []rune(label)
	if len(in) > longest {
		in = in[:longest]
	}
	var out []byte
	for _, c := range in {
		if c < utf8.RuneSelf {
			out = append(out, byte(c))
		}
	}
	basic := len(out)
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias, done := rune(128), 0, 72, basic
	for done < len(in) {
		next := rune(utf8.MaxRune + 1)
		for _, c := range in {
			if c >= n && c < next {
				next = c
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, c := range in {
			if c < n {
				delta++
			}
			if c != n {
				continue
			}
			q := delta
			for k := base; ; k += base {
				t := min(max(k-bias, tmin), tmax)
				if q < t {
					break
				}
				out = append(out, punycodeDigit(t+(q-t)%(base-t)))
				q = (q - t) / (base - t)
			}
			out = append(out, punycodeDigit(q))
			// Bias adaptation, RFC 3492 §6.1.
			if done == basic {
				delta /= damp
			} else {
				delta /= 2
			}
			done++
			delta += delta / done
			k := 0
			for ; delta > (base-tmin)*tmax/2; k += base {
				delta /= base - tmin
			}
			bias = k + (base-tmin+1)*delta/(delta+skew)
			delta = 0
		}
		delta++
		n++
	}
	return string(out)
}

func punycodeDigit(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}
