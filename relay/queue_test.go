package relay

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/dsn"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
)

// fastClock is a clock that a test may make hurry.
type fastClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *fastClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *fastClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func TestSpooled(t *testing.T) {
	b := start(t, withSpool(Spooled))
	c := b.hello()
	if got := c.sendTo("", "joe@example.com", "both@example.com", "nobody@example.com"); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Fatal(got)
	}
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	for to, pixel := range map[string]bool{"joe@example.com": false, "both@example.com": true} {
		got := b.sink.copies(to)
		if len(got) != 1 || strings.Contains(got[0].text, "open.gif") != pixel {
			t.Errorf("%s: %d copies, or the pixel is wrong", to, len(got))
		}
	}
	if got := b.sink.copies("news@example.org"); len(got) != 1 || !strings.Contains(got[0].text, "nobody@example.com") {
		t.Errorf("%d reports", len(got))
	}
	// Who can be answered alone is.
	if got := c.sendTo("", "gone@example.com"); !strings.HasPrefix(got, "550 5.7.1 the recipient has unsubscribed") {
		t.Error(got)
	}
	// The store is away: the message waits, and nobody is told but the log.
	b.store.fail(errStoreDown)
	if got := c.sendTo("", "ann@example.com"); !strings.HasPrefix(got, "250 2.0.0 ") {
		t.Fatal(got)
	}
	b.wait("an attempt", func() bool { return len(b.spool.All()) == 1 && b.spool.All()[0].Recipients[0].Attempts > 1 })
	if n := len(b.sink.copies("ann@example.com")); n != 0 {
		t.Fatalf("%d copies while the store did not answer", n)
	}
	b.store.fail(nil)
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	if n := len(b.sink.copies("ann@example.com")); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// A withdrawal holds for mail that already waits, and an unsubscription too.
func TestConsentIsAskedAtEachAttempt(t *testing.T) {
	b := start(t, withSpool(Cutthrough))
	b.store.set("later", consent.Granted, consent.Subscribed)
	id, ok := strings.CutPrefix(b.hello().sendTo("", "later@example.com"), "250 2.0.0 ")
	if !ok {
		t.Fatal("not accepted")
	}
	attempted := func() {
		t.Helper()
		attempts := func() int { return b.spool.All()[0].Recipients[0].Attempts }
		n := attempts()
		b.wait("another attempt", func() bool { return attempts() > n+1 }) // one may be under way
	}
	b.store.set("later", consent.Denied, consent.Subscribed)
	attempted()
	b.sink.allow("later@example.com")
	b.wait("the copy", func() bool { return len(b.sink.copies("later@example.com")) == 1 })
	got := b.sink.copies("later@example.com")[0].text
	if strings.Contains(got, "open.gif") {
		t.Error("the pixel is still there")
	}
	if !strings.Contains(got, " id "+id+"\r\n") {
		t.Error("another ID in Received")
	}

	b.sink.disallow("later@example.com")
	if got := b.hello().sendTo("", "later@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	b.store.set("later", consent.Denied, consent.Unsubscribed)
	b.wait("no further attempt", func() bool {
		all := b.spool.All()
		return len(all) == 0 || all[0].Recipients[0].To != "later@example.com"
	})
	b.sink.allow("later@example.com")
	b.wait("the report", func() bool { return len(b.sink.copies("news@example.org")) == 1 })
	if n := len(b.sink.copies("later@example.com")); n != 1 {
		t.Errorf("%d copies, one of them to somebody who had unsubscribed", n)
	}
	if got := b.sink.copies("news@example.org")[0].text; !strings.Contains(got, "unsubscribed") {
		t.Errorf("the report does not say why:\n%s", got)
	}
}

// A copy that is refused again and again is given up, and its sender told; before that of the delay,
// if it asked for that.
func TestGivenUp(t *testing.T) {
	clock := &fastClock{}
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.Now, c.RetryFor, c.RetryForTransactional = clock.now, 10*time.Hour, 5*time.Hour
	})
	c := b.hello()
	send := func(headers, params string) string {
		t.Helper()
		c.say("MAIL FROM:<news@example.org> RET=HDRS ENVID=e1")
		c.expect("250")
		c.say("%s", "RCPT TO:<later@example.com> ORCPT=rfc822;later+2Bx@example.com"+params)
		c.expect("250")
		c.say("DATA")
		c.expect("354")
		c.raw(headers + newsletter + "\r\n.\r\n")
		return strings.TrimPrefix(c.expect("250 2.0.0 "), "250 2.0.0 ")
	}
	quiet := send("", "")
	told := send("", " NOTIFY=DELAY,FAILURE")
	soon := send("X-Consent-Class: transactional\r\n", " NOTIFY=FAILURE")
	attempts := func(id string) int {
		w, ok := b.spool.Get(id)
		if !ok {
			return -1
		}
		return w.Recipients[0].Attempts
	}
	reports := func(action string) (n int) {
		for _, d := range b.sink.copies("news@example.org") {
			if strings.Contains(d.text, "Action: "+action) {
				n++
			}
			for _, want := range []string{"Original-Envelope-Id: e1\r\n", "Original-Recipient: rfc822; later+x@example.com\r\n", "450 4.2.1 greylisted", "\r\nSubject: hello\r\n"} {
				if !strings.Contains(d.text, want) {
					t.Errorf("a report lacks %q:\n%s", want, d.text)
				}
			}
		}
		return n
	}
	for _, step := range []struct {
		pass            time.Duration
		delayed, failed int
		left            []string
	}{
		{3 * time.Hour, 0, 0, []string{quiet, told, soon}},
		{70 * time.Minute, 1, 0, []string{quiet, told, soon}},
		{time.Hour, 1, 1, []string{quiet, told}},
		{4 * time.Hour, 1, 1, []string{quiet, told}},
		{2 * time.Hour, 1, 3, nil},
	} {
		before := map[string]int{}
		for _, id := range []string{quiet, told, soon} {
			before[id] = attempts(id)
		}
		clock.pass(step.pass)
		for id, n := range before {
			if n > 0 {
				b.queue.retry(id)
				b.wait("another attempt", func() bool { return attempts(id) != n })
			}
		}
		b.wait("the reports", func() bool { return reports("delayed") == step.delayed && reports("failed") == step.failed })
		for _, id := range step.left {
			if attempts(id) < 0 {
				t.Errorf("after %v more, %s was given up", step.pass, id)
			}
		}
	}
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
}

