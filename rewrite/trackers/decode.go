package trackers

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/adler32"
	"io"
	"strconv"
	"strings"
)

// A decoder reads the destination out of a counter's address. What it returns is as hostile
// as the address: accept decides whether it may be used. False: it is not in this format.
// A decoder is called only for an address that its rule's hosts, path and query fit.
type decoder func(a address) (raw string, ok bool)

// decoders are the ways of hiding a destination, by the first word of a rule's decode line;
// the number of further words follows.
var decoders = map[string]struct {
	words int
	build func(words []string) (decoder, error)
}{
	"query":          {1, buildQuery},
	"query-base64":   {1, buildQueryBase64},
	"query-json":     {2, buildQueryJSON},
	"segment":        {1, buildSegment},
	"segment-base64": {1, buildSegmentBase64},
	"segment-json":   {2, buildSegmentJSON},
	"rest":           {1, buildRest},
	"fragment":       {0, fixed(decodeFragment)},
	"last-http":      {0, fixed(decodeLastHTTP)},
	"mailgun":        {0, fixed(decodeMailgun)},
	"mandrill":       {0, fixed(decodeMandrill)},
	"postmark":       {0, fixed(decodePostmark)},
	"sparkpost":      {0, fixed(decodeSparkPost)},
	"proofpoint-v2":  {0, fixed(decodeProofpoint2)},
	"proofpoint-v3":  {0, fixed(decodeProofpoint3)},
}

func fixed(d decoder) func([]string) (decoder, error) {
	return func([]string) (decoder, error) { return d, nil }
}

func parseDecoder(line string) (decoder, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, fmt.Errorf("decode is empty; leave it out where nothing can be read")
	}
	d, ok := decoders[words[0]]
	if !ok {
		return nil, fmt.Errorf("decode %q: there is no decoder %q", line, words[0])
	}
	if len(words)-1 != d.words {
		return nil, fmt.Errorf("decode %q: %s takes %d words more, not %d", line, words[0], d.words, len(words)-1)
	}
	dec, err := d.build(words[1:])
	if err != nil {
		return nil, fmt.Errorf("decode %q: %w", line, err)
	}
	return dec, nil
}

// query NAME: the parameter, form-encoded.
func buildQuery(w []string) (decoder, error) {
	return func(a address) (string, bool) {
		v, ok := a.param(w[0])
		return unescape(v, true), ok
	}, nil
}

// query-base64 NAME: the parameter, base64 of the address.
func buildQueryBase64(w []string) (decoder, error) {
	return func(a address) (string, bool) {
		v, ok := a.param(w[0])
		if !ok {
			return "", false
		}
		b, ok := decodeBase64(v)
		return string(b), ok
	}, nil
}

// query-json NAME FIELD: the parameter, percent-encoded JSON with the address in a field.
func buildQueryJSON(w []string) (decoder, error) {
	return func(a address) (string, bool) {
		v, ok := a.param(w[0])
		if !ok {
			return "", false
		}
		return jsonField([]byte(unescape(v, false)), w[1])
	}, nil
}

// position reads a segment's number: 1 is the first, -1 the last.
func position(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no position: 1 is the first segment, -1 the last", s)
	}
	return n, nil
}

// segment N: a segment of the path, percent-encoded.
func buildSegment(w []string) (decoder, error) {
	n, err := position(w[0])
	return func(a address) (string, bool) {
		s, ok := a.segment(n)
		return unescape(s, false), ok
	}, err
}

// segment-base64 N: a segment of the path, base64 of the address.
func buildSegmentBase64(w []string) (decoder, error) {
	n, err := position(w[0])
	return func(a address) (string, bool) {
		s, ok := a.segment(n)
		if !ok {
			return "", false
		}
		b, ok := decodeBase64(s)
		return string(b), ok
	}, err
}

