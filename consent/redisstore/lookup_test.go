package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// held is a go-redis hook that holds pipelines until they are let go.
type held struct {
	pipelines atomic.Int32
	letGo     chan struct{}
	err       error // instead of what Redis says
	bug       bool  // met by those that share one
}

func (h *held) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n := h.pipelines.Add(1)
		<-h.letGo
		if h.bug && n > maxLookups {
			panic("a bug")
		}
		if h.err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(h.err)
			}
			return h.err
		}
		return next(ctx, cmds)
	}
}

// Lookups that come while as many pipelines as there may be are on their way share the next one, and each gets what it
// asked for: its people, in its scope.
func TestLookupsShareAPipeline(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	const others = 40
	scope := func(i int) consent.Scope { return consent.Scope(fmt.Sprintf("scope%d", i%3)) }
	var changes []consent.Change
	for i := range maxLookups + others { // person i agreed in the scope of i, under the notice i
		changes = append(changes, consent.Change{Who: person(t, i), Scope: scope(i), Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon})
	}
	if _, err := s.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}

	for _, h := range []*held{{}, {bug: true}, {err: net.ErrClosed}} {
		h.letGo = make(chan struct{})
		s.rdb.AddHook(h)
		var wg sync.WaitGroup
		look := func(i int) {
			wg.Go(func() {
				people := []consent.Address{person(t, i), {}, person(t, i+1)}
				rs, err := s.Lookup(t.Context(), scope(i), people)
				if h.err != nil || h.bug && i >= maxLookups {
					if !errors.Is(err, consent.ErrUnreachable) || len(rs) != 3 || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
						t.Errorf("%d: %+v, %v", i, rs, err)
					}
					return
				}
				if err != nil || len(rs) != 3 || rs[0].Err != nil || rs[0].Scope.Open.Notice != fmt.Sprint(i) ||
					!errors.Is(rs[1].Err, consent.ErrAddress) || rs[2].Err != nil || rs[2].Scope.Version != 0 {
					t.Errorf("%d: %+v, %v", i, rs, err)
				}
			})
		}
		waiting := func() int {
			s.lookups.mu.Lock()
			defer s.lookups.mu.Unlock()
			return len(s.lookups.waiting)
		}
		eventually := func(what string, ok func() bool) {
			t.Helper()
			storetest.Eventually(t, what, func() error {
				if !ok() {
					return errors.New("not yet")
				}
				return nil
			})
		}
		for i := range maxLookups {
			look(i)
		}
		eventually("the first on their way", func() bool { return h.pipelines.Load() == maxLookups })
		for i := range others {
			look(maxLookups + i)
		}
		eventually("the others wait", func() bool { return waiting() == others })

		// Who leaves does so at once, and nobody is asked about for them.
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := s.Lookup(ctx, "newsletter", []consent.Address{person(t, 0)})
			left <- err
		}()
		eventually("one more waits", func() bool { return waiting() == others+1 })
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}

		close(h.letGo)
		wg.Wait()
		if n := h.pipelines.Load(); h.err == nil && n != maxLookups+1 {
			t.Errorf("%d pipelines, want %d", n, maxLookups+1)
		}
		eventually("all ended", func() bool {
			s.lookups.mu.Lock()
			defer s.lookups.mu.Unlock()
			return s.lookups.underWay == 0 && s.lookups.waiting == nil
		})
		h.err, h.bug = nil, false
	}
	soon(t, "behind them", func() error { return s.Ping(t.Context()) })
	works(t, "behind them", s)
}

func TestSharedPipelinesAreBounded(t *testing.T) {
	var ls lookups
	for range maxLookups {
		if !ls.begin(t.Context(), &lookup{}) {
			t.Fatal("the first wait")
		}
	}
	for _, n := range []int{600, 400, 1, maxShared + 500, 2, 3} {
		if ls.begin(t.Context(), &lookup{people: make([]consent.Address, n)}) {
			t.Fatal("one too many")
		}
	}
	var got [][]int
	for next := ls.next(); next != nil; next = ls.next() {
		var sizes []int
		for _, l := range next {
			sizes = append(sizes, len(l.people))
		}
		got = append(got, sizes)
	}
	if want := [][]int{{600, 400}, {1}, {maxShared + 500}, {2, 3}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
	if ls.underWay != maxLookups-1 {
		t.Errorf("%d under way", ls.underWay)
	}
}

// An answer that came in time is taken, and a question sent, by a reader and a writer who come too late; where there
// is none, it does not take much longer.
func TestPatient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()

	c := &patient{Conn: raw}
	past := func() { c.SetDeadline(time.Now().Add(-time.Second)) }
	past()
	if n, err := c.Write([]byte("question")); n != 8 || err != nil {
		t.Errorf("a late question: %d, %v", n, err)
	}
	b := make([]byte, 100)
	if n, err := peer.Read(b); string(b[:n]) != "question" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	peer.Write([]byte("answer"))
	storetest.Eventually(t, "the answer", func() error {
		past()
		n, err := c.Read(b)
		if err == nil && string(b[:n]) != "answer" {
			t.Errorf("%q", b[:n])
		}
		return err
	})

	// Once only, or a peer that sends a byte now and then would be waited for without end.
	peer.Write([]byte("more"))
	time.Sleep(2 * lateTime)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the late answer: %q, %v", b[:n], err)
	}
	past()
	if n, err := c.Read(b); string(b[:n]) != "more" || err != nil {
		t.Errorf("with a new deadline: %q, %v", b[:n], err)
	}

	past()
	begin := time.Now()
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) < lateTime {
		t.Errorf("without an answer: %d, %v after %v", n, err, time.Since(begin))
	}
}

// A connection that was to be opened ahead and did not come about, on busy processors say, is not handed out.
func TestDialledAheadInVain(t *testing.T) {
	addr, _ := server(t)
	p := newTap(t, addr)
	s, err := Open("redis://"+p.Addr().String(), keyring.Ephemeral(), Options{Ahead: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ahead := func(what string) {
		t.Helper()
		storetest.Eventually(t, what, func() error {
			if n := s.rdb.(*redis.Client).PoolStats().IdleConns; n < readyConns {
				return fmt.Errorf("%d connections", n)
			}
			return nil
		})
	}
	works(t, "at first", s)
	ahead("at first")
	p.Listener.Close() // those that are open stay so
	if err := bare(t, addr).ClientPause(t.Context(), 200*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	storetest.Eventually(t, "two are busy", func() error {
		if n := s.rdb.(*redis.Client).PoolStats(); n.TotalConns-n.IdleConns < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	ahead("in vain")
	works(t, "behind the vain", s)
	busy.Wait()
}