// A wall clock that is set back or forward does not make mail wait for longer than was meant, nor
// does time count that did not pass.
func TestClockJumps(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		due           time.Duration // from now
		delay         time.Duration
		wait, already time.Duration
	}{
		{time.Minute, time.Minute, time.Minute, 0},
		{20 * time.Second, time.Minute, 20 * time.Second, 40 * time.Second},
		{-time.Second, time.Minute, 0, time.Minute},
		{-1000 * time.Hour, time.Minute, 0, time.Minute},
		{1000 * time.Hour, time.Minute, time.Minute, 0},
	} {
		r := spool.Recipient{Attempts: 1, Due: now.Add(tt.due), Delay: tt.delay}
		if got := wait(spool.Message{Recipients: []spool.Recipient{r}}, now); got != tt.wait {
			t.Errorf("%+v: waits %v", tt, got)
		}
		it := &item{since: now, loaded: true}
		if got := it.waited(r, now); got != tt.already {
			t.Errorf("%+v: waited %v", tt, got)
		}
	}
}

// Restarting takes up where it was, with what waits still as far as it was.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	open := func() *spool.Spool {
		s, err := spool.Open(dir, spool.Options{SegmentSize: 1 << 20, ReserveSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var sink *sink
	begin := func() *testbed {
		return start(t, func(c *Config, b *testbed) {
			if sink == nil {
				sink = newSink(t, nil)
			}
			b.sink, b.spool = sink, open()
			c.Mode, c.FirstRetry, c.Now = Cutthrough, 20*time.Millisecond, time.Now
		})
	}
	b := begin()
	if got := b.hello().sendTo("", "joe@example.com", "later@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	b.halt()
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	sink.allow("later@example.com")
	b = begin()
	b.wait("the copy", func() bool { return len(sink.copies("later@example.com")) == 1 })
	if n := len(sink.copies("joe@example.com")); n != 1 {
		t.Errorf("%d copies for joe", n)
	}
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	b.halt()
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
}

// Reload holds for mail that comes from then on and for what waits, and does not cut who is connected.
func TestReload(t *testing.T) {
	b := start(t, withSpool(Cutthrough))
	c := b.hello()
	if got := c.sendTo("", "later@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	set := *b.settings()
	set.Policy.OpenWhenUnset, set.Policy.ClickWhenUnset = consent.Granted, consent.Granted
	set.Classes = []consent.Class{consent.Transactional}
	if err := b.Reload(set); err != nil {
		t.Fatal(err)
	}
	n := b.spool.All()[0].Recipients[0].Attempts
	b.wait("another attempt", func() bool { return b.spool.All()[0].Recipients[0].Attempts > n+1 })
	b.sink.allow("later@example.com")
	b.wait("the copy", func() bool { return len(b.sink.copies("later@example.com")) == 1 })
	if !strings.Contains(b.sink.last(t).text, "open.gif") {
		t.Error("what waited left by the old policy")
	}
	c.envelope("joe@example.com")
	c.say("DATA")
	c.expect("354")
	c.raw("X-Consent-Class: marketing\r\n" + newsletter + "\r\n.\r\n")
	c.expect("550 5.7.1 X-Consent-Class")
	set.AllowNetworks = nil
	if err := b.Reload(set); err != nil {
		t.Fatal(err)
	}
	c.say("MAIL FROM:<news@example.org>")
	c.expect("530 5.7.0")
}

// A body that was damaged on disk is not delivered; its sender hears of it.
func TestDamaged(t *testing.T) {
	b := prepare(t, withSpool(Spooled))
	m := &message{id: "abc", env: &envelope{from: "news@example.org", rcpts: []rcpt{{to: "joe@example.com"}}}, body: &body{}}
	large := newsletter + strings.Repeat("\r\n<p>one more line</p>", 100_000)
	m.body.ReaderAt, m.body.size = strings.NewReader(large), int64(len(large))
	m.class, m.scope = consent.Marketing, "default"
	n := m.waiting([]spool.Recipient{m.env.rcpts[0].owed(time.Now())})
	if err := b.spool.Add(n); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "big", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.run()
	b.queue.add(n.Message)
	b.wait("the report", func() bool { return len(b.sink.copies("news@example.org")) == 1 })
	if len(b.sink.copies("joe@example.com")) != 0 {
		t.Error("the damaged copy was delivered")
	}
	if got := b.sink.copies("news@example.org")[0].text; !strings.Contains(got, "damaged") {
		t.Error(got)
	}
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
}

// A message whose recipients cannot be read stays for somebody to look at, and is left alone meanwhile.
func TestUnreadableRecipients(t *testing.T) {
	b := prepare(t, withSpool(Spooled))
	n := spool.New{
		Message: spool.Message{ID: "abc", Arrived: time.Now(), Recipients: []spool.Recipient{{To: "joe@[x]", Due: time.Now()}}, Size: 4},
		Body:    strings.NewReader("\r\n\r\n"),
	}
	if err := b.spool.Add(n); err != nil {
		t.Fatal(err)
	}
	b.run()
	b.queue.add(n.Message)
	b.wait("an attempt", func() bool { return strings.Contains(b.log.String(), "no recipients that can be read") })
	if got := b.hello().sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250 2.0.0 ") { // it has its turn behind the first
		t.Fatal(got)
	}
	b.wait("another message", func() bool { return len(b.sink.got()) == 1 && len(b.spool.All()) == 1 })
	// No report could be sent there.
	c := b.hello()
	c.say("MAIL FROM:<news@[x]>")
	c.expect("501 5.1.7")
	if n := strings.Count(b.log.String(), "no recipients that can be read"); n != 1 {
		t.Errorf("%d attempts", n)
	}
	if all := b.spool.All(); len(all) != 1 || time.Until(all[0].Recipients[0].Due) < maxDelay/2 {
		t.Errorf("%+v", all)
	}
}

// What waits for the smarthost is tried when that is back, but not again and again where it takes the
// mail of others only: a 421 in a dialogue counts as an outage, too.
func TestWokenInVain(t *testing.T) {
	clock := &fastClock{}
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.Now, c.FirstRetry = clock.now, time.Minute
	})
	n := spool.New{
		Message: spool.Message{ID: "abc", Arrived: clock.now(), Recipients: []spool.Recipient{{To: "joe@example.com"}}, Size: 4},
		Body:    strings.NewReader("\r\n\r\n"),
	}
	if err := b.spool.Add(n); err != nil {
		t.Fatal(err)
	}
	b.queue.add(n.Message)
	dueNow := func() bool {
		b.queue.mu.Lock()
		defer b.queue.mu.Unlock()
		return !b.queue.due[1][0].due.After(clock.now())
	}
	fail := func() {
		t.Helper()
		if !dueNow() {
			t.Fatal("it is not due")
		}
		stored, _ := b.spool.Get("abc")
		m, err := b.queue.load(stored, false)
		if err != nil {
			t.Fatal(err)
		}
		defer m.body.Close()
		it := b.queue.next(t.Context(), 2)
		b.queue.settle(it, m, []*outcome{{err: sendError(smarthost.ErrUnreachable)}})
		b.queue.back(it)
	}
	fail()
	if dueNow() {
		t.Fatal("no pause")
	}
	b.queue.works()
	fail()
	clock.pass(wakeEvery)
	b.queue.works()
	if dueNow() {
		t.Fatal("woken in vain, and woken again")
	}
	clock.pass(3 * time.Minute)
	fail()
	b.queue.works()
	fail() // the smarthost was away for a while, it seems
	b.closeListeners()
}

