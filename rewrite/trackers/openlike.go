package trackers

import "strings"

// OpenLike says whether the address (absolute or protocol-relative) of a picture reads like that of
// an open tracker that no rule knows: it names what it is for ("open", "pixel", "markread" …) or has
// the file name of a pixel, and something in it can tell one person from another. It is a guess,
// to be asked only about pictures whose size nobody states: some trackers leave it out.
func (r *Rules) OpenLike(url string) bool {
	a, ok := split(url)
	if !ok || r.allow.has(a.host) {
		return false
	}
	word, token := false, false
	note := func(s string) {
		s = unescape(s, true)
		word = word || r.openWords[strings.ToLower(s)]
		token = token || isToken(s)
	}
	file, ext, folder, last := "", "", "", ""
	for seg := range strings.SplitSeq(a.path, "/") {
		file, ext = seg, ""
		if dot := strings.LastIndexByte(seg, '.'); dot > 0 {
			file, ext = seg[:dot], strings.ToLower(seg[dot+1:])
			note(file)
		}
		note(seg)
		folder, last = last, seg
	}
	// A folder may be named after a month; only what stands right before a pixel is about it.
	pixel := r.pixelFiles[strings.ToLower(unescape(file, false))] && ext != ""
	aboutPixel := isToken(unescape(folder, false))
	switch ext {
	case "jpg", "jpeg", "webp", "svg", "avif", "bmp", "ico":
		return false // a pixel needs none of these
	}
	for q := a.query; q != ""; {
		var p pair
		p, q = nextPair(q)
		note(p.name)
		note(p.value)
		aboutPixel = aboutPixel || isToken(unescape(p.name, true)) || isToken(unescape(p.value, true))
	}
	return word && token || pixel && aboutPixel
}

// isToken says whether a text looks like it was made for one person or one mail: a number of six
// digits or more, or letters and digits mixed.
func isToken(s string) bool {
	if len(s) < 6 {
		return false
	}
	numbers, letters := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
			numbers++
		case isAlnum(c):
			letters++
		case strings.IndexByte("-_.=+~:|[]@/", c) < 0:
			return false
		}
	}
	return numbers >= 6 || numbers >= 2 && letters >= 2 && len(s) >= 8 || len(s) >= 24 && letters >= 16
}
