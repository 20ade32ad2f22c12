package dsn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/smarthost"
)

// A report is read back here with the standard library and with go-message, neither of which
// wrote it.

// parse parts a report; contents come decoded.
func parse(report []byte) ([]part, error) {
	m, err := mail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		return nil, err
	}
	typ, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || typ != "multipart/report" || params["report-type"] != "delivery-status" {
		return nil, fmt.Errorf("type %s %v %v", typ, params, err)
	}
	var parts []part
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(p.Header) != 3 {
			return nil, fmt.Errorf("part with the header %v", p.Header)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			return nil, err
		}
		one := part{contentType: p.Header.Get("Content-Type"), encoding: p.Header.Get("Content-Transfer-Encoding"), content: content}
		if one.encoding == "quoted-printable" {
			e, err := message.New(message.Header{}, bytes.NewReader(nil))
			if err != nil {
				return nil, err
			}
			e.Header.Set("Content-Transfer-Encoding", one.encoding)
			e, err = message.New(e.Header, bytes.NewReader(content))
			if err != nil {
				return nil, err
			}
			if one.content, err = io.ReadAll(e.Body); err != nil {
				return nil, err
			}
		}
		parts = append(parts, one)
	}
	return parts, nil
}

// valid says what is wrong with a report that r made.
func valid(r *Report, got []byte, original string) error {
	// Lines: CRLF, not too long, 7bit.
	if !hasLines(got) {
		return errors.New("bare CR or LF, or NUL")
	}
	for line := range bytes.Lines(got) {
		if len(line) > maxLine+2 {
			return fmt.Errorf("line of %d bytes", len(line))
		}
	}
	if isASCII(r.To) && !isASCII(string(got)) {
		return errors.New("not 7bit")
	}

	// Its header holds what it is to hold and nothing else.
	e, err := message.Read(bytes.NewReader(got))
	if err != nil {
		return fmt.Errorf("go-message: %w", err)
	}
	var names []string
	for f := e.Header.Fields(); f.Next(); {
		names = append(names, f.Key())
	}
	want := []string{"From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "Mime-Version", "Content-Type"}
	if slices.Contains(names, "References") {
		want = slices.Insert(want, 5, "In-Reply-To", "References")
	}
	if !slices.Equal(names, want) {
		return fmt.Errorf("header %q", names)
	}
	if to := e.Header.Get("To"); to != "<"+r.To+">" {
		return fmt.Errorf("To %q", to)
	}
	if id := e.Header.Get("Message-Id"); id != "<"+r.ID+"@"+r.Hostname+">" {
		return fmt.Errorf("Message-ID %q", id)
	}

	parts, err := parse(got)
	if err != nil {
		return err
	}
	n := len(parts)
	if n != 3 && (n != 2 || strings.HasPrefix(original, "Subject:") || strings.HasPrefix(original, "From:")) {
		return fmt.Errorf("%d parts: %q", n, parts)
	}
	if parts[0].contentType != "text/plain; charset=utf-8" || parts[1].contentType != "message/delivery-status" {
		return fmt.Errorf("parts: %q", parts)
	}
	through := 0
	for mr := e.MultipartReader(); ; through++ {
		p, err := mr.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("go-message: %w", err)
		}
		if _, err := io.Copy(io.Discard, p.Body); err != nil {
			return fmt.Errorf("go-message: %w", err)
		}
	}
	if through != n {
		return fmt.Errorf("go-message: %d parts", through)
	}

	// One block of fields for the message, one for each recipient.
	tp := textproto.NewReader(bufio.NewReader(bytes.NewReader(parts[1].content)))
	about, err := tp.ReadMIMEHeader()
	if err != nil || about.Get("Reporting-Mta") != "dns; "+r.Hostname {
		return fmt.Errorf("fields of the message: %v, %v", about, err)
	}
	for name := range about {
		if !slices.Contains([]string{"Reporting-Mta", "Original-Envelope-Id", "Arrival-Date"}, name) {
			return fmt.Errorf("fields of the message: %v", about)
		}
	}
	for i := range r.Recipients {
		h, err := tp.ReadMIMEHeader()
		if last := i == len(r.Recipients)-1; err != nil && !(last && err == io.EOF) {
			return fmt.Errorf("recipient %d: %v, %w", i, h, err)
		}
		for name, values := range h {
			if len(values) != 1 || !slices.Contains([]string{"Original-Recipient", "Final-Recipient", "Action", "Status",
				"Remote-Mta", "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until"}, name) {
				return fmt.Errorf("recipient %d: %v", i, h)
			}
		}
		if h.Get("Final-Recipient") == "" || h.Get("Action") != r.Kind.String() || h.Get("Status") == "" {
			return fmt.Errorf("recipient %d: %v", i, h)
		}
	}
	if rest, err := io.ReadAll(tp.R); err != nil || len(rest) > 0 {
		return fmt.Errorf("behind the last recipient: %q, %v", rest, err)
	}
	if n == 3 && bytes.Contains(parts[2].content, []byte("hidden@example.net")) {
		return errors.New("Bcc came back")
	}
	return nil
}

