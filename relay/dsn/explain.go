package dsn

import (
	"bytes"
	"fmt"
	"strings"
)

// subject tells the whole story where it fits in.
func (r *Report) subject() string {
	whom := fmt.Sprintf("%d recipients", len(r.Recipients))
	if len(r.Recipients) == 1 {
		whom = printable(r.Recipients[0].To, maxAddress)
		if len(whom) > 100 || !isASCII(whom) || strings.Contains(whom, "=?") { // RFC 2047
			whom = "one recipient"
		}
	}
	switch r.Kind {
	case Delayed:
		return "Your mail to " + whom + " is delayed"
	case Relayed:
		return "Your mail to " + whom + " was passed on"
	}
	return "Your mail to " + whom + " was not delivered"
}

// explain is the part for people, in the words of somebody who runs a shop.
func (r *Report) explain(back returned) part {
	var b bytes.Buffer
	para := func(text string) { wrap(&b, "", text); b.WriteString("\r\n") }

	para("This is consentgate, the mail system at " + r.Hostname + ". It writes to you by itself, about a mail that you sent.")
	if back.subject != "" {
		wrap(&b, "  ", "Subject: "+back.subject)
	}
	if !r.Arrived.IsZero() {
		wrap(&b, "  ", "Sent: "+date(r.Arrived))
	}
	if back.subject != "" || !r.Arrived.IsZero() {
		b.WriteString("\r\n")
	}
	switch r.Kind {
	case Delayed:
		text := "It could not be delivered yet to those named below. You need not send it again: it is still being tried"
		if !r.RetryUntil.IsZero() {
			text += " until " + date(r.RetryUntil)
		}
		para(text + ".")
	case Relayed:
		para("It was handed on to the next mail server for those named below. That server does not confirm deliveries, so you will get no further confirmation; should the mail fail later, you may still hear of it.")
	default:
		para("It was not delivered to those named below. It will not be tried again.")
	}
	for _, to := range r.Recipients {
		wrap(&b, "", "<"+printable(to.To, maxAddress)+">")
		r.explainOne(&b, to)
		b.WriteString("\r\n")
	}
	below := "Below are the same for programs, and the header of your mail."
	switch back.part.contentType {
	case "":
		below = "Below is the same for programs."
	case "message/rfc822", "message/global":
		below = "Below are the same for programs, and your mail."
	}
	wrap(&b, "", below)

	text := b.Bytes()
	p := part{"text/plain; charset=utf-8", "Explanation", "7bit", text}
	if !isSevenBit(text) {
		p.encoding, p.content = "quoted-printable", quote(text)
	}
	return p
}

// explainOne says what became of one recipient.
func (r *Report) explainOne(b *bytes.Buffer, to Recipient) {
	const indent = "    "
	tell := func(text string) { wrap(b, indent, text) }
	server := "the next mail server"
	if host := remote(to.Reply.Host); host != "" {
		server = "the mail server " + host
	}
	answered := to.Reply.Host != ""
	switch {
	case to.Unsubscribed:
		tell("It was not sent, because this person has unsubscribed from this mail. Please take the address off your list.")
		return
	case !answered && to.Reply.Text != "":
		// The gateway's own words.
		tell("It was not sent on by this mail system:")
	case !answered && r.Kind == Relayed:
		return
	case !answered:
		tell("No mail server could be reached that takes it.")
		return
	case r.Kind == Relayed:
		tell("It was taken by " + server + ", which said:")
	case to.Reply.Code/100 == 4 && r.Kind == Failed:
		tell("It was put off again and again and is now given up. Last, " + server + " said:")
	case to.Reply.Code/100 == 4:
		tell("It was put off by " + server + ", which said:")
	default:
		tell("It was refused by " + server + ", which said:")
	}
	for _, line := range said(to.Reply) {
		wrap(b, indent+indent, line)
	}
}

// wrap writes text in lines of some 72 bytes, broken at spaces only.
func wrap(b *bytes.Buffer, indent, text string) {
	used := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case used == 0:
			b.WriteString(indent)
			used = len(indent)
		case used+1+len(word) > 72:
			b.WriteString("\r\n" + indent)
			used = len(indent)
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += len(word)
	}
	b.WriteString("\r\n")
}
