package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// large is more than the 50 MiB that max_message_bytes is by default.
const large = 60 << 20

// peak returns the most memory that the gateway has ever had, in bytes: VmHWM of /proc.
func (g *gateway) peak(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no VmHWM here: %v", err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kB << 10
}

// A message of 60 MiB is refused with 552 5.3.4: at MAIL where the client says its size, and at
// its end where it lies or says nothing. The connection goes on, and the gateway's memory does not
// grow with the message.
func TestTooLarge(t *testing.T) {
	next := startSink(t)
	g := newSite(t, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`).start(t)
	text := hugeMessage(large)
	d := g.hello(t)
	send := func(text []byte) {
		t.Helper()
		if _, err := d.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.submit("first@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Fatalf("answered %q", got)
	}
	before := g.peak(t)

	d.say(fmt.Sprintf("MAIL FROM:<news@shop.example.net> SIZE=%d", large))
	d.expect(`552 5\.3\.4 `)
	for _, size := range []string{"", " SIZE=1000"} {
		d.say("MAIL FROM:<news@shop.example.net>" + size)
		d.expect("250 ")
		d.say("RCPT TO:<reader@example.org>")
		d.expect("250 ")
		d.say("DATA")
		d.expect("354 ")
		send(text)
		d.raw(".\r\n")
		d.expect(`552 5\.3\.4 the message is too large$`)
	}
	// In chunks of 8 MiB; none that follows the refused one is taken for commands.
	d.envelope("reader@example.org")
	refused := false
	for rest := text; len(rest) > 0; {
		n := min(8<<20, len(rest))
		last := ""
		if n == len(rest) {
			last = " LAST"
		}
		d.raw(fmt.Sprintf("BDAT %d%s\r\n", n, last))
		send(rest[:n])
		rest = rest[n:]
		got := d.expect(`250 |552 5\.3\.4 |50[23] 5\.5\.1 `)
		refused = refused || strings.HasPrefix(got, "552")
		if refused && strings.HasPrefix(got, "250") {
			t.Errorf("a chunk behind the refused one is answered %q", got)
		}
	}
	if !refused {
		t.Error("60 MiB in chunks were taken")
	}
	d.say("RSET")
	d.expect("250 ")

	grown := g.peak(t) - before
	t.Logf("before: %d MiB; 180 MiB of refused mail took %d KiB", before>>20, grown>>10)
	if grown > 24<<20 {
		t.Errorf("the memory grew by %d MiB", grown>>20)
	}
	if got := d.submit("last@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Errorf("the connection is not in order: %q", got)
	}
	if n := next.count(); n != 2 {
		t.Errorf("%d copies left, want 2", n)
	}
	g.logged(t, `level=WARN msg="message refused" .*to=\[r•••@example\.org\] answer="552 5\.3\.4 the message is too large"`)

	// All of it in one chunk.
	d.envelope("reader@example.org")
	d.raw(fmt.Sprintf("BDAT %d LAST\r\n", len(text)))
	send(text)
	d.expect(`552 5\.3\.4 the message is too large$`)
}

// A message of 48 MiB passes with its attachment as it was, and is not held in memory.
func TestLarge(t *testing.T) {
	next := startSink(t)
	g := newSite(t, `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`).start(t)
	if got := g.deliver(t, "first@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Fatalf("answered %q", got)
	}
	before := g.peak(t)
	text := hugeMessage(48 << 20)
	if got := g.deliver(t, "reader@example.org", text); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Fatalf("answered %q", got)
	}
	grown := g.peak(t) - before
	t.Logf("before: %d MiB; 48 MiB took %d KiB", before>>20, grown>>10)
	if grown > 24<<20 {
		t.Errorf("the memory grew by %d MiB", grown>>20)
	}
	copy := next.get(path{"news@shop.example.net", "reader@example.org"})
	if bytes.Contains(copy, []byte(pixelHost)) || !bytes.Contains(copy, []byte(linkPrefix)) {
		t.Error("the copy has the pixel, or lacks the link")
	}
	_, attachment, _ := bytes.Cut(text, []byte("filename=catalogue.bin"))
	if !bytes.HasSuffix(copy, attachment) {
		t.Error("the attachment was changed")
	}
}

// hugeMessage is a short text with a pixel and an attachment, size bytes in all or a line less.
func hugeMessage(size int) []byte {
	var b bytes.Buffer
	b.Grow(size)
	fmt.Fprintf(&b, "From: Shop <news@%s>\r\nTo: reader@example.org\r\nSubject: Catalogue\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
		"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>%s\r\n"+
		"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=catalogue.bin\r\n\r\n", dkimDomain, pixel)
	const line = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n"
	const end = "--b--\r\n"
	for b.Len()+len(line)+len(end) <= size {
		b.WriteString(line)
	}
	b.WriteString(end)
	return b.Bytes()
}
