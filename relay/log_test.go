package relay

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/relay/spool"
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

// What an operator does with what waits has a line under the message's ID.
func TestByHandIsLogged(t *testing.T) {
	b := start(t, withSpool(Spooled))
	b.store.fail(errStoreDown)
	id := strings.TrimPrefix(b.hello().sendTo("", "ann.lee@example.com"), "250 2.0.0 ")
	b.wait("the attempt", func() bool { return strings.Contains(b.log.String(), `msg="message waits"`) })
	b.QueueAPI().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/queue/retry", nil)) // all, which is one
	b.Server.log.byHand("retry", spool.Message{ID: "a"}, spool.Message{ID: "b"})
	for _, call := range [][2]string{{"POST", "/v1/queue/" + id + "/retry"}, {"DELETE", "/v1/queue/" + id}} {
		w := httptest.NewRecorder()
		b.QueueAPI().ServeHTTP(w, httptest.NewRequest(call[0], call[1], nil))
		if w.Code != 204 {
			t.Fatal(call, w.Code)
		}
	}
	for _, want := range []string{
		`level=INFO msg="message is tried at once, by hand" id=` + id + "\n",
		`level=INFO msg="all that waits is tried at once, by hand" messages=2` + "\n",
		`level=INFO msg="message removed by hand" id=` + id + ` from=n•••@example.org to=[a•••@example.com] scope=`,
	} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("no %s in\n%s", want, b.log)
		}
	}
}