// segment-json N FIELD: a segment of the path, base64 of JSON with the address in a field;
// alone, before a dot and a signature, or as the payload of a JWT (RFC 7519 §3).
func buildSegmentJSON(w []string) (decoder, error) {
	n, err := position(w[0])
	return func(a address) (string, bool) {
		s, ok := a.segment(n)
		if !ok {
			return "", false
		}
		parts := strings.SplitN(s, ".", 3)
		for _, part := range parts[:min(len(parts), 2)] {
			if b, ok := decodeBase64(part); ok {
				if v, ok := jsonField(b, w[1]); ok {
					return v, true
				}
			}
		}
		return "", false
	}, err
}

// rest N: everything from the N-th segment of the path on, written plainly with its query,
// or percent-encoded.
func buildRest(w []string) (decoder, error) {
	n, err := position(w[0])
	if err == nil && n < 1 {
		err = fmt.Errorf("rest counts from the front")
	}
	return func(a address) (string, bool) {
		p := a.path
		for range n {
			i := strings.IndexByte(p, '/')
			if i < 0 {
				return "", false
			}
			p = p[i+1:]
		}
		if !hasFoldPrefix(p, "http:/") && !hasFoldPrefix(p, "https:/") {
			return unescape(p, false), true
		}
		if i := strings.Index(p, ":/"); !strings.HasPrefix(p[i:], "://") { // doubled slashes were folded on the way
			p = p[:i] + "://" + p[i+2:]
		}
		return p + suffix("?", a.query) + suffix("#", a.fragment), true
	}, err
}

// last-http: the query from its last "&http://" or "&https://" on, written plainly.
func decodeLastHTTP(a address) (string, bool) {
	i := max(strings.LastIndex(a.query, "&http://"), strings.LastIndex(a.query, "&https://"))
	if i < 0 {
		return "", false
	}
	return a.query[i+1:] + suffix("#", a.fragment), true
}

func suffix(mark, s string) string {
	if s == "" {
		return ""
	}
	return mark + s
}

func decodeFragment(a address) (string, bool) { return a.fragment, a.fragment != "" }

// decodeBase64 takes both alphabets, with and without padding, percent-encoded or not.
func decodeBase64(s string) ([]byte, bool) {
	s = strings.TrimRight(unescape(s, false), "=")
	if s == "" {
		return nil, false
	}
	b := []byte(s)
	for i, c := range b {
		switch c {
		case '-':
			b[i] = '+'
		case '_':
			b[i] = '/'
		case ' ': // a "+" that a form decoder met
			b[i] = '+'
		}
	}
	n, err := base64.RawStdEncoding.Decode(b, b)
	return b[:n], err == nil
}

// jsonField returns a field of a JSON object that is a string.
func jsonField(b []byte, field string) (string, bool) {
	var o map[string]json.RawMessage
	if json.Unmarshal(b, &o) != nil {
		return "", false
	}
	var v *string
	if json.Unmarshal(o[field], &v) != nil || v == nil {
		return "", false
	}
	return *v, true
}

// mostInflated is how long a compressed query may become.
const mostInflated = 16 << 10

// mailgun: the last segment is base64 of zlib (RFC 1950) of a query; l is the destination.
// The checksum is often missing, and the stream may end in a sync flush instead of a final
// block; a checksum that is there must be right. r, the recipient in clear, is not looked at.
func decodeMailgun(a address) (string, bool) {
	s, _ := a.segment(-1)
	b, ok := decodeBase64(s)
	if !ok || len(b) < 3 || b[0]&0x0f != 8 || binary.BigEndian.Uint16(b)%31 != 0 || b[1]&0x20 != 0 {
		return "", false
	}
	in := bytes.NewReader(b[2:])
	var out bytes.Buffer
	_, err := io.CopyN(&out, flate.NewReader(in), mostInflated+1)
	switch {
	case out.Len() > mostInflated:
		return "", false
	case err == io.EOF: // the final block was read; four bytes of checksum follow, or not
		var sum [4]byte
		if n, _ := io.ReadFull(in, sum[:]); n == len(sum) && binary.BigEndian.Uint32(sum[:]) != adler32.Checksum(out.Bytes()) {
			return "", false
		}
	case err == io.ErrUnexpectedEOF && bytes.HasSuffix(b, []byte{0, 0, 0xff, 0xff}): // RFC 1951 §3.2.4, an empty stored block
	default:
		return "", false
	}
	l, ok := address{query: out.String()}.param("l")
	return unescape(l, true), ok
}

