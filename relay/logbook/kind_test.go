package logbook

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
)

// What was said elsewhere is known by its kind only, and lines of one text are told apart by it.
func TestKind(t *testing.T) {
	book := New(slog.NewTextHandler(discard{}, nil), Options{Count: func(slog.Level) {}})
	log := slog.New(book)
	for range 3 {
		log.Warn("message refused", "smarthost", "mx:25", "answer", "550 5.1.1 jane doe at example org has no mailbox: https://x.example/?u=jane")
	}
	log.Warn("message refused", "answer", "550 5.1.1 Jane")
	log.Warn("message refused", "answer", "451-4.7.1 Jane")
	log.Warn("message deferred", "smarthost", "mx:25", "answer", "Jane says 550")
	log.Error("down", "err", fmt.Errorf("%w: dial tcp: lookup jane.example: no such host", errors.New("the consent store does not answer")))
	log.Warn("called", "answer", "503")
	log.Warn("http: TLS handshake error from 192.0.2.7:4711: EOF")
	log.Warn("http: TLS handshake error from 192.0.2.8:4712: remote error: tls: unknown certificate")
	log.Warn("http: Accept error: accept tcp 192.0.2.7:1: too many open files; retrying in 5ms")
	log.Warn("http2: server: error reading preface from client 192.0.2.7:1: EOF")
	log.Warn("http: panic serving 192.0.2.7:1: jane")
	var got []string
	for _, l := range book.Last(maxLines) {
		got = append(got, fmt.Sprintf("%d %s [%s]", l.Count, l.Text, l.Kind))
	}
	want := []string{"1 http: panic []", "1 http2: server []", "1 http: Accept error []", "2 http: TLS handshake error []", "1 called [503]", "1 down [no such host]",
		"1 message deferred [smarthost]", "1 message refused [451]", "1 message refused [550 5.1.1]", "3 message refused [smarthost 550 5.1.1]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
