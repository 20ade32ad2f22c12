package relay

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// behind is a relay in mode spool that delivers one message at a time, the first of which, to slow@example.com,
// the smarthost takes no sooner than release is called. Before that one it has taken another.
func behind(t *testing.T) (b *testbed, c *client, release func()) {
	t.Helper()
	gate := make(chan struct{})
	b = start(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.MaxDeliveries = 1
		b.sink = newSink(t, nil)
	})
	c = b.hello()
	c.sendTo("", "before@example.com")
	b.wait("the first copy", func() bool { return len(b.spool.All()) == 0 })
	begun := make(chan struct{}, 1)
	b.sink.mu.Lock()
	b.sink.onData = func() {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-gate
	}
	b.sink.mu.Unlock()
	if got := c.sendTo("", "slow@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	<-begun
	return b, c, func() { close(gate) }
}

// What waits leaves by what holds when it does, not when it came.
func TestWaitingMailLeavesByWhatHolds(t *testing.T) {
	for name, between := range map[string]func(b *testbed, id string){
		"other settings": func(b *testbed, _ string) {
			set := *b.settings()
			set.Policy.OpenWhenUnset, set.Policy.ClickWhenUnset = consent.Granted, consent.Granted
			if err := b.Reload(set); err != nil {
				t.Fatal(err)
			}
		},
		"consent was given": func(b *testbed, _ string) { b.store.set("joe", consent.Granted, consent.Subscribed) },
		"one was forgotten": func(b *testbed, _ string) {
			who, _ := consent.ParseAddress("ann@example.com")
			if err := Forget(b.spool, who); err != nil {
				t.Fatal(err)
			}
		},
		"it was removed": func(b *testbed, id string) {
			if err := b.spool.Remove(id); err != nil {
				t.Fatal(err)
			}
		},
		"nothing": func(*testbed, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			b, c, release := behind(t)
			id, ok := strings.CutPrefix(c.sendTo("", "gone@example.com", "joe@example.com", "ann@example.com"), "250 2.0.0 ")
			if !ok {
				t.Fatal("not accepted")
			}
			between(b, id)
			release()
			b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
			b.wait("the queue", func() bool {
				b.queue.mu.Lock()
				defer b.queue.mu.Unlock()
				return len(b.queue.items) == 0
			})
			joe, ann := b.sink.copies("joe@example.com"), b.sink.copies("ann@example.com")
			wantJoe, wantAnn, pixel := 1, 1, false
			switch name {
			case "it was removed":
				wantJoe, wantAnn = 0, 0
			case "one was forgotten":
				wantAnn = 0
			case "other settings", "consent was given":
				pixel = true
			}
			if len(joe) != wantJoe || len(ann) != wantAnn || len(joe) > 0 && strings.Contains(joe[0].text, "open.gif") != pixel {
				t.Errorf("%d copies for joe and %d for ann, or the pixel is wrong", len(joe), len(ann))
			}
			if len(joe) > 0 && !strings.Contains(joe[0].text, " id "+id+"\r\n") {
				t.Error("another ID in Received")
			}
			if b.queue.fresh != 0 {
				t.Errorf("%d messages are still counted", b.queue.fresh)
			}
		})
	}
}

// Where attempts are behind since the processors are busy with copies, an answer waits for them, but not for a
// smarthost that takes nothing, or little.
func TestAcceptingWaitsForDelivery(t *testing.T) {
	busy := func(b *testbed) (free func()) {
		for range cap(b.queue.turns[1]) {
			b.queue.turn(false)
		}
		return func() {
			for range cap(b.queue.turns[1]) {
				<-b.queue.turns[1]
			}
		}
	}
	b, c, release := behind(t)
	free := busy(b)
	b.queue.mu.Lock()
	b.queue.maxFresh, b.queue.maxYield = 0, time.Hour
	b.queue.mu.Unlock()
	answer := make(chan string)
	go func() { answer <- c.sendTo("", "joe@example.com") }()
	waits := func() bool {
		b.queue.mu.Lock()
		defer b.queue.mu.Unlock()
		return b.queue.eased != nil
	}
	b.wait("waiting", waits)
	if len(b.spool.All()) != 2 {
		t.Error("it waits before the message is on disk")
	}
	select {
	case got := <-answer:
		t.Errorf("answered: %s", got)
	default:
	}
	free()
	release()
	if got := <-answer; !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })

	b, c, release = behind(t)
	defer release()
	b.wait("the end of a rest", func() bool { return len(b.queue.turns[1]) == 0 })
	b.queue.mu.Lock()
	b.queue.maxFresh, b.queue.maxYield = 0, time.Hour
	b.queue.mu.Unlock()
	if got := c.sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250") || waits() {
		t.Error(got)
	}
	b.queue.mu.Lock()
	b.queue.took = time.Now().Add(-wakeEvery)
	b.queue.mu.Unlock()
	defer busy(b)()
	if got := c.sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250") || waits() {
		t.Error(got)
	}
}

