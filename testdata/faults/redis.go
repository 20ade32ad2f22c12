package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test, or a Sentinel.
type server struct {
	dir, addr string
	args      []string
	cmd       *exec.Cmd
}

// stores are the Redis servers behind a gateway, one alone or two that Sentinels watch.
type stores struct {
	data, sentinels []*server
}

func newServer(ctx context.Context, dir string, args ...string) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s := &server{dir: dir, addr: l.Addr().String()}
	_, port, _ := net.SplitHostPort(s.addr)
	s.args = append(args, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--logfile", filepath.Join(dir, "log"))
	l.Close()
	return s, s.start(ctx)
}

// start starts it, also once more on the data that it had, and waits until it answers.
func (s *server) start(ctx context.Context) error {
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	c := s.client()
	defer c.Close()
	return until(ctx, "redis-server", func() error { return c.Ping(ctx).Err() })
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGCONT)
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *server) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
}

// until waits until f succeeds, for at most half a minute.
func until(ctx context.Context, what string, f func() error) error {
	for end := time.Now().Add(30 * time.Second); ; {
		err := f()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w", what, err)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// newStores starts one server whose every write is on disk before it is answered, or, with
// Sentinels, a master and a replica. The url is how the gateway finds them.
func newStores(ctx context.Context, dir string, sentinels bool) (s *stores, url string, err error) {
	s = new(stores)
	add := func(all *[]*server, args ...string) (*server, error) {
		p, err := newServer(ctx, filepath.Join(dir, fmt.Sprint("redis", len(s.data)+len(s.sentinels))), args...)
		if p != nil && p.cmd != nil {
			*all = append(*all, p)
		}
		return p, err
	}
	master, err := add(&s.data, "--appendonly", "yes", "--appendfsync", "always")
	if err != nil || !sentinels {
		return s, "redis://" + master.addr, err
	}
	host, port, _ := net.SplitHostPort(master.addr)
	if _, err = add(&s.data, "--appendonly", "yes", "--appendfsync", "always", "--replicaof", host+" "+port); err != nil {
		return s, "", err
	}
	if err := s.inStep(ctx, master); err != nil {
		return s, "", err
	}
	var addrs []string
	for n := range 3 {
		conf := filepath.Join(dir, fmt.Sprintf("sentinel%d.conf", n))
		text := fmt.Sprintf("sentinel monitor people %s %s 2\nsentinel down-after-milliseconds people 500\nsentinel failover-timeout people 3000\n", host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return s, "", err
		}
		p, err := add(&s.sentinels, conf, "--sentinel")
		if err != nil {
			return s, "", err
		}
		addrs = append(addrs, p.addr)
	}
	ask := redis.NewSentinelClient(&redis.Options{Addr: addrs[0]})
	defer ask.Close()
	err = until(ctx, "the sentinels", func() error {
		m, err := ask.Master(ctx, "people").Result()
		if err == nil && (m["num-other-sentinels"] != "2" || m["num-slaves"] != "1") {
			err = fmt.Errorf("they do not know each other: %v", m)
		}
		return err
	})
	return s, "redis+sentinel://" + strings.Join(addrs, ",") + "/people", err
}

func (s *stores) stop() {
	for _, p := range append(s.sentinels, s.data...) {
		p.stop()
	}
}

// inStep waits until a master's replica has all that it has.
func (s *stores) inStep(ctx context.Context, master *server) error {
	c := master.client()
	defer c.Close()
	return until(ctx, "the replica", func() error {
		n, err := c.Do(ctx, "wait", 1, 100).Int()
		if err == nil && n != 1 {
			err = fmt.Errorf("%d replicas", n)
		}
		return err
	})
}

// disturb does one thing to Redis, and undoes it.
func (s *stores) disturb(ctx context.Context, random *rand.Rand) (what string, err error) {
	if s.sentinels != nil {
		return "a failover", s.failOver(ctx)
	}
	p := s.data[0]
	c := p.client()
	defer c.Close()
	long := 500*time.Millisecond + time.Duration(random.Int64N(int64(time.Second)))
	switch random.IntN(4) {
	case 0:
		p.stop()
		sleep(ctx, long)
		return "killed", p.start(context.WithoutCancel(ctx))
	case 1:
		p.cmd.Process.Signal(syscall.SIGSTOP)
		sleep(ctx, long)
		return "paused", p.cmd.Process.Signal(syscall.SIGCONT)
	case 2:
		for end := time.Now().Add(2 * long); time.Now().Before(end); sleep(ctx, 250*time.Millisecond) {
			c.Do(ctx, "client", "pause", 100+random.IntN(400), "all")
		}
		return "slow", nil
	}
	// A replica of nobody that has nothing to say: MASTERDOWN.
	ctx = context.WithoutCancel(ctx)
	for _, args := range [][]any{{"config", "set", "replica-serve-stale-data", "no"}, {"replicaof", "127.0.0.1", "1"}} {
		if err := c.Do(ctx, args...).Err(); err != nil {
			return "answering errors", err
		}
	}
	time.Sleep(long)
	return "answering errors", c.Do(ctx, "replicaof", "no", "one").Err()
}

// failOver kills the master, waits for the replica to take its place, and brings the dead one back as
// its replica; once begun it is carried through.
func (s *stores) failOver(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	ask := redis.NewSentinelClient(&redis.Options{Addr: s.sentinels[0].addr})
	defer ask.Close()
	named := func() (string, error) {
		at, err := ask.GetMasterAddrByName(ctx, "people").Result()
		if err != nil {
			return "", err
		}
		return net.JoinHostPort(at[0], at[1]), nil
	}
	old, err := named()
	if err != nil {
		return err
	}
	master, next := s.data[0], s.data[1]
	if master.addr != old {
		master, next = next, master
	}
	if err := s.inStep(ctx, master); err != nil {
		return err
	}
	master.stop()
	if err := until(ctx, "the failover", func() error {
		now, err := named()
		if err == nil && now == old {
			err = fmt.Errorf("%s is still the master", old)
		}
		return err
	}); err != nil {
		return err
	}
	if err := master.start(ctx); err != nil {
		return err
	}
	return s.inStep(ctx, next)
}
