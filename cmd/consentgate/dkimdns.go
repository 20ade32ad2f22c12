package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/consentgate/consentgate/relay/sign"
)

// zoneRecord is a key's TXT record as it is written in a zone file. One string of it has at most 255
// bytes (RFC 1035 §3.3); verifiers put them together without anything between (RFC 6376 §3.6.2.2).
func zoneRecord(k *sign.Key) string {
	text := k.Record()
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, `"`+text[:255]+`"`), text[255:]
	}
	parts = append(parts, `"`+text+`"`)
	if len(parts) == 1 {
		return k.Name() + ". IN TXT " + parts[0]
	}
	return k.Name() + ". IN TXT ( " + strings.Join(parts, " ") + " )"
}

// lookupTXT asks the DNS for the TXT records of a name, each put together.
type lookupTXT func(ctx context.Context, name string) ([]string, error)

// checkPublished says whether the DNS has the public key of k.
func checkPublished(ctx context.Context, lookup lookupTXT, k *sign.Key) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	records, err := lookup(ctx, k.Name()+".")
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "", errors.New("there is no TXT record; publish the one above")
	case err != nil:
		return "", err
	case len(records) != 1: // RFC 6376 §3.6.2.2: what verifiers then do is undefined
		return "", fmt.Errorf("there are %d TXT records at this name, and verifiers take any of them; leave one", len(records))
	}
	if err := k.Published(records[0]); err != nil {
		return "", fmt.Errorf("%w; publish the record above", err)
	}
	return "is in the DNS and is this key", nil
}