// What an earlier process accepted and did not try counts, too.
func TestFreshAfterRestart(t *testing.T) {
	b := prepare(t, withSpool(Spooled))
	for id, attempts := range map[string]int{"a": 0, "b": 0, "c": 1} {
		m := spool.Message{ID: id, Arrived: time.Now(), Size: 2, Recipients: []spool.Recipient{{To: "joe@example.com", Attempts: attempts}}}
		if err := b.spool.Add(spool.New{Message: m, Body: strings.NewReader("\r\n")}); err != nil {
			t.Fatal(err)
		}
	}
	q := newQueue(b.Server, b.spool)
	if q.fresh != 2 {
		t.Errorf("%d", q.fresh)
	}
	for range 3 {
		q.begin(q.next(t.Context(), 2))
	}
	if q.fresh != 0 {
		t.Errorf("%d are left", q.fresh)
	}
}

// What waits is read, and each copy signed, in turn; accepting a message takes none.
func TestTurns(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.Signer, _ = newSigner(t)
	})
	turns := make(chan struct{}) // without room: who takes one, or gives it back, waits for this test
	b.queue.turns[1] = turns
	b.queue.maxFresh = -1 // no rests, whose end would take what this test waits for
	b.run()
	if got := b.hello().sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	for range 2 {
		select {
		case <-turns:
		case <-time.After(20 * time.Second):
			t.Fatal("nobody takes a turn")
		}
		if n := len(b.sink.got()); n != 0 {
			t.Errorf("the smarthost has %d copies already", n)
		}
		turns <- struct{}{}
	}
	b.wait("the copy", func() bool { return len(b.sink.copies("joe@example.com")) == 1 })
}

// Work on copies leaves the processors to mail that comes in, as long as nothing waits long for its attempt.
func TestRests(t *testing.T) {
	now := time.Now()
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.Now = func() time.Time { return now }
	})
	q := b.queue
	defer shortOfProcessors()()
	lag := func(d time.Duration) { q.due[1] = dueHeap{{due: now.Add(-d)}} }
	all := []struct {
		name string
		set  func()
		want bool
	}{
		{"nothing came", func() {}, false},
		{"mail comes in", func() { q.taken = now }, true},
		{"the attempts are behind", func() { lag(maxLag) }, true},
		{"too far", func() { lag(maxLag + 1) }, false},
		{"still behind", func() { lag(maxLag / 2) }, false},
		{"no more", func() { lag(maxLag / 100) }, true},
		{"many wait", func() { q.fresh = q.maxFresh }, true},
		{"too many wait", func() { q.fresh++ }, false},
		{"none waits", func() { q.fresh, q.due[1] = 0, nil }, true},
		{"no more comes in", func() { q.taken = now.Add(-maxRest) }, false},
	}
	for _, step := range all {
		step.set()
		got := q.rests()
		for i := 0; step.want && !got && i < 1000; i++ { // whoever waits may just have been served
			runtime.Gosched()
			got = q.rests()
		}
		if got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}

	// Urgent mail neither waits for the others' turns nor rests.
	for range cap(q.turns[1]) {
		q.turn(false)
	}
	q.taken = now
	q.turn(true)()
	if len(q.turns[0]) != 0 {
		t.Error("it rests")
	}
}

// Behind work there is a rest, and behind a rest the turn is free.
func TestRestEnds(t *testing.T) {
	b := prepare(t, withSpool(Spooled))
	defer shortOfProcessors()()
	q := b.queue
	q.turns[1] = make(chan struct{}, 1)
	rested := false
	for range 100 {
		end := q.turn(false)
		time.Sleep(time.Millisecond)
		q.take(spool.Message{ID: "a"})
		end()
		rested = rested || len(q.turns[1]) == 1
	}
	if !rested {
		t.Error("it does not rest")
	}
	b.wait("the turn", func() bool { return len(q.turns[1]) == 0 })
}

// shortOfProcessors has more waiting for a processor than there are, until end is called.
func shortOfProcessors() (end func()) {
	var stop atomic.Bool
	var spinning sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		spinning.Go(func() {
			for !stop.Load() {
				runtime.Gosched()
			}
		})
	}
	for !processorsAreShort() {
		runtime.Gosched()
	}
	return func() {
		stop.Store(true)
		spinning.Wait()
	}
}

// A password does not wait behind the newsletters that came before it.
func TestTransactionalGoesFirst(t *testing.T) {
	b, c, release := behind(t)
	for i := range 5 {
		c.sendTo("", fmt.Sprintf("reader%d@example.com", i))
	}
	c.send("joe@example.com", "X-Consent-Class: transactional\r\nFrom: shop@example.org\r\nSubject: your password\r\n\r\nhello\r\n")
	release()
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	var order []string
	for _, m := range b.sink.got() {
		order = append(order, m.to)
	}
	if len(order) != 8 || slices.Index(order, "joe@example.com") > 3 { // one other is begun beside it
		t.Errorf("they left in the order %v", order)
	}
}

// The footer speaks the language that the message names, also where only its body does.
func TestLanguageOfWhatWaited(t *testing.T) {
	b := start(t, withSpool(Spooled))
	c := b.hello()
	for who, fields := range map[string]string{"joe": "", "ann": "X-Consent-Language: fr\r\n"} {
		c.send(who+"@example.com", fields+strings.Replace(newsletter, "<html>", "<html lang=\"de\">", 1))
	}
	b.wait("the copies", func() bool { return len(b.spool.All()) == 0 })
	for who, want := range map[string]string{"joe": "<div lang=\"de\"", "ann": "<div lang=\"fr\""} {
		if got := b.sink.copies(who + "@example.com"); len(got) != 1 || !strings.Contains(got[0].text, want) {
			t.Errorf("%s: %+v", who, got)
		}
	}
}
