package dsn

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/smarthost"
)

// status is the part for programs, message/delivery-status of RFC 3464 §2.
//
// It is so for a message that came with SMTPUTF8, too: RFC 6533 §3 has a form of an
// international address for it that is ASCII, and many more programs read it than
// message/global-delivery-status.
func (r *Report) status() part {
	var b bytes.Buffer
	field := func(name, value string) { writeField(&b, name, value) }
	field("Reporting-MTA", "dns; "+r.Hostname)
	// §2.2.1: as the sender chose it, not as xtext. A mangled one would be of no use to it.
	if r.EnvelopeID != "" && r.EnvelopeID == ascii(printable(r.EnvelopeID, maxAddress)) {
		field("Original-Envelope-Id", r.EnvelopeID)
	}
	if !r.Arrived.IsZero() {
		field("Arrival-Date", date(r.Arrived))
	}
	for _, to := range r.Recipients {
		b.WriteString("\r\n")
		if to.OriginalRecipient != "" {
			field("Original-Recipient", typedAddress(to.OriginalRecipient, to.OriginalRecipientType == smtp.DSNAddressTypeUTF8))
		}
		field("Final-Recipient", typedAddress(to.To, false))
		field("Action", r.Kind.String())
		code := statusCode(r.Kind, to)
		field("Status", fmt.Sprintf("%d.%d.%d", code[0], code[1], code[2]))
		if host := remote(to.Reply.Host); host != "" {
			field("Remote-MTA", "dns; "+host)
		}
		if said := diagnostic(to.Reply); said != "" {
			field("Diagnostic-Code", "smtp; "+said)
		}
		if !to.LastAttempt.IsZero() {
			field("Last-Attempt-Date", date(to.LastAttempt))
		}
		if r.Kind == Delayed && !r.RetryUntil.IsZero() { // §2.3.9: not for the others
			field("Will-Retry-Until", date(r.RetryUntil))
		}
	}
	return part{"message/delivery-status", "Delivery report", "7bit", b.Bytes()}
}

// typedAddress is an address with its type. What is not ASCII is written as utf-8-addr-xtext,
// RFC 6533 §3.
func typedAddress(address string, international bool) string {
	address = printable(address, maxAddress)
	if isASCII(address) && !international {
		return "rfc822; " + address
	}
	var b strings.Builder
	for _, c := range address {
		if c <= ' ' || c > '~' || c == '\\' || c == '+' || c == '=' {
			fmt.Fprintf(&b, `\x{%02X}`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return "utf-8; " + b.String()
}

// statusCode is that of the reply where it agrees with the kind of report, else the best that can be said
// (RFC 3463). A failure may have one of class 4: given up after many attempts, §2.
func statusCode(k Kind, to Recipient) [3]int {
	fits := func(class int) bool {
		switch k {
		case Delayed:
			return class == 4
		case Relayed:
			return class == 2
		}
		return class == 4 || class == 5
	}
	e, class := to.Reply.Enhanced, to.Reply.Code/100
	switch {
	case fits(e[0]) && 0 <= e[1] && e[1] <= 999 && 0 <= e[2] && e[2] <= 999:
		return e
	case to.Unsubscribed:
		return [3]int{5, 7, 1} // delivery not authorised
	case fits(class):
		return [3]int{class, 0, 0}
	case k == Relayed:
		return [3]int{2, 0, 0}
	case k == Delayed:
		return [3]int{4, 4, 1} // no answer from host
	case to.Reply.Code == 0:
		return [3]int{4, 4, 7} // delivery time expired
	}
	return [3]int{5, 0, 0}
}

// diagnostic is what the next hop said, on one line; "" where it did not.
func diagnostic(r smarthost.Reply) string {
	if r.Host == "" || r.Code < 200 || r.Code > 599 {
		return ""
	}
	return ascii(strings.Join(said(r), " "))
}

// said returns the reply of a next hop line by line, as far as it makes sense, with its codes
// before the first line.
func said(r smarthost.Reply) []string {
	text := r.Text
	if len(text) > maxReply {
		text = text[:maxReply]
	}
	codes := fmt.Sprint(r.Code)
	if r.Enhanced != [3]int{} {
		codes += fmt.Sprintf(" %d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	lines := []string{codes}
	for line := range strings.Lines(text) {
		if line = printable(line, maxReply); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > 1 {
		lines[1] = codes + " " + lines[1]
		lines = lines[1:]
	}
	return lines
}

// remote is the name of a next hop for Remote-MTA; "" where it has none, since it is a socket
// file.
func remote(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip, err := netip.ParseAddr(host); err == nil { // RFC 5321 §4.1.3
		if ip.Is6() {
			return "[IPv6:" + ip.WithZone("").String() + "]"
		}
		return "[" + host + "]"
	}
	if len(host) > 255 || strings.ContainsFunc(host, notIn("-_.")) {
		return ""
	}
	return host
}
