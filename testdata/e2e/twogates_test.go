package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two gateways of one key file share one Redis and keep what they read for an hour. Somebody withdraws
// through one of them, over the API or by the link in the mail; a mail through the other obeys within
// 100 ms of the answer.
func TestWithdrawalHoldsOnTheOtherGateway(t *testing.T) {
	t.Parallel()
	needs(t, "redis-server")
	address := freeAddress(t)
	startRedis(t, address)
	next := startSink(t)
	var gates []*gateway
	var key []byte
	for range 2 {
		s := newSite(t,
			`urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
			`store = "file:DIR/state/consent.db"`, `store = "redis://`+address+`/0"`+"\n"+`cache = "1h"`)
		if key == nil {
			var err error
			if key, err = os.ReadFile(filepath.Join(s.dir, "key")); err != nil {
				t.Fatal(err)
			}
		}
		s.write(t, "key", key)
		g := s.start(t)
		g.await(t, 200)
		gates = append(gates, g)
	}
	one, two := gates[0], gates[1]
	oneClick := regexp.MustCompile(`List-Unsubscribe: <` + regexp.QuoteMeta(linkPrefix) + `([^>]+)>`)
	unfold := regexp.MustCompile(`\r\n[ \t]+`)

	took := map[string][]time.Duration{}
	for i := range 20 {
		to := fmt.Sprintf("reader%d@example.org", i)
		mail := func() (answer string, copy []byte) {
			t.Helper()
			answer = two.deliver(t, to, newsletter("marketing"))
			return answer, next.get(path{"news@shop.example.net", to})
		}
		one.agree(t, "default", to, true, true)
		var copy []byte
		for range 2 { // the second is of what it has in memory
			var answer string
			if answer, copy = mail(); !strings.HasPrefix(answer, "250") || !bytes.Contains(copy, []byte(pixelHost)) {
				t.Fatalf("after the grant: %q\n%s", answer, copy)
			}
		}
		way := []string{"API", "one-click"}[i%2]
		if way == "API" {
			one.agree(t, "default", to, false, true)
		} else {
			m := oneClick.FindSubmatch(unfold.ReplaceAll(copy, nil))
			if m == nil {
				t.Fatalf("no link in\n%s", copy)
			}
			resp, err := http.Post("http://"+one.page+"/u/"+string(m[1]), "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != 200 {
				t.Fatalf("one-click: %s", resp.Status)
			}
		}
		withdrawn := time.Now()
		for {
			sent := time.Since(withdrawn)
			answer, copy := mail()
			if way == "API" && strings.HasPrefix(answer, "250") && !bytes.Contains(copy, []byte(pixelHost)) || way == "one-click" && strings.HasPrefix(answer, "550 5.7.1") {
				took[way] = append(took[way], sent)
				break
			}
			if sent > 100*time.Millisecond {
				t.Fatalf("%s: a mail sent %v after the answer still gets %q\n%s", way, sent, answer, copy)
			}
		}
	}
	for way, d := range took {
		slices.Sort(d)
		t.Logf("withdrawn by %s: the first mail that obeyed was begun after %v (median), %v (the longest) of %d", way, d[len(d)/2], d[len(d)-1], len(d))
	}
}
