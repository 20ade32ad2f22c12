package dsn

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/relay/smarthost"
)

var update = flag.Bool("update", false, "write the wanted reports anew")

var (
	arrived = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	now     = time.Date(2026, 3, 1, 9, 31, 5, 0, time.UTC)
)

const letter = "Received: from shop.example.org\r\n\tby gate.example.org; Sun, 01 Mar 2026 09:30:00 +0000\r\n" +
	"From: Shop <news@shop.example.org>\r\nTo: joe@example.com, ann@example.net\r\nBcc: secret@example.net,\r\n\thidden@example.net\r\n" +
	"Subject: =?utf-8?q?Fr=C3=BChling?= at the shop\r\nMessage-ID: <42@shop.example.org>\r\n\r\nIt is spring.\r\n"

func refused(text string) smarthost.Reply {
	return smarthost.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: text, Host: "mx.example.com:25"}
}

func report(kind Kind, to ...Recipient) Report {
	return Report{Kind: kind, Hostname: "gate.example.org", ID: "01abc", To: "bounce+7@shop.example.org", Now: now, Arrived: arrived, Recipients: to}
}

// cases are the reports of the golden files.
func cases() map[string]struct {
	Report
	original string
} {
	type c = struct {
		Report
		original string
	}
	all := map[string]c{}

	r := report(Failed, Recipient{
		To:                    "joe@example.com",
		OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "joe+list@example.com",
		Reply: refused("no such user here"), LastAttempt: now,
	})
	r.EnvelopeID, r.Return = "campaign 7=a", smtp.DSNReturnHeaders
	all["failed"] = c{r, letter}
	r.Return = smtp.DSNReturnFull
	all["failed_full"] = c{r, letter}
	all["failed_full_8bit"] = c{r, letter + "Grüße\r\n"}
	all["failed_no_message"] = c{r, ""}

	r = report(Failed,
		Recipient{To: "joe@example.com", Unsubscribed: true, Reply: smarthost.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "the recipient has unsubscribed from this mail"}},
		Recipient{To: "ann@example.net", Reply: smarthost.Reply{Code: 451, Text: "try\nlater", Host: "192.0.2.7:25"}, LastAttempt: now},
		Recipient{To: "eve@example.net"},
		Recipient{To: "kim@example.net", Reply: smarthost.Reply{Code: 550, Enhanced: [3]int{5, 6, 7}, Text: "the message needs SMTPUTF8 and the next hop does not offer it"}},
		Recipient{To: "lou@example.net", Reply: smarthost.Reply{Code: 554, Text: "no", Host: "/run/lmtp"}, LastAttempt: now},
	)
	all["failed_several"] = c{r, letter}

	r = report(Delayed, Recipient{To: "joe@example.com", Reply: smarthost.Reply{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "greylisted", Host: "mx.example.com:25"}, LastAttempt: now})
	r.RetryUntil, r.Return = now.Add(120*time.Hour), smtp.DSNReturnFull
	all["delayed"] = c{r, letter}
	all["relayed"] = c{report(Relayed, Recipient{To: "joe@example.com", Reply: smarthost.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "queued as 42", Host: "[2001:db8::1]:25"}, LastAttempt: now}), letter}

	r = report(Failed, Recipient{
		To:                    "jöe@exämple.com",
		OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: `j\ö+e@exämple.com`,
		Reply: refused("kein Benutzer dieses Namens: jöe"), LastAttempt: now,
	})
	r.UTF8 = true
	international := "From: jöe@exämple.com\r\nSubject: Grüße\r\nMessage-ID: <42@shop.example.org>\r\n\r\nGrüße\r\n"
	all["utf8"] = c{r, international}
	r.Return = smtp.DSNReturnFull
	all["utf8_full"] = c{r, international}
	r = report(Failed, Recipient{To: "joe@example.com", Reply: refused("no"), LastAttempt: now})
	r.To = "jöe@exämple.com"
	all["utf8_sender"] = c{r, letter}

	r = report(Failed, Recipient{
		To:                    "\"a\r\nBcc: x@example.net\"@example.com",
		OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "x\r\nAction: delivered\r\n",
		Reply: refused("--=_01abc_0--\r\nBcc: x@example.net\r\n\r\n\x00\x1b[31m\u202e" + strings.Repeat("long ", 100) + strings.Repeat("x", 3000)),
	})
	r.EnvelopeID = "x\r\nReporting-MTA: dns; evil.example.org"
	all["hostile"] = c{r, "Subject: a\r\nMessage-ID: <x@y>\r\n <z@y>\r\nX: --=_01abc_0--\n--=_01abc_1\r\n" + strings.Repeat("y", 2000) + "\r\n\r\n"}
	return all
}

