package htmltoken

import "bytes"

// rawTextEnd returns where the raw text of element name that begins at i ends: at its end tag, or at the end
// of src. RAWTEXT (§13.2.5.3) and RCDATA (§13.2.5.2) end alike; they differ only in character references.
func rawTextEnd(src []byte, i int, name string) int {
	switch name {
	case "plaintext": // §13.2.5.5
		return len(src)
	case "script":
		return scriptEnd(src, i)
	}
	for {
		j := bytes.IndexByte(src[i:], '<')
		if j < 0 {
			return len(src)
		}
		i += j
		if closes(src[i:], name) {
			return i
		}
		i++
	}
}

// closes reports whether s, which begins with <, begins with an end tag of name (an "appropriate end tag":
// §13.2.5.11, §13.2.5.14, §13.2.5.17).
func closes(s []byte, name string) bool {
	return len(s) > 2 && s[1] == '/' && named(s[2:], name)
}

// named reports whether s begins with name and a byte that ends a name.
func named(s []byte, name string) bool {
	n := len(name)
	return len(s) > n && class[s[n]]&endsTagName != 0 && EqualFold(s[:n], name)
}

// scriptEnd returns where the script that begins at i ends (§13.2.5.4, §13.2.5.15 to §13.2.5.31). Inside of
// <!-- … --> a <script> makes the next </script> part of the text.
func scriptEnd(src []byte, i int) int {
	const (
		plain         = iota // script data
		escaped              // behind <!--
		doubleEscaped        // behind <!-- and <script
	)
	state := plain
	for i < len(src) {
		if state == plain {
			j := bytes.IndexByte(src[i:], '<')
			if j < 0 {
				return len(src)
			}
			i += j
			switch rest := src[i:]; {
			case closes(rest, "script"):
				return i
			case bytes.HasPrefix(rest, []byte("<!--")):
				state = escaped
				i += 2 // the dashes may be those of --> already (§13.2.5.19)
			default:
				i++
			}
			continue
		}
		switch src[i] {
		case '-':
			if bytes.HasPrefix(src[i:], []byte("-->")) { // §13.2.5.22, §13.2.5.29
				state = plain
				i += 3
				continue
			}
		case '<':
			rest := src[i:]
			switch {
			case state == escaped && closes(rest, "script"): // §13.2.5.25
				return i
			case state == escaped && named(rest[1:], "script"): // §13.2.5.26
				state = doubleEscaped
			case state == doubleEscaped && closes(rest, "script"): // §13.2.5.31
				state = escaped
			}
		}
		i++
	}
	return len(src)
}
