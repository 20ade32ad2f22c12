package relay

import (
	"regexp"
	"strings"
	"testing"
)

// At debug a connection has a line when it comes and one when it goes, and what goes wrong inside go-smtp has its ID.
func TestConnectionLines(t *testing.T) {
	b := start(t, nil)
	c := b.hello()
	id, _, _ := strings.Cut(strings.TrimPrefix(c.send("joe@example.com", newsletter), "250 2.0.0 "), "-")
	c.say("MAIL FROM:<news@example.org>")
	c.expect("250")
	c.Close() // within a transaction, which go-smtp calls an error
	want := regexp.MustCompile(`level=DEBUG msg="smtp: error handling 127\.0\.0\.1:\d+: unexpected EOF" id=` + id + "\n")
	gone := regexp.MustCompile(`level=DEBUG msg=disconnected id=` + id + ` lasted=\S+ messages=2` + "\n")
	b.wait("the lines", func() bool { return want.MatchString(b.log.String()) && gone.MatchString(b.log.String()) })
	if !strings.Contains(b.log.String(), "msg=connected id="+id+" ") {
		t.Error(b.log.String())
	}
}