func (r *Report) mustBytes(t testing.TB, original string) []byte {
	t.Helper()
	got, err := r.Bytes(strings.NewReader(original), int64(len(original)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGolden(t *testing.T) {
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			got := c.mustBytes(t, c.original)
			if err := valid(&c.Report, got, c.original); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
			file := filepath.Join("testdata", name+".want.eml")
			if *update {
				if err := os.WriteFile(file, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Python's own mail library finds nothing wrong, and reads the same.
func TestPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	const script = `
import sys, email, email.policy
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP.clone(raise_on_defect=False))
assert m.get_content_type() == "multipart/report", m.get_content_type()
for p in m.walk():
    assert not p.defects, (p.get_content_type(), p.defects)
    for name, value in p.items():
        if (p is m and value.isascii()) or name.lower().startswith("content-"): # it knows no RFC 6532
            assert not getattr(value, "defects", None), (name, value, value.defects)
parts = list(m.iter_parts())
print(parts[1].get_content_type())
for block in parts[1].get_payload():
    for name in "Reporting-MTA", "Final-Recipient", "Action", "Status":
        if block[name]:
            print(name + ": " + block[name])
print(parts[2].get_content_type() if len(parts) > 2 else "-")
`
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(python, "-c", script)
			cmd.Stdin = bytes.NewReader(c.mustBytes(t, c.original))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := strings.ReplaceAll(string(out), "\r\n", "\n")
			if !strings.HasPrefix(got, "message/delivery-status\nReporting-MTA: dns; gate.example.org\n") ||
				strings.Count(got, "\nFinal-Recipient: ") != len(c.Recipients) ||
				strings.Count(got, "\nAction: "+c.Kind.String()+"\nStatus: ") != len(c.Recipients) {
				t.Errorf("python read\n%s", got)
			}
		})
	}
}

func TestWanted(t *testing.T) {
	never := []smtp.DSNNotify{smtp.DSNNotifyNever}
	failure := []smtp.DSNNotify{smtp.DSNNotifyFailure}
	delay := []smtp.DSNNotify{smtp.DSNNotifyDelayed}
	success := []smtp.DSNNotify{smtp.DSNNotifySuccess}
	every := []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed}
	for _, tt := range []struct {
		name                     string
		from                     string
		notify                   []smtp.DSNNotify
		failed, delayed, relayed bool
	}{
		{"not said", "a@example.org", nil, true, false, false},
		{"never", "a@example.org", never, false, false, false},
		{"failure", "a@example.org", failure, true, false, false},
		{"delay", "a@example.org", delay, false, true, false},
		{"success", "a@example.org", success, false, false, true},
		{"every", "a@example.org", every, true, true, true},
		{"null sender", "", every, false, false, false},
		{"null sender, not said", "", nil, false, false, false},
	} {
		got := [3]bool{Wanted(Failed, tt.from, tt.notify), Wanted(Delayed, tt.from, tt.notify), Wanted(Relayed, tt.from, tt.notify)}
		if want := [3]bool{tt.failed, tt.delayed, tt.relayed}; got != want {
			t.Errorf("%s: failed, delayed, relayed %v, want %v", tt.name, got, want)
		}
	}
}

func TestStatusCode(t *testing.T) {
	for _, tt := range []struct {
		kind Kind
		to   Recipient
		want [3]int
	}{
		{Failed, Recipient{Reply: smarthost.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}}}, [3]int{5, 1, 1}},
		{Failed, Recipient{Reply: smarthost.Reply{Code: 550}}, [3]int{5, 0, 0}},
		{Failed, Recipient{Reply: smarthost.Reply{Code: 550, Enhanced: [3]int{5, 1000, 1}}}, [3]int{5, 0, 0}},
		{Failed, Recipient{Reply: smarthost.Reply{Code: 550, Enhanced: [3]int{2, 1, 1}}}, [3]int{5, 0, 0}},
		{Failed, Recipient{Reply: smarthost.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}}}, [3]int{4, 7, 1}},
		{Failed, Recipient{Reply: smarthost.Reply{Code: 250}}, [3]int{5, 0, 0}},
		{Failed, Recipient{}, [3]int{4, 4, 7}},
		{Failed, Recipient{Unsubscribed: true}, [3]int{5, 7, 1}},
		{Delayed, Recipient{Reply: smarthost.Reply{Code: 450}}, [3]int{4, 0, 0}},
		{Delayed, Recipient{}, [3]int{4, 4, 1}},
		{Relayed, Recipient{Reply: smarthost.Reply{Code: 250, Enhanced: [3]int{2, 1, 5}}}, [3]int{2, 1, 5}},
		{Relayed, Recipient{Reply: smarthost.Reply{Code: 250}}, [3]int{2, 0, 0}},
		{Relayed, Recipient{}, [3]int{2, 0, 0}},
	} {
		if got := statusCode(tt.kind, tt.to); got != tt.want {
			t.Errorf("%v %+v: %v, want %v", tt.kind, tt.to, got, tt.want)
		}
	}
}

