package outbox

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// Calls are counted by what came of them, and those that wait by their queue. The ID of one about a copy begins with that
// of its message, on disk and in the log.
func TestCount(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	counted := map[string]int{}
	count := func(to, result string, n int) {
		mu.Lock()
		defer mu.Unlock()
		counted[to+" "+result] += n
	}
	is := func(want map[string]int) bool {
		mu.Lock()
		defer mu.Unlock()
		return maps.Equal(counted, want)
	}
	b.cfg.Count = count
	b.to.answers(always(http.StatusInternalServerError))
	c := Copy{Message: "01m6dv7580cfy90t-001", Who: who(t, "joe@example.org"), Scope: "news", Class: consent.Marketing, Fate: "accepted", Code: 250, Time: time.Unix(1, 0)}
	b.Copy(c)
	if changes, copies, chained := b.Waiting(); changes != 0 || copies != 1 || chained != 0 {
		t.Errorf("%d, %d, %d wait", changes, copies, chained)
	}
	if id := b.jobs()[0].ID; !strings.HasPrefix(id, c.Message+"-") {
		t.Errorf("the job is called %s", id)
	}
	b.run()
	b.wait("a call that failed", func() bool { return is(map[string]int{"webhook failed": 1}) })
	b.restart()
	b.cfg.Count = count
	if _, copies, _ := b.Waiting(); copies != 1 {
		t.Errorf("%d wait after a restart", copies)
	}
	b.to.answers(always(http.StatusNoContent))
	b.run()
	b.pass(time.Minute)
	b.wait("one that was made", func() bool { return is(map[string]int{"webhook failed": 1, "webhook done": 1}) && len(b.jobs()) == 0 })
	b.wait("the end of the queue", func() bool {
		changes, copies, chained := b.Waiting()
		return changes+copies+chained == 0
	})
	if log := b.log.String(); !strings.Contains(log, `msg="a call was made" id=01m6dv7580cfy90t-001-`) || !strings.Contains(log, "answer=204") {
		t.Errorf("the log:\n%s", log)
	}

	// One that is tried for a day is given up, and counted as that alone.
	b.to.answers(always(http.StatusInternalServerError))
	b.Copy(c)
	b.wait("a second one that failed", func() bool { return is(map[string]int{"webhook failed": 2, "webhook done": 1}) })
	b.pass(25 * time.Hour)
	b.wait("one that is given up", func() bool { return is(map[string]int{"webhook failed": 2, "webhook done": 1, "webhook given_up": 1}) })
}
