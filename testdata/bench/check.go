package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// copyOf sends the message once, to one of so many people, and returns what the sink gets of it.
func copyOf(ctx context.Context, addr string, msg *message, people int, to *sink) ([]byte, error) {
	kept := make(chan []byte, 1)
	to.capture(kept)
	defer to.capture(nil)
	l := load{addr: addr, message: msg, conns: 1, rcpts: 1, people: people, window: time.Minute, single: true}
	if _, err := l.run(ctx); err != nil {
		return nil, err
	}
	select {
	case text := <-kept:
		return text, nil
	case <-time.After(90 * time.Second): // Postfix waits 60 s for a service that could not start
		return nil, errors.New("the message was accepted, and does not arrive")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check sends a gateway one newsletter to a person of each kind and looks whether the copies were
// worked on: signed, with a one-click pair, and with more remote pictures for who agreed to opens than
// for who did not. Whether they are right in all else is for testdata/e2e.
func (s *site) check(ctx context.Context, addr string, msg *message, to *sink) error {
	var pictures [len(consents)]int
	for range consents {
		kind := int(sequence.Load()+1) % len(consents) // of the person that the next message goes to
		text, err := copyOf(ctx, addr, msg, len(consents), to)
		if err != nil {
			return err
		}
		if !bytes.Contains(text, []byte("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")) {
			return errors.New("a copy has no one-click pair")
		}
		if err := s.verify(text); err != nil {
			return err
		}
		pictures[kind] = strings.Count(unfolded(text), `src=3D"http`) // a pixel may leave its box, with nothing remote in it
	}
	if pictures[0] != pictures[1] || pictures[2] != pictures[3] || pictures[0] <= pictures[3] {
		return fmt.Errorf("remote pictures in the copies, by consent to opens and clicks: both %d, opens %d, clicks %d, none %d",
			pictures[0], pictures[1], pictures[2], pictures[3])
	}
	return nil
}

// unfolded is text without the soft line breaks of quoted-printable.
func unfolded(text []byte) string { return strings.ReplaceAll(string(text), "=\r\n", "") }

// unchanged says whether the body is the one that was sent.
func (m *message) unchanged(text []byte) error {
	if _, body, _ := bytes.Cut(text, []byte("\r\n\r\n")); !bytes.Equal(body, m.body) {
		return fmt.Errorf("a body of %d bytes left as one of %d, or as another", len(m.body), len(body))
	}
	return nil
}

// verify says whether the text has one DKIM signature with the key of this site, and it holds.
func (s *site) verify(text []byte) error {
	public, err := x509.MarshalPKIXPublicKey(&s.dkimKey.PublicKey)
	if err != nil {
		return err
	}
	found, err := dkim.VerifyWithOptions(bytes.NewReader(text), &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) {
			return []string{"v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)}, nil
		},
	})
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("a copy has %d DKIM signatures", len(found))
	}
	return found[0].Err
}
