// Package outbox makes the calls to web servers that follow from what people decide: the webhook that
// tells the operator's own programs of changes (SPEC section 8.5, WEBHOOK.md), and the one-click unsubscribe of
// the sender's own list (section 8.4, RFC 8058).
//
// A call that is owed is a job in the spool before anybody is told that something changed; it is tried
// with growing pauses for a day, over restarts. Jobs of one line are done one behind the other, so that
// what is told of one person keeps its order. Where a server does not answer, one call at a time finds out
// when it does again, and the others wait. In memory is some 1.2 KB for each job that waits, of which there are
// at most maxWaiting; a body is read when it is due.
//
// Without a spool all of this is in memory, and lost with the process.
//
// It is not for mail, and nothing here decides about consent.
package outbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

const (
	// retryFor is how long a call is tried, not counting when no gateway ran.
	retryFor = 24 * time.Hour
	// maxWaiting bounds the jobs that wait, and so the memory. What is told of copies leaves half of it to
	// what is told of consent.
	maxWaiting = 100_000

	firstPause = 5 * time.Second // behind the first failure of a job
	lastPause  = time.Hour
	// saveAgain is the pause before what could not be written down, or could not be asked of the store, is tried again.
	saveAgain = 10 * time.Second
)

// The queues of jobs, as spool.Job names them. What is behind the colon of chain is the host.
const (
	changeQueue = "change"
	copyQueue   = "copy"
	chainQueue  = "chain:"
)

// Config is what New needs. Only Spool, WebhookURL and Secrets may be missing.
type Config struct {
	Store consent.Store // of which the history is read and written
	Spool *spool.Spool  // nil: what waits is in memory

	WebhookURL  string   // "" = there is none
	TellChanges bool     // it is told of changes of consent
	Secrets     [][]byte // that sign what is sent there, the current one first

	UserAgent string
	Log       *slog.Logger
	Now       func() time.Time

	// Count is told of n calls, to "webhook" or "list", that are "done", "failed" and tried again, "given_up" or
	// "lost", since there was no room to keep them. nil: nobody counts.
	Count func(to, result string, n int)
}

// Outbox holds the calls that are owed. It is safe for concurrent use.
type Outbox struct {
	cfg     Config
	webhook *http.Client
	chain   *http.Client

	poke chan struct{} // there may be something to do earlier than there was

	mu      sync.Mutex
	targets map[string]*target
	lines   map[string]*line
	waiting int            // jobs
	kinds   map[string]int // of them, by queue; all of chain together
	calls   int            // under way
	dropped int            // jobs that there was no room for, since it was last said
	said    time.Time
}

// New returns the outbox with what waits in the spool. Calls are made by Run.
func New(cfg Config) *Outbox {
	o := &Outbox{
		cfg:     cfg,
		webhook: webhookClient(cfg.WebhookURL),
		chain:   chainClient(publicOnly, nil),
		poke:    make(chan struct{}, 1),
		targets: map[string]*target{},
		lines:   map[string]*line{},
		kinds:   map[string]int{},
	}
	if cfg.Spool == nil {
		return o
	}
	now := cfg.Now()
	for _, m := range cfg.Spool.Jobs() {
		if len(m.Recipients) != 1 || !known(m.Job.Queue) || cfg.WebhookURL == "" && !strings.HasPrefix(m.Job.Queue, chainQueue) {
			cfg.Log.Warn("a job in the spool is nobody's any more, and is deleted", "id", m.ID, "queue", m.Job.Queue)
			if err := cfg.Spool.Remove(m.ID); err != nil {
				cfg.Log.Error("it cannot be deleted", "id", m.ID, "err", err)
			}
			continue
		}
		o.put(restored(m, now), *m.Job, now)
	}
	return o
}

func known(queue string) bool {
	return queue == changeQueue || queue == copyQueue || strings.HasPrefix(queue, chainQueue)
}

// errNoRoom says that too many jobs wait.
var errNoRoom = errors.New("too many calls wait")

