package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// sendTest runs the gateway that cfg describes for one message: it listens on a free port of the loopback
// interface, takes in a mail with a pixel that counts, looks up consent in the store, and hands that
// person's copy to the smarthost. It keeps nothing but the copy, for verify-delivery.
func sendTest(ctx context.Context, std streams, cfg *config.Config, who consent.Address) error {
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return usageError{err}
	}
	once := *cfg
	once.SMTP = config.Default().SMTP
	once.SMTP.Listen = []string{"127.0.0.1:0"}
	once.Unsubscribe.Listen, once.Unsubscribe.TLSCert, once.Unsubscribe.TLSKey = "127.0.0.1:0", "", ""
	once.Admin.Listen = "127.0.0.1:0"
	once.Delivery.Mode = "stateless" // the smarthost's answer is the gateway's
	once.Delivery.KeepCopiesFor = who.String()
	var warnings bytes.Buffer
	once.Log.Level, once.Log.Format = "error", "json"
	seen, log := newSeen(&once, &warnings)
	g := &gateway{cfg: &once, log: log, seen: seen}
	answer, err := g.once(ctx, ring, who)
	if err != nil {
		if inside := logged(&warnings); len(inside) > 0 {
			err = fmt.Errorf("%w (%s)", err, inside[0])
		}
		if errors.Is(err, errRunning) {
			return fmt.Errorf("the test mail: %w; any mail to %s goes the same way", err, cfg.SMTP.Listen[0])
		}
		return fmt.Errorf("the test mail: %w", err)
	}
	fmt.Fprintf(std.out, "\nThe smarthost took the test mail to %s. Its ID here is %s.\n", who, strings.TrimPrefix(answer, "2.0.0 "))
	copies, err := filepath.Glob(filepath.Join(copiesDir(&once), "*.eml"))
	if err != nil || len(copies) == 0 {
		return fmt.Errorf("no copy was kept in %s", copiesDir(&once))
	}
	text, err := os.ReadFile(copies[len(copies)-1])
	if err != nil {
		return err
	}
	for _, f := range []struct {
		what string
		is   bool
	}{
		{"signed", hasField(text, "DKIM-Signature")},
		{"unsubscribed from with one click", hasField(text, "List-Unsubscribe-Post")},
		{"counted when it is opened", bytes.Contains(text, []byte(testPixel))},
	} {
		fmt.Fprintf(std.out, "  %s: %s\n", f.what, map[bool]string{true: "yes", false: "no"}[f.is])
	}
	fmt.Fprintf(std.out, "The copy as it left is kept. Save what arrives, and see whether it is the same:\n  consentgate verify-delivery %s received.eml\n", copies[len(copies)-1])
	return nil
}

// once serves for one message and returns the answer to it. Where the smarthost refused it, that is the error.
func (g *gateway) once(ctx context.Context, ring *keyring.Ring, who consent.Address) (answer string, err error) {
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.open(ring); err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	answer, err = g.submit(who)
	cancel()
	return answer, errors.Join(err, <-ended)
}

// submit hands the test mail to the gateway.
func (g *gateway) submit(who consent.Address) (string, error) {
	domain := g.cfg.DKIM.Domain
	if domain == "" {
		domain = g.cfg.Hostname
	}
	from := mail.Address{Name: g.cfg.Unsubscribe.Company, Address: "no-reply@" + domain}
	client, err := smtp.Dial(g.relay.Addrs()[0].String())
	if err != nil {
		return "", err
	}
	defer client.Close()
	var opts smtp.MailOptions
	opts.UTF8 = strings.ContainsFunc(who.String(), func(r rune) bool { return r > unicode.MaxASCII }) // RFC 6531 §3.4
	if err := client.Mail(from.Address, &opts); err != nil {
		return "", err
	}
	if err := client.Rcpt(who.String(), nil); err != nil {
		return "", err
	}
	w, err := client.Data()
	if err != nil {
		return "", err
	}
	if _, err := w.Write(testMessage(from, who, g.cfg.Unsubscribe.BaseURL, g.cfg.Hostname, time.Now())); err != nil {
		return "", err
	}
	done, err := w.CloseWithResponse()
	if err != nil {
		return "", err
	}
	return done.StatusText, client.Quit()
}

// testPixel is in the address of the test mail's pixel.
const testPixel = "consentgate-test-pixel"

// testMessage is a newsletter in little, CRLF at its line ends: text, and HTML with a pixel that counts.
func testMessage(from mail.Address, to consent.Address, base, hostname string, now time.Time) []byte {
	return []byte(strings.ReplaceAll(fmt.Sprintf(`From: %s
To: <%s>
Subject: %s
Date: %s
Message-ID: <test.%d@%s>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="consentgate-test"

--consentgate-test
Content-Type: text/plain; charset=utf-8

This mail went through consentgate. It was submitted with a pixel that counts
openings. Unless you agreed to be counted, the pixel is not in it any more: look
at its source. The unsubscribe link below is yours.

--consentgate-test
Content-Type: text/html; charset=utf-8

<!DOCTYPE html>
<html lang="en">
<body>
<p>This mail went through consentgate. It was submitted with a pixel that counts
openings. Unless you agreed to be counted, the pixel is not in it any more: look
at its source. The unsubscribe link below is yours.</p>
<img src="%s/%s.gif" width="1" height="1" alt="">
</body>
</html>

--consentgate-test--
`, from.String(), to, mime.QEncoding.Encode("utf-8", "A test of consentgate on "+hostname), now.Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		now.UnixNano(), hostname, base, testPixel), "\n", "\r\n"))
}

// hasField reports whether a message has a header field.
func hasField(message []byte, name string) bool {
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return bytes.Contains([]byte("\r\n"+strings.ToLower(string(header))), []byte("\r\n"+strings.ToLower(name)+":"))
}

// logged returns the lines of a log that was written as JSON, in words: what was said, and the error with it.
func logged(log *bytes.Buffer) []string {
	var all []string
	for line := range bytes.Lines(log.Bytes()) {
		var said struct{ Msg, Err string }
		if json.Unmarshal(line, &said) != nil {
			continue
		}
		if said.Err != "" {
			said.Msg += ": " + said.Err
		}
		all = append(all, said.Msg)
	}
	return all
}
