//go:build unix

package rewrite

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// TestHostileInputs: 1 MB of what would take minutes if any step were more than linear. It is the
// processor's time that counts, so that a busy machine is no matter.
func TestHostileInputs(t *testing.T) {
	const size = 1 << 20
	begin := cpuTime(t)
	for _, unit := range []string{"<", "<!--", "<a ", "<a href=", "<img src=https://x.example.org/o width=1 height=1>", "<div>", "</div>", "<p><td>", "<div hidden>", "</body>",
		"<style>", "<style>{", "<svg><style>@import '", "<p style='background:url(https://x.example.org/", "{{unsubscribe_url}}", "{{unsubscribe_url}}<b>", testPrefix + "a ", "&amp", "&#", "&a",
		"http://))))))))))))))))", "http://x ", "<iframe><iframe srcdoc='", "<iframe srcdoc='&lt;iframe srcdoc=", "<!--[if mso]>", "<!--[if mso]><!--[if mso]>", "=", "=\r\n", "=3D", " \r\n", "--b\r\n", "\r\n--", "\xff", "<base href=https://x.example.org/><a href=x>",
		"a{b:url(x)}", "/*", "@import", "<style>a{b:url(x)}@media print{", "<x xlink:href=//x/ ", "<style>--x ", "<!--<style>", "<p style='--x:", "<a b=\"<a \" ", "<a \"http://x/ ", "<img src='data:image/svg+xml,<svg>'>", "\x00<a>", "<p style=\"(;", "<picture><source srcset=//x><img width=1>", "<img srcset='a/b, "} {
		for _, fields := range []string{"Content-Type: text/html\n", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n", "", "Content-Type: multipart/mixed; boundary=b\n"} {
			src := append(message(fields, ""), strings.Repeat(unit, size/len(unit))...)
			m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), testOptions())
			if err != nil {
				t.Fatal(err)
			}
			if c, err := m.Render(variant(false, false)); err == nil {
				c.WriteTo(io.Discard)
			}
			if d := cpuTime(t) - begin; d > 5*time.Second {
				t.Fatalf("%d MB of %q with %q: slow", size>>20, unit, fields)
			}
			begin = cpuTime(t)
		}
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
