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

// check sends one message to a person of each kind and looks whether the copies were worked on:
// signed, with a one-click pair, and with more remote pictures for who agreed to opens than for who did
// not. Whether they are right in all else is for testdata/e2e.
func (s *site) check(ctx context.Context, msg *message, to *sink) (err error) {
	g, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	kept := make(chan []byte, 1)
	to.capture(kept)
	defer to.capture(nil)

	var pictures [len(consents)]int
	for range consents {
		kind := int(sequence.Load()+1) % len(consents) // of the person that the next message goes to
		l := load{addr: g.smtp, message: msg, conns: 1, rcpts: 1, people: len(consents), window: time.Minute, single: true}
		if _, err := l.run(ctx); err != nil {
			return err
		}
		text := <-kept
		if !bytes.Contains(text, []byte("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")) {
			return errors.New("a copy has no one-click pair")
		}
		if err := s.verify(text); err != nil {
			return err
		}
		joined := strings.ReplaceAll(string(text), "=\r\n", "") // the soft line breaks of quoted-printable
		pictures[kind] = strings.Count(joined, `src=3D"http`)   // a pixel may leave its box, with nothing remote in it
	}
	if pictures[0] != pictures[1] || pictures[2] != pictures[3] || pictures[0] <= pictures[3] {
		return fmt.Errorf("remote pictures in the copies, by consent to opens and clicks: both %d, opens %d, clicks %d, none %d",
			pictures[0], pictures[1], pictures[2], pictures[3])
	}
	return nil
}

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
