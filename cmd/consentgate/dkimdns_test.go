package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/consentgate/consentgate/relay/sign"
)

func newDKIMKey(t *testing.T, private any) *sign.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "example.org", "gate")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestZoneRecord(t *testing.T) {
	large, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	_, small, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*sign.Key{newDKIMKey(t, large), newDKIMKey(t, small)} {
		line := zoneRecord(k)
		joined := ""
		for _, part := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(line, -1) {
			if len(part[1]) > 255 {
				t.Errorf("a string of %d bytes", len(part[1]))
			}
			joined += part[1]
		}
		if joined != k.Record() || !strings.HasPrefix(line, "gate._domainkey.example.org. IN TXT ") {
			t.Error(line)
		}
	}
}

// serveDNS is a DNS server on the loopback that answers questions for TXT records from a table of names
// to records, each of several strings. It returns a question to it.
func serveDNS(t *testing.T, zone map[string][][]string) lookupTXT {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			records, ok := zone[strings.ToLower(q.Name.String())]
			if !ok {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, text := range records {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.TXTResource{TXT: text},
				})
			}
			if answer, err := m.Pack(); err == nil {
				conn.WriteTo(answer, peer)
			}
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return resolver.LookupTXT
}

func TestCheckPublished(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k := newDKIMKey(t, private)
	split := []string{k.Record()[:255], k.Record()[255:]}
	for name, tt := range map[string]struct {
		records [][]string // nil: no such name
		bad     string
	}{
		"as printed":     {[][]string{split}, ""},
		"none":           {nil, "no TXT record"},
		"another":        {[][]string{{"v=DKIM1; k=rsa; p=AAAA"}}, "another key"},
		"revoked":        {[][]string{{"v=DKIM1; p="}}, "revoked"},
		"two":            {[][]string{split, {"v=spf1 -all"}}, "2 TXT records"},
		"something else": {[][]string{{"v=spf1 -all"}}, "no DKIM record"},
	} {
		zone := map[string][][]string{}
		if tt.records != nil {
			zone["gate._domainkey.example.org."] = tt.records
		}
		good, err := checkPublished(context.Background(), serveDNS(t, zone), k)
		if tt.bad == "" && (err != nil || good == "") || tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("%s: %q, %v, want %q", name, good, err, tt.bad)
		}
	}
}

// check-config prints the record of each key, and with --dns says of each whether it is there.
func TestCheckConfigRecords(t *testing.T) {
	table, public := dkimKey(t)
	second, _ := dkimKey(t)
	extra := table + strings.NewReplacer("[dkim]", "[[dkim.key]]", "example.org", "shop.example").Replace(second)
	g := start(t, newSink(t).address, "file:DIR/consent.db", extra)
	lookup := serveDNS(t, map[string][][]string{"gate._domainkey.example.org.": {{public[:200], public[200:]}}})
	var out bytes.Buffer
	cmd := checkConfigCmd{configFlag: configFlag{g.config}, DNS: true, lookup: lookup}
	if err := cmd.Run(t.Context(), streams{out: &out}); !errors.Is(err, errReported) {
		t.Errorf("%v, though a record is missing", err)
	}
	for _, want := range []string{
		"record: gate._domainkey.example.org. IN TXT ( \"v=DKIM1; k=rsa; p=",
		"record: gate._domainkey.shop.example. IN TXT ( \"v=DKIM1; k=rsa; p=",
		"record gate._domainkey.example.org: is in the DNS and is this key\n",
		"record gate._domainkey.shop.example: FAILED: there is no TXT record; publish the one above\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, out.String())
		}
	}
}

// SIGHUP takes over another key, and a broken one leaves the one before.
func TestReloadDKIM(t *testing.T) {
	table, _ := dkimKey(t)
	smarthost := newSink(t)
	g := start(t, smarthost.address, "file:DIR/consent.db", table)
	selector := func() string {
		t.Helper()
		if err := g.send(t, "marketing"); err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(<-smarthost.mails), " s=")
		s, _, _ := strings.Cut(after, ";")
		return s
	}
	if got := selector(); got != "gate" {
		t.Errorf("signed with %q", got)
	}
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"selector = \"new\"", "selector = \"a b\""} {
		if err := os.WriteFile(g.config, bytes.Replace(text, []byte("selector = \"gate\""), []byte(change), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		g.reload()
		if got := selector(); got != "new" {
			t.Errorf("with %s signed with %q", change, got)
		}
	}
}