func FuzzBytes(f *testing.F) {
	for _, c := range cases() {
		to := c.Recipients[0]
		f.Add(int(c.Kind), to.To, to.OriginalRecipient, to.Reply.Code, to.Reply.Text, to.Reply.Host, c.EnvelopeID, c.UTF8, c.Return == smtp.DSNReturnFull, c.original)
	}
	f.Fuzz(func(t *testing.T, kind int, to, orcpt string, code int, text, host, envid string, international, full bool, original string) {
		r := report(Kind(kind%3), Recipient{
			To:                to,
			OriginalRecipient: orcpt, OriginalRecipientType: smtp.DSNAddressTypeRFC822,
			Reply: smarthost.Reply{Code: code, Text: text, Host: host}, LastAttempt: now,
		}, Recipient{To: "ann@example.net"})
		r.EnvelopeID, r.UTF8 = envid, international
		if full {
			r.Return = smtp.DSNReturnFull
		}
		if international {
			r.Recipients[0].OriginalRecipientType = smtp.DSNAddressTypeUTF8
		}
		if strings.Contains(strings.ReplaceAll(original+to+orcpt+text, letter, ""), "hidden@example.net") {
			t.Skip("what the test looks for")
		}
		got := r.mustBytes(t, original)
		if err := valid(&r, got, original); err != nil {
			t.Errorf("%v\n%q", err, got)
		}
	})
}

// What is folded says the same unfolded.
func FuzzWriteField(f *testing.F) {
	f.Add("a b  c")
	f.Add(strings.Repeat("word ", 300))
	f.Add(strings.Repeat("ü", 600))
	f.Fuzz(func(t *testing.T, value string) {
		value = printable(value, 5000)
		var b bytes.Buffer
		writeField(&b, "Diagnostic-Code", value)
		longest := 0
		for line := range bytes.Lines(b.Bytes()) {
			longest = max(longest, len(line))
			if len(bytes.TrimSpace(line)) == 0 {
				t.Errorf("a line of spaces in %q", b.String())
			}
		}
		if longest > maxLine {
			t.Errorf("a line of %d bytes", longest)
		}
		unfolded := strings.TrimPrefix(strings.ReplaceAll(b.String(), "\r\n", ""), "Diagnostic-Code: ")
		words := strings.FieldsFunc(value, func(c rune) bool { return c == ' ' })
		if slices.ContainsFunc(words, func(w string) bool { return len(w) > 800 }) {
			unfolded, value = strings.ReplaceAll(unfolded, " ", ""), strings.ReplaceAll(value, " ", "")
		}
		if unfolded != value {
			t.Errorf("%q became %q", value, b.String())
		}
	})
}
