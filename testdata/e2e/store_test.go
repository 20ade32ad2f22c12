package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Redis is not there at start: serve starts and says so, marketing mail waits with the sender,
// transactional mail leaves untracked. Then Redis comes, which is noticed at once; goes and comes
// back without its data, which must not be taken for "everybody is subscribed"; and so on.
func TestRedisComesAndGoes(t *testing.T) {
	t.Parallel()
	needs(t, "redis-server")
	address := freeAddress(t)
	next := startSink(t)
	s := newSite(t,
		`urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
		`store = "file:DIR/state/consent.db"`, `store = "redis://`+address+`/0"`)
	g := s.start(t)
	g.logged(t, `level=WARN msg="the consent store does not answer: .*marketing mail gets what consent\.when_unreachable says.*" when_unreachable=defer err=`)

	n := 0
	send := func(class, want string) []byte {
		t.Helper()
		n++
		to := fmt.Sprintf("reader%d@example.org", n)
		if got := g.deliver(t, to, newsletter(class)); !strings.HasPrefix(got, want) {
			t.Errorf("%s mail is answered %q, want %q", class, got, want)
		}
		return next.get(path{"news@shop.example.net", to})
	}
	const unanswered = "451 4.3.0 the consent store does not answer, try again later"
	away := func(t *testing.T) {
		t.Helper()
		if said := g.await(t, 503); !strings.HasPrefix(said, "store: ") || strings.Contains(said, "panic") {
			t.Errorf("/readyz says %q", said)
		}
		if status, said := g.call(t, "GET", "/healthz", ""); status != 200 {
			t.Errorf("/healthz says %d %q: the process is well", status, said)
		}
		before := time.Now()
		if send("marketing", unanswered) != nil {
			t.Error("a marketing copy left")
		}
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("the sender waited %v", took)
		}
		copy := send("transactional", "250 2.0.0 ")
		if copy == nil || bytes.Contains(copy, []byte(pixelHost)) || !bytes.Contains(copy, []byte(linkPrefix)) {
			t.Errorf("the transactional copy is tracked, or lacks the link, or is none:\n%s", copy)
		}
		g.logged(t, `msg="message deferred" .*answer="451 4\.3\.0 the consent store does not answer, try again later: .+"`)
	}
	here := func(t *testing.T) {
		t.Helper()
		before := time.Now()
		g.await(t, 200)
		if took := time.Since(before); took > 2*time.Second {
			t.Errorf("that Redis answers was noticed after %v", took)
		}
		if send("marketing", "250 2.0.0 ") == nil {
			t.Error("no marketing copy")
		}
	}

	t.Run("not there at start", away)
	stop := startRedis(t, address)
	t.Run("comes", here)
	if t.Failed() {
		return
	}
	g.agree(t, "default", "both@example.org", true, true)
	if got := g.deliver(t, "both@example.org", newsletter("marketing")); !strings.HasPrefix(got, "250") {
		t.Errorf("answered %q", got)
	}
	if copy := next.get(path{"news@shop.example.net", "both@example.org"}); !bytes.Contains(copy, []byte(pixelHost)) {
		t.Errorf("a person who agreed to both gets a copy without the pixel:\n%s", copy)
	}
	stop()
	t.Run("goes", away)
	stop = startRedis(t, address)
	for range every(t, 50*time.Millisecond, 20*time.Second) { // until it is noticed that it answers again
		if g.await(t, 503); strings.Contains(g.log.text(), "is gone, so it was emptied") {
			break
		}
	}
	t.Run("comes back empty", away) // SPEC 8.1: else everybody would count as subscribed
	g.logged(t, `msg="message deferred" .*its marker \(key .*\) is gone, so it was emptied or exchanged; bring the data back, or run: consentgate consent accept-store`)
	set := exec.Command(needs(t, "redis-cli"), "-u", "redis://"+address+"/0", "SET", "consentgate", "2 AAAAAAAAAAAAAAAAAAAAAA BBBBBBBBBBBBBBBBBBBBBB")
	if out, err := set.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "OK" {
		t.Fatalf("redis-cli: %v %s", err, out)
	}
	t.Run("comes back as another gateway's", away)
	g.logged(t, `msg="message deferred" .*the consent store belongs to another key file`)
	stop()
}

// A Redis that takes connections and says nothing, or nonsense, is one that does not answer.
func TestRedisThatIsNone(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"silent":      "",
		"nonsense":    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"loading":     "-LOADING Redis is loading the dataset in memory\r\n",
		"no password": "-NOAUTH Authentication required.\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := startNext(t, func(c *nextConn) {
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			})
			next := startSink(t)
			s := newSite(t,
				`urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
				`store = "file:DIR/state/consent.db"`, `store = "redis://`+address+`/0"`)
			g := s.start(t)
			g.await(t, 503)
			if got := g.deliver(t, "a@example.org", newsletter("marketing")); !strings.HasPrefix(got, "451 4.3.0 the consent store does not answer") {
				t.Errorf("marketing mail is answered %q", got)
			}
			if got := g.deliver(t, "b@example.org", newsletter("transactional")); !strings.HasPrefix(got, "250 2.0.0 ") {
				t.Errorf("transactional mail is answered %q", got)
			}
			if n := next.count(); n != 1 {
				t.Errorf("%d copies left, want 1", n)
			}
			if copy := next.get(path{"news@shop.example.net", "b@example.org"}); bytes.Contains(copy, []byte(pixelHost)) {
				t.Errorf("tracked:\n%s", copy)
			}
		})
	}
}