// add makes jobs durable, in one step, and returns them. With held they wait for release.
func (o *Outbox) add(held bool, jobs ...job) ([]*item, error) {
	limit := maxWaiting
	if jobs[0].Queue == copyQueue {
		limit /= 2
	}
	o.mu.Lock()
	full := o.waiting+len(jobs) > limit
	o.mu.Unlock()
	if full {
		return nil, errNoRoom
	}
	now := o.cfg.Now()
	items := make([]*item, len(jobs))
	news := make([]spool.New, len(jobs))
	for i, j := range jobs {
		body, err := json.Marshal(j.payload)
		if err != nil {
			return nil, err
		}
		it := &item{id: j.id + rand.Text(), since: now, held: held}
		items[i] = it
		news[i] = spool.New{
			Message: spool.Message{ID: it.id, Arrived: now, Job: &j.Job, Recipients: []spool.Recipient{{}}, Size: int64(len(body))},
			Body:    rewrite.Bytes(body),
		}
		if o.cfg.Spool == nil {
			it.payload = body
		}
	}
	if o.cfg.Spool != nil {
		if err := o.cfg.Spool.Add(news...); err != nil {
			return nil, err
		}
	}
	for i, j := range jobs {
		o.put(items[i], j.Job, now)
	}
	o.wake()
	return items, nil
}

// job is one to be added.
type job struct {
	spool.Job
	payload any    // becomes JSON
	id      string // what its ID begins with
}

// below is what IDs begin with of what follows from a request, or a message, of that ID; "" where there is none.
func below(id string) string {
	if id == "" {
		return ""
	}
	return id + "-"
}

// lost counts what could not be added, and says so, once a minute at most.
func (o *Outbox) lost(what string, n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped += n
	to := "webhook"
	if what == chainedUnsubscribe {
		to = "list"
	}
	o.count(to, "lost", n)
	now := o.cfg.Now()
	if now.Sub(o.said) < time.Minute && !o.said.IsZero() {
		return
	}
	o.cfg.Log.Error("calls that are owed could not be kept, and are not made", "last", what, "calls", o.dropped, "waiting", o.waiting, "err", err)
	o.dropped, o.said = 0, now
}

const chainedUnsubscribe = "chained unsubscribe"

func (o *Outbox) count(to, result string, n int) {
	if o.cfg.Count != nil {
		o.cfg.Count(to, result, n)
	}
}

// called counts and logs a call of a job that was made, or is not made any more.
func (o *Outbox) called(it *item, result string) {
	if kindOfQueue(it.queue) == chainQueue {
		o.count("list", result, 1)
		return
	}
	o.count("webhook", result, 1)
}

// kindOfQueue leaves the host out of a queue's name.
func kindOfQueue(queue string) string {
	if strings.HasPrefix(queue, chainQueue) {
		return chainQueue
	}
	return queue
}

// Waiting returns how many jobs wait: to tell of changes, of copies, and the senders' own lists.
func (o *Outbox) Waiting() (changes, copies, chained int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kinds[changeQueue], o.kinds[copyQueue], o.kinds[chainQueue]
}

// payload returns what was added with a job.
func (o *Outbox) payload(it *item, into any) error {
	text := it.payload
	if o.cfg.Spool != nil {
		body, err := o.cfg.Spool.Body(it.id)
		if err != nil {
			return err
		}
		defer body.Close()
		text = make([]byte, body.Size())
		if _, err := body.ReadAt(text, 0); err != nil {
			return err
		}
	}
	return json.Unmarshal(text, into)
}

// Forget removes all jobs about a person. A call that is under way just then may still be made.
func (o *Outbox) Forget(who consent.Address) error {
	key := o.cfg.Store.Key(who).String()
	o.mu.Lock()
	var found []*item
	for _, l := range o.lines {
		if l.about() == key {
			found = append(found, l.items...)
			delete(o.lines, l.name) // what comes from now on begins anew, as the numbers in the history do
		}
	}
	for _, it := range found {
		it.finished = true // where it cannot be deleted now, that is all that is done with it
	}
	o.mu.Unlock()
	var failed error
	for _, it := range found {
		if o.cfg.Spool != nil {
			if err := o.cfg.Spool.Remove(it.id); err != nil && !errors.Is(err, spool.ErrNotFound) {
				failed = errors.Join(failed, err)
				continue
			}
		}
		o.drop(it)
	}
	return failed
}