// mandrill: parameter p is base64 of JSON whose field p is a string of JSON; its url is the
// destination.
func decodeMandrill(a address) (string, bool) {
	v, ok := a.param("p")
	if !ok {
		return "", false
	}
	b, ok := decodeBase64(v)
	if !ok {
		return "", false
	}
	inner, ok := jsonField(b, "p")
	if !ok {
		return "", false
	}
	return jsonField([]byte(inner), "url")
}

// postmark: /VERSION/DESTINATION/…, the destination without its scheme, which is https where
// the version has an "s".
func decodePostmark(a address) (string, bool) {
	version, ok1 := a.segment(1)
	dest, ok2 := a.segment(2)
	if !ok1 || !ok2 || dest == "" {
		return "", false
	}
	dest = unescape(dest, false)
	if strings.Contains(version, "s") {
		return "https://" + dest, true
	}
	return "http://" + dest, true
}

// sparkpost: the last segment, without "~", is base64 of fields. A field's first byte holds
// its number (lower 6 bits) and the width of its length (upper 2): 0 no value, 1 one byte,
// 2 two bytes, little endian. Field 4 is the destination. What does not begin with 46 04 is
// encrypted. Field 18, the recipient in clear, is not looked at.
func decodeSparkPost(a address) (string, bool) {
	s, _ := a.segment(-1)
	b, ok := decodeBase64(strings.ReplaceAll(s, "~", ""))
	if !ok || !bytes.HasPrefix(b, []byte{0x46, 0x04}) {
		return "", false
	}
	for len(b) > 0 {
		field, width := b[0]&0x3f, int(b[0]>>6)
		b = b[1:]
		if width == 3 || len(b) < width {
			return "", false
		}
		n := 0
		for i := range width {
			n |= int(b[i]) << (8 * i)
		}
		b = b[width:]
		if n > len(b) {
			return "", false
		}
		if field == 4 && width > 0 {
			return string(b[:n]), true
		}
		b = b[n:]
	}
	return "", false
}

// proofpoint-v2: parameter u, with "-" for "%" and "_" for "/".
func decodeProofpoint2(a address) (string, bool) {
	v, ok := a.param("u")
	return unescape(strings.NewReplacer("-", "%", "_", "/").Replace(v), false), ok
}

// runLengths are the lengths that a run of replaced characters can have, in Proofpoint's v3:
// "**A" stands for two, "**B" for three, and so on.
const runLengths = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// proofpoint-v3: /v3/__DESTINATION__;REPLACED!…, where each "*" in the destination stands for
// the next byte of REPLACED (base64), and "**X" for a run of them.
func decodeProofpoint3(a address) (string, bool) {
	all := a.path + suffix("?", a.query) + suffix("#", a.fragment)
	_, all, ok1 := strings.Cut(all, "/v3/__")
	end := strings.LastIndex(all, "__;")
	if !ok1 || end < 0 {
		return "", false
	}
	dest := all[:end]
	enc, _, _ := strings.Cut(all[end+3:], "!")
	replaced, _ := decodeBase64(enc)
	var out strings.Builder
	for i := 0; i < len(dest); i++ {
		if dest[i] != '*' {
			out.WriteByte(dest[i])
			continue
		}
		n := 1
		if i+2 < len(dest) && dest[i+1] == '*' {
			n = strings.IndexByte(runLengths, dest[i+2]) + 2
			i += 2
		}
		if n < 1 || n > len(replaced) {
			return "", false
		}
		out.Write(replaced[:n])
		replaced = replaced[n:]
	}
	d := out.String()
	if i := strings.Index(d, ":/"); i >= 0 && !strings.HasPrefix(d[i:], "://") { // a slash was folded on the way
		d = d[:i] + "://" + d[i+2:]
	}
	return d, true
}
