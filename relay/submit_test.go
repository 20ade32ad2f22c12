package relay

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/dsn"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// What a sender in mode cutthrough is told, by what became of its copies: "+" the smarthost has it,
// "5" refused for good, "4" refused for now, "s" the store does not answer, "?" still on its way.
func TestVerdicts(t *testing.T) {
	made := map[rune]*outcome{
		'+': {reply: smarthost.Reply{Code: 250}},
		'5': {err: refuse(550, "5.1.1", "no such user", nil)},
		'4': {err: refuse(450, "4.2.1", "greylisted", nil)},
		's': {decision: consent.Decision{Mail: consent.Defer}, err: refuse(451, "4.3.0", "store", nil)},
		'?': nil,
	}
	for _, tt := range []struct{ outcomes, all, each string }{
		// t: told as it is; k: 250 and kept in the spool; r: 250 and a report.
		{"+", "t", "t"},
		{"5", "t", "t"},
		{"4", "k", "k"},
		{"s", "t", "t"},
		{"?", "k", "k"},
		{"++", "tt", "tt"},
		{"55", "tt", "tt"},
		{"44", "kk", "kk"},
		{"ss", "tt", "tt"},
		{"+5", "tr", "tt"},
		{"+4", "tk", "tk"},
		{"+s", "tk", "tt"},
		{"+?", "tk", "tk"},
		{"54", "rk", "tk"},
		{"5?", "rk", "tk"},
		{"5s", "tt", "tt"}, // the sender tries again, and the refused one is refused again
		{"4s", "kk", "kt"},
		{"s?", "kk", "tk"},
		{"+54s?", "trkkk", "ttktk"},
	} {
		var outcomes []*outcome
		for _, c := range tt.outcomes {
			outcomes = append(outcomes, made[c])
		}
		for _, each := range []bool{false, true} {
			var b strings.Builder
			for _, v := range verdicts(outcomes, each) {
				b.WriteByte("tkr"[v])
			}
			want := tt.all
			if each {
				want = tt.each
			}
			if b.String() != want {
				t.Errorf("%s, each %v: %s, want %s", tt.outcomes, each, b.String(), want)
			}
		}
	}
}

// withSpool is a change for start: a spool in a folder of its own, and pauses that a test can wait for.
func withSpool(mode Mode) func(*Config, *testbed) {
	return func(c *Config, b *testbed) {
		b.t.Helper()
		var err error
		b.dir = b.t.TempDir() + "/spool"
		if b.spool, err = spool.Open(b.dir, spool.Options{SegmentSize: 1 << 20, ReserveSize: 64 << 10}); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() {
			if err := b.spool.Close(); err != nil {
				b.t.Errorf("closing the spool: %v", err)
			}
		})
		c.Mode, c.FirstRetry, c.RetryFor, c.RetryForTransactional = mode, 20*time.Millisecond, time.Hour, time.Hour
		c.Now = time.Now
	}
}

// wait calls ok until it is true.
func (b *testbed) wait(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within 20 s; the sink has %d messages, the spool %d; log:\n%s", what, len(b.sink.got()), len(b.spool.All()), b.log)
		}
	}
}

// sendTo sends the newsletter to several recipients and returns the answer.
func (c *client) sendTo(params string, to ...string) string {
	c.t.Helper()
	c.say("MAIL FROM:<news@example.org>")
	c.expect("250")
	for _, r := range to {
		c.say("RCPT TO:<%s>%s", r, params)
		c.expect("250")
	}
	c.say("DATA")
	c.expect("354")
	c.raw(newsletter + "\r\n.\r\n")
	got, err := c.reply()
	if err != nil {
		c.t.Fatalf("answer to the message: %q, %v", got, err)
	}
	return got
}

// copies are the messages to somebody that the smarthost has.
func (k *sink) copies(to string) []delivered {
	var all []delivered
	for _, d := range k.got() {
		if d.to == to {
			all = append(all, d)
		}
	}
	return all
}