// Run makes calls until ctx is done, and returns when those under way have ended.
func (o *Outbox) Run(ctx context.Context) error {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	for {
		l, pause := o.next()
		if l != nil {
			underWay.Go(func() { o.work(context.WithoutCancel(ctx), l) })
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-o.poke:
		case <-expire.C:
			o.expire()
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// work does the first job of a line that next returned.
func (o *Outbox) work(ctx context.Context, l *line) {
	it, finished := o.head(l)
	if it == nil || finished {
		o.settle(l, it, answer{done: true, local: true})
		return
	}
	var a answer
	switch it.queue {
	case changeQueue:
		var c change
		if a.err = o.payload(it, &c); a.err == nil {
			a = o.tellChanges(ctx, l, it, c)
		}
	case copyQueue:
		var c toldCopy
		if a.err = o.payload(it, &c); a.err == nil {
			a = o.post(ctx, c.ID, c.Body)
		}
	default:
		var c chained
		if a.err = o.payload(it, &c); a.err == nil {
			a = o.unsubscribe(ctx, it, c)
		}
	}
	o.settle(l, it, a)
}

// answer is what came of a job.
type answer struct {
	done   bool   // else it is to be tried again
	said   string // for the log: a status, or the kind of an error
	event  string // the webhook-id of the call
	outage bool   // nobody answered, or not in a way that says anything of this job
	local  bool   // it came to no call
	some   bool   // a part of the job was done
	after  time.Duration
	err    error // of the spool: the job cannot be read
}

// attrs adds to those of a line about a call what the receiver knows it by.
func (a answer) attrs(of ...any) []any {
	if a.event != "" {
		of = append(of, "event", a.event)
	}
	return of
}

// settle writes down what came of the first job of l, and lets the line go on.
func (o *Outbox) settle(l *line, it *item, a answer) {
	now := o.cfg.Now()
	if it == nil { // forgotten meanwhile
		o.back(l, now)
		return
	}
	o.judge(l, a, now)
	switch {
	case errors.Is(a.err, spool.ErrNotFound):
		a.done = true
	case errors.Is(a.err, spool.ErrDamaged), a.err != nil && !isIO(a.err):
		o.cfg.Log.Error("a call that is owed was damaged on disk, and is not made", "id", it.id, "queue", it.queue, "err", a.err)
		o.called(it, "given_up")
		a.done, a.local = true, true
	case a.err != nil:
		o.cfg.Log.Error("a call that is owed cannot be read; it is tried again", "id", it.id, "err", a.err)
		o.back(l, now.Add(saveAgain))
		return
	}
	if !a.done && !a.some && o.waited(it) >= retryFor {
		o.cfg.Log.Error("a call was tried for a day, and is given up", "id", it.id, "queue", it.queue, "attempts", it.attempts+1, "last", a.said)
		o.called(it, "given_up")
		a.done, a.local = true, true
		if strings.HasPrefix(it.queue, chainQueue) {
			o.noteGivenUp(it, a.said)
		}
	}
	switch {
	case a.local:
	case a.done && strings.HasPrefix(a.said, "2"):
		o.called(it, "done")
	case a.done: // it was refused for good
		o.called(it, "given_up")
	default:
		o.called(it, "failed")
	}
	if a.done {
		if !a.local {
			o.cfg.Log.Info("a call was made", a.attrs("id", it.id, "queue", kindOfQueue(it.queue), "answer", a.said)...)
		}
		o.finish(l, it, now)
		return
	}
	if a.local {
		o.back(l, now.Add(cmp.Or(a.after, saveAgain)))
		return
	}
	o.mu.Lock()
	it.waited, it.since = it.waitedAt(now), now
	if a.some { // what failed was not tried before
		it.waited, it.attempts = 0, 0
	}
	it.attempts++
	delay := max(backoff(firstPause, lastPause, it.attempts), a.after)
	c := spool.Change{Attempts: it.attempts, Due: now.Add(delay), Delay: delay, Waited: it.waited, Reply: a.said}
	o.mu.Unlock()
	if o.cfg.Spool != nil {
		if err := o.cfg.Spool.Update(it.id, []spool.Change{c}); err != nil && !errors.Is(err, spool.ErrNotFound) {
			o.cfg.Log.Error("the spool does not take down that a call has to be tried again", "id", it.id, "err", err)
		}
	}
	o.cfg.Log.Warn("a call failed and is tried again", a.attrs("id", it.id, "queue", it.queue, "attempts", c.Attempts, "answer", a.said, "in", delay.Round(time.Second))...)
	o.back(l, c.Due)
}

// finish removes the first job of l.
func (o *Outbox) finish(l *line, it *item, now time.Time) {
	if o.cfg.Spool != nil {
		err := o.cfg.Spool.Update(it.id, []spool.Change{{Done: true}})
		if err != nil && !errors.Is(err, spool.ErrNotFound) {
			o.cfg.Log.Error("the spool does not take down that a call was made; after a restart it would be made once more", "id", it.id, "err", err)
			o.mu.Lock()
			it.finished = true
			o.mu.Unlock()
			o.back(l, now.Add(saveAgain))
			return
		}
	}
	o.drop(it)
	o.back(l, now)
}

// isIO says whether err is of the disk and not of what stands there.
func isIO(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return !errors.As(err, &syntax) && !errors.As(err, &kind)
}
