package sign

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/canonical"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// peerSign is what go-msgauth's signer makes of msg, and the time it put into it.
func peerSign(t testing.TB, msg string, names []string, key crypto.Signer) (field string, at time.Time) {
	t.Helper()
	s, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: "example.org", Selector: "gate1", Signer: key, HeaderKeys: names,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Write([]byte(msg)); err == nil {
		err = s.Close()
	} else {
		s.Close()
	}
	if err != nil {
		t.Skipf("the peer cannot sign this: %v", err)
	}
	field = s.Signature()
	_, after, _ := strings.Cut(field, " t=")
	digits, _, _ := strings.Cut(after, ";")
	unix, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatalf("no time in %s", field)
	}
	return field, time.Unix(unix, 0)
}

// FuzzSign holds the signature against go-msgauth's: the same bytes, given the same time.
func FuzzSign(f *testing.F) {
	f.Add("Subject: hello\r\n", "hello \t there\r\n\r\n")
	f.Add("To: a@example.com\r\nTO : b@example.com\r\nSubject:  a\r\n\t folded  field \r\n", " \r\n\r\n\ttext  \r\n.\r\n \r\nmore")
	f.Add("List-Unsubscribe: <x:y>\r\nlist-unsubscribe-post: z\r\nX-Other:\r\nCc:\r\n", "")
	f.Add("Date: "+strings.Repeat("x ", 60)+"\r\n", "\r\n\r\n"+strings.Repeat("  a\t b \r\n", 3000))
	f.Add("", strings.Repeat("x", 5000)+" "+strings.Repeat("y", 5000)+"\nbare\n\n")
	f.Fuzz(func(t *testing.T, fields, body string) {
		// A bare CR never comes in; go-msgauth takes it for a line end, and verifiers do not agree on it.
		if strings.Contains(strings.ReplaceAll(fields+"\r\n"+body, "\r\n", ""), "\r") || strings.Contains(fields, "\n\n") || strings.Contains(fields, "\n\r\n") {
			t.Skip()
		}
		msg := "From: news@example.org\r\n" + fields + "\r\n" + body
		m, err := rewrite.Parse(rewrite.Bytes(msg), int64(len(msg)), trackers.Default(), rewrite.Options{})
		if err != nil {
			t.Skip()
		}
		c, err := m.Render(rewrite.Variant{Open: true, Click: true})
		if err != nil {
			t.Skip()
		}
		var text bytes.Buffer
		if _, err := c.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		in := canonical.Splitter{Body: canonical.NewBody(true, -1)}
		in.Write(text.Bytes())
		signed := appendHeader(nil, in.Header).signedFields(nil)
		names := make([]string, len(signed))
		for i, place := range signed {
			names[i] = usual[place]
		}
		if strings.Contains(joinNames(signed), "\r\n") || !plainFields(in.Header) {
			t.Skip() // folded otherwise than go-msgauth does, or no header fields
		}
		want, at := peerSign(t, text.String(), names, edKey())
		s := New([]*Key{newKey(t, pkcs8(t, edKey()), "example.org")}, Options{Now: func() time.Time { return at }})
		if err := s.Sign(c); err != nil {
			t.Skip() // a second From
		}
		got, rest := bytesOf(t, c), text.String()
		if got != want+rest {
			t.Fatalf("the signature is\n%s\nthe peer's\n%s", strings.TrimSuffix(got, rest), want)
		}
	})
}

// plainFields reports whether every line is a field or goes on with one.
func plainFields(text []byte) bool {
	for _, f := range appendHeader(nil, text) {
		if name, _, ok := bytes.Cut(f.raw, []byte(":")); !ok || len(bytes.Trim(name, " \t")) == 0 || name[0] <= ' ' || !isToken(bytes.TrimRight(name, " \t")) {
			return false
		}
	}
	return true
}

func isToken(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// BenchmarkSign signs a newsletter of 50 KB, in turn with go-msgauth's signer and with what cannot be
// less: one SHA-256 over it all and one bare signature.
func BenchmarkSign(b *testing.B) {
	msg := "From: news@example.org\r\nTo: joe@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" +
		strings.Repeat("seventy bytes of text that are like those of any newsletter, about.\r\n", 50<<10/69)
	names := []string{"From", "From", "Subject", "To", "MIME-Version", "Content-Type"}
	m, err := rewrite.Parse(rewrite.Bytes(msg), int64(len(msg)), trackers.Default(), rewrite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range []struct {
		name string
		pem  []byte
		key  crypto.Signer
	}{{"rsa2048", pkcs1(rsaKey()), rsaKey()}, {"ed25519", pkcs8(b, edKey()), edKey()}} {
		b.Run(k.name, func(b *testing.B) {
			s := newSigner(b, k.pem)
			var ours, peer, bare time.Duration
			for b.Loop() {
				c, err := m.Render(rewrite.Variant{Open: true, Click: true})
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := s.Sign(c); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(start)
				start = time.Now()
				peerSign(b, msg, names, k.key)
				peer += time.Since(start)
				start = time.Now()
				if _, err := signHash(k.key, sha256.Sum256([]byte(msg))); err != nil {
					b.Fatal(err)
				}
				bare += time.Since(start)
			}
			b.ReportMetric(0, "ns/op") // of all three
			b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs-ours")
			b.ReportMetric(float64(peer.Microseconds())/float64(b.N), "µs-go-msgauth")
			b.ReportMetric(float64(bare.Microseconds())/float64(b.N), "µs-bare")
			b.ReportMetric(float64(peer)/float64(ours), "times-faster")
		})
	}
}