func TestCutthrough(t *testing.T) {
	b := start(t, withSpool(Cutthrough))
	c := b.hello()
	// Refused for good, alone or all of them: the smarthost's own words, and no report.
	if got := c.sendTo("", "nobody@example.com"); got != "550 5.1.1 <nobody@example.com> no such user" {
		t.Error(got)
	}
	if got := c.sendTo("", "nobody@example.com", "gone@example.com"); got != "550 5.1.1 <nobody@example.com> no such user" {
		t.Error(got)
	}
	// The store does not answer for anybody: the sender keeps it.
	if got := c.sendTo("", "shard@example.com"); !strings.HasPrefix(got, "451 4.3.0") {
		t.Error(got)
	}
	// Nobody has it yet, and one may still get it: to give up is not the answer.
	for _, to := range [][]string{{"nobody@example.com", "shard@example.com"}, {"shard@example.com", "gone@example.com"}} {
		if got := c.sendTo("", to...); !strings.HasPrefix(got, "451 4.3.0") {
			t.Errorf("%v: %s", to, got)
		}
	}
	if n := len(b.spool.All()); n != 0 {
		t.Errorf("%d messages in the spool", n)
	}
	// Several, with mixed fates: 250. One copy is there, one waits, and a report tells of two.
	got := c.sendTo("", "joe@example.com", "nobody@example.com", "gone@example.com", "later@example.com")
	id, ok := strings.CutPrefix(got, "250 2.0.0 ")
	if !ok {
		t.Fatal(got)
	}
	if n := len(b.sink.copies("joe@example.com")); n != 1 {
		t.Errorf("%d copies for joe", n)
	}
	w, ok := b.spool.Get(id)
	if !ok || len(w.Recipients) != 1 || w.Recipients[0].To != "later@example.com" || w.Recipients[0].Reply != "450 4.2.1 greylisted" {
		t.Errorf("%+v", w)
	}
	b.wait("the report", func() bool { return len(b.sink.copies("news@example.org")) == 1 })
	report := b.sink.copies("news@example.org")[0]
	for _, want := range []string{"Final-Recipient: rfc822; nobody@example.com", "Final-Recipient: rfc822; gone@example.com", "unsubscribed", "Action: failed", "Auto-Submitted: auto-replied"} {
		if !strings.Contains(report.text, want) {
			t.Errorf("the report lacks %q:\n%s", want, report.text)
		}
	}
	if report.from != "" || strings.Contains(report.text, "joe@example.com\r\nAction") || strings.Contains(report.text, "later@example.com") {
		t.Errorf("the report, from %q:\n%s", report.from, report.text)
	}
	if strings.Contains(header(report.text), "List-Unsubscribe") {
		t.Error("the report carries an unsubscribe link")
	}
	if !strings.Contains(b.log.String(), "about=failed") {
		t.Error("the log does not say what the report is about")
	}
	b.sink.allow("later@example.com")
	b.wait("the copy that waited", func() bool { return len(b.sink.copies("later@example.com")) == 1 })
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
}

// NOTIFY=NEVER: no report, whatever becomes of it.
func TestNotifyNever(t *testing.T) {
	b := start(t, withSpool(Cutthrough))
	if got := b.hello().sendTo(" NOTIFY=NEVER", "joe@example.com", "nobody@example.com", "gone@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if n := len(b.spool.All()); n != 0 {
		t.Errorf("%d messages in the spool", n)
	}
}

// What is not settled in time is in the spool when the sender is answered; the attempt goes on, and
// nothing is sent twice.
func TestStillOnItsWay(t *testing.T) {
	b := prepare(t, withSpool(Cutthrough))
	b.settleTime = 50 * time.Millisecond
	release, asked := make(chan struct{}), make(chan struct{}, 10)
	b.sink.onData = func() { asked <- struct{}{}; <-release }
	b.run()
	got := b.hello().sendTo("", "joe@example.com", "ann@example.com")
	id, ok := strings.CutPrefix(got, "250 2.0.0 ")
	if !ok {
		t.Fatal(got)
	}
	if w, ok := b.spool.Get(id); !ok || len(w.Recipients) != 2 {
		t.Errorf("%+v", w)
	}
	<-asked
	<-asked
	close(release)
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	if n := len(b.sink.got()); n != 2 {
		t.Errorf("%d copies, want 2", n)
	}
}

// The smarthost is away: the message waits on disk, and goes when it is back.
func TestSmarthostAway(t *testing.T) {
	for _, mode := range []Mode{Cutthrough, Spooled} {
		t.Run(string(mode), func(t *testing.T) {
			b := start(t, func(c *Config, b *testbed) {
				withSpool(mode)(c, b)
				b.sink = newSink(t, nil)
				b.sink.away()
			})
			var ids []string
			c := b.hello()
			for i := range 3 {
				got := c.sendTo("", fmt.Sprintf("joe%d@example.com", i), "ann@example.com")
				id, ok := strings.CutPrefix(got, "250 2.0.0 ")
				if !ok {
					t.Fatal(got)
				}
				ids = append(ids, id)
			}
			for _, id := range ids {
				if w, ok := b.spool.Get(id); !ok || len(w.Recipients) != 2 {
					t.Errorf("%s: %+v", id, w)
				}
			}
			b.sink.serve(t, b.sink.addr)
			b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
			if n := len(b.sink.got()); n != 6 {
				t.Errorf("%d copies, want 6", n)
			}
		})
	}
}

