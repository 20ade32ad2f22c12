package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// redisFault is what goes wrong with a Redis, again and again.
type redisFault struct {
	name    string
	deploy  func(ctx context.Context, dir string) (*deployment, error)
	hold    time.Duration // how long it is left so; 0 = until heal finds that another took its place
	strike  func(ctx context.Context, d *deployment, n int) error
	restart bool                                                                 // the gateways that have a disk restart then
	heal    func(ctx context.Context, d *deployment) (back time.Time, err error) // back: since when Redis serves as it should
	mend    func(ctx context.Context, d *deployment) error                       // where more is to be put right before the next time
	after   func(ctx context.Context, d *deployment, all []*station) (note string, err error)
}

// lasting is how long most of them are left so.
const lasting = 2500 * time.Millisecond

var redisFaults = []redisFault{
	{name: "killed, started again with its data", deploy: single, hold: lasting, strike: killOnly, heal: startOnly},
	{name: "paused (SIGSTOP)", deploy: single, hold: lasting,
		strike: func(_ context.Context, d *deployment, _ int) error { return d.servers[0].signal(syscall.SIGSTOP) },
		heal: func(_ context.Context, d *deployment) (time.Time, error) {
			return time.Now(), d.servers[0].signal(syscall.SIGCONT)
		}},
	{name: "busy (CLIENT PAUSE)", deploy: single, hold: lasting,
		strike: func(ctx context.Context, d *deployment, _ int) error {
			return d.servers[0].do(ctx, fmt.Sprintf("CLIENT PAUSE %d ALL", lasting.Milliseconds()))
		},
		heal: onlyAnswers},
	{name: "each answer 100 ms late", deploy: proxied, hold: lasting, strike: misbehave(behaviour{delay: 100 * time.Millisecond}), heal: behave},
	{name: "each answer 1 s late", deploy: proxied, hold: lasting, strike: misbehave(behaviour{delay: time.Second}), heal: behave},
	{name: "answers errors: -LOADING, -ERR, -READONLY, garbage", deploy: proxied, hold: 1500 * time.Millisecond, strike: misbehave(
		behaviour{answer: "-LOADING Redis is loading the dataset in memory\r\n"},
		behaviour{answer: "-ERR something is wrong\r\n"},
		behaviour{answer: "-READONLY You can't write against a read only replica.\r\n"},
		behaviour{answer: "what is this?\r\n"}), heal: behave},
	{name: "made a replica (reads, no writes)", deploy: single, hold: lasting,
		strike: func(ctx context.Context, d *deployment, _ int) error {
			return d.servers[0].do(ctx, "REPLICAOF 127.0.0.1 1")
		},
		heal: func(ctx context.Context, d *deployment) (time.Time, error) {
			err := d.servers[0].do(ctx, "REPLICAOF NO ONE")
			return time.Now(), err
		}},
	{name: "resets every connection within 4 KB", deploy: proxied, hold: lasting, strike: misbehave(behaviour{reset: 4096}), heal: behave},
	{name: "emptied, then its data brought back", deploy: single, hold: lasting, strike: emptyOnly, heal: restoreOnly, after: acceptEmptied},
	{name: "emptied while the gateways restart, then its data brought back", deploy: single, hold: lasting, strike: emptyOnly, restart: true, heal: restoreOnly},
	{name: "Sentinel, the primary killed", deploy: sentinel, strike: killPrimary, heal: failedOver, mend: rejoinSentinel},
	{name: "Sentinel, the primary paused until another took its place", deploy: sentinel, strike: pausePrimary, heal: failedOver, mend: goOnSentinel},
	{name: "Cluster, a primary killed", deploy: cluster, strike: killOfThree, heal: coveredAgain, mend: rejoinCluster},
	{name: "Cluster, a primary paused until another took its place", deploy: cluster, strike: pauseOfThree, heal: coveredAgain, mend: goOnCluster},
}

func killOnly(_ context.Context, d *deployment, _ int) error {
	d.servers[0].kill()
	return nil
}