// What waits for the store is tried when that is back, though the smarthost took other mail meanwhile.
func TestStoreIsBack(t *testing.T) {
	clock := &fastClock{}
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.Now, c.FirstRetry = clock.now, time.Minute
	})
	defer b.closeListeners()
	n := spool.New{
		Message: spool.Message{ID: "abc", Arrived: clock.now(), Recipients: []spool.Recipient{{To: "joe@example.com"}}, Size: 4},
		Body:    strings.NewReader("\r\n\r\n"),
	}
	if err := b.spool.Add(n); err != nil {
		t.Fatal(err)
	}
	b.queue.add(n.Message)
	// attempt fails for the store, which says meanwhile what meanwhile has it say.
	attempt := func(meanwhile func()) {
		t.Helper()
		stored, _ := b.spool.Get("abc")
		m, err := b.queue.load(stored, false)
		if err != nil {
			t.Fatal(err)
		}
		defer m.body.Close()
		it := b.queue.next(t.Context(), 2)
		if it == nil || it.id != "abc" {
			t.Fatal("it is not due")
		}
		b.queue.asked(false)
		meanwhile()
		b.queue.settle(it, m, []*outcome{{decision: consent.Decision{Mail: consent.Defer}, err: refuse(451, "4.3.0", "later", nil)}})
		b.queue.back(it)
	}
	due := func(want bool, what string) {
		t.Helper()
		b.queue.mu.Lock()
		defer b.queue.mu.Unlock()
		if got := !b.queue.due[1][0].due.After(clock.now()); got != want {
			t.Fatalf("%s: due %v", what, got)
		}
	}
	attempt(func() {})
	due(false, "after a failure")
	b.queue.works()
	due(false, "the smarthost took a receipt")
	b.queue.asked(false)
	due(false, "the store is still away")
	b.queue.asked(true)
	due(true, "the store is back")
	attempt(func() { b.queue.asked(true) })
	due(false, "woken a moment ago, in vain")
	clock.pass(wakeEvery)
	b.queue.asked(true)
	due(true, "it is back once more")
	clock.pass(wakeEvery)
	attempt(func() { b.queue.asked(true) })
	due(true, "it came back while an attempt was under way")
}

