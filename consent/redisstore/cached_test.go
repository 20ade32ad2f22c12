package redisstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// The suite passes with a memory before the store too: several such stores in one Redis, as several
// gateways are, and answers that could be reused for an hour.
func TestStoreWithCache(t *testing.T) {
	addr, _ := server(t, "--databases", "100")
	db := 0
	storetest.Run(t, func(t *testing.T) storetest.Open {
		url := fmt.Sprintf("redis://%s/%d", addr, db)
		db++
		return func(ring *keyring.Ring) (consent.Store, error) {
			s, err := Open(url, ring, Options{Log: quiet})
			if err != nil {
				return nil, err
			}
			return cache.New(s, cache.Options{TTL: time.Hour}), nil
		}
	})
}

// When Watch returns, Redis has the subscription: what changes from now on is told.
func TestWatchReturnsWhenSubscribed(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	rdb := bare(t, addr)
	for i := range int64(20) {
		if _, err := s.Watch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := rdb.PubSubNumSub(t.Context(), s.channel()).Val()[s.channel()]; n != i+1 {
			t.Fatalf("%d subscriptions after %d calls of Watch", n, i+1)
		}
	}
}

// gateway is a store with a memory that keeps answers for an hour, so that nothing but the
// invalidation makes a change hold.
func gateway(t *testing.T, addr string, ring *keyring.Ring) *cache.Store {
	t.Helper()
	s := cache.New(open(t, "redis://"+addr, ring), cache.Options{TTL: time.Hour})
	t.Cleanup(func() { s.Close() })
	return s
}

// A withdrawal through one gateway holds on the other within 100 ms.
func TestTwoGateways(t *testing.T) {
	addr, _ := server(t)
	ring := keyring.Ephemeral()
	one, two := gateway(t, addr, ring), gateway(t, addr, ring)
	who := person(t, 1)
	state := func(s consent.Store) consent.State {
		t.Helper()
		rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{who})
		if err != nil || rs[0].Err != nil {
			t.Fatalf("%+v, %v", rs, err)
		}
		return rs[0].Scope.Open.State
	}
	set := func(s consent.Store, state consent.State) {
		t.Helper()
		c := consent.Change{Who: who, Scope: "newsletter", Open: state, Source: consent.FromPage, Time: noon}
		if rs, err := s.Apply(t.Context(), []consent.Change{c}); err != nil || rs[0].Err != nil {
			t.Fatalf("%+v, %v", rs, err)
		}
	}
	var took []time.Duration
	for range 200 {
		set(one, consent.Granted)
		storetest.Eventually(t, "granted", func() error {
			if s := state(two); s != consent.Granted {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		state(two) // in memory now
		set(one, consent.Denied)
		confirmed := time.Now()
		for state(two) != consent.Denied {
			if time.Since(confirmed) > 5*time.Second {
				t.Fatal("the withdrawal does not hold after five seconds")
			}
		}
		took = append(took, time.Since(confirmed))
	}
	slices.Sort(took)
	t.Logf("a withdrawal that one gateway confirmed holds on the other after %v (median), %v (of 100, 99), %v (the longest)", took[100], took[197], took[199])
	if took[189] > 100*time.Millisecond { // the few others are this machine's
		t.Errorf("of 100 withdrawals 5 took over %v", took[189])
	}
}

// Where nothing comes through a subscription any more though its connection stays up, the memory
// is off within two seconds, and on again when it is made anew.
func TestDeafGateway(t *testing.T) {
	addr, _ := server(t)
	p := newTap(t, addr)
	ring := keyring.Ephemeral()
	other := open(t, "redis://"+addr, ring)
	two := gateway(t, p.Addr().String(), ring)
	who := []consent.Address{person(t, 1)}
	lookup := func() consent.State {
		t.Helper()
		rs, err := two.Lookup(t.Context(), "newsletter", who)
		if err != nil || rs[0].Err != nil {
			t.Fatalf("%+v, %v", rs, err)
		}
		return rs[0].Scope.Mail.State
	}
	kept := func() error { // whether two answers from memory: Redis is not asked
		stats := func() string {
			return infoValue(bare(t, addr).Info(t.Context(), "commandstats").Val(), "cmdstat_hmget")
		}
		lookup()
		before := stats()
		if lookup(); stats() != before {
			return fmt.Errorf("the store is asked")
		}
		return nil
	}
	storetest.Eventually(t, "the memory", kept)
	p.deaf.Store(true)
	if rs, err := other.Apply(t.Context(), unsubscribe(who[0])); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	begin := time.Now()
	for lookup() != consent.Unsubscribed {
		if time.Since(begin) > 5*time.Second {
			break
		}
	}
	t.Logf("the half-dead subscription was noticed after %v", time.Since(begin))
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("an opt-out that was not told holds only after %v", d)
	}
	if kept() == nil {
		t.Error("answers are kept while the subscription is deaf")
	}
	p.deaf.Store(false)
	storetest.Eventually(t, "the memory, once it hears again", kept)
}
