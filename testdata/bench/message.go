package main

import (
	"bytes"
	"fmt"
	"net/mail"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/consent"
)

// message is what is sent, over and over. Only its Message-ID and its recipients change.
type message struct {
	domain       string        // of its From field: what is signed for
	scope        consent.Scope // what its control field says
	body         []byte        // as it is
	before, rest []byte        // as DATA has them: CR LF, dots doubled, the end included; the Message-ID field goes between
}

// newMessage takes a message with either kind of line ends. Its own Message-ID goes.
func newMessage(text []byte) (*message, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	from, err := parsed.Header.AddressList("From")
	if err != nil {
		return nil, fmt.Errorf("the From field: %w", err)
	}
	m := &message{domain: from[0].Address[strings.LastIndexByte(from[0].Address, '@')+1:]}
	m.scope = "default" // consent.default_scope, where it is not set
	if named := parsed.Header.Get("X-Consent-Scope"); named != "" {
		if m.scope, err = consent.ParseScope(named); err != nil {
			return nil, err
		}
	}

	header, body, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	var fields []byte
	skip := false
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t'); !folded {
			name, _, _ := bytes.Cut(line, []byte(":"))
			skip = strings.EqualFold(string(name), "Message-ID")
		}
		if !skip {
			fields = append(append(fields, line...), "\r\n"...)
		}
	}
	m.body = body
	stuffed := bytes.ReplaceAll(append([]byte("\r\n"), body...), []byte("\r\n."), []byte("\r\n.."))
	m.before, m.rest = fields, append(stuffed, ".\r\n"...)
	return m, nil
}

// messageID is how the Message-ID field begins; the number of the message follows.
const messageID = "Message-ID: <bench."

// size is that of one message on the way in, with its final dot.
func (m *message) size() int { return len(m.append(nil, 1)) }

// append appends the n-th message to b, from the first field to the final dot.
func (m *message) append(b []byte, n int64) []byte {
	b = append(b, m.before...)
	b = append(b, messageID...)
	b = strconv.AppendInt(b, n, 10)
	b = append(b, '@')
	b = append(b, m.domain...)
	b = append(b, ">\r\n"...)
	return append(b, m.rest...)
}

// person is the address of the i-th person.
func person(i int) string { return fmt.Sprintf("reader%d@readers.example.org", i) }