// A report outlives an outage as long as the mail that it is about could have.
func TestReportsAreNotGivenUpEarly(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.RetryFor, c.RetryForTransactional = 120*time.Hour, 4*time.Hour
	})
	defer b.closeListeners()
	m := &message{id: "abc", env: &envelope{from: "news@example.org"}, set: b.settings()}
	m.class = consent.Transactional
	if got := m.retryFor(); got != 4*time.Hour {
		t.Errorf("a receipt: %v", got)
	}
	var told news
	told.add(dsn.Failed, rcpt{to: "joe@example.com"}, &outcome{err: suppressed()})
	report, err := b.envelopeOf(b.reports(m, told, time.Now())[0].Message)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.retryFor(); got != 120*time.Hour {
		t.Errorf("a report: %v", got)
	}
}

// An orderly end waits for copies whose sender was answered already, for a while: one that is cut between
// its dot and the answer would leave once more after the next start.
func TestStopLetsCopiesEnd(t *testing.T) {
	for _, mode := range []Mode{Cutthrough, Spooled} {
		t.Run(string(mode), func(t *testing.T) {
			b := prepare(t, withSpool(mode))
			b.settleTime = 20 * time.Millisecond
			release, asked := make(chan struct{}), make(chan struct{})
			b.sink.onData = func() { close(asked); <-release }
			b.run()
			if got := b.hello().sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250 2.0.0") {
				t.Fatal(got)
			}
			<-asked
			b.stop()
			if c, err := net.Dial("tcp", b.Addrs()[0].String()); err == nil {
				c.SetDeadline(time.Now().Add(10 * time.Second))
				io.Copy(io.Discard, c) // to the end: it is past taking mail
				c.Close()
			}
			select {
			case <-b.done:
				t.Fatal("it has ended")
			case <-time.After(50 * time.Millisecond):
			}
			close(release)
			b.halt()
			if n, left := len(b.sink.got()), len(b.spool.All()); n != 1 || left != 0 {
				t.Errorf("%d copies there, %d messages left", n, left)
			}
		})
	}
}

// Nor does it begin further copies of a message for many: the end would come in the middle of one.
func TestStopBeginsNoCopy(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Spooled)(c, b)
		c.MaxDeliveries = 1
	})
	release, asked := make(chan struct{}), make(chan struct{}, 3)
	b.sink.onData = func() { asked <- struct{}{}; <-release }
	b.run()
	id, ok := strings.CutPrefix(b.hello().sendTo("", "joe@example.com", "ann@example.com", "eve@example.com"), "250 2.0.0 ")
	if !ok {
		t.Fatal("not accepted")
	}
	<-asked
	b.stop()
	b.wait("the stop", func() bool {
		c, err := net.Dial("tcp", b.Addrs()[0].String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	b.halt()
	w, _ := b.spool.Get(id)
	if n := len(b.sink.got()); n != 1 || len(w.Recipients) != 2 || w.Recipients[0].Attempts != 0 {
		t.Errorf("%d copies there, left: %+v", n, w.Recipients)
	}
}
