package smarthost

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

// appendMail adds the MAIL command for a copy of that many bytes, with what the next hop offers.
func (k *kept) appendMail(b []byte, env *Envelope, size int64) []byte {
	b = append(append(append(b, "MAIL FROM:<"...), env.From...), '>')
	if k.offers("8BITMIME") {
		b = append(b, " BODY=8BITMIME"...)
	}
	if k.offers("SIZE") && size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), size, 10)
	}
	if env.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if k.offers("DSN") {
		if env.Return != "" {
			b = append(append(b, " RET="...), env.Return...)
		}
		if env.EnvelopeID != "" && isPrintable(env.EnvelopeID) {
			b = appendXtext(append(b, " ENVID="...), env.EnvelopeID)
		}
	}
	return append(b, "\r\n"...)
}

// appendRcpt adds the RCPT command.
func (k *kept) appendRcpt(b []byte, env *Envelope) []byte {
	b = append(append(append(b, "RCPT TO:<"...), env.To...), '>')
	if k.offers("DSN") {
		for i, n := range env.Notify {
			if i == 0 {
				b = append(b, " NOTIFY="...)
			} else {
				b = append(b, ',')
			}
			b = append(b, n...)
		}
		switch {
		case env.OriginalRecipient == "":
		case env.OriginalRecipientType == smtp.DSNAddressTypeUTF8:
			b = append(append(b, " ORCPT="...), "UTF-8;"...)
			b = appendUTF8Address(b, env.OriginalRecipient, k.offers("SMTPUTF8"))
		case isPrintable(env.OriginalRecipient):
			b = append(append(append(b, " ORCPT="...), env.OriginalRecipientType...), ';')
			b = appendXtext(b, env.OriginalRecipient)
		}
	}
	return append(b, "\r\n"...)
}

// isPrintable reports whether s is what xtext can stand for.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isXchar(c byte) bool { return c >= '!' && c <= '~' && c != '+' && c != '=' }

// appendXtext encodes s, RFC 3461 §4.
func appendXtext(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; isXchar(c) {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "+%02X", c)
		}
	}
	return b
}

// appendUTF8Address encodes s as utf-8-addr-unitext, or where UTF-8 cannot be sent, as
// utf-8-addr-xtext, RFC 6533 §3.
func appendUTF8Address(b []byte, s string, raw bool) []byte {
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && isXchar(byte(r)) && r != '\\', raw && r >= utf8.RuneSelf:
			b = utf8.AppendRune(b, r)
		default:
			b = fmt.Appendf(b, `\x{%X}`, r)
		}
	}
	return b
}
