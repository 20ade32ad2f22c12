package smarthost

import "fmt"

// checkPath makes sure that an address stays inside its angle brackets: go-smtp writes it as it
// is, so that `a> NOTIFY=NEVER <b@example.org` would bring parameters along, and a CR LF a
// whole command. What is inside quotes may hold spaces and brackets (RFC 5321 §4.1.2).
func checkPath(s string, null bool) error {
	if s == "" && null {
		return nil
	}
	quoted, at := false, -1
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch < ' ' || ch == 0x7f:
			return fmt.Errorf("%w: it holds a control character", ErrAddress)
		case quoted && ch == '\\':
			if i++; i == len(s) || s[i] < ' ' || s[i] == 0x7f {
				return fmt.Errorf("%w: bad quoting", ErrAddress)
			}
		case ch == '"':
			if (!quoted && i != 0) || (quoted && (i+1 == len(s) || s[i+1] != '@')) {
				return fmt.Errorf("%w: bad quoting", ErrAddress)
			}
			quoted = !quoted
		case quoted:
		case ch == ' ' || ch == '<' || ch == '>' || ch == '\\':
			return fmt.Errorf("%w: it holds %q outside quotes", ErrAddress, ch)
		case ch == '@':
			if at >= 0 {
				return fmt.Errorf("%w: two @", ErrAddress)
			}
			at = i
		}
	}
	if quoted || at <= 0 || at == len(s)-1 {
		return fmt.Errorf("%w: want local@domain", ErrAddress)
	}
	return nil
}

// isPlain reports whether s is made of what a host name or an IP address holds.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}
