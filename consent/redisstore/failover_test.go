package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// load writes opt-outs and looks up those that were confirmed, until it is stopped.
type load struct {
	store *Store
	wg    sync.WaitGroup
	stop  context.CancelFunc

	mu         sync.Mutex
	confirmed  []consent.Address
	unanswered int // writes that were not confirmed
	failed     atomic.Int64
	answered   atomic.Int64 // lookups
	firstOK    atomic.Pointer[time.Time]
}

func startLoad(t *testing.T, s *Store) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{store: s, stop: stop}
	t.Cleanup(func() { stop(); l.wg.Wait() })
	var next atomic.Int64
	for range 4 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				who := person(t, int(next.Add(1)))
				rs, err := s.Apply(context.WithoutCancel(ctx), unsubscribe(who))
				if err == nil {
					err = rs[0].Err
				}
				l.mu.Lock()
				if err == nil {
					l.confirmed = append(l.confirmed, who)
				} else if l.unanswered++; !errors.Is(err, consent.ErrUnreachable) {
					t.Errorf("Apply: %v", err)
				}
				l.mu.Unlock()
				if err != nil {
					s.pause(ctx, 5*time.Millisecond)
				}
			}
		})
	}
	for range 2 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.mu.Lock()
				people := l.confirmed[max(0, len(l.confirmed)-20):]
				l.mu.Unlock()
				if len(people) == 0 {
					s.pause(ctx, time.Millisecond)
					continue
				}
				if l.look(t, context.WithoutCancel(ctx), people) {
					now := time.Now()
					l.firstOK.CompareAndSwap(nil, &now)
					l.answered.Add(1)
				} else {
					l.failed.Add(1)
					s.pause(ctx, 2*time.Millisecond)
				}
			}
		})
	}
	return l
}

// look fails the test where somebody who was told to be unsubscribed counts as subscribed, and says
// whether all were answered.
func (l *load) look(t *testing.T, ctx context.Context, people []consent.Address) bool {
	all := true
	rs, _ := l.store.Lookup(ctx, "newsletter", people)
	for i, r := range rs {
		switch {
		case r.Err != nil:
			if all = false; !errors.Is(r.Err, consent.ErrUnreachable) {
				t.Errorf("Lookup: %v", r.Err)
			}
		case r.Scope.Mail.State != consent.Unsubscribed:
			t.Errorf("the opt-out of %s was confirmed and is lost", people[i])
		}
	}
	return all
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.confirmed)
}

// grown waits until n more were confirmed.
func (l *load) grown(t *testing.T, what string, n int) {
	t.Helper()
	from := l.count()
	storetest.Eventually(t, what, func() error {
		if now := l.count(); now < from+n {
			return fmt.Errorf("%d of %d opt-outs were confirmed", now-from, n)
		}
		return nil
	})
}