func startOnly(ctx context.Context, d *deployment) (time.Time, error) {
	if err := d.servers[0].start(); err != nil {
		return time.Time{}, err
	}
	return onlyAnswers(ctx, d)
}

func onlyAnswers(ctx context.Context, d *deployment) (time.Time, error) {
	return d.servers[0].answers(ctx)
}

func emptyOnly(_ context.Context, d *deployment, _ int) error { return d.servers[0].empty() }

func restoreOnly(ctx context.Context, d *deployment) (time.Time, error) {
	if err := d.servers[0].restore(); err != nil {
		return time.Time{}, err
	}
	return onlyAnswers(ctx, d)
}

// misbehave does one after the other, one a time.
func misbehave(how ...behaviour) func(context.Context, *deployment, int) error {
	return func(_ context.Context, d *deployment, n int) error {
		d.proxy.set(how[n%len(how)])
		return nil
	}
}

func behave(_ context.Context, d *deployment) (time.Time, error) {
	d.proxy.set(behaviour{})
	return time.Now(), nil
}

func killPrimary(ctx context.Context, d *deployment, _ int) (err error) {
	if d.struck, _, err = d.primary(ctx, d.servers, nil); err == nil {
		d.struck.kill()
	}
	return err
}

func pausePrimary(ctx context.Context, d *deployment, _ int) (err error) {
	if d.struck, _, err = d.primary(ctx, d.servers, nil); err == nil {
		err = d.struck.signal(syscall.SIGSTOP)
	}
	return err
}

// failedOver waits until another server is the primary, and the sentinels say so.
func failedOver(ctx context.Context, d *deployment) (time.Time, error) {
	s, _, err := d.primary(ctx, d.servers, d.struck)
	if err != nil {
		return time.Time{}, err
	}
	return until(ctx, "the sentinels", func(ctx context.Context) error {
		at, err := d.watchers[0].client.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "people").StringSlice()
		if err == nil && (len(at) != 2 || at[0]+":"+at[1] != s.addr) {
			err = fmt.Errorf("they name %v", at)
		}
		return err
	})
}

func rejoinSentinel(ctx context.Context, d *deployment) error {
	s, _, err := d.primary(ctx, d.servers, d.struck)
	if err != nil {
		return err
	}
	if err := d.struck.start(replicaOf(s.addr)...); err != nil {
		return err
	}
	return inStep(ctx, d.servers)
}

// goOnSentinel lets a primary that was paused go on. It thinks that it is the primary, until a sentinel tells it.
func goOnSentinel(ctx context.Context, d *deployment) error {
	return errors.Join(d.struck.signal(syscall.SIGCONT), inStep(ctx, d.servers))
}

// killOfThree kills the primary of the next third of the slots.
func killOfThree(ctx context.Context, d *deployment, n int) (err error) {
	d.third = n % 3
	if d.struck, _, err = d.primary(ctx, d.ofThird(), nil); err == nil {
		d.struck.kill()
	}
	return err
}

func pauseOfThree(ctx context.Context, d *deployment, n int) (err error) {
	d.third = n % 3
	if d.struck, _, err = d.primary(ctx, d.ofThird(), nil); err == nil {
		err = d.struck.signal(syscall.SIGSTOP)
	}
	return err
}

// coveredAgain waits until the other has taken its place and all primaries know.
func coveredAgain(ctx context.Context, d *deployment) (time.Time, error) {
	if _, _, err := d.primary(ctx, d.ofThird(), d.struck); err != nil {
		return time.Time{}, err
	}
	return until(ctx, "the cluster", func(ctx context.Context) error {
		var err error
		for _, s := range d.servers {
			if s != d.struck {
				err = errors.Join(err, s.covered(ctx))
			}
		}
		return err
	})
}

func rejoinCluster(ctx context.Context, d *deployment) error {
	if err := d.struck.start(); err != nil {
		return err
	}
	return inStep(ctx, d.ofThird())
}

func goOnCluster(ctx context.Context, d *deployment) error {
	return errors.Join(d.struck.signal(syscall.SIGCONT), inStep(ctx, d.ofThird()))
}
