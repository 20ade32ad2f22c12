package relay

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Answers to commands that came together leave together (RFC 2920 §3.2), and none is held back while
// something is waited for, or when the connection ends.
func TestAnswersLeaveTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		pieces []string
		want   []string // the codes of each write
	}{
		"in groups": {
			[]string{"EHLO x\r\n", "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n", "text\r\n.\r\nQUIT\r\n"},
			[]string{"220", "250", "250 250 250 354", "250", "221"},
		},
		"one by one": {
			[]string{"EHLO x\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.org>\r\n", "DATA\r\n", "text\r\n.\r\n", "QUIT\r\n"},
			[]string{"220", "250", "250", "250", "354", "250", "221"},
		},
		"a command that has not come as a whole": {
			[]string{"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:", "<b@example.org>\r\nQUIT\r\n"},
			[]string{"220", "250 250", "250 221"},
		},
		"something behind QUIT": {
			[]string{"EHLO x\r\nQUIT\r\nNOOP\r\n"},
			[]string{"220", "250 221"},
		},
		"cut off": {
			[]string{"EHLO x\r\nNOOP\r\nNOOP"},
			[]string{"220", "250 250", "250"},
		},
		"chunks": {
			[]string{"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 6 LAST\r\ntext\r\nQUIT\r\n"},
			[]string{"220", "250 250 250", "250", "221"},
		},
		"far more than fits in one read": {
			[]string{"EHLO x\r\n" + strings.Repeat("NOOP\r\n", 2000) + "QUIT\r\n"},
			nil,
		},
	} {
		b := dialogue(tt.pieces, true)
		raw := b.raw.(*spoken)
		var got []string
		for _, w := range raw.writes {
			got = append(got, strings.TrimSpace(strings.Join(replyCode.FindAllString(w, -1), "")))
		}
		if tt.want != nil && !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if n := len(replyCode.FindAllString(raw.heard.String(), -1)); tt.want == nil && (n != 2003 || len(got) > 20) {
			t.Errorf("%s: %d answers in %d writes", name, n, len(got))
		}
	}
}

// replyCode is that of a reply's last line.
var replyCode = regexp.MustCompile(`(?m)^\d{3} `)
