package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/relay"
)

// What strangers wrote steers no terminal, wherever it is printed.
func TestPrintsNoControls(t *testing.T) {
	var out bytes.Buffer
	bad := "x\x1b[31m\u009b\x7fy"
	printWaiting(streams{out: &out}, relay.Waiting{ID: "id", From: bad, Scope: "s", Class: "c", Recipients: []relay.WaitingRecipient{{To: bad, Reply: "451 " + bad}}})
	report(&out, errors.New("the gateway answers "+bad))
	if strings.ContainsAny(out.String(), "\x1b\u009b\x7f") || strings.Count(out.String(), "x·[31m··y") != 4 || strings.Count(out.String(), "\n") != 4 {
		t.Errorf("%q", out.String())
	}
}