// What comes back is bounded, and what it is called fits.
func TestBounds(t *testing.T) {
	r := report(Failed, Recipient{To: "joe@example.com", Reply: refused("no")})
	line := "X-Padding: " + strings.Repeat("x", 80) + "\r\n"
	for _, tt := range []struct {
		name, original, wantType string
		most                     int
		ret                      smtp.DSNReturn
	}{
		{"a long header", "Subject: x\r\n" + strings.Repeat(line, 2000) + "\r\nbody\r\n", "text/rfc822-headers", maxHeader, ""},
		{"a header without end", strings.Repeat(line, 2000), "text/rfc822-headers", maxHeader, smtp.DSNReturnFull + "x"},
		{"a line without end", strings.Repeat("x", 200000), "text/rfc822-headers", maxHeader, ""},
		{"full", "Subject: x\r\n\r\n" + strings.Repeat(line, 10000), "message/rfc822", maxFull, smtp.DSNReturnFull},
		{"full, a long header", "Subject: x\r\n" + strings.Repeat(line, 2000) + "\r\nbody\r\n", "message/rfc822", maxFull, smtp.DSNReturnFull},
		{"full, too long", "Subject: x\r\n\r\n" + strings.Repeat(line, 20000), "text/rfc822-headers", 20, smtp.DSNReturnFull},
		{"full, a line too long", "Subject: x\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", "text/rfc822-headers", 20, smtp.DSNReturnFull},
		{"full, the longest line", "Subject: x\r\n\r\n" + strings.Repeat("x", 998) + "\r\n", "message/rfc822", maxFull, smtp.DSNReturnFull},
		{"full, bare LF", "Subject: x\r\n\r\na\nb\r\n", "text/rfc822-headers", 20, smtp.DSNReturnFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := r
			r.Return = tt.ret
			got := r.mustBytes(t, tt.original)
			if err := valid(&r, got, tt.original); err != nil {
				t.Fatal(err)
			}
			parts, err := parse(got)
			if err != nil {
				t.Fatal(err)
			}
			last := parts[2]
			if last.contentType != tt.wantType || len(last.content) > tt.most {
				t.Errorf("%d bytes of %s", len(last.content), last.contentType)
			}
			if tt.wantType == "message/rfc822" && string(last.content) != tt.original {
				t.Error("the message came back changed")
			}
		})
	}
}

func TestNoReport(t *testing.T) {
	good := report(Failed, Recipient{To: "joe@example.com"})
	for name, change := range map[string]func(*Report){
		"nobody":          func(r *Report) { r.Recipients = nil },
		"null sender":     func(r *Report) { r.To = "" },
		"two senders":     func(r *Report) { r.To = "a@example.org>, <b@example.org" },
		"field in sender": func(r *Report) { r.To = "a@example.org\r\nBcc: b@example.org" },
		"quote in sender": func(r *Report) { r.To = `"a"b"@example.org` },
		"no ID":           func(r *Report) { r.ID = "" },
		"field in ID":     func(r *Report) { r.ID = "a\r\nBcc: b@example.org" },
		"no host":         func(r *Report) { r.Hostname = "" },
		"field in host":   func(r *Report) { r.Hostname = "a\r\nb" },
	} {
		r := good
		change(&r)
		if got, err := r.Bytes(nil, 0); err == nil {
			t.Errorf("%s: no error\n%s", name, got)
		}
	}
	if _, err := good.Bytes(broken{}, 10); !errors.Is(err, errDisk) {
		t.Errorf("a message that cannot be read: %v", err)
	}
	for _, to := range []string{`"a b"@example.org`, `"a\"b"@example.org`, "a..b@example.org", "a@[IPv6:::1]", "ä@exämple.org"} {
		r := good
		r.To = to
		if err := valid(&r, r.mustBytes(t, letter), letter); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}

var errDisk = errors.New("disk error")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestMessageID(t *testing.T) {
	for text, want := range map[string]string{
		"<a@b>":                                "<a@b>",
		"\r\n <a@b>":                           "<a@b>",
		"a@b":                                  "",
		"<a@b> <c@d>":                          "",
		"<a b@c>":                              "",
		"<@b>":                                 "",
		"<ä@b>":                                "",
		"<" + strings.Repeat("x", 300) + "@b>": "",
	} {
		if got := messageID(fmt.Appendf(nil, "Subject: x\r\nMESSAGE-ID: %s\r\nTo: y\r\n", text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