// judge ends the load and looks for everybody who was told that it is done.
func (l *load) judge(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	for from := 0; from < len(l.confirmed); from += 500 {
		people := l.confirmed[from:min(from+500, len(l.confirmed))]
		storetest.Eventually(t, "the last look", func() error {
			if !l.look(t, t.Context(), people) {
				return errors.New("not all were answered")
			}
			return nil
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d opt-outs were confirmed, none of them is lost, %d were not confirmed; %d lookups were answered, %d not",
		len(l.confirmed), l.unanswered, l.answered.Load(), l.failed.Load())
}

// The master is killed under load. With wait_replicas = 1 every opt-out that was confirmed is known to
// who takes its place, and a second after that one is in place it is asked.
func TestSentinelFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	master, _ := withReplica(t)
	host, port, _ := net.SplitHostPort(master.addr)
	start(t, storetest.FreePort(t), "--replicaof", host+" "+port)
	storetest.Eventually(t, "two replicas", func() error {
		n, err := bare(t, master.addr).Do(t.Context(), "wait", 2, 100).Int()
		if err == nil && n != 2 {
			err = fmt.Errorf("%d replicas", n)
		}
		return err
	})
	watchers := sentinels(t, master)
	for _, p := range watchers {
		rdb := redis.NewSentinelClient(&redis.Options{Addr: p.addr})
		defer rdb.Close()
		storetest.Eventually(t, "the sentinels", func() error {
			m, err := rdb.Master(t.Context(), "people").Result()
			if err == nil && m["num-slaves"] != "2" {
				err = fmt.Errorf("%v", m)
			}
			return err
		})
	}
	s, err := Open("redis+sentinel://"+addrs(watchers)+"/people", keyring.Ephemeral(), Options{WaitReplicas: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := startLoad(t, s)
	l.grown(t, "before", 200)
	master.stop()
	killed := time.Now()
	ask := redis.NewSentinelClient(&redis.Options{Addr: watchers[0].addr})
	defer ask.Close()
	storetest.Eventually(t, "the failover", func() error {
		now, err := ask.GetMasterAddrByName(t.Context(), "people").Result()
		if err == nil && net.JoinHostPort(now[0], now[1]) == master.addr {
			err = errors.New("the old one is still named")
		}
		return err
	})
	promoted := time.Now()
	l.firstOK.Store(nil)
	storetest.Eventually(t, "a lookup", func() error {
		if l.firstOK.Load() == nil {
			return errors.New("none was answered")
		}
		return nil
	})
	recovered := l.firstOK.Load().Sub(promoted)
	t.Logf("killed; a new master after %v; lookups answered %v after that", promoted.Sub(killed), recovered)
	if recovered > time.Second {
		t.Errorf("the new master was noticed after %v", recovered)
	}
	l.grown(t, "after", 200)
	l.judge(t)
}

// The same with a Cluster, one of whose three masters, which has two replicas, is killed.
func TestClusterFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	nodes := clusterOf3(t)
	for i := range 4 { // two for the first
		of := nodes[max(0, i-1)]
		id, err := bare(t, of.addr).ClusterMyID(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, storetest.FreePort(t), "--cluster-enabled", "yes", "--cluster-port", storetest.FreePort(t), "--cluster-node-timeout", "2000",
			"--repl-diskless-sync-delay", "0")
		rdb := bare(t, p.addr)
		host, port, _ := net.SplitHostPort(of.addr)
		bus := bare(t, of.addr).ConfigGet(t.Context(), "cluster-port").Val()["cluster-port"]
		if err := rdb.Do(t.Context(), "cluster", "meet", host, port, bus).Err(); err != nil {
			t.Fatal(err)
		}
		storetest.Eventually(t, "the replica", func() error { return rdb.Do(t.Context(), "cluster", "replicate", id).Err() })
	}
	for i, p := range nodes {
		storetest.Eventually(t, "the replicas", func() error {
			info, err := bare(t, p.addr).Info(t.Context(), "replication").Result()
			if want := max(1, 2-i); err == nil && (infoValue(info, "connected_slaves") != fmt.Sprint(want) || strings.Contains(info, "wait_bgsave")) {
				err = fmt.Errorf("%s", info)
			}
			return err
		})
	}
	s, err := Open("redis+cluster://"+addrs(nodes), keyring.Ephemeral(), Options{WaitReplicas: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := startLoad(t, s)
	l.grown(t, "before", 300)
	nodes[0].stop()
	killed := time.Now()
	other := bare(t, nodes[1].addr)
	storetest.Eventually(t, "the failover", func() error {
		all, err := other.ClusterNodes(t.Context()).Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(all) {
			if strings.Contains(line, nodes[0].addr+"@") && strings.Contains(line, " 0-") {
				return errors.New("the old one is still named")
			}
		}
		info, err := other.ClusterInfo(t.Context()).Result()
		if err == nil && infoValue(info, "cluster_state") != "ok" {
			err = errors.New("the cluster is down")
		}
		return err
	})
	promoted := time.Now()
	l.firstOK.Store(nil)
	storetest.Eventually(t, "a lookup", func() error {
		if l.firstOK.Load() == nil {
			return errors.New("none was answered")
		}
		return nil
	})
	recovered := l.firstOK.Load().Sub(promoted)
	t.Logf("killed; another in its place after %v; everybody looked up is answered %v after that", promoted.Sub(killed), recovered)
	if recovered > time.Second {
		t.Errorf("the new master was noticed after %v", recovered)
	}
	l.grown(t, "after", 300)
	l.judge(t)
}