// What leaves behind the sender's back is written down as it leaves, so that a crash sends once more only
// what was on its way just then.
func TestLateCopiesAreWrittenDown(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.MaxDeliveries = 1
	})
	b.settleTime = 50 * time.Millisecond
	release := make(chan struct{})
	b.sink.onData = func() { <-release }
	b.run()
	id, ok := strings.CutPrefix(b.hello().sendTo("", "joe@example.com", "ann@example.com", "eve@example.com"), "250 2.0.0 ")
	if !ok {
		t.Fatal("not accepted")
	}
	for left := 2; left > 0; left-- {
		release <- struct{}{}
		b.wait("the copy's outcome on disk", func() bool {
			w, ok := b.spool.Get(id)
			return ok && len(w.Recipients) == left
		})
	}
	close(release)
	b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
	if n := len(b.sink.got()); n != 3 {
		t.Errorf("%d copies, want 3", n)
	}
	for _, d := range b.sink.got() { // those that were made once the sender was answered, too
		if !strings.Contains(d.text, "<html><body><p>Hello!</p>") {
			t.Errorf("not what was sent: %q", d.text)
		}
	}
}

// Many messages pass at once, through memory that each uses behind another: every copy is all of one of them.
func TestTextsDoNotMix(t *testing.T) {
	for _, mode := range []Mode{Cutthrough, Spooled} {
		t.Run(string(mode), func(t *testing.T) {
			b := start(t, withSpool(mode))
			const senders, each = 8, 15
			lines := func(name string) string {
				return strings.Repeat(name+" has a line of its own here\r\n", 300+len(name)*50)
			}
			var all sync.WaitGroup
			for i := range senders {
				c := b.hello()
				all.Go(func() {
					for k := range each {
						name := fmt.Sprintf("m%d-%s", i, strings.Repeat("x", k*k%23))
						c.say("MAIL FROM:<news@example.org>")
						c.expect("250")
						for _, to := range []string{"joe", "ann"} {
							c.say("RCPT TO:<%s@example.com>", to)
							c.expect("250")
						}
						c.say("DATA")
						c.expect("354")
						c.raw("From: news@example.org\r\nSubject: " + name + "\r\n\r\n" + lines(name) + ".\r\n")
						c.expect("250 2.0.0")
					}
				})
			}
			all.Wait()
			b.wait("the spool", func() bool { return len(b.spool.All()) == 0 })
			copies := b.sink.got()
			if len(copies) != senders*each*2 {
				t.Errorf("%d copies, want %d", len(copies), senders*each*2)
			}
			for _, d := range copies {
				_, name, _ := strings.Cut(header(d.text), "Subject: ")
				name, _, _ = strings.Cut(name, "\r\n")
				if _, body, _ := strings.Cut(d.text, "\r\n\r\n"); !strings.HasPrefix(body, lines(name)) {
					t.Fatalf("the copy of %q holds %.200q…", name, body)
				}
			}
		})
	}
}

// Where the spool takes nothing, nothing leaves of a message for several that might have to wait for
// some: its sender tries again, and would send to the others each time.
func TestSpoolTakesNothing(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.ListenLMTP = []string{"127.0.0.1:0"}
	})
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	c := b.hello()
	for _, to := range [][]string{{"joe@example.com", "later@example.com"}, {"joe@example.com", "nobody@example.com"}, {"later@example.com"}} {
		if got := c.sendTo("", to...); !strings.HasPrefix(got, "451 4.3.0") {
			t.Errorf("%v: %s", to, got)
		}
	}
	if n := len(b.sink.got()); n != 0 {
		t.Fatalf("%d copies", n)
	}
	// One copy alone need not be kept, nor does one whose recipient has an answer of its own.
	if got := c.sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	l := ways["LMTP"](b)
	if got := l.sendTo("", "joe@example.com", "later@example.com", "nobody@example.com"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	l.expect("451 4.3.0")
	l.expect("550 5.1.1")
	if n := len(b.sink.got()); n != 2 {
		t.Errorf("%d copies, want 2", n)
	}
}

