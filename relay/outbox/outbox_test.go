package outbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/relay/spool"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("OUTBOX_TEST_LOAD"); dir != "" {
		if err := load(dir, os.Getenv("OUTBOX_TEST_HOOK")); err != nil {
			fmt.Println("failed", err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// call is one that a receiver got.
type call struct {
	method, path, id, at, signature string
	contentType, userAgent          string
	body                            string
	data                            map[string]any // of an event
	kind                            string
}

// receiver is a web server that keeps what it gets, and answers as it is told to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	answer func(call) int // nil: 204
	header http.Header
}

func newReceiver(t *testing.T, secure bool) *receiver {
	r := &receiver{header: http.Header{}}
	h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		c := call{
			method: req.Method, path: req.URL.RequestURI(), id: req.Header.Get("webhook-id"), at: req.Header.Get("webhook-timestamp"),
			signature: req.Header.Get("webhook-signature"), contentType: req.Header.Get("Content-Type"), userAgent: req.Header.Get("User-Agent"),
			body: string(body),
		}
		var e struct {
			Type string
			Data map[string]any
		}
		if json.Unmarshal(body, &e) == nil {
			c.kind, c.data = e.Type, e.Data
		}
		r.mu.Lock()
		r.calls = append(r.calls, c)
		answer := r.answer
		for name, values := range r.header {
			w.Header()[name] = values
		}
		r.mu.Unlock()
		status := http.StatusNoContent
		if answer != nil {
			status = answer(c)
		}
		w.WriteHeader(status)
	})
	if secure {
		r.Server = httptest.NewUnstartedServer(h)
		r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		r.StartTLS()
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *receiver) answers(f func(call) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func always(status int) func(call) int { return func(call) int { return status } }

// clock goes as time does, and can be put ahead.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// bench is an outbox between a store, a spool and a receiver.
type bench struct {
	*Outbox
	t     *testing.T
	ring  *keyring.Ring
	clock *clock
	store consent.Store // as it is to be used
	held  *boltstore.Store
	spool *spool.Spool
	dir   string
	to    *receiver
	log   lockedBuffer
	stop  func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, ring: keyring.Ephemeral(), clock: &clock{}, dir: t.TempDir(), to: newReceiver(t, false), stop: func() {}}
	var err error
	b.held, err = boltstore.Open(filepath.Join(t.TempDir(), "consent.db"), b.ring)
	must(t, err)
	t.Cleanup(func() { b.held.Close() })
	b.spool, err = spool.Open(b.dir, spool.Options{SegmentSize: 1 << 20, ReserveSize: 1 << 20})
	must(t, err)
	b.open()
	t.Cleanup(func() {
		b.stop()
		if b.spool != nil {
			b.spool.Close()
		}
	})
	return b
}

// open makes an outbox that does not run yet.
func (b *bench) open() {
	b.Outbox = New(Config{
		Store: b.held, Spool: b.spool, WebhookURL: b.to.URL + "/hook", TellChanges: true, Secrets: b.ring.Webhook(), UserAgent: "consentgate/test",
		Log: slog.New(slog.NewTextHandler(&b.log, nil)), Now: b.clock.now,
	})
	b.store = b.Told()
}

func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.stop = func() {
		cancel()
		<-done
		b.stop = func() {}
		b.webhook.CloseIdleConnections()
	}
}

// restart ends the outbox and opens another one on what is on disk.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	must(b.t, b.spool.Close())
	var err error
	b.spool, err = spool.Open(b.dir, spool.Options{SegmentSize: 1 << 20, ReserveSize: 1 << 20})
	must(b.t, err)
	b.open()
}

// pass puts the clock ahead.
func (b *bench) pass(d time.Duration) {
	b.clock.mu.Lock()
	b.clock.ahead += d
	b.clock.mu.Unlock()
	b.wake()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must1 is must for a call that returns something else, too.
func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// wait waits until something holds.
func (b *bench) wait(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within 20 s; %d calls, %d jobs; log:\n%s", what, len(b.to.got()), len(b.jobs()), b.log.String())
		}
	}
}

// told waits for n calls and for the end of all jobs, and returns the calls.
func (b *bench) told(n int) []call {
	b.t.Helper()
	b.wait(fmt.Sprintf("%d calls", n), func() bool { return len(b.to.got()) >= n && len(b.jobs()) == 0 })
	got := b.to.got()
	if len(got) != n {
		b.t.Fatalf("%d calls, want %d: %v", len(got), n, got)
	}
	return got
}

func (b *bench) jobs() []spool.Message { return b.spool.Jobs() }

func who(t testing.TB, mailbox string) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(mailbox)
	must(t, err)
	return a
}

func (b *bench) apply(changes ...consent.Change) {
	b.t.Helper()
	rs, err := b.store.Apply(b.t.Context(), changes)
	must(b.t, err)
	for _, r := range rs {
		must(b.t, r.Err)
	}
}

func (b *bench) change(mailbox string, open consent.State) consent.Change {
	return consent.Change{Who: who(b.t, mailbox), Scope: "news", Open: open, Source: consent.FromPage, Notice: "2026-03", Time: b.clock.now()}
}

// signed checks a signature as a receiver does, with nothing of the code under test.
func signed(t *testing.T, c call, secret string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	must(t, err)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.id + "." + c.at + "." + c.body))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return slices.Contains(strings.Fields(c.signature), want)
}