// Who is named twice in a transaction gets one copy, and by LMTP two answers.
func TestNamedTwice(t *testing.T) {
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.ListenLMTP = []string{"127.0.0.1:0"}
	})
	named := []string{"joe@example.com", "nobody@example.com", "joe@EXAMPLE.com", "joe@example.com", "Joe@example.com", "nobody@example.com"}
	if got := b.hello().sendTo(" NOTIFY=NEVER", named...); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	if n := len(b.sink.got()); n != 2 { // joe and Joe need not be the same
		t.Errorf("%d copies, want 2", n)
	}
	c := ways["LMTP"](b)
	if got := c.sendTo("", named...); !strings.HasPrefix(got, "250 2.0.0 <joe@example.com> ") {
		t.Error(got)
	}
	for _, want := range []string{"550 5.1.1 <nobody@example.com> ", "250 2.0.0 <joe@EXAMPLE.com> ", "250 2.0.0 <joe@example.com> ", "250 2.0.0 <Joe@example.com> ", "550 5.1.1 <nobody@example.com> "} {
		c.expect(want)
	}
	if n := len(b.sink.got()); n != 4 {
		t.Errorf("%d copies, want 4", n)
	}
}

// A smarthost that is slow to take a report does not keep the sender from its answer, after which it would
// send the mail once more.
func TestSlowReport(t *testing.T) {
	release := make(chan struct{})
	b := start(t, func(c *Config, b *testbed) {
		b.sink = newSink(t, func(s *smtp.Server) { s.EnableDSN = false })
		first := true
		b.sink.onData = func() {
			if !first {
				<-release
			}
			first = false
		}
	})
	c := b.hello()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if got := c.sendTo(" NOTIFY=SUCCESS", "joe@example.com"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	close(release)
	b.wait("the report", func() bool { return len(b.sink.copies("news@example.org")) == 1 })
}

// brokenReader is a body that nobody thought of.
type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { panic("a bug") }

// A bug that is met while a report is written costs what comes back in it.
func TestBugInReport(t *testing.T) {
	b := prepare(t, nil)
	defer b.closeListeners()
	m := &message{id: "abc", env: &envelope{from: "news@example.org"}, body: &body{ReaderAt: brokenReader{}, size: 100}}
	var n news
	n.add(dsn.Failed, rcpt{to: "joe@example.com"}, &outcome{err: suppressed()})
	if got := b.reports(m, n, time.Now()); len(got) != 1 || got[0].Size == 0 {
		t.Errorf("%+v", got)
	}
}

// A smarthost that did not answer is left alone for a moment: what comes in meanwhile waits at once, and
// what waits does not ask one by one. Who has unsubscribed is refused all the same.
func TestSmarthostIsLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	served := make(chan struct{})
	go func() {
		defer close(served)
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			asked.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-served })
	var passed atomic.Int64
	begun := time.Now()
	b := start(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		b.next = newNext(t, l.Addr().String())
		c.FirstRetry, c.Now = time.Minute, func() time.Time { return begun.Add(time.Duration(passed.Load())) }
	})
	c := b.hello()
	for _, to := range [][]string{{"joe@example.com"}, {"joe@example.com"}, {"ann@example.com", "eve@example.com"}} {
		if got := c.sendTo("", to...); !strings.HasPrefix(got, "250 2.0.0") {
			t.Error(got)
		}
	}
	if got := c.sendTo("", "gone@example.com"); !strings.HasPrefix(got, "550 5.7.1") {
		t.Error(got)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	passed.Add(int64(probeEvery))
	if got := c.sendTo("", "joe@example.com"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Error(got)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want twice", n)
	}
	if b.queue.retry(b.spool.All()[0].ID); b.queue.down() != nil {
		t.Error("an operator has to wait")
	}
}

// A report quotes what the smarthost said. Where that is a click counter's link, which the operator has
// rejected, the sender is told all the same.
func TestReportWithCounter(t *testing.T) {
	b := prepare(t, func(c *Config, b *testbed) {
		withSpool(Cutthrough)(c, b)
		c.Rewrite.Opaque = rewrite.OpaqueReject
	})
	defer b.closeListeners()
	m := &message{id: "abc", env: &envelope{from: "news@example.org"}, set: b.settings()}
	var told news
	told.add(dsn.Failed, rcpt{to: "joe@example.com"}, &outcome{
		err:   refuse(550, "5.7.1", "blocked", nil),
		reply: smarthost.Reply{Code: 550, Text: "blocked, see https://1a2b3.mjt.lu/lnk/a/1/b/aHR0cHM6L", Host: "mx.example.com:25"},
	})
	r := b.reports(m, told, time.Now())[0]
	report, err := b.restore(r.Message, &body{ReaderAt: r.Body, size: r.Size})
	if err != nil {
		t.Fatal(err)
	}
	b.attempt(t.Context(), t.Context(), report, func(_ int, o *outcome) {
		if o.err != nil {
			t.Error(o.err)
		}
	})
	if n := len(b.sink.copies("news@example.org")); n != 1 {
		t.Errorf("%d reports", n)
	}
}
